"""Question patterns of level "full" about objects; `timevlm.synth.full.wording` has the form."""

OBJECT_QUESTIONS = """
colour.of_shape
What colour is the {shape}?
What is the colour of the {shape}?
Which colour does the {shape} have?
The {shape} has which colour?
Tell me the colour of the {shape}.
Name the colour of the {shape}.
* Which colour is the {shape}?
* What colour does the {shape} have?

colour.before
What colour is the {shape} before it changes?
What colour does the {shape} have at first?
Which colour does the {shape} start with?
Name the first colour of the {shape}.
Before the change, what colour is the {shape}?
* Which colour does the {shape} have before it changes?
* At first, what is the colour of the {shape}?

colour.after
What colour does the {shape} become?
What colour is the {shape} after it changes?
Which colour does the {shape} turn into?
Name the last colour of the {shape}.
After the change, what colour is the {shape}?
* Which colour does the {shape} have after it changes?
* What is the colour that the {shape} turns into?

colour.of_motion
What colour is the object that {does}?
What is the colour of the object that {does}?
Which colour does the object that {does} have?
There is an object {doing}: what colour is it?
Name the colour of the object {doing}.
* What is the colour of the object {doing}?
* Which colour is the object that {does}?

shape.of_colour
What shape is the {colour} object?
What is the shape of the {colour} object?
Which shape is {colour}?
Which shape does the {colour} object have?
Tell me the shape of the {colour} object.
Name the shape that is {colour}.
* What shape does the {colour} object have?
* Name the shape of the {colour} object.

shape.of_motion
What shape is the object that {does}?
What is the shape of the object that {does}?
Which shape {does}?
There is an object {doing}: what shape is it?
Name the shape of the object {doing}.
* What shape is the object {doing}?
* Which shape is it that {does}?

shape.of_change
Which shape changes colour?
What shape is the object that changes colour?
What is the shape of the object that changes colour?
Name the shape that changes its colour.
Which shape turns into another colour?
* Which object changes its colour?
* Name the shape of the object that changes colour.

shape.of_pattern
What shape is the {pattern} object?
What is the shape of the {pattern} object?
Which shape is {pattern}?
There is a {pattern} object: what shape is it?
Name the shape of the {pattern} object.
* What shape does the {pattern} object have?
* Which shape does the {pattern} object have?

size.of_object
What size is the {thing}?
How big is the {thing}?
What is the size of the {thing}?
Which size does the {thing} have?
Is the {thing} small, medium or large?
Tell me the size of the {thing}.
* Which size is the {thing}?
* Name the size of the {thing}.

pattern.of_object
What pattern does the {thing} have?
Which pattern is on the {thing}?
What is the pattern of the {thing}?
Is the {thing} plain, striped, dotted or checked?
How is the {thing} painted?
Tell me the pattern of the {thing}.
* Which pattern does the {thing} have?
* Name the pattern on the {thing}.

motion.of_object
What does the {thing} do?
What is the {thing} doing?
How does the {thing} behave?
Which motion does the {thing} have?
How does the {thing} move?
Tell me what the {thing} does.
* What is the motion of the {thing}?
* Tell me how the {thing} moves.

motion.which
Which object {does}?
What is it that {does}?
Which object is {doing}?
Name the object that {does}.
Which one of the objects {does}?
* What is {doing}?
* Name the object {doing}.

speed.pair
Which moves faster, the {a} or the {b}?
Which is faster, the {a} or the {b}?
Which has the higher speed, the {a} or the {b}?
Of the {a} and the {b}, which moves faster?
The {a} or the {b}: which one is quicker?
Compare the {a} with the {b}: which is the faster one?
* Which one is faster, the {a} or the {b}?
* Of the {a} and the {b}, which one is quicker?

speed.slower
Which moves slower, the {a} or the {b}?
Which is slower, the {a} or the {b}?
Which has the lower speed, the {a} or the {b}?
Of the {a} and the {b}, which moves slower?
* Which one is slower, the {a} or the {b}?
* The {a} or the {b}: which is the slower one?

speed.fastest
Which object moves the fastest?
What is the fastest object in the video?
Which object has the highest speed?
Of all objects, which moves the fastest?
Name the fastest object.
* Which object is the fastest?
* Name the object that has the highest speed.

relation.where
Where is the {a}, seen from the {b}?
On which side of the {b} is the {a}?
Where is the {a} compared with the {b}?
Is the {a} left of, right of, above or below the {b}?
How does the {a} lie to the {b}?
Looking from the {b}, where is the {a}?
* Where does the {a} lie, seen from the {b}?
* Compared with the {b}, where is the {a}?

relation.bigger
Which is bigger, the {a} or the {b}?
Which one is larger, the {a} or the {b}?
Of the {a} and the {b}, which is bigger?
Which has the larger size, the {a} or the {b}?
Compare the {a} with the {b}: which is bigger?
* Which one is bigger, the {a} or the {b}?
* Of the {a} and the {b}, which one is larger?

relation.smaller
Which is smaller, the {a} or the {b}?
Which one is smaller, the {a} or the {b}?
Of the {a} and the {b}, which is smaller?
Which has the smaller size, the {a} or the {b}?
* Compare the {a} with the {b}: which is smaller?
* Of the {a} and the {b}, which one is smaller?

relation.overtakes
What does the {thing} overtake?
Which object does the {thing} overtake?
Which object is overtaken by the {thing}?
Name the object that the {thing} overtakes.
The {thing} overtakes another object: which one?
* What is overtaken by the {thing}?
* Which one of the objects does the {thing} overtake?

relation.overtaken
What overtakes the {thing}?
Which object overtakes the {thing}?
By which object is the {thing} overtaken?
Name the object that overtakes the {thing}.
The {thing} is overtaken by another object: which one?
* What is it that overtakes the {thing}?
* Which one of the objects overtakes the {thing}?

relation.collides
What does the {thing} collide with?
Which object does the {thing} collide with?
What does the {thing} run into?
Which object runs into the {thing}?
Name the object that collides with the {thing}.
* What collides with the {thing}?
* Which object does the {thing} run into?

exist.object
Is there {an_object} in the video?
Does the video show {an_object}?
Can you see {an_object}?
Do you see {an_object} in the video?
Does {an_object} appear in the video?
Is {an_object} shown at any time?
* Can {an_object} be seen in the video?
* Is there {an_object} at any time?

exist.motion
Does anything {do}?
Does any object {do}?
Is there an object that {does}?
Can you see an object {doing}?
Is anything {doing}?
* Is any object {doing}?
* Does the video show an object that {does}?

exist.which
Which of these can be seen in the video?
Which of these objects does the video show?
Which of these appears in the video?
Which of these objects is there?
One of these is in the video: which one?
* Which one of these can you see in the video?
* Which of these is shown in the video?

exist.which_not
Which of these is not in the video?
Which of these objects does the video not show?
Which of these does not appear in the video?
One of these is not shown: which one?
Which of these can not be seen?
* Which one of these objects is not in the video?
* Which of these objects is not shown?

state.at
What is shown at {time}?
What can be seen at {time}?
What is visible at {time}?
Which objects are there at {time}?
At {time}, what does the video show?
Tell me what is shown at {time}.
* At {time}, what can you see?
* Which objects can be seen at {time}?

state.colour_at
What colour is the {shape} at {time}?
Which colour does the {shape} have at {time}?
At {time}, what colour is the {shape}?
What is the colour of the {shape} at {time}?
Name the colour of the {shape} at {time}.
* At {time}, which colour does the {shape} have?
* Tell me the colour of the {shape} at {time}.

state.motion_at
What does the {thing} do at {time}?
What is the {thing} doing at {time}?
At {time}, what is the {thing} doing?
How does the {thing} behave at {time}?
Tell me what the {thing} does at {time}.
* At {time}, what does the {thing} do?
* At {time}, how does the {thing} behave?

count.objects
How many objects are in the {ordinal} scene?
How many objects does the {ordinal} scene show?
What is the number of objects in the {ordinal} scene?
Count the objects in the {ordinal} scene.
In the {ordinal} scene, how many objects are there?
The {ordinal} scene has how many objects?
* How many objects are there in the {ordinal} scene?
* In the {ordinal} scene, how many objects can you see?

count.shape
How many objects with the shape of {a_shape} are in the {ordinal} scene?
How often does the {ordinal} scene show {a_shape}?
In the {ordinal} scene, how many objects have the shape of {a_shape}?
Count the objects in the {ordinal} scene that are {a_shape}.
* How many objects in the {ordinal} scene have the shape of {a_shape}?
* Count the objects in the {ordinal} scene that have the shape of {a_shape}.

count.colour
How many {colour} objects are in the {ordinal} scene?
How many objects in the {ordinal} scene are {colour}?
Count the {colour} objects in the {ordinal} scene.
In the {ordinal} scene, how many objects are {colour}?
* What is the number of {colour} objects in the {ordinal} scene?
* In the {ordinal} scene, how many {colour} objects are there?

count.bounces
How many times does the {thing} bounce?
How often does the {thing} bounce?
Count the bounces of the {thing}.
What is the number of bounces of the {thing}?
The {thing} bounces how many times?
* How many bounces does the {thing} have?
* The {thing} bounces how often?

count.blinks
How many times does the {thing} blink?
How often does the {thing} blink?
Count the blinks of the {thing}.
How many times does the {thing} go out and come back?
The {thing} blinks how many times?
* How often does the {thing} go out and come back?
* The {thing} blinks how often?

duration.longer
Which is visible for longer, the {a} or the {b}?
Which stays longer, the {a} or the {b}?
Which can be seen for a longer time, the {a} or the {b}?
Of the {a} and the {b}, which is shown for longer?
Compare the {a} with the {b}: which one stays longer?
* Which is shown for a longer time, the {a} or the {b}?
* Of the {a} and the {b}, which one is visible for longer?

duration.shorter
Which is visible for less time, the {a} or the {b}?
Which is shown for a shorter time, the {a} or the {b}?
Which can be seen for a shorter time, the {a} or the {b}?
Of the {a} and the {b}, which is shown for less time?
* Of the {a} and the {b}, which one is visible for less time?
* Which one can be seen for less time, the {a} or the {b}?

duration.seconds
For how many seconds is the {thing} visible?
How long is the {thing} visible?
How long can you see the {thing}?
For how long is the {thing} shown?
For how many seconds does the video show the {thing}?
* How many seconds is the {thing} shown for?
* For how long can you see the {thing}?

duration.motion
For how many seconds does the {thing} {do}?
How long does the {thing} {do}?
For how long is the {thing} {doing}?
How many seconds is the {thing} {doing} for?
* For how long does the {thing} {do}?
* For how many seconds is the {thing} {doing}?
"""

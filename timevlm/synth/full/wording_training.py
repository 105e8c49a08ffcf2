"""More question patterns of level "full", for the train split alone.

With the handful of wordings that the benchmark shares with training, held-out ones cost two points
of the questions. `timevlm.synth.full.wording` has the form; no pattern stands elsewhere.
"""

TRAINING_QUESTIONS = """
duration.longest_scene
Which of the scenes lasts the longest?
Which is the longest scene?
Tell me which scene is the longest.

duration.shortest_scene
Which of the scenes lasts the shortest time?
Which is the shortest scene?
Tell me which scene is the shortest.

count.scenes
Tell me the number of scenes.
How many scenes can you see?
How many scenes does the video show?

count.scenes_with_shape
How many of the scenes show {a_shape}?
What is the number of scenes that show {a_shape}?
There is {a_shape} in how many scenes?

count.transitions
How many times is there {a_transition}?
How many scenes have {a_transition} at the end?
Tell me how often a scene ends with {a_transition}.

count.camera
In how many of the scenes is the camera moving?
How often is the camera moving?
Tell me in how many scenes the camera moves.

order.first
Which do you see first, the {a} or the {b}?
The {a} or the {b}: which is first?
Tell me which comes first, the {a} or the {b}.

order.last
Which do you see last, the {a} or the {b}?
The {a} or the {b}: which is last?
Tell me which comes last, the {a} or the {b}.

order.after
After the scene with the {thing}, what comes next?
What is in the scene right after the {thing}?
Tell me what comes after the scene with the {thing}.

order.before
Before the scene with the {thing}, what is shown?
What is in the scene right before the {thing}?
Tell me what comes before the scene with the {thing}.

order.between
What is the number of scenes between the {a} and the {b}?
How many scenes come between the {a} and the {b}?
Tell me how many scenes are between the {a} and the {b}.

order.event_first
Which of these things happens first?
What comes first of these?
Tell me what happens first.

order.event_last
Which of these things happens last?
What comes last of these?
Tell me what happens last.

order.event_after
After this, what happens next: {event}?
Tell me what happens right after {event}.
What comes after {event}?
{event}: what is next?

order.event_before
Before this, what happens: {event}?
Tell me what happens right before {event}.
What comes before {event}?
{event}: what comes before?

when.appear
Tell me when the {thing} appears.
When do you first see the {thing}?
From when is the {thing} visible?
The {thing} appears at what time?

when.vanish
Tell me when the {thing} disappears.
When do you last see the {thing}?
When is the {thing} no longer visible?
The {thing} vanishes at what time?

when.visible
Tell me when the {thing} is visible.
At what times is the {thing} in the picture?
When is the {thing} in the video?

when.motion
Tell me when the {thing} is {doing}.
When can you see the {thing} {doing}?
At what times does the {thing} {do}?

when.stop
Tell me when the {thing} stops.
When is the {thing} no longer moving?
The {thing} stops at what time?

when.change
Tell me when the {shape} turns {colour}.
When does the {shape} become {colour}?
When does the colour of the {shape} change?

when.meet
Tell me when this happens: {event}.
During which second does this happen: {event}?

when.scene
Tell me when the {ordinal} scene starts.
From when is the {ordinal} scene shown?
The {ordinal} scene starts at what time?

scene.nth
What is in the {ordinal} scene?
What do you see in the {ordinal} scene?
The {ordinal} scene shows what?

reading.scene
Tell me the text of the {ordinal} scene.
Which text is in the {ordinal} scene?
In the {ordinal} scene, what is written?
In the {ordinal} scene, what does the text say?

reading.at
At {time}, what is written?
Tell me the text at {time}.
Which text is there at {time}?
At {time}, what does the text say?
Tell me which word or number there is at {time}.
What does the picture say at {time}?

reading.only
Which text can be seen in the video?
What text does the video have?
Tell me what is written.

reading.when
Tell me when you can read {text}.
At what times is {text} written in the picture?
When does the picture show the text {text}?

camera.scene
The {ordinal} scene: what does the camera do?
How is the camera moving in the {ordinal} scene?
During the {ordinal} scene, what is the camera doing?

camera.which_scene
Which scene shows a camera {doing}?
The camera {does}: in which scene?
Which of the scenes has a camera {doing}?
Tell me in which scene the camera {does}.

camera.when
When can you see the camera {do}?
From when to when is the camera {doing}?
At what times does the camera {do}?

camera.any
Can you see the camera {do}?
Is the camera ever {doing}?
Does the video show a camera {doing}?
Is there a camera that {does}?

transition.scene
What comes at the end of the {ordinal} scene?
How does the video go from the {ordinal} scene to the next one?
Tell me how the {ordinal} scene ends.
The {ordinal} scene ends with what?

transition.which_scene
Which scene has {a_transition} at its end?
Tell me which scene ends with {a_transition}.
There is {a_transition} after which scene?
At the end of which scene is there {a_transition}?

transition.any
Can you see {a_transition}?
Do any scenes end with {a_transition}?
Does the video show {a_transition}?
Is {a_transition} shown in the video?
Is there ever {a_transition} from one scene to the next?

brightness.scene
The {ordinal} scene: what does the light do?
During the {ordinal} scene, what happens to the light?
How is it that the light changes in the {ordinal} scene?

brightness.which_scene
Which scene shows that the light {does}?
The light {does}: in which scene?
Tell me in which scene the light {does}.

brightness.when
Tell me when the light {does}.
The light {does}: at what time?
During which second is it that the light {does}?

colour.of_shape
The {shape} is of which colour?
In which colour is the {shape} painted?
Tell me which colour the {shape} has.

colour.before
Which colour is the {shape} at first?
Tell me the colour of the {shape} before it changes.
The {shape} has which colour before the change?

colour.after
The {shape} turns into which colour?
Tell me the colour of the {shape} after it changes.
The {shape} has which colour after the change?

colour.of_motion
Tell me the colour of the object that {does}.
The object that {does} has which colour?
One object {does}: which colour is it?

shape.of_colour
The {colour} object has which shape?
There is one {colour} object: what shape is it?
Tell me which shape is {colour}.

shape.of_motion
Tell me the shape of the object that {does}.
The object that {does} has which shape?
One object {does}: which shape is it?

shape.of_change
Tell me which shape changes its colour.
One shape turns into another colour: which one?
What is the shape that changes its colour?

shape.of_pattern
Tell me the shape of the {pattern} object.
The {pattern} object has which shape?
Which shape is painted {pattern}?

size.of_object
The {thing} has which size?
How large is the {thing}?
Tell me how big the {thing} is.

pattern.of_object
The {thing} has which pattern?
Which pattern is the {thing} painted with?
Tell me which pattern the {thing} has.

motion.of_object
The {thing}: what does it do?
In the video, what does the {thing} do?
Tell me what the {thing} is doing.

motion.which
Tell me which object {does}.
One of the objects {does}: which one?
Which of the objects is {doing}?

speed.pair
Which one moves faster, the {a} or the {b}?
Is the {a} or the {b} faster?
Which is quicker, the {a} or the {b}?
Tell me which is faster, the {a} or the {b}.

speed.slower
Which one moves slower, the {a} or the {b}?
Is the {a} or the {b} slower?
Compare the {a} with the {b}: which one moves slower?
Tell me which is slower, the {a} or the {b}.

speed.fastest
Which one of the objects moves the fastest?
Of all objects, which has the highest speed?
What moves the fastest in the video?
Tell me which object moves the fastest.

relation.where
The {a} is on which side of the {b}?
Is the {a} above, below, left of or right of the {b}?
Tell me where the {a} is, seen from the {b}.
From the {b}, where is the {a}?

relation.bigger
The {a} or the {b}: which is bigger?
Is the {a} or the {b} larger?
Which is larger, the {a} or the {b}?
Tell me which is bigger, the {a} or the {b}.

relation.smaller
The {a} or the {b}: which is smaller?
Is the {a} or the {b} smaller?
Tell me which is smaller, the {a} or the {b}.

relation.overtakes
Tell me what the {thing} overtakes.
Which one is overtaken by the {thing}?
What object does the {thing} overtake?

relation.overtaken
Tell me what overtakes the {thing}.
Which one overtakes the {thing}?
What object overtakes the {thing}?

relation.collides
Tell me what the {thing} collides with.
With which object does the {thing} collide?
What is it that the {thing} runs into?

exist.object
Is {an_object} visible?
Does the video have {an_object}?
Can you see {an_object} at any time?
Is there ever {an_object}?

exist.motion
Is there anything that {does}?
Does the video show anything {doing}?
Do you see an object that {does}?

exist.which
Tell me which of these is in the video.
Which one of these is there?
Which of these do you see?

exist.which_not
Tell me which of these is not in the video.
Which one of these is not there?
Which of these do you not see?
Which one of these does not appear?

state.at
What do you see at {time}?
Which objects does the video show at {time}?
At {time}, which objects are there?

state.colour_at
The {shape} has which colour at {time}?
At {time}, what is the colour of the {shape}?
At {time}, the {shape} is of which colour?

state.motion_at
The {thing}: what is it doing at {time}?
Tell me what the {thing} is doing at {time}.
At {time}, how does the {thing} move?

count.objects
Tell me the number of objects in the {ordinal} scene.
How many objects can be seen in the {ordinal} scene?
How many things are in the {ordinal} scene?

count.shape
In the {ordinal} scene, how often is there {a_shape}?
What is the number of objects in the {ordinal} scene that are {a_shape}?
Tell me how often the {ordinal} scene shows {a_shape}.

count.colour
How many {colour} objects does the {ordinal} scene show?
Tell me how many objects in the {ordinal} scene are {colour}.
The {ordinal} scene has how many {colour} objects?

count.bounces
Tell me how often the {thing} bounces.
How often can you see the {thing} bounce?

count.blinks
Tell me how often the {thing} blinks.
What is the number of blinks of the {thing}?
How often can you see the {thing} blink?
How often does the {thing} disappear and come back?

duration.longer
Which is in the picture for longer, the {a} or the {b}?
Is the {a} or the {b} visible for longer?
The {a} or the {b}: which stays longer?
Which can you see for longer, the {a} or the {b}?
Tell me which stays longer, the {a} or the {b}.

duration.shorter
Which is in the picture for less time, the {a} or the {b}?
Is the {a} or the {b} visible for less time?
The {a} or the {b}: which is shown for a shorter time?
Which can you see for less time, the {a} or the {b}?
Compare the {a} with the {b}: which one is shown for less time?

duration.seconds
Tell me for how many seconds the {thing} is visible.
For how long does the {thing} stay visible?
How many seconds is the {thing} in the picture?

duration.motion
Tell me for how many seconds the {thing} is {doing}.
How long is the {thing} {doing}?
How many seconds does the {thing} {do} for?
The {thing} is {doing} for how many seconds?
For how long can you see the {thing} {doing}?
"""

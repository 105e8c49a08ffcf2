"""Question patterns of level "full" about time, scenes, text, camera, transitions and light."""

SCENE_QUESTIONS = """
duration.longest_scene
Which scene is the longest?
Which scene lasts the longest?
What is the longest scene of the video?
Of all scenes, which one lasts the longest?
Name the longest scene.
* Which one of the scenes is the longest?
* Name the scene that lasts the longest.

duration.shortest_scene
Which scene is the shortest?
Which scene lasts the shortest time?
What is the shortest scene of the video?
Of all scenes, which one is the shortest?
* Which one of the scenes is the shortest?
* Name the shortest scene.

count.scenes
How many scenes are there?
How many scenes does the video have?
What is the number of scenes?
Count the scenes of the video.
The video has how many scenes?
* How many scenes are in the video?
* What is the number of scenes in the video?

count.scenes_with_shape
How many scenes show {a_shape}?
In how many scenes is there {a_shape}?
In how many scenes can you see {a_shape}?
Count the scenes with {a_shape}.
* How many scenes have {a_shape}?
* In how many scenes does {a_shape} appear?

count.transitions
How many times does a scene end with {a_transition}?
How many scenes end with {a_transition}?
How often is there {a_transition} in the video?
Count how often a scene ends with {a_transition}.
* How often does a scene end with {a_transition}?
* What is the number of scenes that end with {a_transition}?

count.camera
In how many scenes does the camera move?
How many scenes have a camera that moves?
Count the scenes in which the camera moves.
How often does the camera move?
* What is the number of scenes in which the camera moves?
* How many times does the camera move?

order.first
Which comes first, the {a} or the {b}?
Which is seen first, the {a} or the {b}?
Which appears earlier, the {a} or the {b}?
Of the {a} and the {b}, which is shown first?
Which one does the video show first, the {a} or the {b}?
* Which is shown first, the {a} or the {b}?
* Of the {a} and the {b}, which appears earlier?

order.last
Which comes last, the {a} or the {b}?
Which is seen last, the {a} or the {b}?
Which appears later, the {a} or the {b}?
Of the {a} and the {b}, which is shown last?
Which one does the video show last, the {a} or the {b}?
* Which is shown last, the {a} or the {b}?
* Of the {a} and the {b}, which appears later?

order.after
What comes right after the scene with the {thing}?
What is shown in the scene after the {thing}?
What follows the scene with the {thing}?
Which objects come right after the scene with the {thing}?
* What does the video show right after the scene with the {thing}?
* Which objects are in the scene after the {thing}?

order.before
What comes right before the scene with the {thing}?
What is shown in the scene before the {thing}?
Which objects come right before the scene with the {thing}?
What does the scene before the {thing} show?
* What does the video show right before the scene with the {thing}?
* Which objects are in the scene before the {thing}?

order.between
How many scenes lie between the scene with the {a} and the scene with the {b}?
How many scenes are there between the {a} and the {b}?
Count the scenes between the {a} and the {b}.
Between the {a} and the {b}, how many scenes are there?
* How many scenes are between the scene with the {a} and the scene with the {b}?
* Between the {a} and the {b}, how many scenes lie?

order.event_first
Which of these happens first?
What happens first?
Which of these comes first?
Of these, which happens first?
Which of these happens before the others?
* Of these, which comes first?
* Which one of these happens first?

order.event_last
Which of these happens last?
What happens last?
Which of these comes last?
Of these, which happens last?
Which of these happens after the others?
* Of these, which comes last?
* Which one of these happens last?

order.event_after
What happens right after this: {event}?
What happens next when {event}?
First {event}: what comes next?
What comes right after this: {event}?
* What happens after this: {event}?
* What comes next after this: {event}?

order.event_before
What happens right before this: {event}?
What comes right before this: {event}?
What happens just before {event}?
Last {event}: what comes before that?
* What happens before this: {event}?
* What comes just before {event}?

when.appear
When does the {thing} appear?
At what time does the {thing} appear?
When is the {thing} first seen?
At which second does the {thing} appear?
When does the {thing} come into the picture?
* At what time is the {thing} first seen?
* At what time does the {thing} come into the picture?

when.vanish
When does the {thing} disappear?
At what time does the {thing} disappear?
When does the {thing} vanish?
When is the {thing} last seen?
When does the {thing} leave the picture?
* At what time does the {thing} vanish?
* At which second does the {thing} disappear?

when.visible
When is the {thing} visible?
When can you see the {thing}?
During which time is the {thing} shown?
From when to when is the {thing} visible?
In which part of the video can you see the {thing}?
* During which time is the {thing} visible?
* From when to when can you see the {thing}?

when.motion
When does the {thing} {do}?
During which time does the {thing} {do}?
When is the {thing} {doing}?
From when to when does the {thing} {do}?
In which part of the video does the {thing} {do}?
* During which time is the {thing} {doing}?
* From when to when is the {thing} {doing}?

when.stop
When does the {thing} stop?
At what time does the {thing} stop?
When does the {thing} come to rest?
At which second does the {thing} stop moving?
When does the {thing} stop moving?
* At what time does the {thing} come to rest?
* At what time does the {thing} stop moving?

when.change
When does the {shape} change colour?
At what time does the {shape} change colour?
When does the {shape} turn {colour}?
At what time does the {shape} turn {colour}?
* When does the {shape} change its colour?
* At which second does the {shape} turn {colour}?

when.meet
When is this seen: {event}?
At what time does this happen: {event}?
When does this happen: {event}?
At which second does this happen: {event}?
* At what time is this seen: {event}?
* When can you see this: {event}?

when.scene
When does the {ordinal} scene start?
At what time does the {ordinal} scene start?
When does the {ordinal} scene begin?
At which second does the {ordinal} scene begin?
* At what time does the {ordinal} scene begin?
* At which second does the {ordinal} scene start?

scene.nth
What is shown in the {ordinal} scene?
What does the {ordinal} scene show?
What can be seen in the {ordinal} scene?
Which objects are in the {ordinal} scene?
In the {ordinal} scene, what is shown?
Tell me what the {ordinal} scene shows.
* Which objects does the {ordinal} scene show?
* In the {ordinal} scene, what can be seen?

reading.scene
What is written in the {ordinal} scene?
Which text does the {ordinal} scene show?
What does the text in the {ordinal} scene say?
Read the text in the {ordinal} scene.
Which word or number is written in the {ordinal} scene?
What can you read in the {ordinal} scene?
* What text is written in the {ordinal} scene?
* Which word or number can you read in the {ordinal} scene?

reading.at
What is written at {time}?
Which text is shown at {time}?
What does the text say at {time}?
Read the text at {time}.
* Which word or number is shown at {time}?
* What can you read at {time}?

reading.only
What is written in the video?
Which text does the video show?
What does the text say?
Which word or number can you read in the video?
* What can you read in the video?
* Read the text in the video.

reading.when
When is the text {text} shown?
When can you read {text}?
During which time is {text} written in the picture?
From when to when is the text {text} shown?
* During which time is the text {text} shown?
* From when to when can you read {text}?

camera.scene
What does the camera do in the {ordinal} scene?
How does the camera move in the {ordinal} scene?
In the {ordinal} scene, what does the camera do?
What is the camera doing in the {ordinal} scene?
Tell me what the camera does in the {ordinal} scene.
Which motion does the camera have in the {ordinal} scene?
* In the {ordinal} scene, how does the camera move?
* What is the motion of the camera in the {ordinal} scene?

camera.which_scene
In which scene does the camera {do}?
In which scene is the camera {doing}?
Which scene has a camera that {does}?
Name the scene in which the camera {does}.
* Name the scene in which the camera is {doing}.
* In which one of the scenes does the camera {do}?

camera.when
When does the camera {do}?
During which time does the camera {do}?
When is the camera {doing}?
From when to when does the camera {do}?
* During which time is the camera {doing}?
* In which part of the video does the camera {do}?

camera.any
Does the camera {do} in the video?
Does the camera ever {do}?
Is the camera {doing} at any time?
Is there a scene in which the camera {does}?
* Is there a scene in which the camera is {doing}?
* Does the camera {do} at any time?

transition.scene
How does the {ordinal} scene end?
How does the {ordinal} scene change to the next?
What comes between the {ordinal} scene and the next one?
What is the transition after the {ordinal} scene?
Which transition ends the {ordinal} scene?
With what does the {ordinal} scene end?
* Which transition comes after the {ordinal} scene?
* How does the video change from the {ordinal} scene to the next?

transition.which_scene
Which scene ends with {a_transition}?
After which scene is there {a_transition}?
After which scene does {a_transition} come?
Name the scene that ends with {a_transition}.
* Name the scene after which there is {a_transition}.
* Which one of the scenes ends with {a_transition}?

transition.any
Is there {a_transition} between scenes?
Does any scene end with {a_transition}?
Is there {a_transition} in the video?
Does the video have {a_transition}?
* Is there a scene that ends with {a_transition}?
* Does {a_transition} come after any scene?

brightness.scene
What happens to the light in the {ordinal} scene?
How does the light change in the {ordinal} scene?
What does the light do in the {ordinal} scene?
Does the {ordinal} scene get brighter or darker?
In the {ordinal} scene, what does the light do?
Tell me what happens to the light in the {ordinal} scene.
* In the {ordinal} scene, how does the light change?
* In the {ordinal} scene, what happens to the light?

brightness.which_scene
In which scene is it that the light {does}?
In which scene does this happen: the light {does}?
Name the scene in which the light {does}.
Which scene has a light that {does}?
* In which one of the scenes is it that the light {does}?
* Which one of the scenes has a light that {does}?

brightness.when
When is it that the light {does}?
At what time does this happen: the light {does}?
When can you see that the light {does}?
At which second is it that the light {does}?
* At what time is it that the light {does}?
* When does this happen: the light {does}?
"""

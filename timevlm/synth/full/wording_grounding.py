"""Sentences of level "full" to find in time; `timevlm.synth.full.wording` has the form."""

GROUNDING = """
object
{an_object}
the {object}
{an_object} is shown
{an_object} can be seen
there is {an_object}
{an_object} in the picture
* the {object} is shown
* the {object} can be seen

shape
{a_shape}
the {shape}
{a_shape} is visible
there is {a_shape}
{a_shape} in the picture
{a_shape} can be seen
* the {shape} is visible
* {a_shape} is shown

motion
the {thing} {does}
{a_thing} {does}
the {thing} that {does}
the {thing} is {doing}
{a_thing} {doing}
{a_thing} that {does}
* {a_thing} is {doing}
* the {thing} {doing}

any_motion
something {does}
an object {does}
an object that {does}
something is {doing}
an object is {doing}
something that {does}
* an object {doing}
* something {doing}

change
the {shape} changes colour
the {shape} turns {colour}
the {shape} becomes {colour}
{a_shape} changes colour
{a_shape} turns {colour}
the colour of the {shape} changes
* {a_shape} becomes {colour}
* the moment when the {shape} changes colour

scene
the {ordinal} scene
scene {number}
the {ordinal} part of the video
part {number} of the video
the scene that is {ordinal}
scene number {number}
* part {number}
* the {ordinal} scene of the video

appear
the {thing} appears
{a_thing} appears
the {thing} comes into the picture
{a_thing} comes into the picture
the moment when the {thing} appears
the {thing} is first seen
* {a_thing} is first seen
* the moment when {a_thing} appears

vanish
the {thing} vanishes
the {thing} disappears
{a_thing} disappears
the {thing} leaves the picture
the moment when the {thing} vanishes
the {thing} is last seen
* {a_thing} vanishes
* {a_thing} leaves the picture

stop
the {thing} stops
the {thing} stops moving
the {thing} comes to rest
{a_thing} stops
{a_thing} comes to rest
the moment when the {thing} stops
* {a_thing} stops moving
* the moment when {a_thing} comes to rest

meet
{event}
the moment when {event}
it happens that {event}
{event} at this moment
now {event}
here {event}
* at this moment {event}
* it is seen that {event}

camera
the camera {does}
the camera is {doing}
a camera that {does}
the camera {doing}
here the camera {does}
the picture while the camera {does}
* a camera {doing}
* here the camera is {doing}

camera_moves
the camera moves
the camera is moving
a moving camera
a camera that moves
the camera does not stay still
here the camera moves
* a camera that is moving
* here the camera does not stay still

transition
{a_transition}
there is {a_transition}
{a_transition} between two scenes
the scene ends with {a_transition}
a scene changes with {a_transition}
here is {a_transition}
* a scene ends with {a_transition}
* {a_transition} between scenes

any_transition
the scene changes
one scene ends and the next begins
the video goes to the next scene
a change from one scene to the next
the change of a scene
a new scene begins
* the change from one scene to the next
* the next scene begins

still
nothing moves
everything stays still
nothing is moving
there is no motion
all things rest
the picture stands still
* nothing is in motion
* there is nothing moving

text
the text {text}
the text {text} is shown
{text} is written in the picture
one can read {text}
there is the text {text}
the picture says {text}
* the text says {text}
* the text {text} can be seen

any_text
there is text
text is shown
something is written in the picture
one can read something
a text in the picture
some text is visible
* text is visible
* there is text in the picture

light
the light {does}
the picture {does}
it is the light that {does}
the light in the scene {does}
here the light {does}
the scene {does}
* here the picture {does}
* the light in the picture {does}
"""

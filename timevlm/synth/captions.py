"""Dense captions: one sentence a scene, with the scene's exact times."""

from timevlm.synth.full.captions import make_full_captions, object_phrase
from timevlm.synth.full.spec import FullObject, FullVideo
from timevlm.synth.palette import MOTIONS
from timevlm.synth.spec import ObjectSpec, VideoSpec
from timevlm.synth.wording import an, join_phrases


def make_captions(spec: VideoSpec) -> list[tuple[float, float, str]]:
    """`(start, end, text)` of every scene, e.g. "a small blue star grows and a red ring blinks"."""
    if isinstance(spec, FullVideo):
        return make_full_captions(spec)
    return [
        (
            scene.start_seconds,
            scene.end_seconds,
            join_phrases([caption_phrase(item) for item in scene.objects]),
        )
        for scene in spec.scenes
    ]


def caption_phrase(item: ObjectSpec) -> str:
    """One object as a caption says it; the medium size goes without saying."""
    if isinstance(item, FullObject):
        return object_phrase(item)
    size = "" if item.size == "medium" else f"{item.size} "
    change = f" that turns {item.changed_colour}" if item.changes else ""
    return f"{an(f'{size}{item.colour} {item.shape}')}{change} {MOTIONS[item.motion].does}"

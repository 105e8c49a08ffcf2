"""What a video of level "full" shows, in sentences: scene by scene, in one line, and by aspect."""

from timevlm.synth.full.palette import (
    BACKGROUNDS,
    CAMERA_MOVES,
    LIGHT_CHANGES,
    MOTIONS,
    NUMBERS,
)
from timevlm.synth.full.spec import CameraMove, FullObject, FullScene, FullVideo
from timevlm.synth.palette import SIZES
from timevlm.synth.spec import SceneSpec, VideoSpec
from timevlm.synth.wording import an, join_phrases

_SMALL_TO_LARGE = tuple(SIZES)


def make_full_captions(
    spec: FullVideo, *, largest_first: bool = False
) -> list[tuple[float, float, str]]:
    """`(start, end, text)` of every scene: its objects, then camera, light and text."""
    return [(*scene.shown, scene_sentence(scene, largest_first)) for scene in spec.scenes]


def scene_sentence(scene: FullScene, largest_first: bool = False) -> str:
    """One scene, e.g. "a small red circle moves left, the camera shakes and the text 47 appears".

    Meetings of two objects follow them. Objects stand as they were painted, which no frame shows,
    or the largest first; of one size they then are in the order of the alphabet.
    """
    objects = sorted(scene.objects, key=_by_looks) if largest_first else scene.objects
    phrases = [object_phrase(item) for item in objects]
    if scene.pair is not None:
        actor, target = scene.objects[scene.pair.actor], scene.objects[scene.pair.target]
        link = "overtakes" if scene.pair.kind == "overtakes" else "collides with"
        phrases.append(f"the {actor.shape} {link} the {target.shape}")
    if scene.camera is not None:
        phrases.append(f"the camera {CAMERA_MOVES[scene.camera.kind].does}")
    if scene.light is not None:
        phrases.append(f"the light {LIGHT_CHANGES[scene.light.kind]}")
    if scene.overlay is not None:
        phrases.append(f"the text {scene.overlay.text} appears")
    return join_phrases(phrases)


def _by_looks(item: FullObject) -> tuple[int, str, str, str]:
    return -_SMALL_TO_LARGE.index(item.size), item.colour, item.shape, item.pattern


def object_phrase(item: FullObject) -> str:
    """One object; the medium size and the plain pattern go without saying."""
    change = f" that turns {item.changed_colour}" if item.changes else ""
    return f"{an(object_name(item))}{change} {MOTIONS[item.motion].does}"


def object_name(item: FullObject) -> str:
    """An object's looks: "small red striped circle"."""
    size = "" if item.size == "medium" else f"{item.size} "
    pattern = "" if item.pattern == "plain" else f"{item.pattern} "
    return f"{size}{item.colour} {pattern}{item.shape}"


def make_summary(spec: VideoSpec) -> str:
    """The whole video in one sentence."""
    count = len(spec.scenes)
    looks = list(
        dict.fromkeys(f"{o.colour} {o.shape}" for scene in spec.scenes for o in scene.objects)
    )
    shown = join_phrases([an(look) for look in looks])
    return f"The video has {NUMBERS[count]} scene{'' if count == 1 else 's'} with {shown}."


def camera_sentence(spec: VideoSpec) -> str:
    """What the camera does in each scene, in order; "the camera stays still" if it never moves."""
    moves = [move for scene in spec.scenes if (move := _camera(scene)) is not None]
    if not moves:
        return "the camera stays still"
    return join_phrases([f"the camera {CAMERA_MOVES[move.kind].does}" for move in moves])


def background_sentence(spec: VideoSpec) -> str:
    """The backgrounds of the scenes, in order."""
    return join_phrases([BACKGROUNDS[scene.background.kind] for scene in spec.scenes])


def _camera(scene: SceneSpec) -> CameraMove | None:
    return scene.camera if isinstance(scene, FullScene) else None

"""The short README that lies beside a recognizer's weights."""

from collections.abc import Mapping
from pathlib import Path

from timevlm.training.recognizers import LABELS, TRAINED_ON

_CARD = """# {name}

A small {family} recognizer for `timevlm segments --model {family}` and `--prefilter {family}`.

- Trained on {trained_on}.
  On other videos its classes mean little; the pre-filter's untrained novelty works beside it.
- Classes, independent of each other: {labels}.
- {parameters:,} parameters, {kilobytes:,.0f} kB in float16; 64 x 64 pixels, 1 or 2 frames a second.
- Training, on one CPU core:
  `python scripts/train_prefilter.py --family {family} --minutes {minutes:g} --clips {clips}`.
- On clips of split "val" that it never saw: average precision of events {event_ap:.3f} (chance
  {event_share:.3f}), accuracy of events {event_accuracy:.3f}, mean average precision of motions
  {motion_map:.3f}. Printed by the same command.
- Licence: Apache-2.0, as the project. No data but the project's own generator went in.
"""


def write_card(
    folder: Path, family: str, numbers: Mapping[str, float], *, minutes: float, clips: int
) -> None:
    """Write README.md into the folder of a trained recognizer."""
    text = _CARD.format(
        name=folder.name,
        family=family,
        trained_on=TRAINED_ON,
        labels=", ".join(LABELS),
        kilobytes=numbers["bytes"] / 1000,
        minutes=minutes,
        clips=clips,
        **{k: v for k, v in numbers.items() if k != "bytes"},
    )
    partial = folder / ".README.md.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / "README.md")

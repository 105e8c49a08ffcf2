"""Average the weights of two saved models that were trained from one another, into a third.

    python scripts/average_models.py timevlm/weights/nano runs/long/export --out runs/mix

A model that was trained further for one purpose, such as long videos, gains there and loses a
little elsewhere; between the two lie models that have most of the gain and hardly any of the loss.
`--share` is the second model's. Config and tokenizer are the second one's, and so are parts that
only it has, which its training added; calibrate the result (`calibrate_nano.py`). Prints one JSON
line.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from timevlm.errors import InputError, TimeVLMError

WEIGHTS = "model.safetensors"


def read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    """Tensors by name, and the file's metadata. Raises InputError where there are none."""
    path = folder / WEIGHTS
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); give the folder of a model") from error


def average(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) first + share second, computed in float32, in the second one's types.

    What only the second has stays as it is. Raises InputError for a share outside of 0..1, and for
    models of different shapes.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"share {share} is no share; give 0 to 1")
    shapes = {name: tuple(x.shape) for name, x in second.items()}
    odd = sorted(name for name, x in first.items() if shapes.get(name) != tuple(x.shape))
    if odd:
        raise InputError(f"the models differ, for one in {odd[0]}; give two of one shape")
    mixed = {
        name: ((1 - share) * x.float() + share * second[name].float()).to(second[name].dtype)
        for name, x in first.items()
    }
    return {**second, **mixed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="folder of a model")
    parser.add_argument("second", type=Path, help="folder of a model trained further from it")
    parser.add_argument("--share", type=float, default=0.5, help="of the second model, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    args = parser.parse_args()
    try:
        if args.out.exists():
            raise InputError(f"{args.out} exists; give a new folder with --out")
        weights, metadata = read_weights(args.second)
        mixed = average(read_weights(args.first)[0], weights, args.share)
        partial = args.out.with_name(f".{args.out.name}.{os.getpid()}")
        try:
            shutil.copytree(args.second, partial, ignore=shutil.ignore_patterns(WEIGHTS, "*.md"))
            save_file(mixed, partial / WEIGHTS, metadata)
            os.replace(partial, args.out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except TimeVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"out": str(args.out), "share": args.share, "tensors": len(mixed)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m timevlm.convert SRC DST`: recognise a published checkpoint and write it as ours."""

import json
import os
import sys
import tempfile
from pathlib import Path

import click

from timevlm.convert.checkpoint import Readers, open_checkpoint, shown, write_checkpoint
from timevlm.convert.hybrid import convert_hybrid
from timevlm.convert.siglip import convert_siglip
from timevlm.convert.timeviper import LLM_PREFIX, TimeViperOptions, convert_timeviper
from timevlm.errors import InputError, ModelError, TimeVLMError


def recognise(readers: Readers) -> str:
    """What the parameter names belong to: "timeviper", "hybrid" or "siglip".

    Raises `ModelError` for anything else.
    """
    if any(name.startswith(LLM_PREFIX) for name in readers):
        return "timeviper"
    if any(".mixer." in name for name in readers):
        return "hybrid"
    if any(name.endswith("embeddings.patch_embedding.weight") for name in readers):
        return "siglip"
    raise ModelError(
        f"parameters such as {shown(readers)} belong to no known model; "
        "give a TimeViper, NemotronH or SigLIP checkpoint"
    )


def convert(source: Path, destination: Path, options: TimeViperOptions) -> str:
    """Convert the checkpoint at `source` into the folder `destination`; return what it was.

    Raises `InputError` when the folder holds something, `ModelError` when it cannot be converted.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination} is not an empty folder; name a new one")
    checkpoint = open_checkpoint(source)
    kind = recognise(checkpoint.readers)
    if kind == "timeviper":
        config, readers = convert_timeviper(checkpoint, options)
        values = config.to_dict()
    elif kind == "hybrid":
        llm_config, readers = convert_hybrid(checkpoint, options.pdrop)
        values = {"model_type": "timevlm_llm", **llm_config.to_dict()}
    else:
        siglip, readers = convert_siglip(checkpoint)
        values = siglip.to_dict()
    text = json.dumps(values, indent=2, sort_keys=True)
    # Tensors are checked while they are written: a failure must leave nothing that looks converted.
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=destination) as folder:
        aside = Path(folder)
        write_checkpoint(aside, readers)
        (aside / "config.json").write_text(text + "\n", encoding="utf-8")
        for file in sorted(aside.iterdir(), reverse=True):  # weights before the configuration
            os.replace(file, destination / file.name)
    return kind


@click.command(name="python -m timevlm.convert", help=__doc__)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--pdrop", help="TimeViper's pdrop_type, where its config lacks it.")
@click.option("--tokens-per-frame", type=int, default=16, show_default=True)
@click.option("--num-vision-heads", type=int, help="For towers of unknown width.")
@click.option("--frame-token-id", type=int, help="Id of the token that stands for vision tokens.")
def main(
    source: Path,
    destination: Path,
    pdrop: str | None,
    tokens_per_frame: int,
    num_vision_heads: int | None,
    frame_token_id: int | None,
) -> None:
    """Run the command line."""
    options = TimeViperOptions(
        pdrop=pdrop,
        tokens_per_frame=tokens_per_frame,
        num_vision_heads=num_vision_heads,
        frame_token_id=frame_token_id,
    )
    try:
        kind = convert(source, destination, options)
    except TimeVLMError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    click.echo(f"converted a {kind} checkpoint into {destination}")


if __name__ == "__main__":
    main()

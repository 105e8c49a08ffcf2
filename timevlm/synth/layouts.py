"""The annotations of a benchmark folder in the file layouts of four public benchmarks.

A layout lies in a folder of its own, with hard links to the videos where its official release has
them, so that a harness for the real benchmark runs on it offline:

    videomme/     videomme/test-00000-of-00001.parquet, data/{videoID}.mp4; four-way questions
    charades/     charades_sta_test.txt, Charades_v1_test.csv, Charades_v1_480/{VID}.mp4;
                  sentences that hold in one interval
    activitynet/  val_2.json, videos/{id}.mp4; the dense captions
    vdc/          VDC_1k.jsonl, VDCScore_qa/{task}.jsonl, Test_Videos/{name}.mp4
"""

import csv
import io
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timevlm.errors import InputError
from timevlm.synth.captions import caption_phrase, make_captions
from timevlm.synth.choices import NUM_CHOICES
from timevlm.synth.files import whole_file, write_text
from timevlm.synth.full.captions import (
    background_sentence,
    camera_sentence,
    make_summary,
)
from timevlm.synth.full.palette import BACKGROUNDS
from timevlm.synth.spec import ObjectSpec, VideoSpec

Entry = tuple[VideoSpec, dict[str, Any]]

VDC_TASKS = ("short", "background", "main_object", "camera", "detailed")
_VIDEOMME_COLUMNS = (
    *("video_id", "duration", "domain", "sub_category", "url", "videoID", "question_id"),
    *("task_type", "question", "options", "answer"),
)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "timevlm/toyworld-qa-v1")


def check_parquet() -> None:
    """Raise InputError unless pyarrow can be imported; better before hours of rendering."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(
            "the Video-MME layout is a Parquet file, which needs pyarrow; "
            "run pip install 'timevlm[eval]'"
        ) from None


def write_layouts(folder: Path, entries: Sequence[Entry]) -> None:
    """Write all four layouts of a benchmark folder."""
    write_videomme(folder, entries)
    write_charades(folder, entries)
    write_activitynet(folder, entries)
    write_vdc(folder, entries)


def write_videomme(folder: Path, entries: Sequence[Entry]) -> None:
    """Questions with four options as Video-MME's Parquet table."""
    import pyarrow
    import pyarrow.parquet

    rows = [
        _videomme_row(spec, entry, question)
        for spec, entry in entries
        for question in entry["questions"]
        if len(question["options"]) == NUM_CHOICES
    ]
    strings = pyarrow.string()
    schema = pyarrow.schema(
        [
            (name, pyarrow.list_(strings) if name == "options" else strings)
            for name in _VIDEOMME_COLUMNS
        ]
    )
    target = folder / "videomme"
    path = target / "videomme" / "test-00000-of-00001.parquet"
    with whole_file(path) as partial:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), partial)
    for _, entry in entries:
        _link(folder, entry, target / "data" / f"{_name(entry)}.mp4")


def _videomme_row(
    spec: VideoSpec, entry: dict[str, Any], question: dict[str, Any]
) -> dict[str, Any]:
    lengths = ((120.0, "short"), (900.0, "medium"))
    duration = next((name for most, name in lengths if spec.duration_seconds < most), "long")
    letters = "ABCD"
    return {
        "video_id": _name(entry),
        "duration": duration,
        "domain": "ToyWorld",
        "sub_category": spec.level,
        "url": "-",
        "videoID": _name(entry),
        "question_id": question["id"],
        "task_type": question["family"],
        "question": question["question"],
        "options": [
            f"{letter}. {option}"
            for letter, option in zip(letters, question["options"], strict=True)
        ],
        "answer": letters[question["answer"]],
    }


def write_charades(folder: Path, entries: Sequence[Entry]) -> None:
    """Queries that hold in one interval as Charades-STA's lines, and the durations as its CSV."""
    lines, table = [], io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", "length"))
    target = folder / "charades"
    for spec, entry in entries:
        name = _name(entry)
        writer.writerow((name, spec.duration_seconds))
        for query in entry["grounding"]:
            if len(query["spans"]) == 1:
                start, end = query["spans"][0]
                lines.append(f"{name} {start} {end}##{query['query']}.\n")
        _link(folder, entry, target / "Charades_v1_480" / f"{name}.mp4")
    write_text(target / "charades_sta_test.txt", "".join(lines))
    write_text(target / "Charades_v1_test.csv", table.getvalue())


def write_activitynet(folder: Path, entries: Sequence[Entry]) -> None:
    """The dense captions as ActivityNet Captions' object of videos."""
    target, content = folder / "activitynet", {}
    for spec, entry in entries:
        name = f"v_{_name(entry)}"
        content[name] = {
            "duration": spec.duration_seconds,
            "timestamps": [[c["start"], c["end"]] for c in entry["captions"]],
            "sentences": [_sentence(c["text"]) for c in entry["captions"]],
        }
        _link(folder, entry, target / "videos" / f"{name}.mp4")
    write_text(target / "val_2.json", json.dumps(content))


def write_vdc(folder: Path, entries: Sequence[Entry]) -> None:
    """Captions for VDC's five tasks, and the short questions by which its judge scores them."""
    target = folder / "vdc"
    captions, questions = [], {task: [] for task in VDC_TASKS}
    for spec, entry in entries:
        name = f"{_name(entry)}.mp4"
        video_id = str(uuid.uuid5(_NAMESPACE, f"{spec.level}/{spec.split}/{spec.seed}"))
        texts = vdc_captions(spec)
        row = {"video_id": video_id, "video_name": name}
        captions.append({**row, **{f"{task}_caption": texts[task] for task in VDC_TASKS}})
        for task in VDC_TASKS:
            questions[task].append({video_id: vdc_questions(spec, task)})
        _link(folder, entry, target / "Test_Videos" / name)
    _write_lines(target / "VDC_1k.jsonl", captions)
    for task in VDC_TASKS:
        _write_lines(target / "VDCScore_qa" / f"{task}.jsonl", questions[task])


def vdc_captions(spec: VideoSpec) -> dict[str, str]:
    """The reference caption of each task."""
    scenes = [text for _, _, text in make_captions(spec)]
    backgrounds = background_sentence(spec)
    return {
        "short": make_summary(spec),
        "background": _sentence(f"the video shows {backgrounds}"),
        "main_object": _sentence(caption_phrase(_main_object(spec))),
        "camera": _sentence(camera_sentence(spec)),
        "detailed": " ".join(
            [*map(_sentence, scenes), _sentence(f"the video shows {backgrounds}")]
        ),
    }


def vdc_questions(spec: VideoSpec, task: str) -> list[dict[str, str]]:
    """Questions that the task's caption should answer, with answers and categories."""
    item = _main_object(spec)
    objects = [
        (f"What does the {o.colour} {o.shape} do?", caption_phrase(o), "Content Details")
        for scene in spec.scenes
        for o in scene.objects
    ]
    main = [
        ("What is the shape of the main object?", item.shape, "Main Object"),
        ("What is the colour of the main object?", " then ".join(item.colours), "Main Object"),
        ("What does the main object do?", caption_phrase(item), "Main Object"),
    ]
    count = [("How many scenes are there?", str(len(spec.scenes)), "Scene Count")]
    background = [
        (
            f"What is behind the objects in scene {i}?",
            BACKGROUNDS[scene.background.kind],
            "Background",
        )
        for i, scene in enumerate(spec.scenes, start=1)
    ]
    camera = [("What does the camera do?", camera_sentence(spec), "Camera")]
    chosen = {
        "short": [*count, *main[:2]],
        "background": background,
        "main_object": main,
        "camera": camera,
        "detailed": [*count, *objects, *background, *camera],
    }[task]
    return [
        {"question": text, "answer": answer, "category": category}
        for text, answer, category in chosen
    ]


def _main_object(spec: VideoSpec) -> ObjectSpec:
    """The object that is seen for the longest time."""
    items = [item for scene in spec.scenes for item in scene.objects]
    return max(items, key=lambda item: item.vanish_seconds - item.appear_seconds)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _name(entry: dict[str, Any]) -> str:
    return Path(entry["video"]).stem


def _link(folder: Path, entry: dict[str, Any], place: Path) -> None:
    """The video at another place, without a second copy where the file system can."""
    source = folder / entry["video"]
    if place.is_file() and place.stat().st_size == source.stat().st_size:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        os.link(source, place)
    except OSError:
        partial = place.with_name(place.name + ".partial")
        shutil.copyfile(source, partial)
        os.replace(partial, place)


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

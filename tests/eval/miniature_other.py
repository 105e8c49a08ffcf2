"""Miniatures of the grounding and caption benchmarks and of ToyWorld-QA, rows invented."""

import csv
from pathlib import Path

from eval.benchmarks.vdc import TASKS as VDC_TASKS
from tests.eval.miniature_files import (
    write_json,
    write_jsonl,
    write_parquet,
    write_video,
)


def charades(folder: Path) -> None:
    lines = [
        "ZZTST 0.5 2.5##a person folds the blue blanket.",
        "ZZTST 3.0 4.6##the person leaves.",  # ends after the video
        "ZZTWO 0.0 2.0##person opens a door.",
    ]
    (folder / "charades_sta_test.txt").write_text("\n".join(lines) + "\n")
    with (folder / "Charades_v1_test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "subject", "length"])
        writer.writeheader()
        writer.writerow({"id": "ZZTST", "subject": "A", "length": "4.0"})
        writer.writerow({"id": "ZZTWO", "subject": "B", "length": "4.0"})
    write_video(folder / "Charades_v1_480/ZZTST.mp4", 1)
    write_video(folder / "Charades_v1_480/ZZTWO.mp4", 2)


def charades_hub(folder: Path) -> None:
    rows = [
        {"video": "ZZTST.mp4", "caption": "a person folds it.", "timestamp": [0.5, 2.5]},
        {"video": "ZZTWO.mp4", "caption": "person opens a door.", "timestamp": [0.0, 2.0]},
    ]
    write_parquet(folder / "data/test-00000-of-00001.parquet", rows)
    write_video(folder / "ZZTST.mp4", 1)
    write_video(folder / "ZZTWO.mp4", 2)


ACTIVITYNET = {
    "v_zzTest": {
        "duration": 4.0,
        "timestamps": [[0.5, 2.0], [1.0, 4.0]],
        "sentences": [" A man waxes a ski.", "He looks at it. "],
    },
    "v_zzMore": {"duration": 4.0, "timestamps": [[0, 4]], "sentences": ["A dog runs."]},
}


def activitynet(folder: Path, names: tuple[str, str] = ("val_2", "val_1")) -> None:
    write_json(folder / f"{names[0]}.json", ACTIVITYNET)
    write_json(folder / f"{names[1]}.json", {"v_zzTest": ACTIVITYNET["v_zzTest"]})
    write_video(folder / "videos/v_zzTest.mkv", 1)
    write_video(folder / "videos/zzMore.webm", 2)


def activitynet_videox(folder: Path) -> None:
    activitynet(folder, ("test", "val"))


def _vdc_questions(video: str) -> list[dict]:
    return [
        {
            "question": f"What colour is the kite in {video}?",
            "answer": "Yellow with a red tail",
            "category": "Content Details",
        },
        {"question": "Who holds it?", "answer": "A girl", "category": "Subject"},
    ]


VDC_VIDEOS = ("00000000-test", "00000001-test")


def vdc(folder: Path) -> None:
    meta = [
        {"video_id": video, "video_name": f"clip {video}.mp4"}
        | {f"{task}_caption": f"A {task} caption of {video}." for task in VDC_TASKS}
        for video in VDC_VIDEOS
    ]
    write_jsonl(folder / "VDC_1k.jsonl", meta)
    for task in VDC_TASKS:
        lines = [{video: _vdc_questions(video)} for video in VDC_VIDEOS]
        if task == "main_object":  # one video on two lines
            lines.append({VDC_VIDEOS[0]: [{"question": "New?", "answer": "Yes", "category": "x"}]})
        write_jsonl(folder / f"VDCScore_qa/{task}.jsonl", lines)
    for row in meta:
        write_video(folder / f"videos/{row['video_name']}")


def vdc_repack(folder: Path) -> None:
    rows = [
        {
            "video_id": video,
            "video_name": f"{video}.mp4",
            "task": task,
            "caption": f"A {task} caption.",
            "qa_list": _vdc_questions(video),
        }
        for task in VDC_TASKS
        for video in VDC_VIDEOS
    ]
    write_jsonl(folder / "annotations/vdc.jsonl", rows)
    for video in VDC_VIDEOS:
        write_video(folder / f"Test_Videos/{video}.mp4")


def youcook2(folder: Path) -> None:
    steps = [
        {"id": 0, "segment": [0, 2], "sentence": "cut the onions"},
        {"id": 1, "segment": [2, 4], "sentence": "fry the onions in a pan"},
    ]
    database = {
        f"zzCook{number}": {
            "duration": 4.0,
            "subset": "training" if number == 2 else "validation",
            "recipe_type": "101",
            "video_url": "-",
            "annotations": steps[::-1] if number else steps,
        }
        for number in range(3)
    }
    write_json(folder / "youcookii_annotations_trainval.json", {"database": database})
    write_video(folder / "raw_videos/validation/101/zzCook0.mkv", 1)
    write_video(folder / "raw_videos/validation/101/zzCook1.webm", 2)
    write_video(folder / "raw_videos/training/101/zzCook2.mp4", 1)


def toyworld(folder: Path) -> None:
    videos = []
    for number in range(2):
        name = f"{number:03}"
        videos.append(
            {
                "video": f"videos/{name}.mp4",
                "duration": 4.0,
                "questions": [
                    {
                        "id": f"{name}-q{index}",
                        "family": family,
                        "question": question,
                        "options": options,
                        "answer": index,
                    }
                    for index, (family, question, options) in enumerate(
                        [
                            ("colour", "What colour is the ring?", ["red", "blue", "green"]),
                            ("exist", "Is there a star in the video?", ["yes", "no"]),
                        ]
                    )
                ],
                "grounding": [
                    {
                        "id": f"{name}-g0",
                        "family": "object",
                        "query": "the red ring is visible",
                        "spans": [[0.0, 1.0], [2.0, 4.0]],
                    }
                ],
                "captions": [
                    {"start": 0.0, "end": 2.0, "text": "a red ring moves left"},
                    {"start": 2.0, "end": 4.0, "text": "a blue star turns"},
                ],
            }
        )
        write_video(folder / f"videos/{name}.mp4", number)
    content = {"version": "ToyWorld-QA v1", "split": "test", "videos": videos}
    write_json(folder / "annotations.json", content)

"""Miniatures of the multiple-choice benchmarks: invented rows with the official keys."""

from pathlib import Path

from eval.benchmarks.mlvu import TASKS as MLVU_TASKS
from eval.benchmarks.mvbench import FOLDERS as MVBENCH_FOLDERS
from tests.eval.miniature_files import (
    write_json,
    write_jsonl,
    write_parquet,
    write_pictures,
    write_video,
)

# Video-MME: ids may begin with "-"; one file in capitals, one as .mkv.
VIDEOMME_ROWS = [
    {
        "video_id": f"95{number}",
        "duration": duration,
        "domain": domain,
        "sub_category": "Handicraft",
        "url": "-",
        "videoID": video,
        "question_id": f"95{number}-{question}",
        "task_type": task,
        "question": f"What does the girl do at moment {question}?",
        "options": ["A. She rests.", "B. She swims.", "C. She sings.", last],
        "answer": answer,
    }
    for number, (video, duration, domain) in enumerate(
        [
            ("-zTESTvid01", "short", "Life Record"),
            ("zzTESTvid02", "medium", "Knowledge"),
            ("zzTESTvid03", "long", "Knowledge"),
        ]
    )
    for question, (task, answer, last) in enumerate(
        [
            ("Counting Problem", "B", "D. She reads."),
            ("Action Recognition", "C", "D. She sings."),  # as C: a duplicated option
        ],
        start=1,
    )
]
SRT = (
    '\ufeff1\r\n00:00:00,000 --> 00:00:01,500\r\n<font color="#fff">Look at the boat</font>\r\n'
    "\r\n2\r\n00:00:01,500 --> 00:00:03,000\r\n{\\an8}It is\r\nyellow\r\n\r\n"
    "3\r\n00:00:03,000 --> 00:00:03,900\r\n42\r\n"
)


def _videomme_media(folder: Path) -> None:
    write_video(folder / "data/-zTESTvid01.mp4", 1)
    write_video(folder / "data/zzTESTvid02.MP4", 2)
    write_video(folder / "data/zzTESTvid03.mkv", 3)
    (folder / "subtitle").mkdir()
    (folder / "subtitle/-zTESTvid01.srt").write_bytes(SRT.encode())
    cafe = "1\n00:00:00,500 --> 00:00:02,000\nAt the caf\u00e9\n"
    (folder / "subtitle/zzTESTvid03.srt").write_bytes(cafe.encode("cp1252"))


def videomme(folder: Path) -> None:
    write_parquet(folder / "videomme/test-00000-of-00001.parquet", VIDEOMME_ROWS)
    _videomme_media(folder)


def videomme_json(folder: Path) -> None:
    write_jsonl(folder / "videomme.jsonl", VIDEOMME_ROWS)
    _videomme_media(folder)


LVBENCH_ROWS = [
    {
        "key": "zzLVtest001",
        "type": "tv",
        "video_info": {
            "duration_minutes": 61.2,
            "fps": 25.0,
            "resolution": {"width": 1280, "height": 720},
        },
        "qa": [
            {
                "uid": "9001",
                "question": "What is on the baker's table\nat the end?\n(A) A radio\n"
                "(B) Two loaves\n(C) A map\n(D) Nothing",
                "answer": "B",
                "question_type": ["entity recognition", "temporal grounding"],
                "time_reference": "58:10-58:30",
            },
            {
                "uid": 9002,
                "question": "Who leaves?\n(A) Anna\n(B) Bea\n(C) Carl\n(D) Dan",
                "answer": "A",
                "question_type": ["reasoning"],
                "time_reference": "01:00-01:30",
            },
        ],
    },
    {
        "key": "zzLVtest002",
        "type": "sport",
        "video_info": {"duration_minutes": 35.0, "fps": 30.0},
        "qa": [
            {
                "uid": "9003",
                "question": "Which team scores?\n(A) Red\n(B) Blue\n(C) Green\n(D) None",
                "answer": "D",
                "question_type": ["reasoning"],
                "time_reference": "10:00-10:20",
            }
        ],
    },
]


def lvbench(folder: Path) -> None:
    write_jsonl(folder / "video_info.meta.jsonl", LVBENCH_ROWS)
    write_video(folder / "videos/zzLVtest001.mp4", 1)
    write_video(folder / "videos/zzLVtest002.mp4", 2)


def lvbench_numbered(folder: Path) -> None:
    write_jsonl(folder / "video_info.meta.jsonl", LVBENCH_ROWS)
    write_video(folder / "all_videos/00000000.mp4", 1)
    write_video(folder / "all_videos/00000001.mp4", 2)


def lvbench_flat(folder: Path) -> None:
    rows = [
        {"key": video["key"], "video_path": f"{video['key']}.mp4", "type": video["type"]}
        | {key: str(value) if key == "uid" else value for key, value in question.items()}
        for video in LVBENCH_ROWS
        for question in video["qa"]
    ]
    write_parquet(folder / "data/test-00000-of-00001.parquet", rows)
    lvbench(folder)
    (folder / "video_info.meta.jsonl").unlink()


def lvbench_candidates(folder: Path) -> None:
    rows = [
        {
            "video": f"{number:08}",
            "type": "tv",
            "question": "What is on the table?",
            "candidates": ["(A) A radio", "(B) Two loaves", "(C) A map", "(D) Nothing"],
            "answer": "(B) Two loaves",
            "question_type": ["reasoning"],
            "time_reference": "00:01-00:02",
        }
        for number in range(2)
    ]
    write_json(folder / "lvbench_clean.json", rows)
    write_video(folder / "videos/00000000.mp4", 1)
    write_video(folder / "videos/00000001.mp4", 2)


LVB_ROWS = [
    {
        "video_id": "zzLB01",
        "question": "When the subtitle says 'here we go', what does the man in red hold?",
        "question_wo_referring_query": "What does he hold?",
        "candidates": ["a kite", "a spoon", "a lamp", "a rope", "a bag"],
        "correct_choice": 2,
        "position": [310, 330, 350],
        "topic_category": "KA-Knowledge-Art",
        "question_category": "T2O",
        "level": "L1-Perception",
        "id": "zzLB01_0",
        "video_path": "zzLB01.mp4",
        "subtitle_path": "zzLB01_en.json",
        "duration_group": 15,
        "starting_timestamp_for_subtitles": 10,
        "duration": 4.0,
        "view_count": 12,
    },
    {
        "video_id": "zzLB02",
        "question": "Which colour comes after blue?",
        "question_wo_referring_query": "Which colour?",
        "candidates": ["red", "green", "grey", "pink"],
        "correct_choice": 0,
        "position": [3],
        "topic_category": "LW-Life",
        "question_category": "SOS",
        "level": "L2-Relation",
        "id": "zzLB02_0",
        "video_path": "zzLB02.mp4",
        "subtitle_path": "zzLB02_en.json",
        "duration_group": 60,
        "starting_timestamp_for_subtitles": 0,
        "duration": 4.0,
        "view_count": 7,
    },
]


def _lvb_media(folder: Path) -> None:
    write_video(folder / "videos/zzLB01.mp4", 1)
    write_video(folder / "videos/zzLB02.mp4", 2)
    timed = [
        {"timestamp": [8.0, 9.0], "text": "before the clip"},
        {"timestamp": [10.5, 11.2], "text": "here we go"},
        {"timestamp": [12.0, "nan"], "text": "to the end"},
    ]
    write_json(folder / "subtitles/zzLB01_en.json", timed)
    clocked = [{"start": "00:00:01.000", "end": "0:00:02.500", "line": "blue it is"}]
    write_json(folder / "subtitles/zzLB02_en.json", clocked)


def longvideobench(folder: Path) -> None:
    write_json(folder / "lvb_val.json", LVB_ROWS)
    hidden = [{key: row[key] for key in row if key != "correct_choice"} for row in LVB_ROWS]
    write_json(folder / "lvb_test_wo_gt.json", hidden)
    _lvb_media(folder)


def longvideobench_parquet(folder: Path) -> None:
    rows = []
    for row in LVB_ROWS:
        padded = [*row["candidates"], "N/A"][:5]
        rows.append(
            {key: row[key] for key in row if key not in ("candidates", "position")}
            | {f"option{number}": text for number, text in enumerate(padded)}
        )
    write_parquet(folder / "validation-00000-of-00001.parquet", rows)
    hidden = [{**row, "correct_choice": -1} for row in rows]
    write_parquet(folder / "test-00000-of-00001.parquet", hidden)
    _lvb_media(folder)


def _mlvu_rows(stem: str) -> list[dict]:
    kind = {"2_needle": "findNeedle"}.get(stem, stem.split("_", 1)[1])
    rows = [
        {
            "video": f"{stem}_{number}.mp4",
            "duration": 512.4 if number else 480,
            "question": f"What does the clown throw in part {number}?",
            "candidates": ["A ring", "A hat", "A plate", "A shoe"],
            "answer": "A plate" if number else "A hat",
            "question_type": kind,
        }
        for number in range(2)
    ]
    if stem == "2_needle":
        rows[0] |= {
            "candidates": ["Eating", "Catching the drone", "Running", "Waving"],
            "answer": "It catches a drone",
        }
        rows.append(rows[1] | {"answer": "A chair"})  # a gold that is no option
    if stem == "4_count":
        rows[1] |= {"candidates": ["2", "3", "3", "4"], "answer": "3"}
        rows.pop(0)  # tasks of unequal size: macro and micro means differ
    return rows


def mlvu(folder: Path) -> None:
    for stem in MLVU_TASKS:
        rows = _mlvu_rows(stem)
        write_json(folder / f"MLVU/json/{stem}.json", rows)
        for row in rows:
            write_video(folder / f"MLVU/video/{stem}/{row['video']}")
    questions = [
        {
            "question_id": f"NQA_{number}",
            "video": f"test_needle_{number}.mp4",
            "duration": 300,
            "question": "Which of these is seen last?",
            "candidates": ["a cup", "a cat", "a car", "a key", "a pen", "a hat"],
            "question_type": "needleQA",
        }
        for number in range(2)
    ]
    write_json(folder / "MLVU_Test/test_question.json", questions)
    for row in questions:
        write_video(folder / f"MLVU_Test/video/{row['video']}")


def mlvu_generation(folder: Path) -> None:
    for stem, kind in (("8_sub_scene", "subPlot"), ("9_summary", "summary")):
        rows = [
            {
                "video": f"{stem}_{number}.mp4",
                "duration": 300.5,
                "question": f"What does the baker do in part {number}?",
                "answer": "He bakes two loaves and sells one.",
                "question_type": kind,
            }
            for number in range(2)
        ]
        if kind == "subPlot":
            rows = [row | {"scoring_points": ["two loaves", "sells one"]} for row in rows]
        write_json(folder / f"MLVU/json/{stem}.json", rows)
        for row in rows:
            write_video(folder / f"MLVU/video/{stem}/{row['video']}")


def mlvu_repack(folder: Path) -> None:
    def embedded(row: dict) -> dict:
        lines = [
            f"({letter}) {text}" for letter, text in zip("ABCDEF", row["options"], strict=False)
        ]
        return {
            "video_name": row["video"],
            "question": "\n".join([row["question"], *lines]),
            "answer": row["answer"],
            "task_type": row["task"],
        }

    row = {
        "video": "needle_7.mp4",
        "question": "What is hidden?",
        "answer": "E",
        "task": "needleQA",
    }
    row["options"] = ["a cup", "a cat", "a car", "a key", "a pen", "a hat"]
    write_parquet(folder / "data/test-00000-of-00001.parquet", [embedded(row)])
    dev = row | {"options": row["options"][:4], "answer": "D", "task": "needle"}
    write_jsonl(folder / "annotations/mlvu-dev.jsonl", [embedded(dev)])
    write_video(folder / "video/needle_7.mp4")


def _mvbench_row(task: str, number: int) -> dict:
    suffix = {"action_antonym": ".webm", "fine_grained_pose": ".avi"}.get(task, ".mp4")
    name = f"zz{number}" if task == "episodic_reasoning" else f"zz{number}{suffix}"
    row = {
        "video": name,
        "question": "What happened after the person closed the box?",
        "candidates": ["Opened the door.", "Took the towel.", "Ate the food.", "Sat down."],
        "answer": "Took the towel.",
    }
    if task == "counterfactual_inference" and number == 0:
        row["candidates"] = ["Took the towel."]  # a question with one option
    if task == "episodic_reasoning":
        row["candidates"] = [*row["candidates"], "Left."]
        row |= {"subtitle": "a line", "show_name": "a show", "fps": 3, "start": 0.0, "end": 1.5}
    if task == "action_sequence":
        row |= {"start": 0.5, "end": 3.0, "accurate_start": 1.0, "accurate_end": 2.0}
    return row


def mvbench(folder: Path, wrapper: str = "") -> None:
    for task, place in MVBENCH_FOLDERS.items():
        rows = [_mvbench_row(task, number) for number in range(2)]
        write_json(folder / f"json/{task}.json", rows)
        for row in rows:
            target = folder / "video" / wrapper / place / row["video"]
            if task == "episodic_reasoning":
                write_pictures(target, 6)
            else:
                write_video(target, len(place) % 3)


def mvbench_wrapped(folder: Path) -> None:
    mvbench(folder, wrapper="data0613")


EGOSCHEMA_ROWS = [
    {
        "question_idx": str(number),
        "question": "What is the main goal of the person?",
        "video_idx": f"zz00000{number}-test",
        "option": [f"{letter}. goal {letter.lower()}" for letter in "ABCDE"],
        "answer": str(number),
    }
    for number in range(3)
]


def egoschema(folder: Path) -> None:
    write_parquet(folder / "Subset/test-00000-of-00001.parquet", EGOSCHEMA_ROWS[:2])
    hidden = [{**row, "answer": None} for row in EGOSCHEMA_ROWS]
    write_parquet(folder / "MC/test-00000-of-00001.parquet", hidden)
    for row in EGOSCHEMA_ROWS:
        write_video(folder / f"videos/{row['video_idx']}.mp4")


def egoschema_repository(folder: Path) -> None:
    rows = [
        {"q_uid": row["video_idx"], "google_drive_id": "-", "question": row["question"]}
        | {f"option {n}": text.partition(". ")[2] for n, text in enumerate(row["option"])}
        for row in EGOSCHEMA_ROWS
    ]
    write_json(folder / "questions.json", rows)
    answers = {row["video_idx"]: int(row["answer"]) for row in EGOSCHEMA_ROWS[:2]}
    write_json(folder / "subset_answers.json", answers)
    for row in EGOSCHEMA_ROWS:
        write_video(folder / f"good_clips_git/{row['video_idx']}.mp4")


def cgbench(folder: Path) -> None:
    rows = [
        {
            "qid": 70 + number,
            "video_uid": f"zzCG{number // 2}",
            "question": f"What lies on the bench at stop {number}?",
            "answer": choices[gold],
            "choices": choices,
            "right_answer": "ABCDEFGH"[gold],
            "clue_intervals": [[0.5, 1.5]],
            "domain": "Travel",
            "sub_category": "Object",
            "duration": 4,
        }
        for number, (choices, gold) in enumerate(
            [
                (["a cup", "a cat", "a car", "a key", "a pen", "a hat", "a map", "a bag"], 7),
                (["a cup", "a cat", "a car", "a key", "a pen"], 1),
                (["a cup", "a cat", "a car", "a key", "a pen", "a hat"], 5),
            ]
        )
    ]
    write_json(folder / "cgbench_mini.json", rows)
    write_json(folder / "cgbench.json", rows)
    for number in range(2):
        write_video(folder / f"cg_videos_720p/zzCG{number}.mp4", number)
    (folder / "cg_subtitles").mkdir()
    srt = "1\n00:00:00,000 --> 00:00:04,000\nA bag, then\n"
    (folder / "cg_subtitles/zzCG0.srt").write_text(srt)


TEMPCOMPASS = {
    "multi-choice": [("What moves?\nA. a ball\nB. a car\nC. a dog", "B. a car")],
    "yes_no": [("Is the car red?", "yes"), ("Does the car stop?", "no")],
    "caption_matching": [
        (
            "Which description fits?\nOption 1: The car goes left.\nOption 2: The car stops.",
            "Option 2: The car stops.",
        ),
        (
            "Which caption fits?\nCaption A: The car goes left.\nCaption B: It stops.",
            "Caption A: The car goes left.",
        ),
    ],
    "captioning": [
        (
            "Write a caption from what fits.\nInformation A: {'subject': 'car'}\n"
            "Information B: {'subject': 'dog'}\nGenerated Caption:",
            "A. car",
        ),
    ],
}


def tempcompass(folder: Path) -> None:
    for task, pairs in TEMPCOMPASS.items():
        rows = [{"question": question, "answer": answer} for question, answer in pairs]
        value = {"10": {"action": rows}, "10_reverse": {"direction": rows[:1]}}
        write_json(folder / f"questions/{task}.json", value)
    write_video(folder / "videos/10.mp4")
    write_video(folder / "videos/10_reverse.mp4")


def tempcompass_hub(folder: Path) -> None:
    for task, pairs in TEMPCOMPASS.items():
        rows = [
            {"video_id": "10", "question": question, "answer": answer, "dim": "action"}
            for question, answer in pairs
        ]
        write_parquet(folder / f"{task}/test-00000-of-00001.parquet", rows)
    write_video(folder / "videos/10.mp4")

"""What LCR costs: frames per second in a stream, edges, Bi-WKV; its sizes; its cell's explosion.

    python scripts/bench_lcr.py                       # the bench; a table each, one JSON line last
    python scripts/bench_lcr.py --video clip.mp4      # on real frames instead of drifting noise
    python scripts/bench_lcr.py --sizes               # parameters and FLOPs beside the published
    python scripts/bench_lcr.py --cells cells.png     # how large the cell gets, frame by frame

Seconds are the best of several runs after the first. How long edges take depends on how many there
are, so their share of the pixels stands beside the time; OpenCV's time is given where cv2 is
installed. Expectations: `lcr-tiny`, read 16 frames at a time, costs at most 2 ms a frame, edges
included, on one core; the linear Bi-WKV is faster than the quadratic one from 64 tokens on. With
`--out` every part is kept when it is measured, and the same command goes on after the last one.
"""

import argparse
import importlib.util
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from _bench import Parts, cores, print_table, table, verdict, verdict_list
from torch import Tensor

from recognizers import create
from recognizers.edges import edge_maps
from recognizers.lcr import LCR, LCRConfig, multiply_adds
from recognizers.lcr_cell import bounded_update, published_update
from recognizers.wkv import bi_wkv, bi_wkv_reference, bi_wkv_scan

MODELS = {"lcr-jester": 224, "lcr-jester-bounded": 224, "lcr-tiny": 96}  # name: picture side
STEP_FRAMES = (1, 8, 16)
TOKENS = (37, 65, 197, 785, 3137)  # pictures of 96, 128, 224, 448 and 896 pixels
WKV_CHANNELS = 96
MAX_PAIRS = 1 << 28  # numbers in one tensor of the quadratic way: 1 GiB
TINY_MS_ASKED = 2.0
PUBLISHED_PARAMETERS, PUBLISHED_TFLOPS = 5.14, 0.022  # arXiv 2411.05636, Jester; in millions, T
CELL_PROMPTS = (0.05, 0.2, 0.5)
CELL_FRAMES = 600


def best_seconds(function: Callable[[], object], repeats: int) -> float:
    """Best wall time of `repeats` runs after a first one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def load_frames(video: Path | None, side: int, count: int) -> Tensor:
    """uint8 (count, 3, side, side): a video's frames at 4 a second, or a drifting texture."""
    if video is not None:
        from timevlm.video import SamplingPlan, open_video

        plan = SamplingPlan(fps=4, resolution=(side, side))
        with open_video(video, plan, batch_size=count, workers=1) as reader:
            frames = torch.cat([batch.pixels for batch in islice(reader, 1)])
        return frames.repeat(math.ceil(count / len(frames)), 1, 1, 1)[:count]
    coarse = torch.randn(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    texture = (texture[0] * 60 + 128).clamp(0, 255).to(torch.uint8)
    return torch.stack([texture.roll(2 * t, dims=-1) for t in range(count)])


@torch.inference_mode()
def bench_stream(name: str, video: Path | None, repeats: int) -> list[dict]:
    """Milliseconds a frame of a model, by the number of frames in a step."""
    rows = []
    side = MODELS[name]
    model = create(name).eval()
    frames = load_frames(video, side, max(STEP_FRAMES))[None]
    state = model.init_state(1, side, side)
    for count in STEP_FRAMES:
        step = partial(model.step, frames[:, :count], state)
        ms = 1000 * best_seconds(step, repeats) / count
        row = {"model": name, "side": side, "frames_a_step": count, "ms_a_frame": ms}
        rows.append({**row, "frames_per_second": 1000 / ms})
    return rows


def bench_edges(video: Path | None, repeats: int) -> list[dict]:
    """Milliseconds a frame of edges, one frame and sixteen at a time, beside OpenCV's."""
    rows = []
    for side in sorted(set(MODELS.values())):
        frames = load_frames(video, side, 16)
        row: dict = {"side": side, "edge_share": float(edge_maps(frames).float().mean())}
        for count in (1, 16):
            seconds = best_seconds(partial(edge_maps, frames[:count]), repeats)
            row[f"ms_at_{count}"] = 1000 * seconds / count
        row["opencv_ms"], row["pixels_unlike_opencv"] = beside_opencv(frames, repeats)
        rows.append(row)
    return rows


def beside_opencv(frames: Tensor, repeats: int) -> tuple[float | None, float | None]:
    """Milliseconds a frame of the same edges with cv2, and the share of pixels that differ.

    None for both where cv2 is not installed.
    """
    if importlib.util.find_spec("cv2") is None:
        return None, None
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    pictures = [frame.permute(1, 2, 0).contiguous().numpy() for frame in frames]

    def run() -> list:
        found = []
        for picture in pictures:
            gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            high, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
            found.append(cv2.Canny(gray, 0.5 * high, high))
        return found

    theirs = torch.stack([torch.from_numpy(edges) for edges in run()]) > 0
    unlike = float((theirs != edge_maps(frames)).float().mean())
    return 1000 * best_seconds(run, repeats) / len(pictures), unlike


@torch.inference_mode()
def bench_wkv(repeats: int, max_tokens: int) -> list[dict]:
    """Milliseconds of the three ways to one result, by tokens; None where it takes too much."""
    rows = []
    for num_tokens in TOKENS:
        if num_tokens > max_tokens:
            continue
        w, u = torch.linspace(-5.0, 3.0, WKV_CHANNELS), torch.zeros(WKV_CHANNELS)
        k, v = torch.randn(2, 1, num_tokens, WKV_CHANNELS)
        row: dict = {"tokens": num_tokens}
        for way in (bi_wkv, bi_wkv_scan, bi_wkv_reference):
            pairs = num_tokens**2 * WKV_CHANNELS
            if way is bi_wkv_reference and pairs > MAX_PAIRS:
                row[way.__name__] = None
                continue
            row[way.__name__] = 1000 * best_seconds(partial(way, w, u, k, v), repeats)
        rows.append(row)
    return rows


def bench(arguments: argparse.Namespace) -> None:
    """Print the three tables, what was asked, and one JSON line."""
    torch.set_num_threads(arguments.threads)
    video, repeats = arguments.video, arguments.repeats
    settings = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "repeats": repeats,
        "max_tokens": arguments.max_tokens,
        "video": None if video is None else video.name,
    }
    parts = Parts(settings, partial(report, threads=arguments.threads), arguments.out)
    for name in MODELS:
        parts.measure(f"stream of {name}", partial(bench_stream, name, video, repeats))
    parts.measure("edges", partial(bench_edges, video, repeats))
    parts.measure("wkv", partial(bench_wkv, repeats, arguments.max_tokens))
    parts.finish()


def report(parts: dict[str, list[dict]], threads: int) -> tuple[dict, list[str]]:
    """The numbers and the page of the parts that were measured."""
    streams = [row for name in MODELS for row in parts.get(f"stream of {name}", [])]
    edges, wkv = parts.get("edges", []), parts.get("wkv", [])
    page = []
    for title, rows in (
        (f"Streaming, edges included, threads: {threads}", streams),
        ("Canny edges with Otsu's threshold, milliseconds a frame", edges),
        (f"Bi-WKV, {WKV_CHANNELS} channels, milliseconds", wkv),
    ):
        if rows:
            columns = [name.replace("_", " ") for name in rows[0]]
            page.append(table(title, columns, [list(row.values()) for row in rows]))
    tiny = [row["ms_a_frame"] for row in streams if row["model"] == "lcr-tiny"]
    ratios = [
        row["bi_wkv_reference"] / row["bi_wkv"]
        for row in wkv
        if row["tokens"] >= 64 and row["bi_wkv_reference"] is not None
    ]
    asked = [
        verdict("lcr-tiny, ms a frame", min(tiny, default=None), TINY_MS_ASKED),
        verdict(
            "linear Bi-WKV, times the quadratic's speed",
            min(ratios, default=None),
            1.0,
            at_most=False,
        ),
    ]
    page.append(verdict_list(asked))
    tables = {"stream": streams, "edges": edges, "wkv": wkv}
    return {"bench": "lcr", "cores": cores(), **tables, "asked": asked}, page


def num_parameters(config: LCRConfig) -> int:
    """Parameters of a model of these sizes; nothing is allocated."""
    with torch.device("meta"):
        return sum(p.numel() for p in LCR(config).parameters())


def sizes() -> None:
    """Print our sizes, which regular sizes have the published count, and the FLOPs they make."""
    rows = []
    for name, side in MODELS.items():
        model = create(name)
        parameters = sum(p.numel() for p in model.parameters())
        macs = multiply_adds(model.config, side, side)
        rows.append([name, parameters, f"{2 * parameters / 1e6:.2f}", side, f"{macs / 1e9:.4f}"])
    columns = ["model", "parameters", "fp16 MB", "side", "G multiply-adds a frame"]
    print_table("Sizes", columns, rows)
    jester = create("lcr-jester").config
    matches = []
    for dim in range(64, 769, 32):
        one = num_parameters(replace(jester, dim=dim, depth=1, num_heads=1))
        layer = num_parameters(replace(jester, dim=dim, depth=2, num_heads=1)) - one
        for depth in range(1, 25):
            if round((one + (depth - 1) * layer) / 1e6, 2) == PUBLISHED_PARAMETERS:
                macs = multiply_adds(replace(jester, dim=dim, depth=depth, num_heads=1), 224, 224)
                matches.append([dim, depth, one + (depth - 1) * layer, f"{macs / 1e9:.3f}"])
    columns = ["dim", "depth", "parameters", "G multiply-adds a frame"]
    title = f"Sizes with {PUBLISHED_PARAMETERS} M parameters, dim 64 to 768 by 32, depth 1 to 24"
    print_table(title, columns, matches)
    rows = []
    for mask_ratio in (0.0, 0.25, 0.5, 0.75):
        macs = multiply_adds(jester, 224, 224, mask_ratio)
        limits = [(PUBLISHED_TFLOPS + half) * 1e12 for half in (-0.0005, 0.0005)]
        counts = [
            ", ".join(str(n) for n in range(1, 200) if limits[0] <= n * flops < limits[1]) or "none"
            for flops in (macs, 2 * macs)
        ]
        rows.append([mask_ratio, f"{macs / 1e9:.3f}", *counts])
    columns = ["tubes masked", "G a frame", "1 FLOP per multiply-add", "2 FLOPs"]
    print_table(f"Frames of a clip that make {PUBLISHED_TFLOPS} TFLOPs at 224x224", columns, rows)


def cell_sizes(prompt: float) -> tuple[list[float], list[float]]:
    """|C| after each frame of the published and the bounded cell, gate 1 and a constant prompt."""
    published = bounded = torch.zeros(())
    gate, edge = torch.ones(()), torch.tensor(prompt)
    sizes: tuple[list[float], list[float]] = ([], [])
    for _ in range(CELL_FRAMES):
        published = published_update(published, gate, edge)
        bounded = bounded_update(bounded, gate, edge)
        sizes[0].append(float(published.abs()))
        sizes[1].append(float(bounded.abs()))
    return sizes


def cells(path: Path) -> None:
    """Print how large both cells get, and draw it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    rows, frames = [], range(1, CELL_FRAMES + 1)
    for index, prompt in enumerate(CELL_PROMPTS):
        published, bounded = cell_sizes(prompt)
        lost = next(
            (t for t, size in zip(frames, published, strict=True) if math.isinf(size)), None
        )
        rows.append([prompt, *(published[t - 1] for t in (10, 100)), lost, max(bounded)])
        axes.semilogy(frames, published, color=f"C{index}", label=f"published, e = {prompt}")
        axes.semilogy(frames, bounded, color=f"C{index}", ls="--", label=f"bounded, e = {prompt}")
    axes.set(xlabel="frames with a constant edge prompt e", ylabel="|C|, gate A = 1")
    axes.axhline(torch.finfo(torch.float32).max, color="gray", lw=0.8)
    axes.text(2, 1e36, "largest float32", color="gray", va="top")
    figure.legend(fontsize="small", loc="outside right upper")
    partial_path = path.with_name(f".{os.getpid()}{path.suffix}")
    figure.savefig(partial_path, dpi=100, format=path.suffix.lstrip(".") or "png")
    os.replace(partial_path, path)
    columns = [
        "prompt e",
        "published, 10 frames",
        "100 frames",
        "infinite at frame",
        "bounded, most",
    ]
    print_table("Size of the cell", columns, [[f"{x:.3g}" if x else "-" for x in r] for r in rows])
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--video", type=Path, help="take frames from here")
    parser.add_argument("--out", type=Path, help="keep the JSON and the tables there")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--max-tokens", type=int, default=max(TOKENS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", action="store_true", help="parameters and FLOPs, nothing timed")
    parser.add_argument("--cells", type=Path, metavar="PICTURE", help="draw the cells' growth")
    arguments = parser.parse_args()
    if arguments.sizes:
        sizes()
    elif arguments.cells is not None:
        cells(arguments.cells)
    else:
        bench(arguments)


if __name__ == "__main__":
    main()

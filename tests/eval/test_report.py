import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from eval.benchmarks.base import available
from eval.models.base import Session, VideoModel, VideoRequest, digest
from eval.models.baselines import BlindModel, ConstantModel
from eval.records import Prompt, Reply, Sample
from eval.report import charts, words, write_comparison, write_report
from eval.report.cases import by_turns
from eval.report.comparison import verdict
from eval.report.markdown import latex
from eval.report.markup import Html, element
from eval.report.page import SECTIONS
from eval.report.pictures import encode_jpeg
from eval.runner import evaluate
from eval.sampling import Sampling
from eval.settings import RunSettings
from eval.store import read_lines
from tests.eval.miniatures import build
from timevlm import InputError, VideoError

MARKUP = '<script>alert(1)</script> & "quotes" | http://example.com/a.png \x00\ud800'
VOID = {"br", "col", "hr", "img", "meta"}


class Page(HTMLParser):
    """What a test wants to know about an HTML file; fails where tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.references: list[str] = []
        self.pictures: list[bytes] = []
        self.values: list[tuple[float, str]] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if tag == "img":
            assert values["alt"]
            head, _, data = values["src"].partition(",")
            assert head == "data:image/jpeg;base64"
            self.pictures.append(base64.b64decode(data, validate=True))
        if tag == "data":
            self.values.append((float(values["value"]), ""))
        names = ("src", "href", "srcset", "poster", "action", "xlink:href", "background")
        self.references += [v for k, v in values.items() if k in names]
        assert not any(name.startswith("on") for name in values)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "data":
            self.values[-1] = (self.values[-1][0], data)
        self.text += data


class Pointing(VideoModel):
    """Answers with evidence: first option, first second; one question unread, one video broken."""

    name = "pointing"
    fingerprint = digest({"pointing": 1})
    default_sampling = Sampling(mode="uniform_mid", frames=2)
    decodes_ahead = False

    def __init__(self, broken: str = "none") -> None:
        self.broken = broken
        self.gen_kwargs = {"points": True}

    def decode(self, request: VideoRequest) -> VideoRequest:
        if request.path.stem == self.broken:
            raise VideoError(f"{request.path.name} is damaged: {MARKUP!a}")
        return request

    def watch(self, decoded: VideoRequest) -> Session:
        return _Look()


class _Look(Session):
    frame_seconds = (0.5, 1.5)
    duration_seconds = 4.0

    def answer(self, sample: Sample, prompt: Prompt) -> Reply:
        common: dict[str, Any] = {
            "confidence": 0.9,
            "evidence": ((0.5, 1.5), (2.0, 3.0)),
            "seconds_decode": 0.1,
            "seconds_encode": 0.2,
            "seconds_prefill": 0.3,
            "seconds_generate": 0.4,
            "num_frames": 2,
            "first_frame_seconds": 0.5,
            "last_frame_seconds": 1.5,
            "tokens_in": 7,
            "tokens_out": 1,
        }
        if sample.tags.get("family") == "exist":
            return Reply(raw=MARKUP, **common)
        if sample.task == "choice":
            return Reply(raw="C", choice=len(sample.options) - 1, **common)
        if sample.task == "grounding":
            return Reply(raw="", spans=((0.0, 0.5),), **common)
        captions = ((0.0, 1.0, f"a red ring {MARKUP}"),)
        return Reply(raw="", captions=captions, **common)


def run(bench: str, data: Path, out: Path, model: VideoModel, **changes: Any) -> Path:
    settings = RunSettings(bench=bench, data=str(data), **changes)
    outcome = evaluate(settings, out=out, model=model)
    assert outcome.missing == 0
    return out


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of the miniature ToyWorld, side by side, with their reports."""
    root = tmp_path_factory.mktemp("results")
    data = build("toyworld", root / "data")
    run("toyworld", data, root / "runs" / "blind", BlindModel())
    run("toyworld", data, root / "runs" / "constant", ConstantModel("B"))
    run("toyworld", data, root / "runs" / "pointing", Pointing(broken="001"))
    write_report(root / "runs" / "pointing")
    return root


@pytest.fixture(scope="module")
def page(results: Path) -> Page:
    return Page((results / "runs" / "pointing" / "report.html").read_text(encoding="utf-8"))


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def test_the_page_has_every_section_and_links_to_them(page: Page) -> None:
    keys = [key for key, _ in SECTIONS]
    assert [name for name in page.ids if name in keys] == keys
    assert page.links == [f"#{key}" for key in keys]
    assert len(page.ids) == len(set(page.ids))
    for _, title in SECTIONS:
        assert title in page.text
    assert {"main", "nav", "h1", "svg", "table", "details"} <= page.tags
    assert "script" not in page.tags


def test_the_page_loads_nothing(page: Page, results: Path) -> None:
    for reference in page.references:
        assert reference.startswith(("data:image/jpeg;base64,", "#"))
    html = (results / "runs" / "pointing" / "report.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "default-src &#x27;none&#x27;" in html


def test_every_picture_decodes_and_is_small(page: Page) -> None:
    # Five wrong answers of the good video with two to four moments each; none of the broken one.
    assert len(page.pictures) >= 6
    for data in page.pictures:
        with av.open(io.BytesIO(data), format="jpeg_pipe") as container:
            frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (64, 48)
        assert len(data) < 20_000


def test_numbers_are_those_of_metrics_json(page: Page, results: Path) -> None:
    metrics = json.loads((results / "runs" / "pointing" / "metrics.json").read_text())
    rows = read_lines(results / "runs" / "pointing" / "predictions.jsonl")
    known = set(numbers(metrics)) | {float(row["score"]) for row in rows}
    assert len(page.values) > 60
    for value, shown in page.values:
        assert value in known
        digits = re.fullmatch(r"(-?[\d,]+(?:\.(\d+))?)(?:%| of 5| s)?", shown)
        assert digits is not None
        places = len(digits[2] or "")
        assert abs(float(digits[1].replace(",", "")) - value) <= 0.5 * 10**-places + 1e-9
    shown_values = {value for value, _ in page.values}
    for lines in metrics["tables"].values():
        for line in lines:
            assert line["value"] in shown_values


def test_replies_and_errors_are_shown_as_text(page: Page) -> None:
    assert '<script>alert(1)</script> & "quotes" | http://example.com/a.png' in page.text
    assert "001.mp4 is damaged" in page.text
    assert "\x00" not in page.text
    assert "toyworld:test:000-q1" in page.text


def test_baselines_stand_beside_the_score(page: Page, results: Path) -> None:
    metrics = json.loads((results / "runs" / "pointing" / "metrics.json").read_text())
    lines = metrics["without_watching"]
    names = {(line["metric"], line["name"]) for line in lines}
    assert ("accuracy", "longest option") in names
    assert ("mIoU", "whole video") in names
    assert ("mIoU", "middle half of the video") in names
    assert ("F1", "blind") in names  # a run in the folder beside this one
    for line in lines:
        assert line["low"] <= line["value"] <= line["high"]
    # The whole video is what the constant model answers, and what the benchmark's table says.
    whole = next(line for line in lines if line["name"] == "whole video")
    table = metrics["tables"]["grounding: baselines"]
    assert whole["value"] == pytest.approx(table[0]["value"])
    beside = json.loads((results / "runs" / "constant" / "metrics.json").read_text())
    constant = next(line for line in beside["tables"]["overall"] if line["name"] == "mIoU")
    assert whole["value"] == pytest.approx(constant["value"])


def test_the_markdown_has_the_same_sections_and_a_latex_row(results: Path) -> None:
    text = (results / "runs" / "pointing" / "report.md").read_text(encoding="utf-8")
    for _, title in SECTIONS:
        assert f"## {title}\n" in text
    row = text.split("```latex\n")[1].split("\n```")[0].splitlines()
    assert row[0].startswith("% ToyWorld-QA all 1.0, 95% intervals: model & accuracy & mIoU & F1")
    assert row[-1].startswith("pointing & ")
    assert row[-1].endswith("\\\\")
    assert row[-1].count("&") == 3
    for line in text.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) >= 4
    assert "<script>" not in text


def test_a_limited_run_says_so_everywhere(tmp_path: Path) -> None:
    data = build("toyworld", tmp_path / "data")
    folder = run("toyworld", data, tmp_path / "run", BlindModel(), limit=1)
    shutil.rmtree(data)  # missing videos and annotations do no harm
    write_report(folder)
    html = (folder / "report.html").read_text(encoding="utf-8")
    text = Page(html).text
    marker = "LIMITED to 1 of 2 videos, 4 of 8 questions"
    assert marker in text
    assert marker in re.search(r"<title>(.*?)</title>", html)[1]
    assert marker in (folder / "report.md").read_text(encoding="utf-8")
    assert "No pictures: " in text
    assert "is not in the run's data folder" in text


def test_one_video_has_no_interval_anywhere(tmp_path: Path) -> None:
    data = build("toyworld", tmp_path / "data")
    first = run("toyworld", data, tmp_path / "a", BlindModel(), limit=1)
    second = run("toyworld", data, tmp_path / "b", ConstantModel("B"), limit=1)
    write_report(first)
    metrics = json.loads((first / "metrics.json").read_text())
    lines = [line for lines in metrics["tables"].values() for line in lines]
    lines += metrics["without_watching"]
    assert not any("low" in line for line in lines)
    assert {line["num_videos"] for line in metrics["tables"]["overall"]} == {1}
    alone = f"{words.NOTHING} (1 video)"
    html = (first / "report.html").read_text(encoding="utf-8")
    assert Page(html).text.count(alone) >= 6
    assert "95% interval 0.0 to" not in html
    assert (first / "report.md").read_text(encoding="utf-8").count(alone) >= 6
    write_comparison(first, second, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert {line["p_value"] for line in found["tasks"].values()} == {None}
    page = Page((tmp_path / "out" / "comparison.html").read_text(encoding="utf-8"))
    assert "one video says nothing about others" in page.text


def test_a_whole_run_is_not_marked(page: Page) -> None:
    assert "LIMITED" not in page.text


def test_metrics_are_made_where_they_are_absent(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(results / "runs" / "pointing", folder)
    (folder / "metrics.json").unlink()
    write_report(folder)
    before = json.loads((results / "runs" / "pointing" / "metrics.json").read_text())
    after = json.loads((folder / "metrics.json").read_text())
    assert after["tables"] == before["tables"]


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no result folder"):
        write_report(tmp_path)


@pytest.mark.parametrize("bench", available())
def test_every_benchmark_has_a_report(
    bench: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.benchmarks.dense.meteor_available", lambda: False)
    monkeypatch.setattr("eval.report.cases.take_pictures", _no_pictures)
    data = build(bench, tmp_path / "data")
    folder = run(bench, data, tmp_path / "run", Pointing())
    write_report(folder)
    shown = Page((folder / "report.html").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["title"] in shown.text
    for entry in metrics["published"]:
        assert entry["model"] in shown.text
        assert entry["source"] in shown.text
        assert entry["value"] in {value for value, _ in shown.values}


def test_a_comparison_of_two_runs(results: Path, tmp_path: Path) -> None:
    first, second = (results / "runs" / name for name in ("blind", "pointing"))
    write_comparison(first, second, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    shown = Page((tmp_path / "out" / "comparison.html").read_text(encoding="utf-8"))
    known = set(numbers(found))
    assert len(shown.values) >= 12
    assert all(value in known for value, _ in shown.values)
    assert all(reference.startswith("#") for reference in shown.references)
    assert set(found["tasks"]) == {"choice", "grounding", "dense_caption"}
    assert found["losses"]["num"] == len(found["losses"]["samples"])
    for entry in found["losses"]["samples"]:
        assert entry["score_a"] > entry["score_b"]
        assert entry["id"] in shown.text
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "# pointing against blind on ToyWorld-QA" in text


def test_the_verdict_needs_an_interval_and_a_p_value() -> None:
    line = {"low": 1.0, "high": 3.0, "p_value": 0.01}
    assert verdict(line) == "B is better"
    assert verdict({"low": -3.0, "high": -1.0, "p_value": 0.01}) == "A is better"
    for other in ({"p_value": 0.25}, {"low": -1.0}):
        assert verdict(line | other) == "the difference may be chance"


def test_times_and_numbers_in_words() -> None:
    assert words.seconds(12.44).replace("\u00a0", " ") == "12.4 s"
    assert words.seconds(59.96) == "1:00.0"
    assert words.seconds(3725.0) == "1:02:05.0"
    assert words.duration(725) == "12 min 05 s"
    assert words.size(1536) == "1.5 KiB"
    assert words.score(12.0, "") == "12"
    assert words.score(12.0, "%") == "12.0"
    assert words.score(None, "%") == words.NOTHING
    assert words.decimals("%", [26.99, 30.0]) == 2
    assert words.count(1, "video") == "1 video"
    assert words.metric("R@1,IoU>=0.3") == "R@1, IoU \u2265 0.3"


def test_scales_hold_their_values() -> None:
    percent = charts.score_scale([{"value": 3.0, "unit": "%"}, {"value": 500.0, "unit": ""}])
    assert (percent.low, percent.high, percent.ticks) == (
        0.0,
        100.0,
        (0.0, 25.0, 50.0, 75.0, 100.0),
    )
    assert percent.at(25.0) == "25.00%"
    assert percent.at(140.0) == "100.00%"
    plain = charts.score_scale([{"value": 437.0, "unit": "", "high": 510.0}])
    assert plain.high >= 510
    assert charts.score_scale([{"value": None, "unit": "%"}]) is None
    assert charts.score_scale([{"value": 0.0, "unit": ""}]) is None
    symmetric = charts.difference_scale([-3.0, 12.0])
    assert symmetric.low == -symmetric.high
    assert symmetric.high >= 12
    assert charts.difference_scale([0.0]).high > 0


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", {"title": '"<'}, "<b>") == '<p title="&quot;&lt;">&lt;b&gt;</p>'
    assert element("p", None, Html("<b></b>"), None) == "<p><b></b></p>"
    assert Html("<i>") + "<" == "<i>&lt;"
    assert latex("a_b & 5% ~") == r"a\_b \& 5\% \textasciitilde{}"


def test_groups_take_turns() -> None:
    assert by_turns(["a1", "a2", "b1", "a3", "b2"], lambda x: x[0]) == [
        "a1",
        "b1",
        "a2",
        "b2",
        "a3",
    ]


def test_a_large_picture_is_scaled_down() -> None:
    jpeg, width, height = encode_jpeg(np.full((720, 1280, 3), 200, dtype=np.uint8))
    assert (width, height) == (320, 180)
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert abs(pixels.astype(int) - 200).max() <= 3


@pytest.mark.slow
def test_a_browser_shows_both_themes_and_no_overflow(results: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    pictures = {
        theme: _screenshot(browser, results / "runs" / "pointing" / "report.html", tmp_path, theme)
        for theme in ("light", "dark")
    }
    for pixels in pictures.values():
        background = pixels[0, 0]
        # Something is drawn, and nothing in the page's right margin: no table widens the page.
        assert (pixels != background).any(axis=-1).mean() > 0.02
        assert (pixels[:, -12:] == background).all()
    assert pictures["light"][0, 0].min() > 200
    assert pictures["dark"][0, 0].max() < 60


def _no_pictures(path: Path, moments: Any, *, isolate: bool) -> list:
    raise VideoError(f"{path.name} is not looked at")


def _screenshot(browser: str, html: Path, folder: Path, theme: str) -> np.ndarray:
    """(H, W, 3) uint8 of the page's beginning, 500 pixels wide."""
    target = folder / f"{theme}.png"
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={folder / theme}"]
    command += ["--window-size=500,1600", f"--screenshot={target}", html.as_uri()]
    if theme == "dark":
        command.insert(1, "--blink-settings=preferredColorScheme=0")
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    with av.open(str(target)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")

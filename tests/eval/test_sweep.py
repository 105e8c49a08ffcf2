import json
from pathlib import Path

import pytest

from eval.models.base import ModelSettings
from eval.models.timevlm_model import with_options
from eval.settings import RunSettings
from eval.sweep import cell_label, cell_settings, read_sweep, run_sweep, shipped
from tests.eval.runs import make_toyworld
from timevlm import TimeVLM
from timevlm.errors import InputError, TimeVLMError
from timevlm.prefilter.names import resolve_name

BASE = RunSettings(bench="toyworld", data="d", model=ModelSettings(name="nano"))


def write(path: Path, text: str) -> Path:
    path.write_text('bench = "toyworld"\ndata = "d"\n' + text, encoding="utf-8")
    return path


def test_a_grid_is_crossed_and_cells_are_taken_as_they_are(tmp_path: Path) -> None:
    sweep = read_sweep(
        write(
            tmp_path / "s.toml",
            'name = "n"\nlimit = 3\n'
            '[grid]\nsampling = ["fps:1", "fps:2"]\n"model.transv.1.keep" = [0.5, 0.1, 0.2]\n'
            '[[cells]]\nlabel = "x"\n[[cells]]\nlabel = "y"\nprompt_style = "plain"\n',
        )
    )
    assert sweep.axes == ("label", "sampling", "model.transv.1.keep", "prompt_style")
    assert len(sweep.cells) == 12
    assert sweep.base.limit == 3
    found = cell_settings(sweep.base, sweep.cells[-1])
    assert str(found.sampling) == "fps:2"
    assert found.prompt_style == "plain"
    assert found.model.option_values() == {"transv.1.keep": 0.2}


def test_settings_of_the_run_the_model_and_its_options() -> None:
    cell = {"sampling": "fps:2", "model": "blind", "model.dtype": "float32", "model.x": [1]}
    found = cell_settings(BASE, cell)
    assert (found.model.name, found.model.dtype) == ("blind", "float32")
    assert found.model.option_values() == {"x": [1]}
    assert cell_settings(BASE, {"sampling": None, "label": "as it is"}) == BASE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\ncolour = [1]\n", "no setting 'colour'"),
        ("[grid]\nsampling = 3\n", "a list of values"),
        ('[grid]\nsampling = ["all"]\n', "unknown sampling"),
        ("surprise = 1\n", "unknown \\['surprise'\\]"),
        ("[grid\n", "not valid TOML"),
    ],
)
def test_sweep_files_that_make_no_sense_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(TimeVLMError, match=message):
        read_sweep(write(tmp_path / "s.toml", text))


def test_a_sweep_needs_data(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('bench = "toyworld"\n')
    with pytest.raises(InputError, match="--data DIR"):
        read_sweep(path)
    assert read_sweep(path, data="here").base.data == "here"


def test_labels_name_what_is_not_plain() -> None:
    cell = {"sampling": "fps:1", "model.prefilter": "off", "model.transv": "on", "seed": None}
    assert cell_label(cell) == "fps:1 prefilter=off transv=on"
    assert cell_label({"model": "blind", "sampling": None}) == "blind"
    assert cell_label({}) == "default"
    assert cell_label({"label": "drop", "model": "nano", "model.transv": "drop"}) == "drop nano"


@pytest.mark.parametrize("name", shipped())
def test_shipped_sweeps_fit_nano(name: str) -> None:
    sweep = read_sweep(Path(name), data="d")
    assert sweep.name == name
    vlm = TimeVLM.from_pretrained("nano")
    seen = set()
    for cell in sweep.cells:
        found = cell_settings(sweep.base, cell)
        options = found.model.option_values()
        seen.add((str(found.sampling), json.dumps(options)))
        name = options.pop("prefilter", "off")
        assert name == "off" or resolve_name(name)
        if options:
            with_options(vlm, options)
    assert len(seen) == len(sweep.cells) >= 4


def test_shipped_sweeps_repeat_the_papers_ablations() -> None:
    sweeps = {name: read_sweep(Path(name), data="d") for name in shipped()}
    assert set(sweeps) == {
        *("frames", "sampling", "tokens_per_frame", "keep", "layer", "rule", "transfer"),
        *("prefilter", "grid"),
    }
    # The shares that nano was trained with are among those that are tried.
    trained = [c["keep"] for c in TimeVLM.from_pretrained("nano").model.config.llm_config["transv"]]
    names = ("model.transv.0.keep", "model.transv.1.keep")
    assert trained in [[cell[name] for name in names] for cell in sweeps["keep"].cells]
    axes = {"sampling", "model.prefilter", "model.tokens_per_frame", "model.transv"}
    assert set(sweeps["grid"].axes) == axes
    assert len(sweeps["grid"].cells) == 24


@pytest.mark.slow
def test_a_sweep_runs_resumes_and_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = make_toyworld(tmp_path / "data")
    path = write(
        tmp_path / "s.toml",
        'split = "choice"\n[grid]\nmodel = ["constant:A", "constant:?"]\n',
    )
    sweep = read_sweep(path, data=str(data))
    found = run_sweep(sweep, out=tmp_path / "out", quiet=True)
    first, broken = found["cells"]
    assert first["score"] == pytest.approx(25.0)
    assert first["metric"] == found["metric"] == "accuracy"
    assert first["peak_rss_bytes"] > 0
    assert broken["score"] is None
    assert "is not a letter" in broken["error"]
    out = tmp_path / "out"
    assert json.loads((out / "sweep.json").read_text()) == json.loads(json.dumps(found))
    assert "constant:A | 25.00" in (out / "sweep.md").read_text()
    assert (out / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / first["folder"] / "predictions.jsonl").exists()
    again = run_sweep(sweep, out=out, quiet=True)
    assert [cell["score"] for cell in again["cells"]] == [c["score"] for c in found["cells"]]
    assert len(list(out.glob("cells/*/*/rows/*.jsonl"))) == 1

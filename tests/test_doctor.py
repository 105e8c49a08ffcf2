"""The doctor: tells absent from broken, and gives one command for each."""

import json

from click.testing import CliRunner

from timevlm import cli, doctor
from timevlm.doctor import (
    Check,
    Report,
    check_optional,
    check_required,
    exception_line,
    import_problem,
)


def test_this_installation_works():
    report = doctor.examine()
    checks = {check.part: check for check in report.checks}
    for part in ("python", "torch", "transformers", "tokenizers", "safetensors", "av"):
        assert checks[part].status == "ok", checks[part]
    assert checks["SSD backend"].detail.split(":")[0] in ("torch", "triton")
    assert checks["device"].detail.split(":")[0] in ("cpu", "cuda", "mps")
    assert "libavcodec" in checks["video backend pyav"].detail
    assert all(check.fix for check in report.checks if check.status == "absent")
    assert json.loads(json.dumps(report.to_dict()))["checks"][0]["part"] == "python"


def test_absent_part_names_the_command():
    check = check_optional("timevlm_no_such", "part x", 'pip install "timevlm[x]"')
    assert (check.status, check.fix) == ("absent", 'pip install "timevlm[x]"')


def test_broken_part_names_the_reason():
    check = check_optional(
        "json", "part x", "pip install x", probe=lambda module: "OSError: libx.so"
    )
    assert check.status == "broken"
    assert check.detail.endswith("does not import: OSError: libx.so")
    good = check_optional("json", "part x", "pip install x", probe=lambda module: None)
    assert (good.status, good.fix) == ("ok", "")


def test_missing_required_part_makes_the_report_unhealthy():
    check = check_required("timevlm_no_such")
    assert (check.status, check.fix) == ("absent", "pip install timevlm_no_such")
    fine = Check(part="python", status="ok", detail="", required=True)
    assert not Report(checks=(fine, check)).healthy
    optional = Check(part="decord", status="absent", detail="", fix="pip install decord")
    assert Report(checks=(fine, optional)).healthy


def test_import_runs_in_a_child(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text("import os\nos.abort()\n")
    (tmp_path / "failing.py").write_text("raise RuntimeError('first\\nsecond')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_problem("json") is None
    assert import_problem("crashing") == "it crashed with signal 6"
    assert import_problem("failing") == "RuntimeError: first"


def test_exception_line_is_of_the_last_traceback():
    text = (
        "Traceback (most recent call last):\n  File\nOSError: libx\n\nDuring handling\n\n"
        "Traceback (most recent call last):\n  File\nRuntimeError: cannot load\n  advice\n"
    )
    assert exception_line(text) == "RuntimeError: cannot load"
    assert exception_line("") == ""


def test_command_prints_a_table_and_json(monkeypatch):
    absent = Check(part="decord", status="absent", detail="not installed", fix="pip install d")
    monkeypatch.setattr(doctor, "examine", lambda: Report(checks=(absent,)))
    table = CliRunner().invoke(cli.app, ["doctor"])
    assert table.exit_code == 0
    assert "to add decord: pip install d" in table.stdout
    data = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert json.loads(data.stdout)["healthy"] is True
    broken = Check(part="torch", status="broken", detail="x", required=True)
    monkeypatch.setattr(doctor, "examine", lambda: Report(checks=(broken,)))
    assert CliRunner().invoke(cli.app, ["doctor"]).exit_code == 1

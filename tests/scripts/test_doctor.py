"""The doctor answers on every machine, names remedies, and its exit code says whether training can run."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "doctor.py"


@pytest.fixture
def doctor(monkeypatch):
    spec = importlib.util.spec_from_file_location("doctor", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "doctor", module)
    spec.loader.exec_module(module)
    return module


def break_check(doctor, monkeypatch, name):
    def fail():
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setitem(doctor.CHECKS, name, fail)


def test_training_can_run_on_this_machine(doctor, tmp_path, capsys):
    assert doctor.main(["--json", str(tmp_path / "new" / "found.json")]) == 0
    record = json.loads((tmp_path / "new" / "found.json").read_text())
    assert record["can_train"] is True
    names = {finding["name"] for finding in record["findings"]}
    assert {"Python", "GPU", "nvcc", "gsplat", "CPU kernels", "threads", "LPIPS vgg", "LPIPS alex", "pycolmap"} <= names
    assert "Training can run here" in capsys.readouterr().out


def test_every_missing_thing_has_its_remedy(doctor):
    for name, check in doctor.CHECKS.items():
        state, detail, remedy = check()
        assert detail, name
        assert state == "ok" or remedy, name


@pytest.mark.parametrize("name", ["torch", "CPU kernels", "nerfstudio"])
def test_a_check_that_fails_is_a_finding_and_not_a_traceback(doctor, monkeypatch, capsys, name):
    break_check(doctor, monkeypatch, name)
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert f"see the remedy beside {name}" in shown
    assert "Traceback" not in shown


def test_an_optional_thing_that_fails_keeps_nothing_from_running(doctor, monkeypatch):
    break_check(doctor, monkeypatch, "viser")
    assert doctor.main([]) == 0


def test_a_machine_without_kernels_is_told_so(doctor, monkeypatch):
    from qsplat import kernels

    monkeypatch.setattr(kernels, "runnable_binaries", lambda: ())
    state, detail, remedy = doctor.CHECKS["CPU kernels"]()
    assert (state, "no kernels" in detail) == ("missing", True)
    assert remedy
    assert "reference backend" in doctor.CHECKS["renders with"]()[1]


def test_it_answers_without_any_package_installed(tmp_path):
    """As on a fresh machine, before make install."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), "--json", str(tmp_path / "found.json")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert json.loads((tmp_path / "found.json").read_text())["can_train"] is False
    assert "Training cannot run here yet" in answer.stdout
    assert "make install" in answer.stdout
    assert answer.stderr == ""


def test_a_file_that_cannot_be_written_is_named(doctor, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert doctor.main(["--json", str(tmp_path / "file" / "found.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err

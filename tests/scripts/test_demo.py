"""The demo: what it refuses, what it calls, where its cameras go. The training itself is the plugin's to test."""

from __future__ import annotations

import sys
from pathlib import Path

import demo
import pytest
import torch
from turntable import look_at, turntable

from qsplat.io.transforms import read_frames


def failing_program(folder: Path, script: str) -> str:
    """The name of a program beside a stand-in for this Python, which is all that ``train`` looks for."""
    program = folder / "trainer"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    return program.name


def test_folder_with_other_things_is_not_emptied(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="no earlier demo"):
        demo.clear(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_earlier_demo_is_replaced(tmp_path: Path):
    output = tmp_path / "demo"
    demo.clear(output)
    (output / demo.LOG).write_text("said")
    (output / demo.PAGE).write_text("old")
    demo.clear(output)
    assert list(output.iterdir()) == []


def test_failed_training_is_one_sentence_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = failing_program(tmp_path, "print('1/9  first'); print('out of luck'); raise SystemExit(3)")
    monkeypatch.setattr(demo.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ValueError, match=r"status 3: out of luck .*train\.log"):
        demo.train([name], tmp_path / demo.LOG)
    assert "out of luck" in (tmp_path / demo.LOG).read_text()


def test_progress_of_the_training_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    name = failing_program(tmp_path, "print('noise'); print('5/10  50 %  3.0 it/s')")
    monkeypatch.setattr(demo.sys, "executable", str(tmp_path / "python"))
    demo.train([name], tmp_path / demo.LOG)
    assert capsys.readouterr().out == "  5/10  50 %  3.0 it/s\n"


def test_missing_trainer_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ValueError, match="make install"):
        demo.train(["ns-train"], tmp_path / demo.LOG)


def test_impossible_length_is_refused():
    with pytest.raises(ValueError, match="--iterations 0"):
        demo.Options(iterations=0)


def test_refusal_ends_with_status_one_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # set by main otherwise, for the whole process
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(demo.sys, "argv", ["demo.py", "--output", str(tmp_path / "file")])
    assert demo.main() == 1
    assert capsys.readouterr().err.startswith("demo: --output")


def test_description_of_the_scene_sets_the_run():
    settings = demo.demo_settings(demo.DATA.with_suffix(".toml"))
    command = demo.training_command(demo.ROOT / "outputs" / "demo", settings["iterations"], settings["max_gaussians"])
    assert command[command.index("--data") + 1] == "scenes/stilllife"
    assert command[command.index("--output-dir") + 1] == "outputs/demo"
    assert str(settings["iterations"]) in command


def test_turntable_goes_around_what_the_cameras_look_at():
    frames = read_frames(demo.DATA)
    cameras = [frame.camera for frame in (*frames.train, *frames.test)]
    path = turntable(cameras, 12)
    centers = torch.stack([camera.center for camera in path])
    middle = centers.mean(dim=0)
    assert len(path) == 12
    torch.testing.assert_close((centers - middle).norm(dim=1).std(), torch.tensor(0.0), atol=1e-4, rtol=0)
    for camera in path:
        ahead = camera.cam_from_world[:3, :3] @ (middle - camera.center)
        assert ahead[2] > 0
        assert camera.cam_from_world[1, 2] < 0  # world up is up in the image


def test_looking_at_a_point_puts_it_on_the_axis():
    center, target = torch.tensor([1.0, -2.0, 0.7]), torch.tensor([0.1, 0.2, 0.0])
    pose = look_at(center, target)
    seen = pose[:3, :3] @ target + pose[:3, 3]
    torch.testing.assert_close(seen, torch.tensor([0.0, 0.0, float((target - center).norm())]), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(pose), torch.tensor(1.0))

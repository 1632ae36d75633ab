"""consistency.py on a run as ns-train leaves it: the JSON, the frames, and sentences for what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_evaluate import SIDE, capture, trained  # noqa: F401

from qsplat.kernels import BackendUnavailable

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"


@pytest.fixture(scope="module")
def script():
    """The script, imported from the folder that it lies in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        import consistency

        yield consistency


@pytest.fixture(scope="module")
def opaque(trained):  # noqa: F811
    """The run with Gaussians so large and opaque that there is a surface to follow."""
    path = trained / "nerfstudio_models" / "step-000000009.ckpt"
    checkpoint = torch.load(path, weights_only=False)
    parameters = checkpoint["pipeline"]
    parameters["_model.gauss_params.opacities"].fill_(6.0)
    parameters["_model.gauss_params.scales"].fill_(-1.0)
    parameters["_model.gauss_params.means"].mul_(0.2)
    torch.save(checkpoint, path)
    return trained


@pytest.fixture
def options(script, opaque, tmp_path):
    return script.Options(opaque / "config.yml", frames=60, json=tmp_path / "answers" / "film.json")


def test_a_run_is_measured_along_all_of_its_cameras(script, options, tmp_path, capsys):
    facts, found = script.measure_run(replace(options, video_frames=tmp_path / "frames"))
    script.print_film(facts, found)
    said = capsys.readouterr().out
    assert "flicker at equal detail" in said
    assert "60 frames" in said
    read = json.loads(options.json.read_text())
    assert read["method"] == "qsplat"
    assert read["scene"] == "noise"
    assert read["frames"] == 60
    assert read["flicker_ratio"] == pytest.approx(read["head"]["flicker"] / read["base"]["flicker"])
    assert read["within_limit"] == (read["head"]["flicker"] <= 1.05 * read["base"]["flicker"])
    assert 0 < read["triple_share"] <= read["short_share"] < 1
    frames = sorted((tmp_path / "frames").iterdir())
    assert [frame.name for frame in frames] == [f"{number:04d}.png" for number in range(60)]
    assert Image.open(frames[0]).size == (2 * SIDE, SIDE)


def test_the_path_sees_training_and_held_out_cameras(script, options):
    from nerfstudio_plugin.runs import load_run

    run = load_run(options.load_config)
    cameras = script.capture(run)
    assert len(cameras) == 10
    centers = torch.stack([camera.center for camera in cameras])
    assert torch.pdist(centers).min() > 0.1
    assert {(camera.width, camera.height) for camera in cameras} == {(SIDE, SIDE)}


def test_nothing_is_written_unless_asked_for(script, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script.measure_run(replace(options, json=None, frames=40))
    assert not list(tmp_path.iterdir())


def test_a_head_is_held_to_the_limit(script, options):
    _, found = script.measure_run(options)
    for factor, within in ((1.0, True), (1.05, True), (1.06, False)):
        head = replace(found.base, flicker=factor * found.base.flicker)
        assert script.within_limit(replace(found, head=head)) is within


def test_figures_that_stand_for_little_come_with_a_note(script, options, capsys):
    facts, found = script.measure_run(options)
    assert script.remarks(replace(found, triple_share=0.5)) == []
    poor = replace(found, triple_share=0.12, head=found.base)
    script.print_film(facts, poor)
    said = " ".join(capsys.readouterr().out.split())
    assert "note: there is no head, or it changes nothing" in said
    assert "note: only 12% of the pixels are seen by three frames in a row: give more --frames" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 8}, "--frames 8: a long range of 8 needs at least 9"),
        ({"long_range": 1}, "--long-range 1: give at least 2"),
        ({"json": Path()}, "--json . is a folder"),
        ({"video_frames": Path(__file__)}, "is a file: give a folder"),
        ({"load_config": Path("nothing.yml")}, "nothing.yml does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(script, options, change, words):
    with pytest.raises(ValueError, match=words):
        script.measure_run(replace(options, **change))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BackendUnavailable("there are no kernels:\nbuild them"), "consistency: there are no kernels: build them\n"),
        (MemoryError(), "consistency: out of memory\n"),
    ],
)
def test_what_the_machine_cannot_do_is_one_line_and_status_1(script, monkeypatch, capsys, error, words):
    def fail(_):
        raise error

    monkeypatch.setattr(script, "measure_run", fail)
    monkeypatch.setattr(sys, "argv", ["consistency.py", "--load-config", "config.yml"])
    assert script.main() == 1
    assert capsys.readouterr().err == words


def test_the_command_line_refuses_in_one_line_with_status_1(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "consistency.py"), "--load-config", "nothing.yml", "--json", "x.json"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("consistency: nothing.yml does not exist")
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())

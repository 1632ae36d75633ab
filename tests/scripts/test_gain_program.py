"""The program that says where the gain of a run of ns-train sits."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_evaluate import capture, trained  # noqa: F401

from qsplat.cameras import Camera


@pytest.fixture(scope="module")
def run(request):
    """The folder of a run as ns-train leaves it: ten photos of noise, every 8th held out, a head that adds 0.1."""
    return request.getfixturevalue("trained")


@pytest.fixture
def options(gain, run, tmp_path):
    return gain.map.Options(run / "config.yml", tmp_path / "answers" / "gain.json", tmp_path / "figures")


def test_a_run_is_mapped(gain, options):
    found, said = gain.map.map_run(options)
    gain.map.print_map(found)
    read = json.loads(options.json.read_text())
    assert (read["method"], read["scene"], read["iterations"]) == ("qsplat", "noise", 10)
    assert (read["held_out"]["views"], read["train"]["views"]) == (2, 8)
    assert [view["name"] for view in read["held_out"]["per_view"]] == ["images/0.png", "images/8.png"]
    assert read["verdict"]["sentence"] == said.sentence
    for views in (read["held_out"], read["train"]):
        assert sum(views["mean"]["octaves"]) == pytest.approx(views["mean"]["gain"], abs=1e-9)
        assert len(views["spectra"]["before"]) == len(views["spectra"]["cycles_per_pixel"])
    for name in ("spectra", "parts", "distance", "residuals"):
        with Image.open(options.figures / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert sorted(path.name for path in options.figures.iterdir()) == [
        f"{name}.png" for name in ("distance", "parts", "residuals", "spectra")
    ]


def test_pictures_of_residuals_can_be_left_out(gain, options):
    gain.map.map_run(replace(options, max_pictures=0))
    assert not (options.figures / "residuals.png").exists()


def test_the_images_before_the_head_may_be_those_of_another_run(
    gain, options: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from nerfstudio_plugin import runs

    alone, _ = gain.map.map_run(options)
    run, other = (runs.load_run(options.load_config) for _ in range(2))
    with torch.no_grad():
        other.model.gauss_params["features_dc"] += 0.5
        other.model.qnn.stages[-1].bias.zero_()
    monkeypatch.setattr(runs, "load_run", lambda config: other if "other" in str(config) else run)
    options = replace(options, before=Path("other.yml"))
    found, _ = gain.map.map_run(options)
    for view, before in zip(found.held_out.views, alone.held_out.views, strict=True):
        assert view.parts.psnr == before.parts.psnr
        assert abs(view.parts.psnr_base - before.parts.psnr_base) > 0.1
    assert json.loads(options.json.read_text())["before"]["method"] == "qsplat"
    options.json.unlink()
    cameras, background = other.cameras(), other.model.background_color.clone()

    def said():
        return refusal(gain, options, monkeypatch, capsys)

    def moved(camera: Camera) -> Camera:
        return replace(camera, cam_from_world=camera.cam_from_world + torch.tensor([[0, 0, 0, 0.01]] * 3 + [[0] * 4]))

    for change in (moved, lambda camera: camera.resized(8, 8), lambda camera: replace(camera, fx=1.1 * camera.fx)):
        monkeypatch.setattr(other.photos, "evaluated_cameras", lambda change=change: [*map(change, cameras)])
        assert "views are not those of --load-config: train both" in said()
    monkeypatch.setattr(other.photos, "evaluated_cameras", lambda: cameras[:-1])
    assert "views are not those of --load-config: train both" in said()
    monkeypatch.setattr(other.photos, "evaluated_cameras", lambda: cameras)
    other.model.background_color = 1 - background
    assert "--before renders over [1.0, 1.0, 1.0] and --load-config over [0.0, 0.0, 0.0]: train both" in said()
    other.model.background_color = background
    monkeypatch.setattr(other.photos, "training_cameras", lambda: run.training_cameras()[1:])
    assert "views are not those of --load-config: train both" in said()


def test_training_views_are_the_photos_of_the_training(gain, run, request):
    from nerfstudio_plugin.runs import load_run

    photos = request.getfixturevalue("capture") / "images"
    found = load_run(run / "config.yml").training_views()
    assert len(found) == 8
    for view, number in zip(found, (1, 2, 3, 4, 5, 6, 7, 9), strict=True):
        with Image.open(photos / f"{number}.png") as photo:
            assert np.array_equal((view.image * 255).round().numpy(), np.asarray(photo))


def refusal(gain, options, monkeypatch, capsys):
    values = ["--load-config", str(options.load_config), "--json", str(options.json), "--figures", str(options.figures)]
    values += [] if options.before is None else ["--before", str(options.before)]
    monkeypatch.setattr(sys, "argv", ["gain_map.py", *values, "--max-pictures", str(options.max_pictures)])
    before = {path for path in options.json.parent.parent.rglob("*") if path.is_file()}
    assert gain.map.main() == 1
    assert {path for path in options.json.parent.parent.rglob("*") if path.is_file()} == before
    said = capsys.readouterr().err
    assert said.startswith("gain_map: ")
    assert said.count("\n") == 1
    return said


def test_what_cannot_be_mapped_is_one_sentence_and_status_1(gain, options, monkeypatch, capsys, tmp_path):
    def said(**changes):
        return refusal(gain, replace(options, **changes), monkeypatch, capsys)

    assert "does not exist: give the config.yml" in said(load_config=tmp_path / "gone.yml")
    assert "--max-pictures -1: give 0 for none" in said(max_pictures=-1)
    (tmp_path / "figures").touch()
    assert "figures is a file: give a folder" in said()
    (tmp_path / "figures").unlink()
    options.json.mkdir(parents=True)
    assert "gain.json is a folder: give the file" in said()


def test_a_run_whose_head_was_never_trained_is_refused(gain, options, monkeypatch, capsys, run):
    from nerfstudio_plugin import runs

    loaded = runs.load_run(options.load_config)
    with torch.no_grad():
        loaded.model.qnn.stages[-1].bias.zero_()
    monkeypatch.setattr(runs, "load_run", lambda config: loaded)
    assert "changes none of the views" in refusal(gain, options, monkeypatch, capsys)


def test_a_run_that_holds_nothing_out_is_refused(gain, options, monkeypatch, capsys):
    from nerfstudio_plugin import runs

    loaded = replace(runs.load_run(options.load_config), held_out=False)
    monkeypatch.setattr(runs, "load_run", lambda config: loaded)
    assert "noise holds nothing out" in refusal(gain, options, monkeypatch, capsys)

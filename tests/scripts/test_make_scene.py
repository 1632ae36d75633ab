"""The bundled scene and the program that makes it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import make_scene
import numpy as np
import pytest
import torch
from stilllife import studio
from stilllife.composition import still_life
from stilllife.orbit import orbit

from qsplat.io.transforms import load_scene, read_frames

BUNDLED = Path(__file__).parents[2] / "scenes" / "stilllife"


def test_bundled_scene_has_held_out_views_and_points():
    frames = read_frames(BUNDLED)
    assert len(frames.train) == 52
    assert len(frames.test) == 8
    assert frames.points is not None
    assert 3000 <= len(frames.points.positions) <= 8000


def test_bundled_scene_is_under_six_megabytes():
    size = sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file())
    assert size < 6e6


def test_bundled_points_project_onto_their_colors():
    scene = load_scene(BUNDLED)
    assert scene.points is not None
    order = torch.randperm(len(scene.points.colors), generator=torch.Generator().manual_seed(0))
    errors, chance = [], []
    for view in scene.train[::6]:
        camera = view.camera
        local = scene.points.positions @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
        x = torch.floor(local[:, 0] / local[:, 2] * camera.fx + camera.cx).long()
        y = torch.floor(local[:, 1] / local[:, 2] * camera.fy + camera.cy).long()
        inside = (local[:, 2] > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        seen = view.image[y[inside], x[inside]]
        errors.append((seen - scene.points.colors[inside]).abs().mean(dim=1))
        chance.append((seen - scene.points.colors[order][inside]).abs().mean(dim=1))
    assert sum(len(error) for error in errors) > 2 * len(scene.points.colors)
    # points behind something are among them, so not every one can match
    assert torch.cat(errors).median() < 0.4 * torch.cat(chance).median()


def test_rays_through_projected_points_lead_back_to_them():
    rng = np.random.default_rng(0)
    cameras = orbit(rng, 5, width=64, height=48)
    points = rng.uniform(-0.3, 0.3, (20, 3))
    for index, pose in enumerate(cameras.poses):
        pixels, depth = cameras.project(index, points)
        assert (depth > 0).all()
        distance = np.linalg.norm(points - pose[:3, 3], axis=1, keepdims=True)
        np.testing.assert_allclose(pose[:3, 3] + distance * cameras.rays(index, pixels), points, atol=1e-9)


def test_still_life_follows_from_its_seed():
    first, again, other = still_life(1), still_life(1), still_life(2)
    assert [item.name for item in first] == [item.name for item in other]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.shape.vertices, two.shape.vertices)
        np.testing.assert_array_equal(one.paint, two.paint)
    cloth, other_cloth = (next(item for item in items if item.name == "cloth") for items in (first, other))
    assert not np.array_equal(cloth.shape.vertices, other_cloth.shape.vertices)


def test_shapes_have_finite_vertices_and_unit_normals():
    for item in still_life(0):
        assert np.isfinite(item.shape.vertices).all(), item.name
        used = np.unique(item.shape.triangles)
        lengths = np.linalg.norm(item.shape.normals()[used], axis=1)
        assert np.mean(np.abs(lengths - 1) < 1e-6) > 0.9, item.name


def test_developing_keeps_the_order_of_brightness():
    levels = np.linspace(0, 20, 500)[:, None, None].repeat(3, axis=2)
    developed = studio.develop(levels).astype(int)
    assert developed[0, 0, 0] == 0
    assert developed[-1, 0, 0] == 255
    assert (np.diff(developed[:, 0, 0]) >= 0).all()


def test_tiny_scene_is_made_and_read_back(tmp_path: Path):
    pytest.importorskip("mitsuba", reason="mitsuba is not installed (extra: scene)")
    output = tmp_path / "tiny"
    make_scene.make(make_scene.Options(output=output, views=6, width=48, height=36, samples=1, points=60))
    frames = read_frames(output)
    assert [frame.name for frame in frames.test] == ["images/view_000.jpg"]
    assert len(frames.train) == 5
    assert frames.points is not None
    assert len(frames.points.positions) > 0
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.skipif(importlib.util.find_spec("mitsuba") is not None, reason="mitsuba is installed")
def test_without_mitsuba_the_remedy_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"\.\[scene\]"):
        make_scene.make(make_scene.Options(output=tmp_path / "tiny"))
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("options", [{"views": 0}, {"samples": -1}, {"width": 8}])
def test_impossible_options_are_refused(options: dict[str, int]):
    with pytest.raises(ValueError, match=r"must be at least 1|at least 16 pixels"):
        make_scene.Options(**options)


def test_written_folder_holds_what_was_given(tmp_path: Path):
    cameras = orbit(np.random.default_rng(0), 4, width=32, height=24)
    photos = np.full((4, 24, 32, 3), 90, dtype=np.uint8)
    points = make_scene.SparsePoints(np.eye(3), np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8))
    make_scene.write(tmp_path / "scene", cameras, photos)
    make_scene.write_points(tmp_path / "scene" / make_scene.POINTS, points)
    scene = load_scene(tmp_path / "scene", holdout_every=0)
    assert len(scene.train) == 4
    assert scene.points is not None
    torch.testing.assert_close(scene.points.colors, torch.eye(3))
    torch.testing.assert_close(scene.train[0].image, torch.full((24, 32, 3), 90 / 255), atol=0.01, rtol=0)
    written = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    np.testing.assert_allclose(written["frames"][2]["transform_matrix"], cameras.poses[2], atol=1e-7)


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("kept")
    with pytest.raises(ValueError, match="holds something that is no earlier scene"):
        make_scene.make(make_scene.Options(output=tmp_path))
    assert (tmp_path / "letter.txt").read_text() == "kept"

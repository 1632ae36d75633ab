"""From files to what nerfstudio trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_capture import HEIGHT, VIEWS, WIDTH, blobs, write_blender_files, write_capture, write_colmap_model

from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.datamanager import QsplatDataManager, QsplatDataManagerConfig
from nerfstudio_plugin.dataparser import QsplatDataParserConfig
from qsplat.io.transforms import load_scene


def managed(folder: Path, **options) -> QsplatDataManager:
    parser = options.pop("dataparser", None) or QsplatDataParserConfig()
    options.setdefault("cache_images_type", "uint8")
    return QsplatDataManagerConfig(data=folder, dataparser=parser, **options).setup(device="cpu", test_mode="val")


def test_every_eighth_view_is_held_out(capture: Path):
    data = managed(capture)
    assert len(data.train_dataset) == VIEWS - 2
    assert [path.stem for path in data.eval_dataset.image_filenames] == ["000", "008"]


def test_cameras_and_photos_are_those_of_load_scene(capture: Path):
    camera, batch = managed(capture, max_side=24).next_train(0)
    views = {view.name: view for view in load_scene(capture, max_side=24).train}
    assert batch["image"].shape == (HEIGHT // 2, WIDTH // 2, 3)
    closest = min((view.image - batch["image"] / 255).abs().max().item() for view in views.values())
    assert closest < 0.6 / 255
    poses = [view.camera.cam_from_world for view in views.values()]
    assert any(torch.allclose(camera_of(camera).cam_from_world, pose, atol=1e-5) for pose in poses)


def test_a_downscale_factor_of_the_dataparser_comes_before_the_datamanagers_limit(capture: Path):
    data = managed(capture, max_side=10, dataparser=QsplatDataParserConfig(downscale_factor=1.5))
    assert data.cached_train[0]["image"].shape[:2] == (24, 32)


def test_photos_of_nerfstudios_dataparser_are_limited_too(capture: Path):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    data = managed(capture, max_side=24, dataparser=NerfstudioDataParserConfig(), num_random=100)
    assert data.cached_train[0]["image"].shape == (18, 24, 3)
    assert data.train_dataset.cameras.fx[0].item() == pytest.approx(25.0)
    assert 0 < len(data.train_dataparser_outputs.metadata["points3D_xyz"]) <= 100


def test_training_views_have_the_cameras_of_their_photos_without_distortion(tmp_path: Path):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    folder = write_capture(tmp_path / "bent")
    description = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({**description, "k1": 0.1}))
    options = QsplatDataManagerConfig(data=folder, dataparser=NerfstudioDataParserConfig())
    data: QsplatDataManager = options.setup(device="cpu", test_mode="test")
    views = data.training_views(torch.device("cpu"))
    assert [view.camera.fx for view in views] == data.train_dataset.cameras.fx[:, 0].tolist()
    assert views[0].camera.fx != 50.0


def test_a_model_of_colmap_is_loaded_with_its_points(capture: Path):
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig

    write_colmap_model(capture, capture / "sparse" / "0")
    data = managed(capture, dataparser=ColmapDataParserConfig(colmap_path=Path("sparse/0")), max_side=24)
    assert len(data.train_dataset) == VIEWS - 2
    assert data.cached_train[0]["image"].shape == (18, 24, 3)
    points = data.train_dataparser_outputs.metadata["points3D_xyz"]
    camera = camera_of(data.train_dataset.cameras[0:1])
    seen = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    assert len(points) == len(blobs().means)
    assert bool((seen[:, 2] > 0).all())


def test_a_blender_scene_is_loaded_over_white(tmp_path: Path):
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    folder = write_capture(tmp_path / "glass", transparent=True)
    write_blender_files(folder)
    data = managed(folder, dataparser=BlenderDataParserConfig(), max_side=24, num_random=100)
    assert (len(data.train_dataset), len(data.eval_dataset)) == (VIEWS - 2, 1)
    assert data.cached_train[0]["image"].shape == (18, 24, 3)
    assert data.cached_train[0]["image"][0, 0].tolist() == [255, 255, 255]
    assert data.train_dataset.cameras.fx[0].item() == pytest.approx(25.0)
    assert 0 < len(data.train_dataparser_outputs.metadata["points3D_xyz"]) <= 100


def test_transparent_photos_keep_their_alpha_for_training_and_are_shown_over_white(tmp_path: Path):
    data = managed(write_capture(tmp_path / "glass", transparent=True))
    assert data.train_dataset.metadata["transparent"]
    assert data.cached_train[0]["image"].shape[-1] == 4
    shown = data.train_dataset[0]["image"]
    assert shown.shape[-1] == 3
    assert shown[0, 0].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=0.01)


def test_masks_come_with_the_photos(tmp_path: Path):
    mask = managed(write_capture(tmp_path / "masked", masked=True), max_side=24).cached_train[0]["mask"]
    assert mask.shape == (18, 24, 1)
    assert not mask[:, :12].any()
    assert mask[:, 12:].all()


def test_images_are_cached_on_a_machine_that_cannot_pin_memory(capture: Path):
    assert len(managed(capture, cache_images="cpu").cached_train) == VIEWS - 2


def test_a_folder_without_a_capture_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"holds neither transforms.json"):
        managed(tmp_path)


def test_a_missing_photo_is_refused_by_name(tmp_path: Path):
    folder = write_capture(tmp_path / "incomplete")
    (folder / "images" / "003.png").unlink()
    with pytest.raises(SystemExit, match=r"003\.png"):
        managed(folder)


def test_a_truncated_photo_is_refused_by_name(tmp_path: Path):
    folder = write_capture(tmp_path / "cut")
    photo = folder / "images" / "003.png"
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(SystemExit, match=r"003\.png"):
        _ = managed(folder).cached_train

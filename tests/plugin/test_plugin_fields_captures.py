"""Radiance fields on captures of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_capture import held_out, run, write_blender_files, write_capture, write_colmap_model
from small_fields import RAYS, Configure, images

from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.runs import load_run
from qsplat.metrics.psnr import psnr

pytestmark = pytest.mark.usefixtures("small_field_networks")


def test_a_blender_scene_is_an_object_before_nothing(tmp_path: Path, fields: Configure):
    """nerfstudio's dataparser would composite the photos over white, and hide that there is nothing behind."""
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    folder = write_capture(tmp_path / "blobs", transparent=True)
    write_blender_files(folder)
    config = fields(folder, iterations=2)
    config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=folder)
    config.save_config()
    trainer = run(config)
    assert trainer.pipeline.model.radiance.region.bounded
    loaded = load_run(trainer.base_dir / "config.yml")
    assert torch.equal(loaded.background, torch.ones(3))
    assert loaded.views[0].alpha is not None
    corner = loaded.render(loaded.views[0].camera)
    torch.testing.assert_close(corner.rgb[0, 0], torch.ones(3), atol=0.3, rtol=0)
    view, (_, batch) = loaded.views[0], loaded.photos.fixed_indices_eval_dataloader[0]
    metrics, _ = loaded.model.get_image_metrics_and_images({"rgb": corner.rgb}, batch)
    assert metrics["psnr"] == pytest.approx(psnr(corner.rgb, view.image + (1 - view.alpha)[..., None]))


def test_models_of_colmap_tell_where_the_scene_begins(tmp_path: Path, fields: Configure):
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig

    folder = write_capture(tmp_path / "blobs")
    write_colmap_model(folder, folder / "sparse" / "0")
    config = fields(folder, iterations=2)
    config.pipeline.datamanager.dataparser = ColmapDataParserConfig(
        data=folder, colmap_path=Path("sparse/0"), downscale_factor=1
    )
    config.save_config()
    trainer = run(config)
    model = trainer.pipeline.model
    assert not model.radiance.region.bounded
    assert len(model.kwargs["seed_points"][0]) == 60
    assert torch.isfinite(load_run(trainer.base_dir / "config.yml").render(camera_of(held_out(trainer))).rgb).all()


@pytest.mark.parametrize("transparent", [False, True])
def test_captures_are_read_by_nerfstudios_own_dataparser(transparent: bool, tmp_path: Path, fields: Configure):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = fields(write_capture(tmp_path / "blobs", transparent=transparent), iterations=2)
    config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(data=config.data)
    config.save_config()
    trainer = run(config)
    region = trainer.pipeline.model.radiance.region
    assert region.bounded == transparent
    loaded = load_run(trainer.base_dir / "config.yml")
    assert loaded.model.radiance.region.radius == region.radius
    torch.testing.assert_close(loaded.render(loaded.views[0].camera).rgb, images(trainer)["rgb"])


def test_captures_without_points_get_no_random_ones(tmp_path: Path, fields: Configure):
    folder = write_capture(tmp_path / "blobs")
    description = json.loads((folder / "transforms.json").read_text())
    del description["ply_file_path"]
    (folder / "transforms.json").write_text(json.dumps(description))
    assert run(fields(folder, iterations=1)).pipeline.datamanager.scene().points is None


@pytest.mark.parametrize("kind", ["masked", "transparent"])
def test_masks_and_transparent_photos_are_trained_on(kind: str, tmp_path: Path, fields: Configure):
    trainer = run(fields(write_capture(tmp_path / kind, **{kind: True}), iterations=2))
    rays, batch = trainer.pipeline.datamanager.next_train(0)
    assert (len(rays), batch["image"].shape) == (RAYS, (RAYS, 3))
    assert trainer.pipeline.model.radiance.region.bounded == (kind == "transparent")
    if kind == "masked":
        cameras = trainer.pipeline.datamanager.training_cameras()
        for ray in range(RAYS):
            nearest = min(cameras, key=lambda one: float((one.center - rays.origins[ray]).norm()))
            local = nearest.cam_from_world[:3, :3] @ rays.directions[ray]
            assert float(local[0]) > 0  # the left half of each photo is masked out

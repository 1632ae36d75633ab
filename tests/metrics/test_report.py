"""Evaluation: scores of both images of every view, means, remarks, and JSON that anything can read."""

import json
import math
from dataclasses import dataclass

import pytest
import torch

from qsplat.cameras import Camera
from qsplat.metrics.edges import psnr_edge
from qsplat.metrics.lpips import Lpips, LpipsUnavailable
from qsplat.metrics.psnr import psnr
from qsplat.metrics.report import RunFacts, evaluate

FACTS = RunFacts("qsplat", "fern", "cpu", 100, 2000, 12.5)


@dataclass(frozen=True)
class Photo:
    name: str
    camera: Camera
    image: torch.Tensor
    alpha: torch.Tensor | None = None
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Output:
    rgb: torch.Tensor
    rgb_base: torch.Tensor


def photos(count=2, **extra):
    generator = torch.Generator().manual_seed(0)
    cameras = [Camera(torch.eye(4) * (index + 1), 20.0, 20.0, 12.0, 10.0, 24, 20) for index in range(count)]
    images = [torch.rand(20, 24, 3, generator=generator).round() for _ in cameras]
    return [Photo(f"view{i}", *pair, **extra) for i, pair in enumerate(zip(cameras, images, strict=True))]


def renderer(views, *, error=0.1, base_error=0.2):
    by_pose = {view.camera.cam_from_world[0, 0].item(): view.image for view in views}

    def render(camera):
        image = by_pose[camera.cam_from_world[0, 0].item()]
        return Output((image - error).abs(), (image - base_error).abs())

    return render


def test_both_images_are_measured_and_averaged():
    views = photos()
    report = evaluate(renderer(views), views, FACTS)
    assert report.mean.psnr == pytest.approx(20.0, abs=1e-3)
    assert report.base.psnr == pytest.approx(-10 * math.log10(0.04), abs=1e-3)
    assert [image.name for image in report.per_image] == ["view0", "view1"]
    for view, image in zip(views, report.per_image, strict=True):
        assert image.scores.psnr_edge == psnr_edge((view.image - 0.1).abs(), view.image)
        assert image.base.psnr == psnr((view.image - 0.2).abs(), view.image)
        assert image.seconds >= 0


def test_the_json_has_the_promised_keys_and_is_strict():
    views = photos()
    missing = {net: LpipsUnavailable(net, "weights are elsewhere") for net in ("vgg", "alex")}
    report = evaluate(renderer(views, error=0.0), views, FACTS, lpips=missing)
    text = json.dumps(report.as_json(), allow_nan=False)
    read = json.loads(text)
    assert {"method", "scene", "device", "num_images", "iterations", "num_gaussians", "train_seconds"} <= set(read)
    assert {"mean", "base", "per_image", "notes"} <= set(read)
    for scores in (read["mean"], read["base"], read["per_image"][0], read["per_image"][0]["base"]):
        assert {"psnr", "ssim", "lpips", "psnr_edge"} <= set(scores)
    assert (read["num_images"], read["train_seconds"], read["mean"]["lpips"]) == (2, 12.5, None)
    assert read["notes"] == ["LPIPS (vgg): weights are elsewhere", "LPIPS (alex): weights are elsewhere"]


def test_photos_with_alpha_are_measured_over_the_background():
    alpha = torch.full((20, 24), 0.25)
    views = photos(alpha=alpha)
    expected = [view.image + 0.75 for view in views]
    seen = []
    evaluate(
        renderer(views),
        views,
        FACTS,
        background=torch.ones(3),
        on_view=lambda scores, photo, output: seen.append(photo),
    )
    for photo, image in zip(seen, expected, strict=True):
        torch.testing.assert_close(photo, image)


def test_masked_pixels_do_not_change_a_report():
    mask = torch.ones(20, 24, dtype=torch.bool)
    mask[:, 12:] = False
    views = photos(mask=mask)
    clean = evaluate(renderer(views), views, FACTS)

    def spoil(camera):
        output = renderer(views)(camera)
        return Output(torch.where(mask[..., None], output.rgb, 0.3), torch.where(mask[..., None], output.rgb_base, 0.3))

    spoilt = evaluate(spoil, views, FACTS)
    assert spoilt.mean.psnr == clean.mean.psnr
    assert spoilt.mean.ssim == clean.mean.ssim
    assert spoilt.mean.psnr_edge == clean.mean.psnr_edge
    assert spoilt.mean.band_psnr == clean.mean.band_psnr
    assert any(note.startswith("masks:") for note in spoilt.notes)


def test_a_view_without_edges_is_left_out_of_the_edge_mean_and_named():
    views = photos()
    flat = Photo("flat", views[1].camera, torch.full((20, 24, 3), 0.5))
    report = evaluate(renderer([views[0], flat]), [views[0], flat], FACTS)
    assert report.mean.psnr_edge == report.per_image[0].scores.psnr_edge
    assert any("no edges in flat" in note for note in report.notes)


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_views_too_small_for_lpips_are_named(net):
    views = photos()
    report = evaluate(renderer(views), views, FACTS, lpips={net: Lpips(net, torch.nn.Identity())})
    assert (report.mean.lpips, report.mean.lpips_alex) == (None, None)
    assert report.notes == ("lpips: view0, view1 under 64 pixels a side, left out of its mean",)


def test_a_view_whose_mask_leaves_nothing_is_named():
    views = photos(mask=torch.zeros(20, 24, dtype=torch.bool))
    with pytest.raises(ValueError, match="view0: the mask leaves no pixel"):
        evaluate(renderer(views), views, FACTS)


def test_no_held_out_views_is_refused():
    with pytest.raises(ValueError, match="0 held-out views"):
        evaluate(renderer([]), [], FACTS)


def test_a_rendering_with_nan_is_refused_by_name():
    views = photos()
    with pytest.raises(ValueError, match="the rendering of view0 holds NaN"):
        evaluate(renderer(views, error=float("nan")), views, FACTS)

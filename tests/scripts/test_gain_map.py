"""Where a gain sits, on images whose corrections are known: casts, blurs, waves and memories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.io.scene import View
from qsplat.metrics.psnr import psnr

HEIGHT, WIDTH = 64, 80


def textured(seed=0):
    """A photo with the falling spectrum of natural ones, within [0.2, 0.8]."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3))
    scales = [gaussian_filter(noise, (sigma, sigma, 0)) * sigma for sigma in (0.5, 1, 2, 4, 8)]
    photo = np.sum(scales, axis=0)
    photo = 0.2 + 0.6 * (photo - photo.min()) / (photo.max() - photo.min())
    return torch.from_numpy(photo)


def blurred(image, sigma=1.0):
    return torch.from_numpy(gaussian_filter(image.numpy(), (sigma, sigma, 0)))


def with_a_cast(image):
    return 0.9 * image + torch.tensor([0.06, 0.0, -0.04], dtype=torch.float64)


def corrected_by(gain, base, share=0.7, photo=None):
    """A head that adds ``share`` of what is missing everywhere."""
    photo = textured() if photo is None else photo
    return gain.parts.corrected(photo, base, base + share * (photo - base))


def wave(frequency):
    return torch.cos(2 * torch.pi * frequency * (torch.arange(WIDTH) + 0.5)).double().expand(HEIGHT, WIDTH)[..., None]


# Parts of a gain


def test_octaves_add_up_to_the_gain(gain):
    view = corrected_by(gain, blurred(with_a_cast(textured())), 0.5)
    expected = psnr(view.image, view.photo) - psnr(view.base, view.photo)
    assert sum(gain.parts.gain_by_octave(view)) == pytest.approx(expected, abs=1e-6)
    assert gain.parts.gain_of(view, view.residual) == pytest.approx(expected, abs=1e-6)
    assert gain.parts.gain_of_octaves(view, 0) == pytest.approx(expected, abs=1e-6)


def test_an_octave_in_which_the_head_errs_has_a_negative_gain(gain):
    photo = textured()
    base = photo + 0.1
    octaves = gain.parts.gain_by_octave(gain.parts.corrected(photo, base, photo + 0.05 * wave(3 / 16)))
    assert octaves[0] > 0
    assert octaves[3] < 0
    assert max(map(abs, (octaves[1], octaves[2], octaves[4]))) < 0.05 * abs(octaves[3])


def test_a_head_that_adds_nothing_gains_nothing(gain):
    photo = textured()
    view = gain.parts.corrected(photo, blurred(photo), blurred(photo))
    parts = gain.parts.place_gain(view, unsharp=gain.parts.Unsharp(1.0, 0.0), wrong=torch.zeros_like(photo))
    assert parts.octaves == (0.0,) * 5
    for name in ("gain", "slow", "above_quarter_nyquist", "above_half_nyquist", "colour_map", "unsharp", "wrong_view"):
        assert getattr(parts, name) == pytest.approx(0.0, abs=1e-9), name


@pytest.mark.parametrize(("first", "end"), [(0, 1), (3, None), (4, None)])
def test_the_gain_of_octaves_is_that_of_adding_them_alone(gain, first, end):
    """Against an explicit filter: cosines outside of the octaves are removed from the residual."""
    view = corrected_by(gain, blurred(with_a_cast(textured())))
    waves = dctn(view.residual.numpy(), axes=(0, 1), norm="ortho")
    y, x = (np.arange(size) / (2 * size) for size in (HEIGHT, WIDTH))
    radius = np.hypot(y[:, None], x)
    waves[(radius < gain.parts.OCTAVES[first]) | (radius >= (gain.parts.OCTAVES[end] if end else 2))] = 0
    alone = torch.from_numpy(idctn(waves, axes=(0, 1), norm="ortho"))
    expected = psnr(view.base + alone, view.photo) - psnr(view.base, view.photo)
    assert gain.parts.gain_of_octaves(view, first, end) == pytest.approx(expected, abs=1e-6)


def test_a_cast_is_the_colour_map_of_the_residual(gain):
    view = corrected_by(gain, with_a_cast(textured()))
    total = gain.parts.gain_of(view, view.residual)
    assert total == pytest.approx(-20 * np.log10(0.3), abs=1e-6)
    assert gain.parts.colour_map_gain(view) == pytest.approx(total, abs=1e-6)
    assert gain.parts.best_colour_map_gain(view) > 30
    assert sum(gain.parts.gain_by_octave(view)[3:]) < 0.05 * total


def test_a_blur_is_undone_by_sharp_parts_and_by_no_colour_map(gain):
    view = corrected_by(gain, blurred(textured()))
    total = gain.parts.gain_of(view, view.residual)
    assert sum(gain.parts.gain_by_octave(view)[3:]) > 0.8 * total
    assert gain.parts.gain_of_octaves(view, gain.parts.QUARTER_NYQUIST) > 0.5 * total
    assert gain.parts.colour_map_gain(view) < 0.1 * total
    assert gain.parts.best_colour_map_gain(view) < 0.1 * total


def test_a_head_that_leaves_the_colours_has_no_gain_of_colours_though_there_was_one_to_have(gain):
    base = with_a_cast(textured())
    view = gain.parts.corrected(textured(), base, base + 0.5 * (textured() - blurred(textured())))
    assert gain.parts.best_colour_map_gain(view) > 30
    assert abs(gain.parts.colour_map_gain(view)) < 0.2


def test_the_unsharp_filter_that_was_applied_is_found(gain):
    """One width and one amount undo what was done to several images."""
    bases = [blurred(textured(seed), 0.8) for seed in range(3)]
    applied = gain.parts.Unsharp(1.4, 0.6)
    views = [corrected_by(gain, base, photo=base + 0.6 * (base - blurred(base, 1.4))) for base in bases]
    found = gain.parts.fit_unsharp(views)
    assert found.sigma == applied.sigma
    assert found.amount == pytest.approx(applied.amount)
    assert gain.parts.gain_of(views[0], gain.parts.unsharp_residual(views[0], found)) > 30


def test_an_image_without_detail_needs_no_filter(gain):
    flat = torch.full((HEIGHT, WIDTH, 3), 0.5)
    assert gain.parts.fit_unsharp([gain.parts.corrected(textured(), flat, flat)]).amount == pytest.approx(0.0, abs=1e-3)


def test_pixels_outside_of_the_mask_do_not_count(gain):
    photo, base = textured(), with_a_cast(blurred(textured()))
    image = base + 0.5 * (photo - base)
    mask = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, 60:] = False
    parts = []
    for spoilt in (0.0, 1.0):
        base[:, 60:], image[:, 60:] = spoilt, 1 - spoilt
        view = gain.parts.corrected(photo, base, image, mask=mask)
        unsharp = gain.parts.fit_unsharp([view])
        parts.append(gain.parts.place_gain(view, unsharp=unsharp, wrong=spoilt + torch.zeros_like(photo)))
    assert replace(parts[0], wrong_view=0.0) == replace(parts[1], wrong_view=0.0)
    assert parts[0].psnr == pytest.approx(psnr(image, photo, mask=mask))
    assert sum(parts[0].octaves) == pytest.approx(parts[0].gain)


def test_images_that_cannot_be_compared_are_refused(gain):
    photo = textured()
    with pytest.raises(ValueError, match=r"images of the shapes \[\(63, 80, 3\), \(64, 80, 3\)\]"):
        gain.parts.corrected(photo, photo[1:], photo)
    with pytest.raises(ValueError, match="NaN or infinity"):
        gain.parts.corrected(photo, photo, photo / 0)
    with pytest.raises(ValueError, match="mask leaves no pixel"):
        gain.parts.corrected(photo, photo, photo, mask=torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))


# Views


@dataclass(frozen=True)
class Shown:
    rgb: Tensor
    rgb_base: Tensor


def camera(x, degrees=0.0):
    """A camera at (x, 0, 0), turned about its y axis."""
    cos, sin = np.cos(np.radians(degrees)).item(), np.sin(np.radians(degrees)).item()
    rotation = torch.tensor([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    pose = torch.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ torch.tensor([x, 0.0, 0.0])
    return Camera(pose, 50.0, 50.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)


def views(count, first=0):
    return [View(str(index), camera(float(index)), textured(index)) for index in range(first, first + count)]


def mapped(gain, head, *, spoil=with_a_cast, train=5, held_out=3):
    """The gain map of ``head``, a function of a view, its spoilt photo and whether the view was trained on."""
    seen, other = views(train), views(held_out, first=train)
    known = {id(view.camera): view for view in (*seen, *other)}

    def render(camera):
        view = known[id(camera)]
        base = spoil(view.image)
        return Shown(head(view, base, view in seen), base)

    return gain.views.map_gain(render, seen, other, background=torch.zeros(3))


def towards(share, *, unseen=None):
    """A head that adds ``share`` of what is missing, and ``unseen`` of it in views that it was not trained on."""
    unseen = share if unseen is None else unseen
    return lambda view, base, known: base + (share if known else unseen) * (view.image - base)


def test_the_nearest_camera_is_found_with_its_distance_and_angle(gain):
    others = [camera(0.0), camera(2.0, 30.0), camera(5.0)]
    near = gain.views.nearest(camera(1.5, -10.0), others)
    assert (near.index, near.distance) == (1, pytest.approx(0.5))
    assert near.angle == pytest.approx(40.0, abs=1e-3)
    assert gain.views.nearest(others[1], others, other_than=1).index == 0


def test_views_are_compared_with_their_nearest_training_views_but_not_with_themselves(gain):
    found = mapped(gain, towards(0.5))
    assert [view.nearest.index for view in found.train.views] == [1, 0, 1, 2, 3]
    assert [view.nearest.index for view in found.held_out.views] == [4, 4, 4]
    assert [view.nearest.distance for view in found.held_out.views] == pytest.approx([1, 2, 3])
    assert [view.name for view in found.held_out.views] == ["5", "6", "7"]


def test_the_gain_is_ranked_by_distance(gain):
    """A head that helps less, the farther a held-out view is away."""
    found = mapped(gain, lambda view, base, _: base + (0.9 - 0.1 * int(view.name)) * (view.image - base), held_out=4)
    assert found.held_out.by_distance.rho == pytest.approx(-1.0)
    assert found.held_out.by_angle is None
    assert mapped(gain, towards(0.5), held_out=3).held_out.by_distance is None


def test_spectra_are_those_of_the_error_before_and_after_and_of_the_residual(gain):
    found = mapped(gain, towards(0.5), spoil=lambda photo: photo + 0.05 * wave(0.305), held_out=1)
    spectra = found.held_out.spectra
    for spectrum, amplitude in ((spectra.before, 0.05), (spectra.after, 0.025), (spectra.residual, 0.025)):
        assert spectrum.energy.sum().item() == pytest.approx(amplitude**2 / 2, rel=0.02)
        assert spectrum.share_above() > 0.99


def test_views_of_other_sizes_are_wrong_in_their_own_size(gain):
    small = View("small", replace(camera(1.0), width=40, cx=20.0), textured()[:, :40])
    large = View("large", camera(0.0), textured())

    def render(camera):
        photo = small.image if camera.width == 40 else large.image
        return Shown(photo + 0.05, photo + 0.1)

    found = gain.views.map_gain(render, [small, large], [large], background=torch.zeros(3))
    assert [view.parts.wrong_view for view in found.train.views] == pytest.approx([20 * np.log10(2)] * 2, abs=1e-5)


def test_a_head_that_changes_nothing_is_refused(gain):
    with pytest.raises(ValueError, match="changes none of the views"):
        mapped(gain, lambda view, base, _: base)


def test_too_few_views_are_refused(gain):
    with pytest.raises(ValueError, match="5 training and 0 held-out views"):
        mapped(gain, towards(0.5), held_out=0)
    with pytest.raises(ValueError, match="1 training and 3 held-out views"):
        mapped(gain, towards(0.5), train=1)


# Verdicts


def findings(gain, found):
    said = gain.verdict.verdict(found)
    assert f"{found.held_out.gain:+.3f} dB on held-out views" in said.sentence
    return said.findings


def test_a_cast_is_found_to_be_colours(gain):
    assert "corrects colours" in findings(gain, mapped(gain, towards(0.5)))
    assert "sharpens" not in findings(gain, mapped(gain, towards(0.5)))


def test_a_blur_is_found_to_be_sharpened_view_by_view(gain):
    assert findings(gain, mapped(gain, towards(0.5), spoil=blurred)) == ("sharpens",)


def test_errors_of_middle_frequency_are_found_to_be_shapes(gain):
    """Between two blurs of the texture lie frequencies about 1/16."""
    found = mapped(gain, towards(0.5), spoil=lambda photo: photo - (blurred(photo, 1.8) - blurred(photo, 3.0)))
    assert findings(gain, found) == ("corrects shapes",)


def test_a_pattern_that_is_added_everywhere_is_found_to_be_the_same_in_every_view(gain):
    found = mapped(gain, towards(0.5), spoil=lambda photo: photo + 0.05 * wave(0.05))
    assert findings(gain, found) == ("same in every view", "corrects shapes")


def test_a_head_that_helps_where_it_was_trained_remembers(gain):
    some = mapped(gain, towards(0.5, unseen=0.1), spoil=blurred)
    assert findings(gain, some) == ("remembers", "sharpens")
    none = mapped(gain, towards(0.5, unseen=-0.1), spoil=blurred)
    assert findings(gain, none) == ("remembers", "no gain")


def test_a_gain_below_the_threshold_is_none(gain):
    assert findings(gain, mapped(gain, towards(0.001))) == ("no gain",)

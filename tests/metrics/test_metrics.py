"""Metrics of images against outside oracles: scikit-image, NumPy, and cases made by hand."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from qsplat.metrics.bands import OCTAVES, band_errors
from qsplat.metrics.edges import edge_mask, psnr_edge
from qsplat.metrics.psnr import decibels, psnr
from qsplat.metrics.ssim import ssim


def pair(height=48, width=61, noise=0.1):
    """A smooth photo and a noisy rendering of it, both in [0, 1]."""
    rng = np.random.default_rng(0)
    photo = gaussian_filter(rng.random((height, width, 3)), (3, 3, 0))
    photo = (photo - photo.min()) / (photo.max() - photo.min())
    rendering = np.clip(photo + noise * rng.normal(size=photo.shape), 0, 1)
    return torch.from_numpy(rendering).float(), torch.from_numpy(photo).float()


def test_psnr_agrees_with_scikit_image():
    rendering, photo = pair()
    assert psnr(rendering, photo) == pytest.approx(
        peak_signal_noise_ratio(photo.numpy(), rendering.numpy(), data_range=1.0), abs=1e-5
    )


def test_ssim_agrees_with_scikit_image():
    rendering, photo = pair()
    oracle = structural_similarity(
        photo.numpy().astype(np.float64),
        rendering.numpy().astype(np.float64),
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(rendering, photo) == pytest.approx(oracle, abs=1e-4)


def test_equal_images_have_the_best_scores():
    _, photo = pair()
    assert psnr(photo, photo) == 100.0
    assert ssim(photo, photo) == pytest.approx(1.0)


def test_renderings_are_clamped_before_they_are_measured():
    _, photo = pair()
    bright = torch.ones_like(photo)
    assert psnr(3 * bright, bright) == 100.0
    assert ssim(3 * bright, photo) == ssim(bright, photo)


def test_pixels_outside_the_mask_do_not_count():
    rendering, photo = pair()
    mask = torch.ones(photo.shape[:2], dtype=torch.bool)
    mask[:, 40:] = False
    spoilt = torch.where(mask[..., None], rendering, 1 - photo)
    assert psnr(spoilt, photo, mask=mask) == pytest.approx(psnr(rendering[:, :40], photo[:, :40]), abs=1e-5)
    assert psnr_edge(spoilt, photo, mask=mask) == psnr_edge(rendering, photo, mask=mask)
    # of 45 columns SSIM counts those up to 39, whose windows reach column 44
    filled = torch.where(mask[..., None], rendering, photo)
    assert ssim(spoilt, photo, mask=mask) == pytest.approx(ssim(filled[:, :45], photo[:, :45]), abs=1e-5)
    assert ssim(rendering, photo, mask=torch.ones_like(mask)) == pytest.approx(ssim(rendering, photo))


def test_a_mask_without_pixels_is_refused():
    rendering, photo = pair()
    with pytest.raises(ValueError, match="mask leaves no pixel"):
        psnr(rendering, photo, mask=torch.zeros(photo.shape[:2], dtype=torch.bool))


def test_ssim_of_an_image_below_its_window_is_refused():
    with pytest.raises(ValueError, match="at least 11x11 pixels, these have 8x20"):
        ssim(torch.zeros(20, 8, 3), torch.zeros(20, 8, 3))


def test_edges_are_those_of_the_photo_and_their_neighbours():
    """A vertical step between columns 9 and 10: Canny marks one column, the disk one more on either side."""
    photo = torch.zeros(20, 20, 3)
    photo[:, 10:] = 1.0
    mask = edge_mask(photo)
    columns = mask.float().mean(dim=0)
    marked = columns.nonzero().flatten().tolist()
    assert len(marked) == 3
    assert marked[1] in (9, 10)
    assert torch.equal(columns[marked], torch.ones(3))


def test_psnr_edge_measures_edges_alone():
    photo = torch.zeros(20, 20, 3)
    photo[:, 10:] = 1.0
    mask = edge_mask(photo)
    off_at_edges = (photo - 0.1 * mask[..., None]).abs()
    off_elsewhere = (photo - 0.1 * (~mask)[..., None]).abs()
    assert psnr_edge(off_at_edges, photo) == pytest.approx(20.0, abs=1e-4)
    assert psnr_edge(off_elsewhere, photo) == 100.0


def test_the_disk_is_round():
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    assert disk.tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def test_a_photo_without_edges_has_no_psnr_edge():
    assert psnr_edge(torch.ones(16, 16, 3), torch.full((16, 16, 3), 0.5)) is None


@pytest.mark.parametrize("size", [(48, 61), (64, 64), (33, 20)])
def test_bands_add_up_to_the_windowed_error(size):
    """Parseval: the bands hold all of the error, and of the signal, and nothing twice."""
    rendering, photo = pair(*size)
    y, x = (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2 for length in size)
    window = np.outer(y / np.sqrt((y**2).mean()), x / np.sqrt((x**2).mean()))[..., None]
    bands = band_errors(rendering, photo)
    difference = (rendering - photo).double().numpy()
    assert sum(band.error for band in bands) == pytest.approx(((difference * window) ** 2).mean())
    assert sum(band.signal for band in bands) == pytest.approx(((photo.double().numpy() * window) ** 2).mean())


@pytest.mark.parametrize("octave", range(OCTAVES))
def test_a_wave_lands_in_the_band_of_its_frequency(octave):
    frequency = 0.375 / 2 ** (OCTAVES - 1 - octave)
    columns = torch.arange(256, dtype=torch.float32)
    wave = 0.2 * torch.cos(2 * torch.pi * frequency * columns).expand(256, 256)[..., None].repeat(1, 1, 3)
    photo = torch.full_like(wave, 0.5)
    bands = band_errors(photo + wave, photo)
    assert bands[octave].low <= frequency < bands[octave].high
    assert bands[octave].error == pytest.approx(0.02, rel=0.02)
    assert sum(band.error for band in bands) - bands[octave].error < 0.02 * 0.02
    assert bands[octave].psnr == pytest.approx(decibels(0.02), abs=0.1)


def test_white_noise_fills_the_bands_in_proportion_to_their_area():
    """Against NumPy's frequencies: noise has the same power at every frequency."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(0.1 * rng.normal(size=(256, 256, 3))).float().clamp(-0.5, 0.5)
    photo = torch.full_like(noise, 0.5)
    bands = band_errors(photo + noise, photo)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    total = sum(band.error for band in bands)
    for band in bands[1:]:
        share = ((radius >= band.low) & (radius < (band.high if band is not bands[-1] else 2))).mean()
        assert band.error / total == pytest.approx(share, rel=0.15)

"""The photometric loss against torchmetrics, finite differences, its slow twin, and its masks."""

import inspect

import pytest
import torch
from jaxtyping import TypeCheckError
from torchmetrics.functional.image import structural_similarity_index_measure

from qsplat import kernels
from qsplat.training.losses import Photometric, photometric_loss, portable_loss
from qsplat.training.ssim import ssim_map


def pair(height: int, width: int, *, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    photo = torch.rand(height, width, 3, generator=generator, dtype=dtype)
    return (photo + 0.2 * torch.randn(photo.shape, generator=generator, dtype=dtype)).clamp(0, 1), photo


@pytest.mark.parametrize(("height", "width"), [(11, 11), (11, 30), (24, 17), (60, 80)])
def test_ssim_is_that_of_torchmetrics(height, width):
    prediction, photo = pair(height, width, dtype=torch.float64)
    planes = (image.permute(2, 0, 1)[None] for image in (prediction, photo))
    theirs = structural_similarity_index_measure(*planes, data_range=1.0, sigma=1.5, return_full_image=True)
    inside = theirs[1][0, :, 5:-5, 5:-5].permute(1, 2, 0)
    torch.testing.assert_close(ssim_map(prediction, photo), inside, rtol=1e-9, atol=1e-9)


def test_loss_is_the_weighted_sum_of_l1_and_dissimilarity():
    prediction, photo = pair(20, 25)
    l1, dissimilarity = (prediction - photo).abs().mean(), 1 - ssim_map(prediction, photo).mean()
    for weight in (0.0, 0.2, 1.0):
        loss = photometric_loss(prediction, photo, ssim_weight=weight)
        torch.testing.assert_close(loss, (1 - weight) * l1 + weight * dissimilarity)


def test_equal_images_have_no_loss():
    photo = pair(20, 25)[1]
    assert photometric_loss(photo, photo).abs() < 1e-6


@pytest.mark.parametrize("binary", kernels.runnable_binaries())
@pytest.mark.parametrize("ssim_weight", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(60, 83, 3), (11, 11, 3), (12, 40, 1), (33, 27, 4), (10, 50, 3), (1, 1, 3)])
def test_the_kernel_agrees_with_its_slow_twin_on_any_number_of_threads(size, masked, ssim_weight, binary):
    generator = torch.Generator().manual_seed(sum(size))
    photo = torch.rand(size, generator=generator)
    prediction = photo + 0.1 * torch.randn(size, generator=generator)
    mask = torch.rand(size[:2], generator=generator) < 0.8 if masked else None
    exact = prediction.double().requires_grad_()
    expected = portable_loss(exact, photo.double(), ssim_weight=ssim_weight, mask=mask)
    expected.backward()
    given = prediction.requires_grad_()
    results = []
    for threads in (1, 2, 5):
        given.grad = None
        loss = Photometric.apply(given, photo, mask, ssim_weight, threads, kernels.load(binary))
        (3 * loss).backward()
        results.append((loss.detach(), given.grad))
    loss, gradient = results[0]
    assert all(torch.equal(loss, other[0]) and torch.equal(gradient, other[1]) for other in results)
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-6, atol=1e-7)
    assert (gradient / 3 - exact.grad).norm() <= 2e-6 * exact.grad.norm()


def test_images_that_are_not_contiguous_are_compared_as_they_are():
    prediction, photo = pair(30, 40)
    prediction.requires_grad_()
    losses = [
        photometric_loss(prediction.transpose(0, 1), photo.transpose(0, 1)),
        photometric_loss(prediction, photo),
    ]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, prediction)[0] for loss in losses))


@pytest.mark.parametrize(
    ("height", "width", "mask"), [(30, 41, None), (40, 30, None), (30, 40, torch.ones(40, 30, dtype=torch.bool))]
)
def test_what_is_not_of_one_view_is_refused(height, width, mask):
    with pytest.raises((ValueError, TypeCheckError)):
        photometric_loss(torch.rand(30, 40, 3), torch.rand(height, width, 3), mask=mask)


def test_sizes_are_checked_where_types_are_not(monkeypatch):
    unchecked = inspect.unwrap(photometric_loss)
    with pytest.raises(ValueError, match=r"shapes \(30, 40, 3\), \(30, 41, 3\): they must be of one view"):
        unchecked(torch.rand(30, 40, 3), torch.rand(30, 41, 3))


def test_without_kernels_the_loss_is_the_portable_one(monkeypatch, tmp_path):
    prediction, photo = pair(30, 40)
    with_kernels = photometric_loss(prediction, photo)
    monkeypatch.setattr(kernels, "FOLDER", tmp_path)
    assert not kernels.available()
    torch.testing.assert_close(photometric_loss(prediction, photo), with_kernels)


def test_gradient_agrees_with_finite_differences():
    prediction, photo = pair(13, 12, dtype=torch.float64)
    mask = torch.rand(13, 12, generator=torch.Generator().manual_seed(0)) > 0.2
    for chosen in (None, mask):
        assert torch.autograd.gradcheck(
            lambda image, chosen=chosen: photometric_loss(image, photo, mask=chosen), prediction.requires_grad_()
        )


def test_masked_pixels_change_neither_the_loss_nor_get_a_gradient():
    prediction, photo = pair(30, 40)
    mask = torch.ones(30, 40, dtype=torch.bool)
    mask[5:12, 20:33] = False
    other_photo, other_prediction = photo.clone(), prediction.clone()
    other_photo[~mask], other_prediction[~mask] = 0.9, 0.1
    prediction.requires_grad_()
    loss = photometric_loss(prediction, photo, mask=mask)
    assert torch.equal(loss, photometric_loss(other_prediction, other_photo, mask=mask))
    loss.backward()
    assert torch.equal(prediction.grad[~mask], torch.zeros_like(prediction.grad[~mask]))
    assert (prediction.grad[mask] != 0).any(dim=-1).all()


def test_a_full_mask_is_no_mask():
    prediction, photo = pair(30, 40)
    mask = torch.ones(30, 40, dtype=torch.bool)
    torch.testing.assert_close(photometric_loss(prediction, photo, mask=mask), photometric_loss(prediction, photo))


def test_an_empty_mask_gives_zero_and_finite_gradients():
    prediction, photo = pair(12, 12)
    loss = photometric_loss(prediction.requires_grad_(), photo, mask=torch.zeros(12, 12, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_an_image_smaller_than_the_window_is_compared_by_l1():
    prediction, photo = pair(10, 40)
    torch.testing.assert_close(photometric_loss(prediction, photo), (prediction - photo).abs().mean())
    with pytest.raises(ValueError, match="40x10 pixels: SSIM needs at least 11"):
        ssim_map(prediction, photo)


def test_flat_images_have_finite_gradients():
    flat = torch.full((15, 15, 3), 0.5, requires_grad=True)
    photometric_loss(flat, torch.full((15, 15, 3), 0.5)).backward()
    assert torch.isfinite(flat.grad).all()

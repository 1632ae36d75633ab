"""Queries and heads on whole images, crops and tiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsplat.cameras import Camera, Window
from qsplat.qnn import QNN, QnnConfig, image_residual, pixel_queries, window_residual


def camera(width: int, height: int) -> Camera:
    return Camera(torch.eye(4), 50.0, 50.0, width / 2, height / 2, width, height)


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 60), st.integers(1, 60))
def test_queries_of_a_crop_are_the_crop_of_the_queries(data, width, height):
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    part = Window(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    whole = pixel_queries(camera(width, height))
    cropped = pixel_queries(camera(width, height).cropped(part))
    assert torch.equal(cropped, whole[y : y + part.height, x : x + part.width])


@pytest.mark.parametrize(("width", "height"), [(8, 6), (64, 64), (3, 1)])
def test_queries_span_the_image_at_any_resolution(width, height):
    queries = pixel_queries(camera(width, height))
    assert queries.shape == (height, width, 2)
    torch.testing.assert_close(queries[0, 0], torch.tensor([1 / width - 1, 1 / height - 1]))
    torch.testing.assert_close(queries[-1, -1], torch.tensor([1 - 1 / width, 1 - 1 / height]))
    halved = pixel_queries(camera(2 * width, 2 * height).resized(width, height))
    torch.testing.assert_close(halved, queries)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 1e-2)])
@pytest.mark.parametrize("tile", [7, 16, 64])
def test_tiled_inference_equals_the_whole_image(precision, tolerance, tile):
    torch.manual_seed(0)
    head = QNN(QnnConfig(channels=8, precision=precision))
    torch.nn.init.normal_(head.stages[-1].weight, std=0.1)
    image, view = torch.rand(37, 50, 3), camera(50, 37)
    with torch.no_grad():
        whole = image_residual(head, image, view, tile=1000)
        tiled = image_residual(head, image, view, tile=tile)
    assert whole.abs().max() > 0.01
    torch.testing.assert_close(tiled, whole, rtol=tolerance, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_a_window_has_the_residual_and_the_gradient_that_it_has_in_the_whole_image(data, width, height):
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    part = Window(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    rows, columns = slice(y, y + part.height), slice(x, x + part.width)
    torch.manual_seed(0)
    head = QNN(QnnConfig(channels=8, precision="fp32"))
    torch.nn.init.normal_(head.stages[-1].weight, std=0.1)
    image = torch.rand(height, width, 3, requires_grad=True)
    inside = torch.zeros(height, width, 1)
    inside[rows, columns] = 1
    expected = image_residual(head, image, camera(width, height)) * inside
    residual = window_residual(head, image, camera(width, height), part)
    torch.testing.assert_close(residual, expected, rtol=1e-5, atol=1e-6)
    weights = torch.rand(image.shape)
    gradients = [torch.autograd.grad((weights * one).sum(), image)[0] for one in (residual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def pieces_read(head: QNN, image: torch.Tensor) -> int:
    """How often the head is asked for the residual of a 20x30 image in tiles of 8."""
    calls = []
    handle = head.register_forward_hook(lambda *_: calls.append(1))
    image_residual(head, image, camera(30, 20), tile=8)
    handle.remove()
    return len(calls)


def test_what_needs_no_gradient_is_tiled_and_what_does_is_not():
    head, image = QNN(QnnConfig(channels=8, precision="fp32")), torch.rand(20, 30, 3)
    assert pieces_read(head, image) == 1
    with torch.no_grad():
        assert pieces_read(head, image) == 12
    head.requires_grad_(False)
    assert pieces_read(head, image) == 12, "a finished head on a plain image needs no gradient"
    assert pieces_read(head, image.requires_grad_()) == 1


def test_training_sees_the_image_in_one_piece():
    torch.manual_seed(0)
    head = QNN(QnnConfig(channels=8, precision="fp32"))
    torch.nn.init.normal_(head.stages[-1].weight, std=0.1)
    image = torch.rand(20, 30, 3, requires_grad=True)
    residual = image_residual(head, image, camera(30, 20), tile=8)
    residual.sum().backward()
    assert image.grad is not None
    assert residual.is_contiguous() or residual.permute(2, 0, 1).is_contiguous()
    with torch.no_grad():
        torch.testing.assert_close(image_residual(head, image, camera(30, 20), tile=8), residual.detach())

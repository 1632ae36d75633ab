"""Heads on whole images, crops and tiles."""

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qsplat.cameras import Camera, Window
from qsplat.encodings import Encoding, Fourier, Identity, Positional
from qsplat.qnn import QNN, QnnConfig, crop_residual, image_residual, part_queries, pixel_queries, window_residual
from qsplat.qnn.network import Input
from qsplat.qnn.queries import PartQueries, Queries, QueryKind

POSE = torch.linalg.matrix_exp(
    torch.tensor([[0.0, -0.3, 0.2, 0.5], [0.3, 0.0, -0.1, -0.2], [-0.2, 0.1, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
)


def camera(width: int, height: int) -> Camera:
    return Camera(POSE, 50.0, 40.0, width / 2 + 1, height / 2, width, height)


def awake(config: QnnConfig, queries: Queries | None = None) -> QNN:
    """A head that no longer is the identity."""
    torch.manual_seed(0)
    head = QNN(config, queries=queries)
    torch.nn.init.normal_(cast(Tensor, head.stages[-1].weight), std=0.1)
    return head


def told(head: QNN, eye: Camera, depth: Tensor | None = None) -> PartQueries:
    assert head.queries is not None
    return part_queries(head.queries, eye, depth)


@st.composite
def windows(draw: st.DrawFn, width: int, height: int) -> Window:
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Window(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


CONFIGS = [
    QnnConfig(channels=8, precision="fp32", input=input, query=query, encoding=encoding, activation="leaky_relu")
    for input, query, encoding in [
        ("both", "pixels", Identity()),
        ("both", "locations", Positional(2)),
        ("both", "rays", Fourier(5, scale=0.5)),
        ("queries", "locations", Identity()),
        ("queries", "pixels", Fourier(4, scale=1.0)),
        ("render", "pixels", Identity()),
    ]
]


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("input", ["both", "render", "queries"])
@pytest.mark.parametrize("query", ["pixels", "locations", "rays"])
@pytest.mark.parametrize("encoding", [Identity(), Positional(3), Fourier(6)])
def test_every_new_head_is_the_identity(input: Input, query: QueryKind, encoding: Encoding, kernel: int, layers: int):
    if input == "render" and (query, encoding) != ("pixels", Identity()):
        return
    config = QnnConfig(layers=layers, channels=4, kernel=kernel, input=input, query=query, encoding=encoding)
    head, image = QNN(config), torch.rand(9, 12, 3)
    residual = image_residual(head, image, told(head, camera(12, 9), torch.rand(9, 12) + 1))
    assert torch.equal(residual, torch.zeros_like(image))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tile", [7, 16, 64])
@pytest.mark.parametrize("config", CONFIGS)
def test_tiled_inference_equals_the_whole_image(config: QnnConfig, precision, tile: int):
    head = awake(QnnConfig(**{**vars(config), "precision": precision}))
    image, queries = torch.rand(37, 50, 3), told(head, camera(50, 37), torch.rand(37, 50) + 1)
    with torch.no_grad():
        whole = image_residual(head, image, queries, tile=1000)
        tiled = image_residual(head, image, queries, tile=tile)
    assert whole.abs().max() > 0.01
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    torch.testing.assert_close(tiled, whole, rtol=tolerance, atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 40), st.sampled_from(CONFIGS))
def test_a_window_has_the_residual_and_the_gradient_that_it_has_in_the_whole_image(data, width, height, config):
    part = data.draw(windows(width, height))
    rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
    head = awake(config)
    inside = torch.zeros(height, width, 1)
    inside[rows, columns] = 1
    image = torch.rand(height, width, 3, requires_grad=True)
    queries = told(head, camera(width, height), torch.rand(height, width) + 1)
    expected = image_residual(head, image, queries) * inside
    residual = window_residual(head, image, queries, part)
    torch.testing.assert_close(residual, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(crop_residual(head, image, queries, part), expected[rows, columns], rtol=1e-5, atol=1e-5)
    weights = torch.rand(image.shape)
    gradients = [
        torch.autograd.grad((weights * one).sum(), image, allow_unused=True, materialize_grads=True)[0]
        for one in (residual, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_window_of_a_window_lies_where_it_does_in_the_whole_image():
    head = awake(QnnConfig(channels=8, precision="fp32", input="queries", query="rays"))
    image, eye = torch.rand(30, 40, 3), camera(40, 30)
    whole = image_residual(head, image, told(head, eye))
    cut = eye.cropped(Window(10, 5, 30, 25))
    part = crop_residual(head, image[5:, 10:], told(head, cut), Window(8, 6, 10, 12))
    torch.testing.assert_close(part, whole[11:23, 18:28], rtol=1e-5, atol=1e-5)


def test_a_crop_asks_for_its_own_queries_alone():
    head, asked = awake(QnnConfig(channels=8, precision="fp32")), []

    def queries(part: Window) -> Tensor:
        asked.append(part)
        return torch.rand(part.height, part.width, 2)

    crop_residual(head, torch.rand(60, 80, 3), queries, Window(70, 20, 10, 8))
    assert asked == [Window(66, 16, 14, 16)]


def test_queries_may_be_given_as_they_are():
    head, image, eye = awake(QnnConfig(channels=8, precision="fp32")), torch.rand(20, 30, 3), camera(30, 20)
    expected = image_residual(head, image, told(head, eye))
    torch.testing.assert_close(image_residual(head, image, pixel_queries(eye)), expected)
    part = crop_residual(head, image, pixel_queries(eye), Window(3, 4, 5, 6))
    torch.testing.assert_close(part, expected[4:10, 3:8], rtol=1e-5, atol=1e-6)


def test_a_head_that_sees_the_render_alone_asks_for_no_queries():
    head, image = awake(QnnConfig(channels=8, precision="fp32", input="render")), torch.rand(20, 30, 3)
    assert torch.equal(image_residual(head, image, None), image_residual(head, image, told(head, camera(30, 20))))


def test_a_head_that_sees_queries_alone_does_not_depend_on_the_image():
    head = awake(QnnConfig(channels=8, precision="fp32", input="queries"))
    first, second = (image_residual(head, torch.rand(20, 30, 3), told(head, camera(30, 20))) for _ in range(2))
    assert first.abs().max() > 0
    assert torch.equal(first, second)


class Many:
    """Queries of another kind and of any number of channels."""

    channels, needs_depth = 24, True

    def __call__(self, camera: Camera, depth: Tensor | None) -> Tensor:
        assert depth is not None
        return torch.cat([pixel_queries(camera), depth[..., None]], dim=-1).repeat(1, 1, 8)


def test_a_head_takes_other_queries_of_any_number_of_channels():
    head = awake(QnnConfig(channels=8, precision="fp32"), Many())
    image, depth = torch.rand(20, 30, 3), torch.rand(20, 30)
    whole = image_residual(head, image, told(head, camera(30, 20), depth))
    moved = image_residual(head, image, told(head, camera(30, 20), depth + 1))
    assert not torch.equal(whole, moved)
    part = crop_residual(head, image, told(head, camera(30, 20), depth), Window(3, 4, 5, 6))
    torch.testing.assert_close(part, whole[4:10, 3:8], rtol=1e-5, atol=1e-6)


def pieces_read(head: QNN, image: Tensor) -> int:
    """How often the head is asked for the residual of a 20x30 image in tiles of 8."""
    calls = []
    handle = head.register_forward_hook(lambda *_: calls.append(1))
    image_residual(head, image, told(head, camera(30, 20)), tile=8)
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
    head = awake(QnnConfig(channels=8, precision="fp32"))
    image, queries = torch.rand(20, 30, 3, requires_grad=True), told(head, camera(30, 20))
    residual = image_residual(head, image, queries, tile=8)
    residual.sum().backward()
    assert image.grad is not None
    assert residual.is_contiguous() or residual.permute(2, 0, 1).is_contiguous()
    with torch.no_grad():
        torch.testing.assert_close(image_residual(head, image, queries, tile=8), residual.detach())

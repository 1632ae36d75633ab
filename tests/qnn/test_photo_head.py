"""The head that reads photo queries."""

import copy
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor
from two_planes import ROW, depth_of, eye, source

from qsplat.cameras import Window
from qsplat.qnn import QnnConfig, crop_residual, image_residual, part_queries
from qsplat.qnn.photo_head import GAIN, PhotoHead
from qsplat.qnn.photos import PhotoConfig, PhotoQueries

FP32 = QnnConfig(channels=8, precision="fp32", activation="leaky_relu")
PHOTOS = PhotoQueries([source(one) for one in ROW], PhotoConfig(count=3))
CAMERA = eye(0.1, 0.05, turn=0.02)
DEPTH = depth_of(CAMERA)
IMAGE = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(1))


def awake(config: QnnConfig | None = FP32) -> PhotoHead:
    """A head that no longer is the identity."""
    torch.manual_seed(0)
    head = PhotoHead(config)
    torch.nn.init.normal_(cast(Tensor, head.stages[-1].weight), std=0.1)
    head.photos = PHOTOS
    return head


def believing(belief: float) -> PhotoHead:
    """A head that believes the photos to the same extent everywhere."""
    head = PhotoHead(FP32)
    torch.nn.init.constant_(cast(Tensor, head.stages[-1].bias), belief / GAIN)
    head.photos = PHOTOS
    return head


def residual_of(head: PhotoHead) -> Tensor:
    with torch.no_grad():
        return image_residual(head, IMAGE, part_queries(head.photos, CAMERA, DEPTH))


@pytest.mark.parametrize("config", [None, FP32, QnnConfig(input="queries"), QnnConfig(layers=1), QnnConfig(kernel=1)])
def test_every_new_head_is_the_identity(config):
    head = PhotoHead(config)
    assert torch.equal(residual_of(head), torch.zeros_like(IMAGE))
    head.photos = PHOTOS
    assert torch.equal(residual_of(head), torch.zeros_like(IMAGE))


def test_a_new_head_has_the_parameters_that_its_docstring_names():
    count = sum(parameter.numel() for parameter in PhotoHead().parameters())
    assert f"it has {count:,} parameters" in str(PhotoHead.__doc__)


def test_belief_is_the_share_of_what_the_photos_say():
    channels = PHOTOS(CAMERA, DEPTH)
    for belief in (1.0, -0.5, 2.0):
        expected = belief * channels[..., :3] / PhotoQueries.SCALE
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(residual_of(believing(belief)), expected, rtol=1e-4, atol=1e-6)


def test_where_no_photo_sees_the_surface_the_image_stays_as_it_is():
    head = awake()
    away = torch.zeros_like(DEPTH)
    assert torch.equal(image_residual(head, IMAGE, part_queries(PHOTOS, CAMERA, away)), torch.zeros_like(IMAGE))
    head.photos = PhotoQueries([])
    assert torch.equal(residual_of(head), torch.zeros_like(IMAGE))


@pytest.mark.parametrize("config", [FP32, replace(FP32, input="queries"), replace(FP32, layers=2, kernel=5)])
@pytest.mark.parametrize("tile", [9, 32])
def test_tiled_inference_equals_the_whole_image(config, tile):
    head = awake(config)
    queries = part_queries(head.photos, CAMERA, DEPTH)
    with torch.no_grad():
        whole = image_residual(head, IMAGE, queries, tile=1000)
        tiled = image_residual(head, IMAGE, queries, tile=tile)
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-6)
    part = crop_residual(head, IMAGE, queries, Window(30, 20, 25, 15))
    torch.testing.assert_close(part, whole[20:35, 30:55], rtol=1e-4, atol=1e-6)


def test_tiles_and_crops_choose_the_photos_once(monkeypatch):
    head, choice, views = awake(), PhotoQueries._choice, []

    def counted(self: PhotoQueries, camera):
        views.append(camera)
        return choice(self, camera)

    monkeypatch.setattr(PhotoQueries, "_choice", counted)
    queries = part_queries(head.photos.without(3), CAMERA, DEPTH)
    with torch.no_grad():
        image_residual(head, IMAGE, queries, tile=16)
    crop_residual(head, IMAGE, queries, Window(30, 20, 25, 15))
    assert len(views) == 1


def test_a_copy_is_a_head_of_its_own():
    head = awake()
    other = copy.deepcopy(head)
    expected = residual_of(head)
    assert torch.equal(residual_of(other), expected)
    other.photos = PhotoQueries([])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(residual_of(head), expected)


def test_a_finished_head_gives_what_it_gave_in_training():
    head = awake()
    expected = residual_of(head)
    head.eval().requires_grad_(False)
    assert torch.equal(residual_of(head), expected)
    assert image_residual(head, IMAGE, part_queries(head.photos, CAMERA, DEPTH)).requires_grad is False


def test_the_photos_are_no_part_of_the_state():
    head, other = awake(), PhotoHead(FP32)
    assert {name.split(".")[0] for name in head.state_dict()} == {"stages", "belief"}
    other.load_state_dict(head.state_dict())
    assert not other.photos.cameras
    other.photos = PHOTOS
    assert torch.equal(residual_of(other), residual_of(head))


def test_the_image_and_the_head_get_gradients_and_the_photos_none():
    head, image = awake(), IMAGE.clone().requires_grad_()
    image_residual(head, image, part_queries(head.photos, CAMERA, DEPTH)).square().sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in head.parameters())
    assert not any(one.image.requires_grad for one in head.photos._photos)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (QnnConfig(input="render"), "input='render'"),
        (QnnConfig(query="rays"), "query='rays'"),
        (QnnConfig(dims=1), "dims=1"),
    ],
)
def test_a_network_that_cannot_read_photos_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        PhotoHead(config)

"""Photos warped into a view: the compiled kernel against its slow twin in float64."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from test_images import windows
from two_planes import depth_of, eye

from qsplat import kernels
from qsplat.cameras import Camera, Window
from qsplat.qnn.warp import Photo, Sums, Trust, compiled_warp, portable_warp, warp

TRUST = Trust(tolerance=0.1, angle=0.3)
BINARIES = pytest.mark.parametrize("binary", kernels.runnable_binaries())


def photo(camera: Camera, seed: int = 0) -> Photo:
    """Noise on the surface of the two planes."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.2 * torch.randn(camera.height, camera.width, 3, generator=generator)
    return Photo(camera, torch.cat([noise, depth_of(camera)[..., None]], dim=-1).half())


def twice(camera: Camera) -> Camera:
    return replace(camera, cam_from_world=camera.cam_from_world.double())


def exact(camera: Camera, depth: torch.Tensor, photos: list[Photo], shares: torch.Tensor, trust: Trust) -> Sums:
    """The slow twin in float64."""
    photos = [Photo(twice(one.camera), one.image) for one in photos]
    return portable_warp(twice(camera), depth.double(), photos=photos, shares=shares.double(), trust=trust)


WIDE = eye(0.1, turn=0.03, width=600, height=9)
WIDE_DEPTH = depth_of(WIDE)
WIDE_PHOTOS = [photo(eye(0.1), 1), photo(eye(-0.3, 0.1, turn=0.1), 2)]


def planes(sums: Sums) -> torch.Tensor:
    return torch.cat([sums.weight[..., None], sums.residual, sums.square[..., None], sums.angle[..., None]], dim=-1)


def compiled(
    camera: Camera, depth: torch.Tensor, photos: list[Photo], shares: torch.Tensor, trust: Trust, binary: str
) -> torch.Tensor:
    """On one thread; any other number gives the same."""
    library, told = kernels.load(binary), {"photos": photos, "shares": shares, "trust": trust}
    first, *others = (
        planes(compiled_warp(camera, depth, **told, threads=threads, library=library)) for threads in (1, 2, 7)
    )
    assert all(torch.equal(first.nan_to_num(7.0), other.nan_to_num(7.0)) for other in others)
    return first


@BINARIES
@pytest.mark.parametrize(
    ("width", "height", "window"),
    [(80, 60, None), (1, 1, None), (17, 5, None), (300, 4, None), (90, 70, Window(13, 7, 31, 50)), (600, 3, None)],
)
def test_the_kernel_agrees_with_its_slow_twin(width, height, window, binary):
    camera = replace(eye(0.1, turn=0.05, width=width, height=height), window=window)
    places = [(0.0, 0.0, 80, 60), (0.3, 0.1, 37, 41), (-0.4, -0.05, 50, 1), (0.2, 0.3, 1, 30), (-0.1, -0.3, 200, 90)]
    photos = [
        photo(eye(x, 0.1, 0.2, turn=turn, width=wide, height=high), seed)
        for seed, (x, turn, wide, high) in enumerate(places)
    ]
    shares = torch.tensor([1.0, 0.7, 0.9, 0.3, 0.05])
    depth = depth_of(camera)
    found = compiled(camera, depth, photos, shares, TRUST, binary)
    expected = planes(exact(camera, depth, photos, shares, TRUST))
    error = (found.double() - expected).abs().amax(-1)
    assert error.median() < 1e-5
    near = 2e-4  # where a pixel lies at the edge between two depths, or at the border, a rounding error of it counts
    assert (error > near).double().mean() <= 0.01
    assert expected.abs().amax((0, 1)).min() > 1e-3 or width == 1


@BINARIES
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_window_is_exactly_that_part_of_the_whole(data, binary):
    """Whatever the pieces are that rows are cut into: a window's begin elsewhere."""
    part = data.draw(windows(600, 9))
    rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
    told = (WIDE_PHOTOS, torch.tensor([1.0, 0.6]), TRUST, binary)
    whole = compiled(WIDE, WIDE_DEPTH, *told)
    assert torch.equal(compiled(WIDE.cropped(part), WIDE_DEPTH[rows, columns], *told), whole[rows, columns])
    assert whole[..., 0].amax() > 0.1


@BINARIES
@pytest.mark.parametrize("apart", [0.0, 1e-4, 0.3, 0.99, 1.0, 1.01, 1.5, 2.0, 3.0, 3.14])
def test_angles_are_exact_from_none_to_opposite(apart, binary):
    """A surface at distance 1 before a camera, and a photo of it from an angle ``apart``, with its own camera turned so
    that the surface lies in its middle."""
    camera = Camera(torch.eye(4), 50.0, 50.0, 0.5, 0.5, 1, 1)
    center = torch.tensor([math.sin(apart), 0.0, 1 - math.cos(apart)])
    cosine, sine = math.cos(apart), math.sin(apart)
    rotation = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ center
    image = torch.tensor([0.5, -0.25, 0.125, 1.0]).expand(3, 3, 4).half()
    there = Photo(Camera(pose, 50.0, 50.0, 1.5, 1.5, 3, 3), image)
    found = compiled(camera, torch.ones(1, 1), [there], torch.ones(1), Trust(0.1, 2.0), binary)[0, 0]
    weight = math.exp(-apart / 2)
    square = weight * (0.25 + 0.0625 + 0.015625) / 3
    expected = [weight, weight * 0.5, weight * -0.25, weight * 0.125, square, weight * apart]
    rounding = 1e-5 if apart < 3 else 1e-4  # between opposite lines the angle grows with the root of an error
    torch.testing.assert_close(found, torch.tensor(expected), rtol=rounding, atol=1e-6)


@BINARIES
def test_what_lies_behind_a_photo_or_beside_it_or_nowhere_counts_nothing(binary):
    camera = eye()
    away, beside = photo(eye(turn=math.pi)), photo(eye(turn=1.4))
    depth = depth_of(camera)
    assert bool((compiled(camera, depth, [away, beside], torch.ones(2), TRUST, binary) == 0).all())
    here = photo(camera)
    strange = depth.clone()
    strange[0], strange[1], strange[2] = 0.0, math.nan, -1.0
    strange[3, ::2] = math.inf
    found = compiled(camera, strange, [here], torch.ones(1), TRUST, binary)
    assert bool((found[:3] == 0).all())
    assert bool((found[3, ::2] == 0).all())
    rest = compiled(camera, depth, [here], torch.ones(1), TRUST, binary)
    assert torch.equal(found[4:], rest[4:])
    assert torch.equal(found[3, 1::2], rest[3, 1::2])
    assert bool((rest[..., 0] > 0.9).all())
    twin = planes(portable_warp(camera, strange, photos=[here], shares=torch.ones(1), trust=TRUST))
    torch.testing.assert_close(found, twin, rtol=1e-3, atol=1e-4)


@BINARIES
def test_no_surface_is_none_though_a_photo_sees_the_camera_itself(binary):
    """Points at a depth of 0 are where the camera is, which a photo from behind sees in its middle."""
    camera = eye()
    behind = replace(photo(eye(z=-2.0)), image=torch.full((60, 80, 4), 2.0).half())
    depth = torch.zeros(60, 80)
    depth[:, 40:] = -0.01
    assert bool((compiled(camera, depth, [behind], torch.ones(1), TRUST, binary) == 0).all())
    there = compiled(camera, torch.full((60, 80), 1e-6), [behind], torch.ones(1), TRUST, binary)
    assert bool((there[..., 0] > 0.1).all())
    assert there[..., 0].amax() > 0.9


@BINARIES
def test_what_is_no_number_in_a_photo_spoils_the_pixels_that_read_it_and_no_others(binary):
    camera, spoilt = eye(), photo(eye(-0.2))
    spoilt.image[:, -1, :3] = math.nan
    spoilt.image[20, 30, 3] = math.nan
    depth = depth_of(camera)
    found = compiled(camera, depth, [spoilt], torch.ones(1), TRUST, binary)
    twin = planes(portable_warp(camera, depth, photos=[spoilt], shares=torch.ones(1), trust=TRUST))
    assert 0 < int(found.isnan().any(-1).sum()) < 200
    assert torch.equal(found.isnan(), twin.isnan())
    torch.testing.assert_close(found, twin, rtol=1e-3, atol=1e-3, equal_nan=True)


@BINARIES
def test_without_photos_sums_are_zero(binary):
    camera = eye()
    assert bool((compiled(camera, depth_of(camera), [], torch.ones(0), TRUST, binary) == 0).all())


def test_what_is_not_contiguous_is_read_as_it_is():
    camera, one = eye(), photo(eye(0.1))
    turned = Photo(one.camera, one.image.permute(2, 0, 1).contiguous().permute(1, 2, 0))
    depth, shares = depth_of(camera), torch.ones(1)
    expected = planes(warp(camera, depth, photos=[one], shares=shares, trust=TRUST))
    assert expected[..., 0].amax() > 0.5
    assert torch.equal(planes(warp(camera, depth, photos=[turned], shares=shares, trust=TRUST)), expected)
    turned_depth = depth.T.contiguous().T
    assert not turned_depth.is_contiguous()
    assert torch.equal(planes(warp(camera, turned_depth, photos=[one], shares=shares, trust=TRUST)), expected)


def test_a_kernel_does_float32_and_its_twin_the_rest():
    camera, depth = eye(), depth_of(eye())
    told = {"photos": [photo(eye(0.1))], "shares": torch.ones(1), "trust": TRUST}
    fast = planes(warp(camera, depth, **told))
    library = kernels.load(kernels.best_binary())
    assert torch.equal(fast, planes(compiled_warp(camera, depth, **told, threads=1, library=library)))
    told["photos"] = [Photo(twice(one.camera), one.image) for one in told["photos"]]
    for exactly in (depth, depth.double()):
        slow = planes(warp(twice(camera), exactly, **told))
        assert slow.dtype == torch.float64
        assert torch.equal(slow, planes(portable_warp(twice(camera), exactly, **told)))
    torch.testing.assert_close(fast.double(), slow, rtol=0, atol=1e-3)


@pytest.mark.parametrize("how", [warp, portable_warp])
@pytest.mark.parametrize("size", [(1, 1), (30, 1), (1, 40), (60, 80)])
def test_depth_of_another_size_is_never_read(how, size):
    with pytest.raises((AssertionError, RuntimeError, TypeCheckError)):
        how(eye(width=40, height=30), torch.ones(size), photos=[photo(eye())], shares=torch.ones(1), trust=TRUST)


@pytest.mark.parametrize(
    "image", [torch.zeros(60, 80, 4), torch.zeros(60, 80, 3).half(), torch.zeros(80, 60, 4).half()]
)
def test_images_of_another_kind_are_no_photos(image):
    with pytest.raises((AssertionError, TypeCheckError)):
        Photo(eye(), image)

"""Photos that a model keeps, packed."""

import pytest
import torch

from qsplat.io.packed_photos import PackedPhotos, pack_masks, pack_photos


def smooth_photo(height: int, width: int, phase: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return 0.5 + 0.4 * torch.stack([torch.sin(x + phase), torch.cos(y + phase), torch.sin(x + y)], dim=-1)


PHOTOS = [smooth_photo(30, 40, 0.0), smooth_photo(45, 20, 1.0), smooth_photo(30, 40, 2.0)]


def test_photos_come_back_in_order_and_nearly_as_they_were():
    back = pack_photos(PHOTOS).unpack()
    assert [photo.shape for photo in back] == [photo.shape for photo in PHOTOS]
    for photo, packed in zip(PHOTOS, back, strict=True):
        assert float((photo - packed).abs().max()) < 0.03


def test_a_lower_quality_takes_fewer_bytes_and_is_farther_from_the_photo():
    noisy = [photo + 0.1 * torch.rand(photo.shape, generator=torch.Generator().manual_seed(0)) for photo in PHOTOS]
    fine, coarse = pack_photos(noisy, quality=95), pack_photos(noisy, quality=30)
    assert len(coarse.data) < len(fine.data) / 2
    errors = [float((noisy[0].clamp(0, 1) - packed.unpack()[0]).square().mean()) for packed in (fine, coarse)]
    assert errors[0] < errors[1]


def test_the_highest_quality_loses_nothing_but_what_bytes_cannot_hold():
    noisy = [photo + 0.1 * torch.rand(photo.shape, generator=torch.Generator().manual_seed(0)) for photo in PHOTOS]
    for photo, back in zip(noisy, pack_photos(noisy, quality=100).unpack(), strict=True):
        assert torch.equal((photo.clamp(0, 1) * 255).round(), (back * 255).round())
    errors = [float((noisy[0].clamp(0, 1) - pack_photos(noisy, quality=q).unpack()[0]).abs().max()) for q in (99, 100)]
    assert errors[0] > 1.5 * errors[1]


def test_long_sides_are_limited_and_the_aspect_is_kept():
    shapes = [tuple(photo.shape) for photo in pack_photos(PHOTOS, max_side=20).unpack()]
    assert shapes == [(15, 20, 3), (20, 9, 3), (15, 20, 3)]


def test_colours_outside_the_range_are_clamped():
    back = pack_photos([torch.full((16, 16, 3), 1.7)]).unpack()[0]
    assert float(back.min()) > 0.99


def test_no_photos_are_none():
    assert pack_photos([]).unpack() == []


def test_masks_come_back_as_they_were():
    masks = [photo[..., 0] > 0.6 for photo in PHOTOS]
    for mask, back in zip(masks, pack_masks(masks).unpack_masks(), strict=True):
        assert torch.equal(mask, back)


def test_a_pixel_of_a_smaller_mask_counts_if_all_of_it_did():
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[0, 0] = False
    expected = torch.ones(4, 4, dtype=torch.bool)
    expected[0, 0] = False
    assert torch.equal(pack_masks([mask], max_side=4).unpack_masks()[0], expected)
    with pytest.raises(ValueError, match="max_side=0"):
        pack_masks([mask], max_side=0)


@pytest.mark.parametrize("options", [{"max_side": 0}, {"quality": 0}, {"quality": 101}])
def test_impossible_options_are_refused_with_their_value(options):
    with pytest.raises(ValueError, match="=".join(map(str, *options.items()))):
        pack_photos(PHOTOS, **options)


def test_damaged_bytes_are_refused_in_a_sentence():
    packed = pack_photos(PHOTOS)
    damaged = PackedPhotos(torch.zeros_like(packed.data), packed.ends)
    with pytest.raises(ValueError, match="damaged"):
        damaged.unpack()

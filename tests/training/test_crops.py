"""Where crops lie."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsplat.training.crops import SMALLEST_SIDE, random_crop


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.001, 1.0), st.integers(0, 1000))
def test_a_crop_lies_in_the_image_and_has_its_share(width, height, share, seed):
    crop = random_crop(width, height, share, generator=torch.Generator().manual_seed(seed))
    assert 0 <= crop.x <= crop.x + crop.width <= width
    assert 0 <= crop.y <= crop.y + crop.height <= height
    for side, length in ((width, crop.width), (height, crop.height)):
        assert length == min(side, max(round(side * share**0.5), SMALLEST_SIDE))


def test_pixels_at_the_edges_are_seen_about_as_often_as_others():
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(300)
    for _ in range(4000):
        crop = random_crop(300, 300, 1 / 9, generator=generator)
        seen[crop.x : crop.x + crop.width] += 1
    assert seen.min() > 0.65 * seen.mean()
    assert seen[0] > 0.8 * seen[150]
    assert seen.max() < 1.6 * seen.mean()

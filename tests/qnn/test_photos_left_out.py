"""Photo queries of a view that does not read its own photo."""

import math
from dataclasses import replace

import pytest
import torch
from two_planes import ROW, eye, residual, source, told

from qsplat.qnn.photos import PhotoConfig, PhotoQueries


@pytest.mark.parametrize(("index", "poison"), [(0, 1e6), (4, math.nan), (8, -math.inf)])
def test_leaving_a_photo_out_reads_nothing_of_it(index, poison):
    sources = [source(one) for one in ROW]
    spoilt = list(sources)
    spoilt[index] = replace(sources[index], residual=torch.full_like(sources[index].residual, poison))
    config = PhotoConfig(count=4)
    clean, poisoned = PhotoQueries(sources, config), PhotoQueries(spoilt, config)
    for camera in ROW:
        channels = told(poisoned.without(index), camera)
        assert torch.equal(channels, told(clean.without(index), camera))
        assert index not in poisoned.without(index).chosen(camera)[0].tolist()
    assert not torch.equal(told(clean, ROW[index]), told(poisoned, ROW[index])), "the photo counts where it is read"


def test_leaving_a_photo_out_is_like_not_having_it():
    """But for the points by which overlap is judged, which are of all photos."""
    sources, camera = [source(one) for one in ROW], eye(0.06, 0.05)
    left = PhotoQueries(sources, PhotoConfig(count=3)).without(4)
    fewer = PhotoQueries(sources[:4] + sources[5:], PhotoConfig(count=3))
    kept = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])
    assert torch.equal(left.chosen(camera)[0], kept[fewer.chosen(camera)[0]])
    torch.testing.assert_close(left.chosen(camera)[1], fewer.chosen(camera)[1], rtol=0, atol=0.05)
    first, second = told(left, camera), told(fewer, camera)
    assert (residual(first) - residual(second))[first[..., 3] > 0.5].abs().mean() < 2e-3


@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_of_photos_of_one_pose_none_is_read_by_the_view_of_another(zoom: float):
    """A view is told by neither of two photos from a tripod, as it cannot be said which of them it is."""
    twin = replace(ROW[4], fx=zoom * ROW[4].fx, fy=zoom * ROW[4].fy)
    sources = [source(one) for one in (*ROW, twin)]
    poisoned = [
        replace(one, residual=torch.full_like(one.residual, math.nan)) if index in (4, 9) else one
        for index, one in enumerate(sources)
    ]
    for index in (4, 9):
        channels = told(PhotoQueries(poisoned).without(index), ROW[4])
        assert torch.equal(channels, told(PhotoQueries(sources).without(index), ROW[4]))
        assert channels[..., 3].max() > 0.5, "the others are read"
    for index in (4, 9):
        one = [poisoned[index] if each == index else sources[each] for each in range(len(sources))]
        assert told(PhotoQueries(one).without(3), ROW[4]).isnan().any(), "the view of another photo reads both"


def test_photos_that_are_there_twice_are_as_far_from_their_neighbours_as_once():
    sources, camera = [source(one) for one in ROW], eye(0.06, 0.05)
    once = told(PhotoQueries(sources, PhotoConfig(count=8)), camera)
    twice = told(PhotoQueries(sources + sources, PhotoConfig(count=16)), camera)
    seen = once[..., 3] > 0.5
    assert (twice[..., 3] > 0.5)[seen].float().mean() > 0.99
    assert (residual(once) - residual(twice))[seen].abs().mean() < 2e-3


def test_leaving_none_out_again_gives_all_photos_back():
    queries = PhotoQueries([source(one) for one in ROW])
    before = told(queries, ROW[4])
    left = queries.without(4)
    assert torch.equal(told(queries, ROW[4]), before), "it is other queries that leave a photo out"
    assert not torch.equal(told(left, ROW[4]), before)
    assert torch.equal(told(left.without(None), ROW[4]), before)

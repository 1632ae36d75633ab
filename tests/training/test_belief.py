"""How far the head that reads photos believes them: found on photos that Gaussians have not seen."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
import torch
from photo_views import SMALL, believing, spoilt, with_strip
from torch import Tensor

from qsplat.qnn.photo_head import PhotoHead
from qsplat.qnn.photos import PhotoQueries
from qsplat.training.photo_head import ShownView, fit_belief, leave_one_out_gain, photo_queries, settle_belief


def test_the_belief_is_that_of_least_squares_over_unseen_views(views):
    """Photos that say half of what is missing are believed twice, and the network as far as it adds to that."""
    head, unseen = believing(views, 0.0), [1, 5, 9]
    half = []
    for index, view in enumerate(views):
        told = head.photos.without(index)(view.camera, view.depth)[..., :3] / head.photos.SCALE
        half.append(replace(view, photo=view.image + 2 * told) if index in unseen else view)
    gain = fit_belief(head, photo_queries(half), half, unseen)
    assert gain > 3
    everywhere, share = head.belief.tolist()
    assert share == 0
    assert 1 < everywhere < 3


def test_the_belief_decides_the_residual(views):
    head, camera = believing(views, 0.4), views[0].camera
    channels = head.photos.without(0)(camera, views[0].depth)
    signal, queries = views[0].image.permute(2, 0, 1)[None], channels.permute(2, 0, 1)[None]
    for belief, expected in (((0.0, 1.0), 0.4), ((0.7, 0.0), 0.7), ((0.7, 0.5), 0.9)):
        head.belief.copy_(torch.tensor(belief))
        told = queries[:, :3] / head.photos.SCALE
        torch.testing.assert_close(head(signal, queries), expected * told, rtol=1e-4, atol=1e-6)


def test_photos_that_are_wrong_everywhere_are_not_believed(views):
    head = believing(views, 1.0)
    wrong = []
    for index, view in enumerate(views):
        told = head.photos.without(index)(view.camera, view.depth)[..., :3] / head.photos.SCALE
        wrong.append(replace(view, photo=view.image - told) if index in (2, 8) else view)
    assert fit_belief(head, photo_queries(wrong), wrong, [2, 8]) == pytest.approx(0, abs=0.3)
    assert head.belief.tolist() == [0, 0]


@pytest.mark.parametrize("poison", [math.nan, 1e6])
def test_the_belief_of_a_view_does_not_come_from_its_own_photo_as_a_source(views, poison):
    """What a view reads: its photo is what it is judged by, and that alone."""
    head, read, forward = believing(views, 1.0), [], PhotoHead.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PhotoHead, "forward", lambda self, signal, queries: read.append(queries) or forward(self, signal, queries)
        )
        for photos in (views, spoilt(views, 3, poison)):
            fit_belief(head, photo_queries(photos), photos, [3])
    half = len(read) // 2
    assert half > 0
    assert all(torch.equal(one, other) for one, other in zip(read[:half], read[half:], strict=True))


def test_masked_views_count_where_they_count(views):
    masked, poisoned = with_strip(views, 0.5), with_strip(views, 0.0)
    beliefs = []
    for photos in (masked, poisoned):
        head = believing(photos, 0.5)
        fit_belief(head, photo_queries(photos), photos, [2, 7])
        beliefs.append(head.belief.tolist())
    assert beliefs[0] == beliefs[1]


def test_unseen_views_of_which_no_pixel_counts_decide_nothing(views):
    hidden = torch.zeros(36, 48, dtype=torch.bool)
    some = [replace(view, mask=hidden) if index in (2, 7) else view for index, view in enumerate(views)]
    head = believing(some, 0.5)
    gain = settle_belief(head, some, [2, 7], lambda: (photo_queries(some), some))
    assert gain == leave_one_out_gain(head, some)
    assert head.belief.tolist() == [0, 1]
    settle_belief(head, views, [2, 7], lambda: (photo_queries(views), views))
    assert head.belief.tolist() != [0, 1]


def residuals(views: Sequence[ShownView], head: PhotoHead, index: int) -> tuple[Tensor, Tensor]:
    """What the photos say a view lacks, and the share of it that the network of ``head`` believes."""
    channels = photo_queries(views).without(index)(views[index].camera, views[index].depth)
    signal, queries = views[index].image.permute(2, 0, 1)[None], channels.permute(2, 0, 1)[None]
    return channels[..., :3] / PhotoQueries.SCALE, head(signal, queries)[0].permute(1, 2, 0).detach()


def test_both_parts_of_the_belief_are_found(views):
    torch.manual_seed(5)
    head, unseen = PhotoHead(SMALL).requires_grad_(False), [1, 5, 9]
    cast(Tensor, head.stages[-1].weight).normal_(std=0.3)
    made = list(views)
    for index in unseen:
        everywhere, network = residuals(views, head, index)
        made[index] = replace(views[index], photo=views[index].image + 0.8 * everywhere + 0.5 * network)
    assert fit_belief(head, photo_queries(views), made, unseen) > 20
    torch.testing.assert_close(head.belief, torch.tensor([0.8, 0.5]), rtol=1e-3, atol=1e-3)


def test_views_count_relative_to_their_errors_and_are_judged_by_the_others(views):
    """One view lacks all that the photos say, another a fifth of it."""
    head, unseen, made = believing(views, 0.0), [1, 6], list(views)
    for index, share in zip(unseen, (1.0, 0.2), strict=True):
        dark = 0.5 * views[index].image
        made[index] = replace(views[index], image=dark, photo=dark + share * residuals(views, head, index)[0])
    gain = fit_belief(head, photo_queries(views), made, unseen)
    assert head.belief.tolist() == pytest.approx([(1 / 1 + 1 / 0.2) / (1 / 1 + 1 / 0.2**2), 0], abs=1e-3)
    assert gain == pytest.approx(-10 * (math.log10(0.8**2) + math.log10(0.8**2 / 0.2**2)) / 2, abs=0.2)

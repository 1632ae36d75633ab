"""Several sets of Gaussians and a head that reads photos: trained without looking at the answer, kept if it helps."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from photo_views import SMALL, believe, believing, miscoloured, photo_of, spoilt, two_miscoloured, with_strip
from torch import Tensor

from qsplat.gaussians import Gaussians
from qsplat.io.scene import View
from qsplat.qnn import QnnConfig
from qsplat.qnn.photo_head import PhotoHead
from qsplat.render import rasterize
from qsplat.training import plus
from qsplat.training.fit import FitConfig, fit
from qsplat.training.photo_head import (
    PhotoHeadTraining,
    leave_one_out_gain,
    photo_queries,
    settle_belief,
    train_photo_head,
)
from qsplat.training.plus import PlusConfig, finish_plus, fit_plus, told_and_taught
from qsplat.training.plus_model import PlusModel
from qsplat.training.schedule import Schedule
from qsplat.training.targets import averaged
from qsplat.training.training import Training
from qsplat.training.unseen import Witness, given_back, unseen_photos, without_unseen

BASE = FitConfig(schedule=Schedule(20, sh_degree=1), head=None, densification=None)
SHORT = PlusConfig(base=BASE, head=SMALL, head_steps=10)


def psnr(model: PlusModel, views: Sequence[View]) -> float:
    errors = [(model.render(view.camera).rgb.clamp(0, 1) - photo_of(model, view)).square().mean() for view in views]
    return float(-10 * torch.log10(torch.stack(errors).mean()))


def same(first: Gaussians, second: Gaussians) -> bool:
    return all(torch.equal(value, getattr(second, name)) for name, value in vars(first).items())


@pytest.mark.parametrize("poison", [math.nan, 1e6])
def test_no_training_step_lets_a_view_read_its_own_photo(views, poison, monkeypatch):
    read = []
    forward = PhotoHead.forward

    def watched(self: PhotoHead, signal: Tensor, queries: Tensor | None) -> Tensor:
        read.append(queries)
        return forward(self, signal, queries)

    monkeypatch.setattr(PhotoHead, "forward", watched)
    for index in (0, 5, 11):
        for photos in (views, spoilt(views, index, poison)):
            head = believing(photos, 1.0).requires_grad_()
            PhotoHeadTraining(head, photos, steps=9, crop_share=0.3, seed=1).step(0, index)
        assert torch.equal(*read[-2:])
        assert bool(read[-1].isfinite().all())
        assert read[-1][:, 3].max() > 0.1, "other photos are read"


def test_the_gain_of_a_view_does_not_come_from_its_own_photo(views):
    """The gain of one view alone, because no pixel of the others counts."""
    index, hidden = 4, torch.zeros(36, 48, dtype=torch.bool)
    alone = [view if position == index else replace(view, mask=hidden) for position, view in enumerate(views)]
    expected = leave_one_out_gain(believing(views, 1.0), alone)
    assert expected != 0
    for poison in (math.nan, 1e6):
        assert leave_one_out_gain(believing(spoilt(views, index, poison), 1.0), alone) == expected
        others = leave_one_out_gain(believing(spoilt(views, index + 1, poison), 1.0), alone)
        assert others != expected, "the photos of other views are read"


def test_masked_pixels_of_a_photo_are_never_read(views):
    masked, spoilt = with_strip(views, 0.5), with_strip(views, math.nan)
    for view in (masked[0], masked[3]):
        channels = [photo_queries(photos)(view.camera, view.depth) for photos in (masked, spoilt)]
        assert torch.equal(*channels)
        assert channels[0][..., 3].max() > 0.1
    assert masked[0].source.alpha[:, 20:30].max() == 0
    assert torch.equal(masked[0].source.alpha[:, :20], views[0].alpha[:, :20])


def test_masked_pixels_of_a_view_are_not_learnt(views):
    losses = []
    for value in (0.5, 0.0):
        photos = with_strip(views, value)
        head = believing(photos, 0.1).requires_grad_()
        losses.append(PhotoHeadTraining(head, photos, steps=9, crop_share=1.0, seed=1).step(0, 2))
    assert torch.equal(*losses)


def test_the_gain_is_that_of_the_mean_of_the_views(views):
    """Against the definition: believing more than what the others lack, beyond what an image can show."""
    half = torch.zeros(36, 48, dtype=torch.bool)
    half[:, :24] = True
    some = [replace(views[0], mask=half), *views[1:]]
    head = believing(some, 4.0)
    gains = []
    for index, view in enumerate(some):
        channels = head.photos.without(index)(view.camera, view.depth)
        corrected = (view.image + 4 * channels[..., :3] / head.photos.SCALE).clamp(0, 1)
        counts = torch.ones_like(half) if view.mask is None else view.mask
        before, after = ((one - view.photo)[counts].square().mean() for one in (view.image.clamp(0, 1), corrected))
        gains.append(10 * torch.log10(before / after))
    assert leave_one_out_gain(head, some) == pytest.approx(float(torch.stack(gains).mean()), abs=1e-4)
    assert leave_one_out_gain(believing(some, 0.0), some) == 0
    few = leave_one_out_gain(head, some, [7, 0])
    assert few == pytest.approx(float(gains[7] + gains[0]) / 2, abs=1e-4)


def test_views_of_which_no_pixel_counts_have_no_gain(views):
    hidden = torch.zeros(36, 48, dtype=torch.bool)
    nothing = [replace(view, mask=hidden) for view in views[:3]]
    assert leave_one_out_gain(believing(nothing, 1.0), nothing) == 0
    some = [*views[:3], nothing[0]]
    assert math.isfinite(leave_one_out_gain(believing(some, 1.0), some))


def test_the_head_raises_held_out_views_where_the_photos_know_better(truth, capture):
    """Gaussians whose colours are wrong: 50 steps gain 3 dB."""
    model = PlusModel((miscoloured(truth),))
    config = PlusConfig(base=BASE, head=replace(SMALL, channels=16), head_steps=50)
    fitted = finish_plus(model, capture, config, began=0.0)
    assert fitted.model.head is not None
    assert not any(parameter.requires_grad for parameter in fitted.model.head.parameters())
    assert fitted.leave_one_out > 2
    assert psnr(fitted.model, capture.test) > psnr(model, capture.test) + 2.5


def test_training_lowers_the_loss_of_crops(views):
    head = PhotoHead(SMALL)
    head.photos = photo_queries(views)
    training = PhotoHeadTraining(head, views, steps=40, crop_share=1.0, seed=0)
    losses = [float(training.step(step, step % 2)) for step in range(40)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_every_view_comes_once_in_an_epoch(views, monkeypatch):
    seen = []
    monkeypatch.setattr(PhotoHeadTraining, "step", lambda self, step, index, **_: seen.append((step, index)))
    head, done = PhotoHead(SMALL), []
    head.photos = photo_queries(views)
    train_photo_head(head, views, steps=30, crop_share=0.3, on_step=done.append)
    assert [step for step, _ in seen] == done == list(range(30))
    order = [index for _, index in seen]
    assert sorted(order[:12]) == sorted(order[12:24]) == list(range(12))
    assert order[:12] != order[12:24]


def test_photos_of_other_views_are_no_photos_of_these(views):
    head = PhotoHead(SMALL)
    with pytest.raises(AssertionError):
        PhotoHeadTraining(head, views, steps=1, crop_share=0.3, seed=0)
    with pytest.raises(AssertionError):
        leave_one_out_gain(head, views)


def test_a_head_that_makes_views_worse_is_left_out(truth, capture, monkeypatch):
    monkeypatch.setattr(plus, "train_photo_head", lambda head, views, **_: believe(head, -1.0))
    model = PlusModel((miscoloured(truth),))
    fitted = finish_plus(model, capture, SHORT, began=0.0)
    assert fitted.leave_one_out < -1
    assert fitted.model.head is None
    camera = capture.test[0].camera
    assert torch.equal(fitted.model.render(camera).rgb, model.render(camera).rgb)


def test_a_head_learns_from_photos_as_they_were_taken_and_asks_those_that_are_kept(truth, capture, monkeypatch):
    """Kept photos of half the size, darkened: heads, beliefs and judges see the ones that were taken; whoever asks, the
    kept ones."""
    model, asked, taught = two_miscoloured(truth), [], []
    witness = Witness(miscoloured(truth, 2), (1, 3, 5))

    def noted(head, views, **named):
        asked.append(head.photos)
        taught.append(views)
        train_photo_head(head, views, **named)

    def settled(head, views, unseen, testimony, chosen):
        photos, seen = testimony()
        asked.append(photos)
        taught.extend([views, seen])
        return settle_belief(head, views, unseen, testimony, chosen) + 1

    kept = []
    for view in capture.train:
        camera = view.camera.resized(view.camera.width // 2, view.camera.height // 2)
        small = averaged(photo_of(model, view), camera.height, camera.width)
        kept.append(replace(view, camera=camera, image=small / 2, alpha=None, mask=None))
    monkeypatch.setattr(plus, "train_photo_head", noted)
    monkeypatch.setattr(plus, "settle_belief", settled)
    fitted = finish_plus(model, capture, SHORT, began=0.0, kept=kept, witness=witness)
    assert len(taught) == 3
    for shown in taught:
        for view, photo in zip(shown, capture.train, strict=True):
            size = photo.camera.height // 2, photo.camera.width // 2
            torch.testing.assert_close(view.photo, averaged(photo_of(model, photo), *size))
    camera, depth = taught[0][0].camera, taught[0][0].depth
    cameras = [view.camera for view in capture.train]
    alone = replace(model, sets=(witness.gaussians,))
    for photos, sets in zip(asked, (model, alone), strict=True):
        assert torch.equal(photos(camera, depth), photo_queries(sets.shown(kept, cameras=cameras))(camera, depth))
    assert fitted.model.head is not None
    assert fitted.model.weights is not None
    expected = model.asking(fitted.model.head, model.shown(kept, cameras=cameras))
    assert torch.equal(fitted.model.render(camera).rgb, expected.render(camera).rgb)
    told, seen = told_and_taught(model, capture.train, None, SHORT)
    assert told is seen


@pytest.mark.parametrize(("gain", "kept"), [(0.002, False), (0.02, True)])
def test_a_gain_within_noise_is_no_help(truth, capture, monkeypatch, gain, kept):
    monkeypatch.setattr(plus, "settle_belief", lambda *_: gain)
    fitted = finish_plus(PlusModel((miscoloured(truth),)), capture, SHORT, began=0.0)
    assert fitted.leave_one_out == gain
    assert (fitted.model.head is not None) is kept


def test_a_single_photo_leaves_nothing_to_learn_from(truth, capture):
    fitted = finish_plus(PlusModel((miscoloured(truth),)), replace(capture, train=capture.train[:1]), SHORT, began=0.0)
    assert fitted.leave_one_out == 0
    assert fitted.model.head is None


@pytest.mark.parametrize("sizes", [[(48, 36), (31, 50)], [(8, 6), (48, 36)]])
def test_photos_may_be_of_different_sizes(truth, capture, sizes):
    photos = []
    for index, view in enumerate(capture.train[:4]):
        camera = view.camera.resized(*sizes[index % 2])
        drawn = rasterize(truth.activate(), camera)
        photos.append(View(view.name, camera, drawn.color.clamp(0, 1), drawn.alpha))
    fitted = finish_plus(PlusModel((miscoloured(truth),)), replace(capture, train=tuple(photos)), SHORT, began=0.0)
    assert math.isfinite(fitted.leave_one_out)


def test_a_run_trains_sets_from_seeds_of_their_own_and_then_the_head(capture):
    config, records = replace(SHORT, base=replace(BASE, seed=3), unseen=3), []
    fitted = fit_plus(capture, config, on_step=records.append)
    assert [record.step for record in records] == 2 * list(range(20))
    unseen = unseen_photos(len(capture.train), 3)
    assert len(unseen) == 4
    first, last = (replace(BASE, seed=seed) for seed in (3, 1003))
    assert same(fitted.model.sets[0], fit(capture, first).model.gaussians)
    training = Training(without_unseen(capture, unseen), last)
    training.advance(given_back(20))
    training = training.fork(last, scene=capture)
    training.advance()
    assert same(fitted.model.sets[1], training.model().gaussians)
    assert not same(*fitted.model.sets)
    assert fitted.seconds > 0
    assert math.isfinite(fitted.leave_one_out)
    head = fitted.model.head
    assert head is None or len(head.photos.cameras) == len(capture.train)


@pytest.mark.parametrize(
    ("count", "every", "expected"),
    [(43, 8, (4, 12, 21, 30, 38)), (31, 8, ()), (100, 0, ()), (8, 2, (1, 3, 5, 7))],
)
def test_unseen_photos_are_evenly_spread_and_not_too_few(count, every, expected):
    assert unseen_photos(count, every) == expected
    assert unseen_photos(count, every, sets=1) == ()


def test_the_witness_has_not_seen_the_photos_that_the_belief_comes_from(capture, monkeypatch):
    """Poison in one of them reaches all sets, the last one in its last steps, but not the witness, whose images the
    belief is fitted to."""
    index, asked, told = unseen_photos(len(capture.train), 3)[1], [], []
    photos = list(capture.train)
    photos[index] = replace(photos[index], image=1 - photos[index].image)

    def noted(*arguments, witness, **named):
        asked.append(witness)
        return finish_plus(*arguments, witness=witness, **named)

    def settled(head, views, unseen, testimony, chosen):
        told.append(testimony()[1])
        return settle_belief(head, views, unseen, testimony, chosen)

    monkeypatch.setattr("qsplat.training.plus.finish_plus", noted)
    monkeypatch.setattr("qsplat.training.plus.settle_belief", settled)
    clean, poisoned = (
        fit_plus(scene, replace(SHORT, base=replace(BASE, schedule=Schedule(120, sh_degree=1)), sets=3, unseen=3))
        for scene in (capture, replace(capture, train=tuple(photos)))
    )
    assert [witness.unseen for witness in asked] == 2 * [unseen_photos(len(capture.train), 3)]
    assert same(*(witness.gaussians for witness in asked))
    for one, other in zip(clean.model.sets, poisoned.model.sets, strict=True):
        assert not same(one, other)
    assert not same(asked[0].gaussians, clean.model.sets[-1])
    expected = PlusModel((asked[0].gaussians,), background=clean.model.background).shown(capture.train)
    assert all(torch.equal(one.image, other.image) for one, other in zip(told[0], expected, strict=True))


@pytest.mark.parametrize("unseen", [-1, 1])
def test_a_run_in_which_no_photo_is_seen_is_refused(unseen):
    with pytest.raises(ValueError, match=f"unseen={unseen}"):
        PlusConfig(unseen=unseen)


def test_the_head_of_the_base_is_left_out(capture):
    plain = fit_plus(capture, replace(SHORT, sets=1))
    headed = fit_plus(capture, replace(SHORT, sets=1, base=replace(BASE, head=QnnConfig())))
    assert same(plain.model.sets[0], headed.model.sets[0])


def test_the_same_seed_gives_the_same_bits(truth, capture):
    camera, model = capture.test[0].camera, PlusModel((miscoloured(truth),))
    runs = []
    for callers in (11, 12):
        torch.manual_seed(callers)
        state = torch.get_rng_state()
        runs.append(finish_plus(model, capture, SHORT, began=0.0))
        assert torch.equal(torch.get_rng_state(), state), "the caller's random state is left as it was"
    first, second = runs
    other = finish_plus(model, capture, replace(SHORT, base=replace(BASE, seed=1)), began=0.0)
    assert first.model.head is not None
    assert first.leave_one_out == second.leave_one_out != other.leave_one_out
    assert torch.equal(first.model.render(camera).rgb, second.model.render(camera).rgb)


def test_a_scene_without_training_views_is_refused(capture):
    with pytest.raises(ValueError, match="0 training views"):
        fit_plus(replace(capture, train=()), SHORT)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sets": 0}, "sets=0"),
        ({"head_steps": 0}, "head_steps=0"),
        ({"crop_share": 0.0}, "crop_share=0.0"),
        ({"crop_share": 1.5}, "crop_share=1.5"),
        ({"crop_share": math.nan}, "crop_share=nan"),
        ({"head": QnnConfig(input="render")}, "input='render'"),
        ({"head": QnnConfig(query="rays")}, "query='rays'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, said):
    with pytest.raises(ValueError, match=said) as refusal:
        PlusConfig(**values)
    assert "\n" not in str(refusal.value)

"""A training can be stopped, gone on with, forked, and written to a file."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qsplat.io.tensors import load_tensors, save_tensors
from qsplat.qnn import QnnConfig
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.fit import FitConfig, fit
from qsplat.training.model import SplatModel
from qsplat.training.schedule import Schedule
from qsplat.training.state import STATE_FORMAT, TrainingState
from qsplat.training.training import StepRecord, Training

SMALL = QnnConfig(channels=8)
DEFAULT = FitConfig(
    schedule=Schedule(155, head_share=0.6), densification=DefaultDensification(max_gaussians=90), head=SMALL
)
MCMC = replace(DEFAULT, densification=McmcDensification(max_gaussians=90, with_head=True), random_background=True)
WITHOUT = FitConfig(schedule=Schedule(40, head_share=0.5), head=None, densification=None)
AVERAGED = replace(WITHOUT, average_share=0.5)


def same(first: SplatModel, second: SplatModel) -> bool:
    ours, theirs = (vars(model.gaussians) for model in (first, second))
    heads = [model.head.state_dict() if model.head else {} for model in (first, second)]
    return all(torch.equal(ours[name], theirs[name]) for name in ours) and all(
        torch.equal(heads[0][name], heads[1][name]) for name in {**heads[0], **heads[1]}
    )


def through_a_file(training: Training, config: FitConfig, path) -> Training:
    state = training.state()
    save_tensors(path, state.tensors, state.facts, format=STATE_FORMAT)
    contents = load_tensors(path, format=STATE_FORMAT)
    return Training(training.scene, config, state=TrainingState(contents.tensors, contents.facts))


def photos_seen(training: Training, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The cameras that the rest of ``training`` renders, in their order."""
    seen, corrected = [], SplatModel.corrected

    def recorded(model, drawn, camera, **options):
        seen.append(tuple(camera.center.tolist()))
        return corrected(model, drawn, camera, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SplatModel, "corrected", recorded)
        training.advance()
    return seen


@pytest.mark.parametrize(("config", "share"), [(DEFAULT, 0.9), (MCMC, 0.3), (WITHOUT, 0.7), (AVERAGED, 0.8)])
def test_a_training_in_parts_or_through_a_file_is_that_in_one_piece(capture, config, share, tmp_path):
    whole = fit(capture, config)
    parts = Training(capture, config)
    parts.advance(round(share * config.schedule.iterations))
    resumed = through_a_file(parts, config, tmp_path / "state.safetensors")
    for training in (parts, resumed):
        training.advance()
        assert same(training.model(), whole.model)
        assert [record.loss for record in training.history] == [record.loss for record in whole.history]


@pytest.mark.parametrize(("config", "step"), [(DEFAULT, 30), (MCMC, 130)])
def test_forks_of_one_configuration_give_the_same_bits_and_leave_the_original_alone(capture, config, step):
    training = Training(capture, config)
    training.advance(step)
    before = training.model()
    forks = [training.fork(config) for _ in range(2)]
    for fork in forks:
        fork.advance()
    assert same(forks[0].model(), forks[1].model())
    assert training.step == step
    assert same(training.model(), before)
    training.advance()
    assert same(training.model(), fit(capture, config).model)


def test_forks_with_and_without_a_head_see_the_photos_in_the_same_order(capture, monkeypatch):
    training = Training(capture, replace(MCMC, head=None))
    training.advance(40)
    others = [
        replace(MCMC, head=None),
        MCMC,
        DEFAULT,
        replace(MCMC, head=QnnConfig(layers=2), densification=McmcDensification(max_gaussians=200)),
    ]
    orders = [photos_seen(training.fork(other), monkeypatch) for other in others]
    assert len(set(orders[0])) == len(capture.train)
    assert all(order == orders[0] for order in orders)


def test_a_fork_gets_another_head_and_another_length(capture):
    training = Training(capture, WITHOUT)
    training.advance(20)
    fork = training.fork(replace(WITHOUT, head=SMALL, schedule=Schedule(60, head_share=0.5)))
    fork.advance()
    model = fork.model()
    assert fork.step == 60
    assert [record.phase for record in fork.history if record.step >= 20] == ["splatting"] * 10 + ["joint"] * 30
    assert model.head is not None
    assert model.head.stages[-1].weight.abs().max() > 0


def test_a_head_of_the_same_configuration_goes_on_and_another_begins_anew(capture):
    training = Training(capture, replace(WITHOUT, head=SMALL))
    training.advance(30)
    kept, new = (training.fork(replace(WITHOUT, head=head)).model().head for head in (SMALL, QnnConfig()))
    assert torch.equal(kept.stages[-1].weight, training.model().head.stages[-1].weight)
    assert not new.stages[-1].weight.any()


def test_another_seed_draws_everything_anew(capture, monkeypatch):
    training = Training(capture, DEFAULT)
    training.advance(20)
    first, second = (training.fork(replace(DEFAULT, seed=seed)) for seed in (0, 1))
    assert same(first.model(), replace(second.model(), head=first.model().head))
    assert photos_seen(first, monkeypatch) != photos_seen(second, monkeypatch)


def test_a_model_is_a_copy(capture):
    training = Training(capture, replace(WITHOUT, head=SMALL))
    training.advance(25)
    early = training.model()
    kept = early.gaussians.means.clone(), early.head.stages[-1].weight.clone()
    training.advance()
    assert torch.equal(early.gaussians.means, kept[0])
    assert torch.equal(early.head.stages[-1].weight, kept[1])
    assert training.model().head.stages[-1].weight.ne(kept[1]).any()


def test_the_callers_random_state_is_left_alone_and_does_not_matter(capture):
    def interrupted(disturb: Callable[[], object]) -> Training:
        training = Training(capture, MCMC)
        training.advance(60)
        disturb()
        training.advance()
        return training

    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = interrupted(lambda: None)
    assert torch.equal(torch.rand(3), expected)
    assert same(first.model(), interrupted(lambda: torch.rand(100)).model())


def test_an_interrupted_training_can_go_on(capture):
    def stop(record: StepRecord) -> None:
        if record.step == 12:
            raise KeyboardInterrupt

    training = Training(capture, WITHOUT)
    with pytest.raises(KeyboardInterrupt):
        training.advance(on_step=stop)
    assert training.step == 13
    training.advance()
    assert same(training.model(), fit(capture, WITHOUT).model)


def test_the_time_between_two_parts_does_not_count(capture, monkeypatch):
    training = Training(capture, WITHOUT)
    training.advance(5)
    spent = training.seconds
    clock = iter([1000.0, *(1000.0 + 0.5 * tick for tick in range(1, 100))])
    monkeypatch.setattr("qsplat.training.training.time.perf_counter", lambda: next(clock))
    training.advance(7)
    assert training.seconds == pytest.approx(spent + 0.5 * 3)
    assert training.history[-1].seconds == pytest.approx(spent + 0.5 * 2)


@pytest.mark.parametrize("until", [3, 41])
def test_steps_behind_or_beyond_the_end_are_refused(capture, until):
    training = Training(capture, WITHOUT)
    training.advance(4)
    with pytest.raises(ValueError, match=f"until={until}: the training stands at step 4 of 40"):
        training.advance(until)


def test_a_state_of_another_scene_or_a_longer_training_is_refused(capture):
    training = Training(capture, WITHOUT)
    training.advance(10)
    with pytest.raises(ValueError, match="12 views, the scene has 11"):
        Training(replace(capture, train=capture.train[1:]), WITHOUT, state=training.state())
    with pytest.raises(ValueError, match="iterations=9: the training stands at step 10"):
        training.fork(replace(WITHOUT, schedule=Schedule(9)))

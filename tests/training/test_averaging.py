"""The mean of the Gaussians over the last steps takes their place, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from torch.nn import Parameter, ParameterDict

from qsplat.qnn import QnnConfig
from qsplat.training.adam import Adam
from qsplat.training.averaging import EVERY, Averager
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.fit import FitConfig, fit
from qsplat.training.parameters import parameters_of
from qsplat.training.plus import PlusConfig, fit_plus
from qsplat.training.schedule import Schedule
from qsplat.training.training import Training

PLAIN = FitConfig(schedule=Schedule(60), head=None, densification=None)
AVERAGED = replace(PLAIN, average_share=0.5)


def walked(share: float, iterations: int) -> tuple[list[float], float]:
    """Where a random walk stands after each step, and where its parameter is in the end."""
    generator, places = torch.Generator().manual_seed(3), []
    parameters = ParameterDict({"x": Parameter(torch.zeros(1, dtype=torch.float64))})
    averager = Averager(share, Schedule(iterations, head_share=1.0))
    for step in range(iterations):
        with torch.no_grad():
            parameters["x"] += torch.randn(1, generator=generator, dtype=torch.float64)
        places.append(float(parameters["x"].detach()))
        averager.after_step(parameters, step=step)
    assert averager.state == {}
    return places, float(parameters["x"].detach())


@pytest.mark.parametrize(("share", "iterations"), [(0.5, 100), (0.1, 1000), (1.0, 35)])
def test_it_is_the_mean_of_every_tenth_step_back_from_the_last(share, iterations):
    places, end = walked(share, iterations)
    last = round(share * iterations)
    addends = places[::-1][:last:EVERY]
    assert len(addends) == -(-last // EVERY)
    assert end == pytest.approx(sum(addends) / len(addends), abs=1e-9)
    assert abs(end - places[-1]) > 1e-3


@pytest.mark.parametrize(("share", "iterations"), [(0.0, 100), (0.1, 4)])
def test_without_a_share_or_a_step_in_it_nothing_is_averaged(share, iterations):
    places, end = walked(share, iterations)
    assert end == places[-1]


def test_a_training_takes_the_same_steps_and_ends_in_their_mean(capture):
    training, states = Training(capture, PLAIN), []
    while training.step < 60:
        training.advance(training.step + 1)
        states.append(parameters_of(training.model().gaussians))
    averaged = fit(capture, AVERAGED)
    mean = parameters_of(averaged.model.gaussians)
    assert [record.loss for record in averaged.history] == [record.loss for record in training.history]
    for name, value in mean.items():
        expected = torch.stack([state[name] for state in states[39::10]]).mean(0)
        torch.testing.assert_close(value, expected)
        assert not torch.equal(value, states[-1][name]) or name == "features_rest"


def test_it_is_nearer_to_what_noisy_steps_move_around():
    """Adam at a constant rate, with gradients of as many photos that each say something else."""
    generator, best = torch.Generator().manual_seed(4), torch.linspace(-1, 1, 50)
    distances = []
    for share in (0.0, 0.5):
        parameters = ParameterDict({"x": Parameter(best.clone())})
        optimizer, averager = Adam(parameters.values(), lr=1e-2), Averager(share, Schedule(600, head_share=1.0))
        for step in range(600):
            said = best + torch.randn(50, generator=generator)
            (parameters["x"] - said).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            averager.after_step(parameters, step=step)
        distances.append(float((parameters["x"].detach() - best).square().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_a_head_on_frozen_gaussians_learns_on_their_mean(capture):
    plan = Schedule(40, head_share=0.5, mode="frozen")
    config = replace(AVERAGED, schedule=plan, head=QnnConfig(channels=8), average_share=0.25)
    training = Training(capture, config)
    training.advance(19)
    before = training.model().gaussians
    training.advance(20)
    switched_on = training.model().gaussians
    training.advance()
    end = training.model().gaussians
    assert not torch.equal(before.sh_dc, switched_on.sh_dc)
    assert torch.equal(switched_on.sh_dc, end.sh_dc)


def test_each_set_of_qsplat_plus_is_averaged(capture):
    small = QnnConfig(channels=8, precision="fp32", activation="leaky_relu")
    both = fit_plus(capture, PlusConfig(base=AVERAGED, head=small, head_steps=2, unseen=0)).model
    assert torch.equal(both.sets[0].means, fit(capture, AVERAGED).model.gaussians.means)
    second = fit(capture, replace(AVERAGED, seed=1000)).model.gaussians
    assert torch.equal(both.sets[1].means, second.means)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=f"average_share={share}: give a share"):
        FitConfig(average_share=share)


@pytest.mark.parametrize(
    ("densification", "share", "words"),
    [(DefaultDensification(), 0.6, "up to iteration 1000"), (McmcDensification(), 0.3, "up to iteration 1500")],
)
def test_gaussians_that_are_still_added_and_removed_are_not_averaged(densification, share, words):
    FitConfig(densification=densification, average_share=0.25)
    FitConfig(densification=None, average_share=share)
    with pytest.raises(ValueError, match=f"{words}, and their mean would begin at .*; give a smaller share"):
        FitConfig(densification=densification, average_share=share)


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_fork_under_another_plan_forgets_the_mean(capture, share):
    """Of another number of Gaussians, too."""
    training = Training(capture, AVERAGED)
    training.advance(50)
    config = replace(PLAIN, schedule=Schedule(400), densification=DefaultDensification(start=0.2), average_share=share)
    fork = training.fork(config)
    fork.advance(51)
    assert not [name for name in fork.state().tensors if name.startswith("average.")]
    fork.advance()

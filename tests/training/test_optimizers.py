"""Learning rates and the optimisers that follow them."""

import pytest
import torch

from qsplat.training.optimizers import RATES, gaussian_optimizers, optimizer_for, set_rates
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.schedule import Schedule


def test_every_parameter_has_a_rate_and_an_optimizer_of_its_own(truth):
    parameters = parameters_of(truth)
    optimizers = gaussian_optimizers(parameters)
    assert set(optimizers) == set(parameters) == set(RATES) - {"qnn"}
    for name, optimizer in optimizers.items():
        assert optimizer.param_groups[0]["params"] == [parameters[name]]
        assert optimizer.param_groups[0]["eps"] == 1e-15


def test_parameters_have_the_usual_shapes_and_lead_back_to_the_gaussians(truth):
    parameters = parameters_of(truth)
    shapes = {name: tuple(value.shape[1:]) for name, value in parameters.items()}
    assert shapes == {
        "means": (3,),
        "scales": (3,),
        "quats": (4,),
        "features_dc": (3,),
        "features_rest": (3, 3),
        "opacities": (1,),
    }
    back = gaussians_of(parameters)
    assert torch.equal(back.opacity_logits, truth.opacity_logits)
    assert torch.equal(back.sh_rest, truth.sh_rest)
    back.log_scales.sum().backward()
    assert torch.equal(parameters["scales"].grad, torch.ones_like(truth.log_scales))


def test_the_rate_of_the_means_falls_a_hundredfold():
    schedule = Schedule(1000)
    rates = [RATES["means"].at(step, schedule) for step in (0, 500, 1000, 5000)]
    assert rates == pytest.approx([1.6e-4, 1.6e-5, 1.6e-6, 1.6e-6])


@pytest.mark.parametrize(
    ("mode", "last"), [("joint", 1.6e-4 * 0.01**0.75), ("detached", 1.6e-4 * 0.01**0.75), ("frozen", 1.6e-6)]
)
def test_gaussians_that_will_be_frozen_are_finished_by_then(mode, last):
    schedule = Schedule(1000, head_share=0.75, mode=mode)
    assert RATES["means"].at(750, schedule) == pytest.approx(last)
    assert RATES["means"].at(375, Schedule(1000, head_share=0.75, mode="frozen")) == pytest.approx(1.6e-5)
    assert RATES["means"].at(0, Schedule(1000, head_share=0.0, mode=mode)) == 1.6e-4


def test_the_rate_of_the_head_is_a_cosine_from_its_switch_on():
    schedule = Schedule(1000, head_share=0.75)
    rates = [RATES["qnn"].at(step, schedule) for step in (0, 750, 875, 1000)]
    assert rates == pytest.approx([3e-4, 3e-4, 1.5e-4, 0.0])


def test_rates_are_handed_to_the_optimizers(truth):
    parameters = parameters_of(truth)
    optimizers = {**gaussian_optimizers(parameters), "qnn": optimizer_for("qnn", torch.nn.Linear(2, 2).parameters())}
    set_rates(optimizers, 900, Schedule(1000))
    for name, optimizer in optimizers.items():
        assert optimizer.param_groups[0]["lr"] == RATES[name].at(900, Schedule(1000))


@pytest.mark.parametrize(("decay", "last"), [("cosine", 0.0), ("constant", 2e-3)])
def test_the_schedule_says_the_rate_of_the_head(decay, last):
    optimizers = {"qnn": optimizer_for("qnn", torch.nn.Linear(2, 2).parameters())}
    schedule = Schedule(1000, head_rate=2e-3, head_decay=decay)
    rates = []
    for step in (750, 1000):
        set_rates(optimizers, step, schedule)
        rates.append(optimizers["qnn"].param_groups[0]["lr"])
    assert rates == pytest.approx([2e-3, last])

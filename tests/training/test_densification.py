"""Strategies at work on the CPU: growing, pruning, relocating, and keeping to the cap."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import ParameterDict
from torch.optim import Adam

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians
from qsplat.render import Trace
from qsplat.training.densification import DefaultDensification, Densifier, McmcDensification, regularization
from qsplat.training.optimizers import gaussian_optimizers
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.schedule import Schedule

CAMERA = Camera(torch.eye(4), 100.0, 100.0, 50.0, 40.0, 100, 80)


def trace_of(gradients: torch.Tensor) -> Trace:
    """A rendering in which every Gaussian was seen and has the given gradient, in half images."""
    node = torch.zeros(len(gradients), 2, requires_grad=True)
    node.grad = torch.stack([gradients / 50, torch.zeros_like(gradients)], dim=-1)
    return Trace(node=node, radii=torch.ones(len(gradients), dtype=torch.int32))


DENSIFY_WITHOUT_A_TOOLKIT = """
import sys
from qsplat.training.densification import DefaultDensification, Densifier, McmcDensification
from qsplat.training.schedule import Schedule
import qsplat.training.fit
assert not any(name.split(".")[0] == "gsplat" for name in sys.modules)
for config in (DefaultDensification(), McmcDensification()):
    Densifier(config, Schedule(100), num_views=3)
assert "gsplat.cuda._backend" not in sys.modules
"""


def test_strategies_need_neither_a_gpu_nor_its_compiler():
    without_nvcc = {**os.environ, "PATH": "/nowhere"}
    subprocess.run([sys.executable, "-c", DENSIFY_WITHOUT_A_TOOLKIT], check=True, env=without_nvcc, timeout=120)


class Run:
    """Gaussians under a densifier, with gradients given by hand instead of by images."""

    def __init__(self, gaussians: Gaussians, config, schedule: Schedule) -> None:
        self.parameters: ParameterDict = parameters_of(gaussians)
        self.optimizers: dict[str, Adam] = gaussian_optimizers(self.parameters)
        self.densifier = Densifier(config, schedule, num_views=10)

    def step(self, step: int, gradients: torch.Tensor | None = None, *, learning_rate: float = 0.0) -> None:
        for value in self.parameters.values():
            value.grad = torch.zeros_like(value)
        for optimizer in self.optimizers.values():
            optimizer.step()
        gradients = torch.zeros(len(self)) if gradients is None else gradients
        self.densifier.after_backward(
            self.parameters,
            self.optimizers,
            step=step,
            trace=trace_of(gradients),
            camera=CAMERA,
            learning_rate=learning_rate,
        )

    def until_change(self, gradients: torch.Tensor, steps: int) -> None:
        count = len(self)
        for step in range(steps):
            if len(self) != count:
                return
            self.step(step, gradients)

    def __len__(self) -> int:
        return len(self.parameters["means"])


def some(count: int, *, scale: float = 0.005, opacity: float = 0.5) -> Gaussians:
    generator = torch.Generator().manual_seed(2)
    return Gaussians(
        means=torch.rand(count, 3, generator=generator),
        log_scales=torch.full((count, 3), scale).log(),
        quats=torch.randn(count, 4, generator=generator),
        opacity_logits=torch.logit(torch.full((count,), opacity)),
        sh_dc=torch.rand(count, 3, generator=generator),
        sh_rest=torch.zeros(count, 3, 3),
    )


def moments_fit(run: Run) -> bool:
    """Whether each optimiser holds the current parameter and moments of its shape."""
    for name, optimizer in run.optimizers.items():
        (parameter,) = optimizer.param_groups[0]["params"]
        if parameter is not run.parameters[name] or optimizer.state[parameter]["exp_avg"].shape != parameter.shape:
            return False
    return True


def test_small_gaussians_with_large_gradients_are_cloned():
    run = Run(some(20), DefaultDensification(), Schedule(2000))
    gradients = torch.zeros(20)
    gradients[3] = 1e-3
    run.until_change(gradients, 500)
    assert len(run) == 21
    assert torch.equal(run.parameters["means"][20], run.parameters["means"][3])
    assert moments_fit(run)


def test_large_gaussians_with_large_gradients_are_split():
    torch.manual_seed(0)
    run = Run(some(20, scale=0.05), DefaultDensification(), Schedule(2000))
    gradients = torch.zeros(20)
    gradients[3] = 1e-3
    run.until_change(gradients, 500)
    assert len(run) == 21
    torch.testing.assert_close(run.parameters["scales"][-2:].exp(), torch.full((2, 3), 0.05 / 1.6))
    assert moments_fit(run)


def test_the_absolute_gradient_counts_where_it_is_asked_for():
    run = Run(some(20), DefaultDensification(absolute_gradient=True), Schedule(2000))
    for step in range(400):
        trace = trace_of(torch.zeros(len(run)))
        trace.node.absgrad = torch.zeros(len(run), 2)
        trace.node.absgrad[3] = 1.0
        run.densifier.after_backward(
            run.parameters, run.optimizers, step=step, trace=trace, camera=CAMERA, learning_rate=0.0
        )
        if len(run) > 20:
            break
    assert len(run) == 21


def test_faint_gaussians_are_pruned():
    gaussians = some(20)
    gaussians.opacity_logits[:5] = -9
    run = Run(gaussians, DefaultDensification(), Schedule(2000))
    run.until_change(torch.zeros(20), 500)
    assert len(run) == 15
    assert moments_fit(run)


def test_default_growth_never_passes_the_cap():
    run = Run(some(20), DefaultDensification(max_gaussians=23), Schedule(2000))
    for step in range(1100):
        run.step(step, torch.full((len(run),), 1e-3))
        assert len(run) <= 23
    assert len(run) == 23


def test_the_largest_gradients_are_served_where_there_is_little_room():
    only_one_refinement = DefaultDensification(max_gaussians=23, stop=0.08)
    run = Run(some(20), only_one_refinement, Schedule(2000))
    gradients = 1e-3 + 1e-4 * torch.randperm(20, generator=torch.Generator().manual_seed(0))
    means = run.parameters["means"].detach().clone()
    run.until_change(gradients, 500)
    assert torch.equal(run.parameters["means"][20:], means[gradients.topk(3).indices.sort().values])


def test_room_below_the_cap_is_shared_out_over_the_refinements():
    run = Run(some(20), DefaultDensification(max_gaussians=54), Schedule(2000))
    counts = []
    for step in range(1000):
        run.step(step, torch.full((len(run),), 1e-3))
        counts.append(len(run))
    grown = sorted(set(counts))
    assert grown == list(range(20, 55, 2))


def test_long_runs_reset_opacities_and_short_runs_do_not():
    for iterations, expected in [(5000, 0.01), (4000, 0.5)]:
        run = Run(some(5), DefaultDensification(), Schedule(iterations))
        for step in range(iterations // 10):
            run.step(step)
        opacities = torch.sigmoid(run.parameters["opacities"])
        torch.testing.assert_close(opacities, torch.full((5, 1), expected), rtol=1e-4, atol=0)


def test_nothing_is_densified_after_the_switch_on():
    run = Run(some(20), DefaultDensification(stop=0.9), Schedule(2000, head_share=0.25))
    for step in range(500, 2000):
        run.step(step, torch.full((20,), 1e-2))
    assert len(run) == 20


@pytest.mark.parametrize(("mode", "grows"), [("joint", True), ("detached", True), ("frozen", False)])
def test_densification_goes_on_after_the_switch_on_when_asked_and_gaussians_move(mode, grows):
    config = DefaultDensification(stop=0.9, with_head=True)
    run = Run(some(20), config, Schedule(2000, head_share=0.25, mode=mode))
    for step in range(500, 900):
        run.step(step, torch.full((len(run),), 1e-2))
    assert (len(run) > 20) == grows


def test_mcmc_adds_gaussians_up_to_the_cap():
    torch.manual_seed(0)
    run = Run(some(100), McmcDensification(max_gaussians=112), Schedule(2000))
    counts = []
    for step in range(1000):
        run.step(step)
        counts.append(len(run))
    assert counts[0] == 100
    assert 105 in counts
    assert counts[-1] == 112
    assert moments_fit(run)


def test_mcmc_moves_the_dead_onto_the_living():
    torch.manual_seed(0)
    gaussians = some(50)
    gaussians.opacity_logits[:10] = -9
    run = Run(gaussians, McmcDensification(max_gaussians=50), Schedule(2000))
    for step in range(200):
        run.step(step)
    living = {tuple(mean) for mean in gaussians.means[10:].tolist()}
    assert len(run) == 50
    assert all(tuple(mean) in living for mean in run.parameters["means"].tolist())
    assert (torch.sigmoid(run.parameters["opacities"]) > 0.005).all()
    assert moments_fit(run)


def test_mcmc_with_only_dead_gaussians_leaves_them():
    run = Run(some(10, opacity=1e-4), McmcDensification(max_gaussians=10), Schedule(2000))
    for step in range(300):
        run.step(step)
    assert torch.equal(run.parameters["means"], some(10).means)


def test_mcmc_noise_moves_faint_gaussians_along_their_long_axis():
    torch.manual_seed(0)
    gaussians = some(500, opacity=0.002)
    gaussians.quats[:] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    gaussians.log_scales[:] = torch.tensor([0.1, 0.01, 0.01]).log()
    gaussians.opacity_logits[250:] = 3.0
    run = Run(gaussians, McmcDensification(), Schedule(2000))
    run.step(0, learning_rate=1e-4)
    moved = (run.parameters["means"] - gaussians.means).detach()
    expected = 1e-4 * 5e5 * torch.sigmoid(torch.tensor(-100 * (0.002 - 0.005))) * torch.tensor([0.01, 1e-4, 1e-4])
    torch.testing.assert_close(moved[:250].std(dim=0), expected, rtol=0.2, atol=0)
    assert moved[250:].abs().max() < 1e-6


@pytest.mark.parametrize(("with_head", "moves"), [(False, False), (True, True)])
def test_mcmc_goes_on_in_the_joint_phase_only_when_asked(with_head, moves):
    gaussians = some(10, opacity=0.002)
    run = Run(gaussians, McmcDensification(with_head=with_head), Schedule(2000))
    run.step(1501, learning_rate=1e-4)
    assert (not torch.equal(run.parameters["means"], gaussians.means)) == moves


def test_mcmc_holds_opacities_and_scales_down():
    parameters = parameters_of(some(10, scale=0.2, opacity=0.6))
    term = regularization(gaussians_of(parameters), McmcDensification(opacity_weight=0.1, scale_weight=0.01))
    torch.testing.assert_close(term.detach(), torch.tensor(0.1 * 0.6 + 0.01 * 0.2))
    term.backward()
    assert (parameters["opacities"].grad > 0).all()
    assert (parameters["scales"].grad > 0).all()
    assert regularization(gaussians_of(parameters), DefaultDensification()) == 0


def test_the_times_of_long_runs_are_the_usual_ones():
    strategy = Densifier(DefaultDensification(), Schedule(30_000), num_views=100)._strategy
    assert (strategy.refine_start_iter, strategy.refine_stop_iter, strategy.refine_every) == (500, 15_000, 100)
    assert (strategy.reset_every, strategy.pause_refine_after_reset) == (3000, 200)
    mcmc = Densifier(McmcDensification(), Schedule(30_000), num_views=100)._strategy
    assert (mcmc.refine_start_iter, mcmc.refine_stop_iter, mcmc.refine_every) == (500, 25_000, 100)


@pytest.mark.parametrize("config", [DefaultDensification, McmcDensification])
def test_a_cap_of_nothing_is_refused(config):
    with pytest.raises(ValueError, match="max_gaussians=0"):
        config(max_gaussians=0)

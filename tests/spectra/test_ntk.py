"""The neural tangent kernel against explicit derivatives, closed forms, and training itself."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from qsplat.fields.mlp import Mlp
from qsplat.qnn import QNN, QnnConfig
from qsplat.spectra.ntk import LinearisedTraining, empirical_ntk, fourier_eigenvalues, relu_ntk


def small_network(outputs=1):
    torch.manual_seed(0)
    return nn.Sequential(Mlp(2, width=8, depth=3), nn.Linear(8, outputs)).double()


def points(count, dims=2, seed=0):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explicit(network, *inputs):
    """J J^T by one backward pass for each output."""
    rows = []
    for value in network(*inputs).flatten():
        derivatives = torch.autograd.grad(value, list(network.parameters()), retain_graph=True)
        rows.append(torch.cat([one.flatten() for one in derivatives]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T


class Wide(nn.Module):
    """ReLU layers with standard normal weights, multiplied by sqrt(2 / inputs), the first by 1 / sqrt(dims)."""

    def __init__(self, dims, width, layers, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = [dims, *[width] * (layers - 1), 1]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(out, inside, generator=generator, dtype=torch.float64))
            for inside, out in pairwise(sizes)
        )

    def forward(self, inputs):
        channels = inputs @ self.weights[0].T / math.sqrt(inputs.shape[1])
        for weight in list(self.weights)[1:]:
            channels = math.sqrt(2 / weight.shape[1]) * channels.relu() @ weight.T
        return channels


@pytest.mark.parametrize("block", [1, 4, 7, 1000])
def test_blocks_of_any_size_give_the_explicit_kernel(block):
    network, inputs = small_network(outputs=2), points(9)
    torch.testing.assert_close(empirical_ntk(network, inputs, block=block), explicit(network, inputs))


def test_the_kernel_of_convolutions_is_that_of_their_derivatives():
    network = QNN(QnnConfig(layers=3, channels=4, dims=1, precision="fp32"), signal_channels=1).double()
    nn.init.normal_(network.stages[-1].weight)
    signal, queries = points(12).T[None, :1], torch.linspace(-1, 1, 12, dtype=torch.float64)[None, None]
    torch.testing.assert_close(empirical_ntk(network, signal, queries, block=5), explicit(network, signal, queries))


def test_weights_that_are_not_learnt_do_not_count():
    network, inputs = small_network(), points(5)
    whole = empirical_ntk(network, inputs)
    network[1].requires_grad_(False)
    part = empirical_ntk(network, inputs)
    # The derivative by the bias of the last layer is 1 everywhere, so that dropping that layer takes at least 1 away
    assert (whole - part).min().item() >= 1
    with pytest.raises(ValueError, match="no weight"):
        empirical_ntk(network.requires_grad_(False), inputs)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_wide_network_has_the_closed_kernel(layers):
    """The error of one network is of the order of 1/sqrt(600), that of the mean of five is half of it."""
    inputs = points(6, dims=3)
    _, expected = relu_ntk(inputs, inputs, layers=layers)
    found = torch.stack([empirical_ntk(Wide(3, 600, layers, seed), inputs) for seed in range(5)]).mean(dim=0)
    assert (found - expected).norm().item() < 0.08 * expected.norm().item()
    assert (found - 2 * expected).norm().item() > 0.5 * expected.norm().item()


def test_the_covariance_is_that_of_outputs_of_wide_networks():
    inputs = points(4, dims=3)
    expected, _ = relu_ntk(inputs, inputs, layers=3)
    outputs = torch.stack([Wide(3, 64, 3, seed)(inputs)[:, 0] for seed in range(800)])
    found = outputs.T @ outputs / len(outputs)
    assert (found - expected).abs().max().item() < 0.25 * expected.diagonal().max().item()


def test_two_layers_have_the_arc_cosine_kernel_written_out():
    first, second = points(5, dims=2), points(3, dims=2, seed=1)
    angle = torch.arccos(nn.functional.normalize(first) @ nn.functional.normalize(second).T)
    lengths = first.norm(dim=1)[:, None] * second.norm(dim=1) / 2
    by_hidden = lengths * angle.cos() * (1 - angle / math.pi)
    by_last = lengths * (angle.sin() + (math.pi - angle) * angle.cos()) / math.pi
    torch.testing.assert_close(relu_ntk(first, second, layers=2)[1], by_hidden + by_last)


def test_descent_on_a_linear_model_is_predicted_exactly():
    model = nn.Linear(5, 1, bias=False).double()
    inputs, target, unseen = points(4, dims=5), points(4, dims=1, seed=1), points(3, dims=5, seed=2)
    kernel = empirical_ntk(model, inputs)
    training = LinearisedTraining.of(kernel)
    rate = 1 / float(training.values[0])
    with torch.no_grad():
        start, there = (model(inputs) - target)[:, 0], model(unseen)[:, 0]
    for step in range(1, 31):
        loss = 0.5 * (model(inputs) - target).square().sum()
        (slope,) = torch.autograd.grad(loss, model.weight)
        with torch.no_grad():
            model.weight -= rate * slope
            left, moved = (model(inputs) - target)[:, 0], model(unseen)[:, 0] - there
        torch.testing.assert_close(training.residual(start, rate=rate, step=step), left)
        shift = training.elsewhere(unseen @ inputs.T, start, rate=rate, step=step)
        torch.testing.assert_close(shift, moved)


def test_what_moves_elsewhere_agrees_where_samples_coincide():
    """With a kernel that lacks full rank too, the learnt outputs move by start - residual."""
    rows = points(6, dims=3)
    kernel, start = rows @ rows.T, points(6, dims=1, seed=3)[:, 0]
    training = LinearisedTraining.of(kernel)
    rate = 0.5 / float(training.values[0])
    moved = training.elsewhere(kernel, start, rate=rate, step=50)
    torch.testing.assert_close(moved, training.residual(start, rate=rate, step=50) - start)


def test_eigenvalues_are_those_of_scipy_and_begin_with_the_largest():
    from scipy import linalg

    rows = points(8, dims=8)
    found = LinearisedTraining.of(rows @ rows.T).values
    expected = torch.from_numpy(linalg.eigvalsh((rows @ rows.T).numpy())).flip(0)
    torch.testing.assert_close(found, expected)


def test_waves_are_the_eigenvectors_of_a_kernel_of_distances():
    row = torch.tensor([3.0, 1.0, 0.5, 0.2, 0.5, 1.0], dtype=torch.float64)
    kernel = torch.stack([row.roll(shift) for shift in range(6)])
    found = fourier_eigenvalues(kernel)
    torch.testing.assert_close(found, torch.fft.rfft(row).real)
    every = torch.cat([found, found[1:3]]).sort().values
    torch.testing.assert_close(every, torch.linalg.eigvalsh(kernel))


@pytest.mark.parametrize("rate", [0.0, -1.0, 2.1])
def test_a_rate_at_which_descent_diverges_is_refused(rate):
    training = LinearisedTraining.of(torch.eye(3))
    with pytest.raises(ValueError, match="converges for rates"):
        training.residual(torch.ones(3), rate=rate, step=1)


@pytest.mark.parametrize(
    "call",
    [lambda: empirical_ntk(small_network(), points(3), block=0), lambda: relu_ntk(points(2), points(2), layers=0)],
)
def test_empty_blocks_and_networks_are_refused(call):
    with pytest.raises(ValueError, match=r"=0: "):
        call()

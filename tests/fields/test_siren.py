"""Sine layers compute what they say, and their initialisation keeps activations alive through depth."""

import math

import pytest
import torch

from qsplat.fields.frequencies import Sine
from qsplat.fields.network import CoordinateNetwork, Trunk
from qsplat.fields.siren import SineLayer, linear_after_sines


def test_a_sine_layer_multiplies_weights_and_bias_by_omega():
    layer = SineLayer(2, 1, omega=5.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.2]]))
        layer.bias.copy_(torch.tensor([0.05]))
    value = layer(torch.tensor([[1.0, 0.5]])).item()
    assert value == pytest.approx(math.sin(5.0 * (0.1 - 0.1 + 0.05)))


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        (lambda: SineLayer(3, 500, omega=30.0, first=True), 1 / 3),
        (lambda: SineLayer(256, 500, omega=30.0), math.sqrt(6 / 256) / 30),
        (lambda: linear_after_sines(256, 500, omega=20.0), math.sqrt(6 / 256) / 20),
    ],
)
def test_weights_are_uniform_within_the_official_bounds(layer, bound):
    torch.manual_seed(0)
    weight = layer().weight.detach()
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.95 * bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_activations_keep_their_deviation_through_depth():
    """Theory: sums of many independent terms are normal, and a sine of a normal x with variance v has the mean square
    (1 - exp(-2 v)) / 2. A hidden layer makes v = 2 * mean square + omega^2 / (3 n), the last term from the bias."""
    torch.manual_seed(0)
    width, omega = 256, 30.0
    trunk = Trunk(Sine(omega, omega), 2, width=width, depth=7)
    coordinates = torch.rand(2000, 2) * 2 - 1
    activations = trunk.encoding(coordinates)
    # The first layer has variance omega^2 (|x|^2 / 3 / inputs^2 + 1 / 3 / inputs), far more than one turn of a sine
    mean_square = 0.5
    assert activations.square().mean().item() == pytest.approx(mean_square, rel=0.05)
    for layer in trunk.layers:
        before = omega * torch.nn.functional.linear(activations, layer.weight, layer.bias)
        variance = 2 * mean_square + omega**2 / (3 * width)
        mean_square = (1 - math.exp(-2 * variance)) / 2
        activations = layer(activations)
        assert before.std().item() == pytest.approx(math.sqrt(variance), rel=0.07)
        assert activations.std().item() == pytest.approx(math.sqrt(mean_square), rel=0.05)


def test_the_network_for_images_has_the_size_of_the_official_one():
    network = CoordinateNetwork(Sine())
    linear = [(2, 256), (256, 256), (256, 256), (256, 256), (256, 3)]
    assert sum(parameter.numel() for parameter in network.parameters()) == sum(a * b + b for a, b in linear)
    assert network(torch.zeros(5, 2)).shape == (5, 3)


def test_more_omega_makes_an_untrained_network_wigglier():
    line = torch.stack([torch.linspace(-1, 1, 2000), torch.zeros(2000)], dim=-1)

    def wiggles(omega: float) -> float:
        torch.manual_seed(0)
        values = CoordinateNetwork(Sine(omega=omega), width=64)(line).detach()
        return float((values[1:] - values[:-1]).abs().sum() / values.std())

    assert 1.5 * wiggles(10.0) < wiggles(30.0)
    assert 1.5 * wiggles(30.0) < wiggles(90.0)


@pytest.mark.parametrize("values", [{"omega": 0.0}, {"hidden_omega": -1.0}, {"omega": math.inf}])
def test_sines_without_frequency_are_refused(values):
    with pytest.raises(ValueError, match="finite and above 0"):
        Sine(**values)

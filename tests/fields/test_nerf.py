"""Radiance fields against values computed by hand and against the published network."""

import math

import pytest
import torch

from qsplat.encodings import Fourier, Positional
from qsplat.fields.frequencies import Sine, frequency_of, with_frequency, with_seed
from qsplat.fields.mlp import Mlp
from qsplat.fields.nerf import FieldConfig, Hierarchical, RadianceField

KINDS = [Positional(4), Fourier(features=16, scale=2.0), Sine()]


def small(frequencies, **changes) -> RadianceField:
    torch.manual_seed(0)
    return RadianceField(FieldConfig(frequencies, depth=3, width=32, skip=1, view_width=16, **changes))


def points(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return torch.rand(count, 3, generator=generator) * 2 - 1, directions


def test_the_default_is_the_published_network():
    """595,844 weights: 63 -> 256 x 8 with 63 more at layer 5, 1 density, 256, 256 + 27 -> 128, 3 colours."""
    field = RadianceField(FieldConfig())
    assert sum(parameter.numel() for parameter in field.parameters()) == 595_844
    shapes = [tuple(layer.weight.shape) for layer in field.trunk.layers.layers]
    assert shapes == [(256, 63), *[(256, 256)] * 4, (256, 319), (256, 256), (256, 256)]
    assert field.view_layer[0].weight.shape == (128, 256 + 27)


def test_positions_and_directions_are_encoded_by_the_published_formula():
    field = RadianceField(FieldConfig())
    x = [0.3, -0.7, 0.9]
    for encoding, octaves in ((field.trunk.encoding, 10), (field.view_encoding, 4)):
        expected = list(x)
        for octave in range(octaves):
            expected += [math.sin(2**octave * value) for value in x] + [math.cos(2**octave * value) for value in x]
        torch.testing.assert_close(encoding(torch.tensor([x]))[0], torch.tensor(expected), atol=1e-4, rtol=0)


def test_a_skip_puts_the_input_before_the_channels():
    network = Mlp(1, width=1, depth=3, skip=1)
    with torch.no_grad():
        for layer, weight in zip(network.layers, ([[2.0]], [[1.0]], [[10.0, 1.0]]), strict=True):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.fill_(0.5)
    # relu(2 * 3 + 0.5) = 6.5, relu(6.5 + 0.5) = 7, relu(10 * 3 + 7 + 0.5) = 37.5
    assert network(torch.tensor([[3.0]])).item() == 37.5
    # relu(-5.5) = 0, relu(0.5) = 0.5, relu(10 * -3 + 0.5 + 0.5) = 0
    assert network(torch.tensor([[-3.0]])).item() == 0


def test_a_field_by_hand():
    """One layer of one channel: h = relu(x + 1), density = relu(2 h - 1), v = relu(h + y of the direction)."""
    field = RadianceField(FieldConfig(Positional(1), depth=1, width=1, skip=None, view_width=1, view_octaves=1))
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
        field.trunk.layers.layers[0].weight[0, 0] = 1.0
        field.trunk.layers.layers[0].bias.fill_(1.0)
        field.density_head.weight.fill_(2.0)
        field.density_head.bias.fill_(-1.0)
        field.bottleneck.weight.fill_(1.0)
        field.view_layer[0].weight[0, 0] = 1.0
        field.view_layer[0].weight[0, 2] = 1.0
        field.color_head.weight.copy_(torch.tensor([[1.0], [0.0], [-2.0]]))
    density, color = field(torch.tensor([[0.5, 9.0, 9.0], [-0.9, 0.0, 0.0]]), torch.tensor([[0.0, 0.6, 0.8]] * 2))
    torch.testing.assert_close(density, torch.tensor([2.0, 0.0]))
    logits = torch.tensor([[2.1, 0.0, -4.2], [0.7, 0.0, -1.4]])
    torch.testing.assert_close(color, torch.sigmoid(logits))


@pytest.mark.parametrize("frequencies", KINDS)
@pytest.mark.parametrize("density", ["relu", "softplus"])
def test_densities_are_not_negative_and_colours_lie_between_0_and_1(frequencies, density):
    sigma, color = small(frequencies, density=density)(*points())
    assert sigma.shape == (20,)
    assert bool((sigma >= 0).all())
    assert bool(((color > 0) & (color < 1)).all())


@pytest.mark.parametrize("frequencies", KINDS)
def test_the_direction_changes_the_colour_and_not_the_density(frequencies):
    field, (coordinates, directions) = small(frequencies), points()
    density, color = field(coordinates, directions)
    other_density, other_color = field(coordinates, -directions)
    assert torch.equal(density, other_density)
    assert torch.equal(density, field.density(coordinates))
    assert not torch.allclose(color, other_color)


@pytest.mark.parametrize("frequencies", KINDS)
def test_without_directions_their_channels_are_0(frequencies):
    field, (coordinates, _) = small(frequencies), points()
    _, color = field(coordinates, None)
    layer = field.view_layer if isinstance(frequencies, Sine) else field.view_layer[0]
    with torch.no_grad():
        layer.weight[:, 32:] = 0
    torch.testing.assert_close(color, field(coordinates, points()[1])[1])


@pytest.mark.parametrize("frequencies", [Positional(10), Fourier(features=32, scale=20.0), Sine(omega=200.0)])
def test_bfloat16_leaves_high_frequencies_alone(frequencies):
    """The encoding stays in float32: rounding coordinates to bfloat16 would turn the phases of fast waves."""
    exact, rounded = small(frequencies), small(frequencies, precision="bf16")
    coordinates, directions = points(200)
    difference = (exact(coordinates, directions)[1] - rounded(coordinates, directions)[1]).abs().max()
    assert difference < 0.02


@pytest.mark.parametrize("frequencies", KINDS)
def test_every_parameter_has_a_gradient(frequencies):
    field = small(frequencies, density="softplus")
    density, color = field(*points())
    (density.sum() + color.square().sum()).backward()
    assert all(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in field.parameters())


def test_frequencies_are_one_number_for_each_kind():
    for frequencies, value in ((Positional(10), 7.0), (Fourier(), 3.5), (Sine(), 80.0)):
        assert frequency_of(with_frequency(frequencies, value)) == value
    assert with_frequency(Sine(hidden_omega=20.0), 50.0) == Sine(50.0, 20.0)
    for value in (2.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="whole number"):
            with_frequency(Positional(), value)


def test_seeds_draw_other_random_frequencies():
    assert with_seed(Fourier(seed=0), 3) == Fourier(seed=3)
    assert with_seed(Sine(), 3) == Sine()


@pytest.mark.parametrize("values", [{"depth": 0}, {"width": 0}, {"view_width": -1}])
def test_fields_without_layers_are_refused(values):
    with pytest.raises(ValueError, match="at least 1"):
        FieldConfig(**values)


def test_passes_without_samples_are_refused():
    with pytest.raises(ValueError, match="fine=0"):
        Hierarchical(fine=0)

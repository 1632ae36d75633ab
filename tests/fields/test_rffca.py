"""RFF-CA as a network of coordinates and as a radiance field, and its enhancement by frequencies."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from qsplat.fields.frequencies import frequency_of, with_frequency, with_seed
from qsplat.fields.nerf import FieldConfig, RadianceField
from qsplat.fields.network import CoordinateNetwork
from qsplat.fields.rffca import RffcaNetwork, TokenEncoding, dominant_modes, release_weight
from qsplat.frequency_tokens import Tokens

SMALL = Tokens(base=16, octaves=4, sigma=0.05)


def network(tokens: Tokens = SMALL, **changes) -> RffcaNetwork:
    torch.manual_seed(0)
    return RffcaNetwork(tokens, **{"dims": 1, "outputs": 1, "width": 16, "depth": 2, **changes})


def wave(points: Tensor, turns: float, phase: float = 0.0) -> Tensor:
    return torch.sin(2 * math.pi * turns * points + phase)


def test_the_default_network_has_the_sizes_of_the_paper():
    """8 tokens of 64 waves in 4 octaves, 4 blocks: 512 -> 64, 4 x (5 matrices of 64 x 64, 3 biases), 64 -> 3, beta."""
    model = RffcaNetwork()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == (512 * 64 + 64) + 4 * (5 * 64**2 + 3 * 64) + (64 * 3 + 3) + 1
    assert model.encoding(torch.zeros(1, 2)).shape == (1, 2 + 8 * 64)
    assert len(model.layers.blocks) == 4


@pytest.mark.parametrize("query", ["features", "coordinates"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_parameter_has_a_gradient(query, dims):
    torch.manual_seed(0)
    model = RffcaNetwork(Tokens(base=16, query=query), dims=dims, outputs=2, width=16, depth=2)
    values = model(torch.rand(20, dims))
    assert values.shape == (20, 2)
    values.square().sum().backward()
    assert all(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in model.parameters())


def test_a_point_is_seen_alone():
    model, points = network(), torch.rand(9, 1)
    torch.testing.assert_close(model(points)[4:5], model(points[4:5]))


def test_tokens_of_one_row_are_of_one_octave():
    bank = network().encoding.bank
    norms = bank.frequencies.norm(dim=-1).unflatten(0, (4, 16))
    torch.testing.assert_close(norms[1:], 2 * norms[:-1])


def test_the_release_is_held_at_zero_then_rises_to_one():
    """In between by the paper's logit, of which e^-6 is taken off."""
    weights = [release_weight(number / 1000) for number in range(1001)]
    assert weights[:701] == [0.0] * 701
    assert all(later > earlier for earlier, later in itertools.pairwise(weights[700:]))
    assert release_weight(0.85) == pytest.approx((math.exp(-3) - math.exp(-6)) / (1 - math.exp(-6)))
    assert weights[1000] == 1


@given(st.floats(-1, 2), st.floats(-1, 2))
def test_the_release_never_falls_and_stays_in_its_range(first, second):
    low, high = sorted((first, second))
    assert 0 <= release_weight(low) <= release_weight(high) <= 1


@given(st.floats(0, 1), st.floats(0, 0.01))
def test_the_release_has_no_jump(share, further):
    assert release_weight(share + further) - release_weight(share) <= 20 * further


def test_an_injected_frequency_is_found():
    """With a random network far below it in strength."""
    model, axis = network(), torch.arange(256) / 256
    values = 0.01 * model(axis[:, None]).detach()[:, 0] + wave(axis, 37, 0.4) + 0.1 * wave(axis, 90)
    assert dominant_modes(values[:, None], threshold=0.05).flatten().tolist() == [37, 90]
    assert dominant_modes(values[:, None], threshold=0.2).flatten().tolist() == [37]


@given(st.sets(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 2**16))
def test_modes_are_those_of_numpy(turns, seed):
    generator = np.random.default_rng(seed)
    axis = np.arange(128) / 128
    values = sum(
        generator.uniform(0.001, 1) * np.sin(2 * np.pi * turn * axis + generator.uniform(0, 6)) for turn in turns
    )
    strength = np.abs(np.fft.rfft(values))[1:]
    expected = (1 + np.flatnonzero(strength > 0.02 * strength.max())).tolist()
    found = dominant_modes(torch.from_numpy(values)[:, None], threshold=0.02).flatten().tolist()
    if not np.any(np.isclose(strength, 0.02 * strength.max(), rtol=1e-6)):
        assert found == expected


def test_modes_of_an_image_come_once_each_with_the_lowest_first():
    rows, columns = torch.meshgrid(torch.arange(32) / 32, torch.arange(48) / 48, indexing="ij")
    waves = [wave(3 * rows - 5 * columns, 1), wave(rows, 7), wave(columns, 2), wave(2 * rows + 4 * columns, 1)]
    image = torch.stack([waves[0] + waves[1], waves[2] + waves[3] + 5], dim=-1)
    assert dominant_modes(image, threshold=0.1).tolist() == [[0, 2], [2, 4], [-3, 5], [7, 0]]


def test_a_constant_has_no_frequency():
    assert dominant_modes(torch.ones(16, 1), threshold=0.02).shape == (0, 1)
    assert dominant_modes(torch.zeros(16, 1), threshold=0.02).shape == (0, 1)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold={threshold}"):
        dominant_modes(torch.rand(8, 1), threshold=threshold)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 40])
def test_added_waves_fill_whole_tokens_and_each_frequency_comes_with_two_phases(count):
    encoding = TokenEncoding(SMALL, 1, 16)
    frequencies = 10.0 + torch.arange(count)[:, None]
    encoding.enhance(frequencies)
    assert len(encoding.found) % 16 == 0
    assert len(encoding.found) < 2 * count + 16
    assert all(int((encoding.found == frequency).sum()) >= 2 for frequency in frequencies)
    points = torch.rand(5, 1)
    added = encoding(points)[:, 1 + SMALL.waves :]
    expected = torch.cos(points * encoding.found[:, 0] + encoding.found_phases) / math.sqrt(SMALL.waves)
    torch.testing.assert_close(added, expected)


def test_without_frequencies_nothing_is_added():
    encoding = TokenEncoding(SMALL, 1, 16)
    encoding.enhance(torch.empty(0, 1))
    assert encoding(torch.rand(5, 1)).shape == (5, 1 + SMALL.waves)


def learn(model: RffcaNetwork, target: Tensor, steps: int, *, second: bool = False) -> float:
    """The mean squared error at even points of [0, 1], the network's last one being ``steps`` steps of Adam old."""
    points = torch.arange(len(target))[:, None] / len(target)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        if second:
            model.release_at((step + 1) / steps)
        loss = (model(points) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return float((model(points) - target).detach().square().mean())


def two_waves(count: int = 96) -> Tensor:
    points = torch.arange(count)[:, None] / count
    return wave(points, 3) + 0.5 * wave(points, 17, 0.3)


@pytest.fixture(scope="module")
def trained() -> RffcaNetwork:
    """That has seen both waves."""
    model = network(Tokens(16, sigma=0.03))
    learn(model, two_waves(), 100)
    return model


@pytest.mark.parametrize("sharper", [1.0, 10.0])
def test_tokens_added_to_a_trained_network_are_quiet_until_their_release_and_then_act(sharper, trained):
    """Values change by less than 1e-5 of their size before it, in a network with ten times its logits too; and no
    hundredth of the release changes them by more than a tenth of what the whole does."""
    model, points = copy.deepcopy(trained), torch.rand(50, 1)
    with torch.no_grad():
        for block in model.layers.blocks:
            block.attention.query.weight *= sharper
        before = model(points)
        modes = model.enhance(low=0.0, high=1.0, size=1024, threshold=0.1)
        assert {3, 17} <= set(modes.flatten().tolist())
        held = model(points)
        shown = []
        for number in range(101):
            model.release_at(0.7 + 0.003 * number)
            shown.append(model(points))
    for values in (held, shown[0]):
        assert (values - before).norm() < 1e-5 * before.norm()
    whole = (shown[-1] - before).norm()
    assert whole > 0.02 * before.norm(), "released tokens act"
    assert max((later - earlier).norm() for earlier, later in itertools.pairwise(shown)) < whole / 10


def test_before_the_release_a_network_learns_as_without_its_tokens(trained):
    model, twin = copy.deepcopy(trained), copy.deepcopy(trained)
    model.enhance(low=0.0, high=1.0, size=1024, threshold=0.1)
    assert learn(model, two_waves(), 10) == pytest.approx(learn(twin, two_waves(), 10), rel=1e-3)


@pytest.mark.parametrize("again", [False, True])
def test_an_enhanced_network_comes_back_from_a_file(again, tmp_path):
    """Into a new network, and into one with other tokens added."""
    model, points = network(), torch.rand(9, 1)
    model.enhance(low=0.0, high=1.0, size=256, threshold=0.1)
    model.release_at(0.9)
    save_file(model.state_dict(), tmp_path / "network.safetensors")
    other = network(Tokens(16, octaves=4, sigma=0.05, seed=5))
    if again:
        other.encoding.enhance(torch.arange(1.0, 60.0)[:, None])
    other.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert torch.equal(other(points), model(points))


def test_added_waves_of_another_dimension_are_refused():
    model = network(dims=2)
    model.encoding.enhance(torch.rand(3, 2))
    with pytest.raises(RuntimeError, match=r"size mismatch for encoding\.found"):
        network(dims=1).load_state_dict(model.state_dict())


def test_frequencies_found_are_radians_per_unit_of_the_domain():
    model = network()
    modes = model.enhance(low=-1.0, high=3.0, size=128)
    torch.testing.assert_close(model.encoding.found[: len(modes)], 2 * math.pi * modes.float() / 4)


def test_a_network_enhances_itself_by_what_it_learnt():
    """The whole of it: learn two waves to a fiftieth of their power, find exactly them, and still know them once the
    added tokens have joined."""
    model = network(Tokens(16, sigma=0.03))
    assert learn(model, two_waves(), 180) < 0.625 / 50
    assert model.enhance(low=0.0, high=1.0, size=1024, threshold=0.1).flatten().tolist() == [3, 17]
    assert learn(model, two_waves(), 150, second=True) < 0.625 / 50
    assert model.layers.release == 1


def test_attention_learns_a_wave_that_layers_of_relu_do_not():
    points = torch.linspace(0, 1, 128)[:, None]
    target = wave(points, 20)
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Linear(1, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )
    losses = []
    for model in (network(), network(Tokens(16, sigma=0.05, query="coordinates")), plain):
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(150):
            loss = (model(points) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 0.05
    assert losses[1] < 0.2
    assert losses[2] > 0.4


def test_the_network_of_coordinates_is_the_same_function():
    """Radiance fields and FreSh reach it through ``Trunk``."""
    torch.manual_seed(0)
    one = CoordinateNetwork(SMALL, width=16, depth=2)
    other = RffcaNetwork(SMALL, width=16, depth=2)
    other.encoding.load_state_dict(one.trunk.encoding.state_dict())
    other.layers.load_state_dict(one.trunk.layers.state_dict())
    other.last.load_state_dict(one.last.state_dict())
    points = torch.rand(5, 2)
    assert torch.equal(one(points), other(points))


def test_a_radiance_field_of_tokens():
    torch.manual_seed(0)
    field = RadianceField(FieldConfig(SMALL, depth=2, width=16, view_width=8, density="softplus"))
    points, directions = torch.rand(20, 3), torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    density, color = field(points, directions)
    other_density, other_color = field(points, -directions)
    assert bool((density > 0).all())
    assert bool(((color > 0) & (color < 1)).all())
    assert torch.equal(density, other_density)
    assert not torch.allclose(color, other_color)


def test_bfloat16_leaves_the_waves_alone():
    fields = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        fields.append(RadianceField(FieldConfig(Tokens(16, sigma=0.01), depth=2, width=16, precision=precision)))
    points = torch.rand(200, 3) * 2 - 1
    exact, rounded = (field(points, None)[1] for field in fields)
    assert 0 < (exact - rounded).abs().max() < 0.02


def test_a_field_whose_width_does_not_suit_its_tokens_is_refused():
    with pytest.raises(ValueError, match="width 24: choose a width that divides the waves"):
        FieldConfig(SMALL, width=24)


def test_the_frequency_of_tokens_is_the_deviation_of_the_lowest_octave():
    assert frequency_of(Tokens(sigma=0.05)) == pytest.approx(20)
    assert with_frequency(Tokens(), 40.0).sigma == pytest.approx(1 / 40)
    assert with_seed(Tokens(), 3) == Tokens(seed=3)
    with pytest.raises(ValueError, match=r"sigma=0\.0"):
        with_frequency(Tokens(), 0.0)

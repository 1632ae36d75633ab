"""Continuous Fourier convolutions against NumPy's transforms and convolutions in space."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from qsplat.cameras import Window
from qsplat.qnn import QNN, QnnConfig, crop_residual, image_residual
from qsplat.qnn.convolutions import CFConv, CFConv2d

SMALL = CFConv(grid=8, samples=300, width=16)


def layer(inputs: int = 4, outputs: int = 3, config: CFConv = SMALL, **options) -> CFConv2d:
    torch.manual_seed(0)
    made = CFConv2d(inputs, outputs, config, **options).double()
    nn.init.normal_(made.bias)
    return made


def kernel_in_space(made: CFConv2d) -> np.ndarray:
    """The inverse transform of the kernel as it is shown, [grid, grid, inputs, outputs]."""
    grid = made.config.grid
    return np.fft.irfft2(made.eval().spectral_kernel().detach().numpy(), s=(grid, grid), axes=(0, 1))


@pytest.mark.parametrize("grid", [2, 6, 8])
def test_it_is_a_circular_convolution_with_the_inverse_transform_of_the_kernel(grid: int):
    made = layer(config=CFConv(grid=grid, width=8), edges="wrap")
    kernel, features = kernel_in_space(made), np.random.default_rng(0).normal(size=(2, 4, grid, grid))
    expected = np.tile(made.bias.detach().numpy()[None, :, None, None], (2, 1, grid, grid))
    for down in range(grid):
        for across in range(grid):
            moved = np.roll(features, (down, across), axis=(2, 3))
            expected += np.einsum("bihw,io->bohw", moved, kernel[down, across])
    np.testing.assert_allclose(made(torch.from_numpy(features)).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (17, 30)])
@pytest.mark.parametrize("grid", [2, 8])
def test_without_wrapping_it_is_a_convolution_of_the_same_pixels_with_zeros_around(grid: int, size: tuple[int, int]):
    """Against PyTorch's convolution with the same kernel, for values and gradients."""
    made = layer(config=CFConv(grid=grid, width=8))
    half = grid // 2
    # PyTorch correlates: its kernel is ours, pixels -half to half - 1, backwards.
    kernel = torch.from_numpy(kernel_in_space(made)).roll((half, half), (0, 1)).flip(0, 1).permute(3, 2, 0, 1)
    features = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    padded = nn.functional.pad(features, (half - 1, half, half - 1, half))
    expected = nn.functional.conv2d(padded, kernel, made.bias)
    found = made(features)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(out, features, upstream, retain_graph=True)[0] for out in (found, expected)),
        atol=1e-12,
        rtol=1e-10,
    )


@pytest.mark.parametrize("edges", ["zeros", "wrap"])
def test_a_step_asks_for_the_drawn_positions_alone_and_moves_no_others(edges):
    made = layer(edges=edges)
    before = made.average.clone()
    asked, at = [], made._at
    made._at = lambda drawn: asked.append((drawn, at(drawn))) or asked[-1][1]
    made(torch.randn(1, 4, 8, 8, dtype=torch.float64)).square().sum().backward()
    ((drawn, values),) = asked
    assert len(drawn) == len(drawn.unique()) == 300
    moved = (made.average != before).any(dim=1).nonzero()[:, 0]
    assert set(moved.tolist()) <= set(drawn.tolist())
    torch.testing.assert_close(made.average[drawn], before[drawn] + 0.5 * (values.detach() - before[drawn]))
    untouched = torch.ones(made.positions, dtype=torch.bool)
    untouched[drawn] = False
    assert torch.equal(made.average[untouched], before[untouched])


def test_gradients_reach_the_network_from_the_drawn_positions_alone():
    """Against the gradient of the whole kernel, all positions but the drawn ones blocked."""
    made, features = layer(), torch.randn(1, 4, 11, 9, dtype=torch.float64)
    made.average += 0.1 * torch.randn_like(made.average)
    twin = copy.deepcopy(made)
    order = torch.randperm(made.positions, generator=torch.Generator().manual_seed(int(made.draws)))
    drawn = torch.zeros(made.positions, 1, dtype=torch.bool)
    drawn[order[:300]] = True
    everywhere = twin._at(torch.arange(twin.positions))
    kernel = twin.average + torch.where(drawn, 0.5 * (everywhere - twin.average), torch.zeros(()).double())
    twin.spectral_kernel = lambda: torch.view_as_complex(kernel.contiguous()).view(twin.shape)
    for one in (made, twin):
        one(features).square().sum().backward()
    for ours, theirs in zip(made.parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_average_converges_to_a_frozen_mlp():
    """Each step leaves (1 - rate share) of the distance, share being that of the drawn positions, on average."""
    made = layer(config=CFConv(grid=8, samples=160, width=16, rate=0.5))
    made.average += 1.0
    distances = []
    for _ in range(16):
        distances.append(float((made.average - made.refreshed()).abs().mean()))
        made.spectral_kernel()
    share = 160 / made.positions
    assert distances[0] == pytest.approx(1, abs=1e-6)
    assert distances[-1] == pytest.approx((1 - 0.5 * share) ** 15, rel=0.15)


def test_enough_samples_are_all_positions_and_a_rate_of_one_the_mlp():
    made = layer(config=CFConv(grid=8, samples=10_000, width=16, rate=1.0))
    made.average += 1.0
    torch.testing.assert_close(torch.view_as_real(made.spectral_kernel()).view(-1, 2), made.refreshed())
    torch.testing.assert_close(made.average, made.refreshed())


def test_evaluation_shows_the_mlp_as_it_is_and_moves_nothing():
    made, features = layer(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    made.eval()
    first = made(features)
    state = {name: value.clone() for name, value in made.state_dict().items()}
    assert torch.equal(made(features), first)
    made.average += 1.0
    assert torch.equal(made(features), first), "the average takes no part"
    with torch.no_grad():
        made.train()
        assert torch.equal(made(features), first), "without gradients nothing is drawn"
        made.mlp[2].weight *= 2
    assert not torch.equal(made.eval()(features), first), "a changed network gives another kernel"
    made.load_state_dict(state)
    assert torch.equal(made(features), first)


def shows_the_mlp(made: CFConv2d) -> bool:
    """Whether evaluation shows the MLP as it is now, against asking it anew."""
    shown = torch.view_as_real(made.eval().spectral_kernel()).flatten(0, 3)
    return torch.equal(shown, made._everywhere())


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {}])
def test_evaluation_between_steps_of_training_shows_the_mlp_of_each(options):
    """A trainer's steps and evaluations by turns. A fused step does not raise the version of what it changes."""
    made, features = layer(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2, **options)
    seen = []
    for _ in range(3):
        made.train()
        optimizer.zero_grad()
        made(features).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            seen.append(made.eval()(features))
        assert shows_the_mlp(made)
        assert torch.equal(made(features), seen[-1])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_kernel_that_was_kept_is_not_used_in_another_type():
    made = layer().float().eval()
    made.spectral_kernel()
    assert shows_the_mlp(made.double())
    assert made.spectral_kernel().dtype == torch.complex128


def test_a_kernel_of_inference_does_not_stand_in_the_way_of_gradients():
    made = layer(edges="wrap").eval()
    features = torch.randn(1, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        made(features.detach())
    made(features).sum().backward()
    assert features.grad is not None
    assert features.grad.any()


def test_copies_and_loaded_layers_show_their_own_mlp():
    """Whatever was looked at before, in layers that take each other's state or weights, or another type."""
    made, other, features = layer(), layer(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    nn.init.normal_(other.mlp[2].weight)
    first, second = (one.eval()(features).detach() for one in (made, other))
    assert not torch.equal(first, second)
    twin = copy.deepcopy(made)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2, fused=True)
    twin.train()(features).square().sum().backward()
    optimizer.step()
    assert shows_the_mlp(twin)
    assert torch.equal(made(features), first), "training a copy leaves the layer"
    made.load_state_dict(other.state_dict())
    assert torch.equal(made(features), second)
    made.load_state_dict(twin.state_dict(), assign=True)
    assert shows_the_mlp(made)
    other.mlp[2].weight.data = made.mlp[2].weight.data.clone()
    assert shows_the_mlp(other)
    assert shows_the_mlp(made.float())


def test_an_unchanged_kernel_is_computed_once():
    made, features = layer().eval(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    asked, at = [], made._at
    made._at = lambda drawn: asked.append(drawn) or at(drawn)
    for _ in range(3):
        made(features)
    assert len(asked) == 1


def test_draws_differ_and_do_not_touch_the_random_state():
    made, features = layer(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seen = []
    for _ in range(2):
        before = made.average.clone()
        made.average += 1.0
        made(features)
        seen.append((made.average != before + 1.0).any(dim=1))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(*seen)


def test_a_layer_goes_on_from_its_state_to_the_bit():
    first, second, features = layer(), layer(), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    first(features)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        assert torch.equal(first(features), second(features))


def test_features_keep_their_size_in_every_channel_at_birth():
    torch.manual_seed(0)
    made = CFConv2d(32, 32, CFConv(grid=16))
    with torch.no_grad():
        out = made(torch.randn(1, 32, 64, 64))
    spread = out.std(dim=(0, 2, 3))
    assert 0.5 < spread.min() <= spread.max() < 4
    assert torch.corrcoef(out[0].flatten(1)).triu(1).abs().mean() < 0.7, "channels are not all the same"


def test_the_number_of_parameters_depends_on_neither_grid_nor_channels():
    sizes = {
        sum(one.numel() for one in CFConv2d(inputs, 6, CFConv(grid=grid)).parameters())
        for inputs in (3, 12)
        for grid in (4, 16)
    }
    assert sizes == {(4 * 64 + 64) + (64 * 64 + 64) + (64 * 2 + 2) + 6}


def test_under_bfloat16_it_computes_in_float32():
    torch.manual_seed(0)
    made, features = CFConv2d(4, 3, SMALL).eval(), torch.randn(1, 4, 10, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made(features), made(features.double()))


def test_features_of_another_size_cannot_wrap_around():
    with pytest.raises(ValueError, match=r'features of 9x8 pixels on a spectral grid of 8: .* edges="zeros"'):
        layer(edges="wrap")(torch.zeros(1, 4, 8, 9, dtype=torch.float64))


def head() -> QNN:
    torch.manual_seed(0)
    made = QNN(QnnConfig(channels=6, precision="fp32", convolution=SMALL))
    nn.init.normal_(made.stages[-1].weight, std=0.1)
    return made.eval()


def test_a_head_of_it_sees_as_far_as_its_grids_reach():
    made = head()
    assert made.halo == 1 + 4 + 4 + 1
    image, queries = torch.rand(31, 33, 3), torch.zeros(31, 33, 2)
    changed = image.clone()
    changed[15, 16] += 1
    moved = (image_residual(made, changed, queries) - image_residual(made, image, queries)).abs().amax(2) > 1e-5
    rows, columns = moved.nonzero().unbind(-1)
    assert 5 < int((rows - 15).abs().max()) <= made.halo
    assert 5 < int((columns - 16).abs().max()) <= made.halo


def test_crops_and_tiles_of_it_equal_the_whole_image():
    made, image, queries = head().requires_grad_(False), torch.rand(37, 50, 3), torch.rand(37, 50, 2)
    whole = image_residual(made, image, queries, tile=1000)
    assert whole.abs().max() > 1e-2
    torch.testing.assert_close(image_residual(made, image, queries, tile=13), whole, atol=1e-5, rtol=1e-4)
    part = crop_residual(made, image, queries, Window(30, 3, 7, 9))
    torch.testing.assert_close(part, whole[3:12, 30:37], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": 7}, "grid=7: the side of CF-Conv's spectral grid is even"),
        ({"grid": 0}, "grid=0"),
        ({"samples": 0}, "samples=0, width=64"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"rate": 1.5}, "rate=1.5"),
    ],
)
def test_an_impossible_layer_is_refused_with_the_value(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        CFConv(**wrong)


def test_signals_of_one_dimension_are_refused():
    with pytest.raises(ValueError, match="dims=1 with CF-Conv"):
        QnnConfig(dims=1, convolution=CFConv())


def test_it_learns_a_shift_farther_than_a_3x3_kernel_reaches():
    """Of noise, of which a 3x3 kernel explains nothing at that distance."""
    torch.manual_seed(0)
    made = CFConv2d(1, 1, CFConv(grid=8, samples=20, width=64))
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    features = torch.randn(2, 1, 16, 16)
    target = nn.functional.pad(features, (3, 0))[..., :16]
    for _ in range(80):
        optimizer.zero_grad()
        (made(features) - target).square().mean().backward()
        optimizer.step()
    error = (made.eval()(features) - target).square().mean()
    assert error < 0.4 * target.square().mean()

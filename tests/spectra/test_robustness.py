"""Moved weights: how far, in which directions, and that the network itself stays."""

import pytest
import torch
from torch import nn

from qsplat.spectra.robustness import moved_outputs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_bias_alone_moves_by_the_distance():
    shift = nn.Linear(3, 1)
    shift.weight.requires_grad_(False).zero_()
    only = nn.Module()
    only.bias = nn.Parameter(torch.zeros(1))
    only.forward = lambda inputs: inputs + only.bias
    outputs = moved_outputs(only, torch.zeros(4), 2.5, directions=10, generator=generator())
    assert outputs.shape == (10, 4)
    assert outputs.abs().flatten().tolist() == pytest.approx([2.5] * 40)


def test_directions_are_uniform_over_all_weights():
    """For a linear map of n weights, the mean square of what a unit input moves by is distance² / n."""
    network = nn.Linear(20, 1, bias=False)
    network.weight.data.zero_()
    outputs = moved_outputs(network, torch.eye(20), 3.0, directions=2000, generator=generator())
    assert outputs.square().sum(dim=1).flatten().tolist() == pytest.approx([9.0] * 2000, rel=1e-4)
    assert outputs.square().mean(dim=0).flatten().tolist() == pytest.approx([9 / 20] * 20, rel=0.25)


def test_the_network_is_left_as_it_was_and_no_distance_changes_nothing():
    network, inputs = nn.Linear(2, 2), torch.rand(5, 2)
    before = network.weight.detach().clone()
    outputs = moved_outputs(network, inputs, 0.0, directions=2, generator=generator())
    torch.testing.assert_close(outputs, network(inputs).detach().expand(2, 5, 2))
    moved_outputs(network, inputs, 1.0, directions=2, generator=generator())
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize(("distance", "directions"), [(-1.0, 1), (1.0, 0)])
def test_nothing_to_draw_is_refused(distance, directions):
    with pytest.raises(ValueError, match=f"distance={distance}, directions={directions}"):
        moved_outputs(nn.Linear(1, 1), torch.ones(1, 1), distance, directions=directions, generator=generator())

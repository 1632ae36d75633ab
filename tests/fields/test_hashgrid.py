"""Hash grids against nerfstudio's, and what interpolation promises."""

import pytest
import torch

from qsplat.fields.hashgrid import HashGrid, HashGridConfig


def points(count, dims, seed=0):
    return torch.rand(count, dims, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_values_and_gradients_are_those_of_nerfstudio_where_every_level_is_hashed():
    from nerfstudio.field_components.encodings import HashEncoding

    theirs = HashEncoding(num_levels=3, min_res=8, max_res=32, log2_hashmap_size=6, implementation="torch")
    config = HashGridConfig(levels=3, entries=2**6, coarsest=8, finest=32)
    ours = HashGrid(3, config)
    assert [config.cells(level) for level in range(3)] == theirs.scalings.tolist()
    for level, table in enumerate(ours.tables):
        table.data.normal_(generator=torch.Generator().manual_seed(level))
    theirs.hash_table.data.copy_(torch.cat(list(ours.tables)))
    here = points(200, 3)
    found, expected = ours(here), theirs((here + 1) / 2)
    torch.testing.assert_close(found, expected)
    weights = points(200, 6, seed=1)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(torch.cat([table.grad for table in ours.tables]), theirs.hash_table.grad)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_corners_have_their_own_values_and_the_middle_their_mean(dims):
    grid = HashGrid(dims, HashGridConfig(levels=1, features=1, entries=10_000, coarsest=4, finest=4))
    assert len(grid.tables[0]) == 5**dims
    grid.tables[0].data.copy_(torch.arange(5**dims)[:, None])
    corner = torch.tensor([[0.5] * dims])  # the fourth of five corners along every axis
    number = sum(3 * 5**axis for axis in range(dims))
    assert grid(corner).item() == pytest.approx(number)
    assert grid(corner - 0.25).item() == pytest.approx(number - sum(5**axis for axis in range(dims)) / 2)
    edge = grid(torch.tensor([[1.0] * dims, [-1.0] * dims, [3.0] * dims]))
    assert edge[:, 0].tolist() == pytest.approx([5**dims - 1, 0, 5**dims - 1])


def test_levels_with_room_share_nothing_and_fine_ones_keep_to_their_entries():
    config = HashGridConfig(levels=4, entries=500, coarsest=4, finest=256)
    assert [config.cells(level) for level in range(4)] == [4, 16, 64, 256]
    assert [len(table) for table in HashGrid(2, config).tables] == [25, 289, 500, 500]


def test_a_grid_learns_a_step_that_no_smooth_network_has():
    torch.manual_seed(0)
    grid = HashGrid(1, HashGridConfig(levels=4, coarsest=4, finest=64))
    network = torch.nn.Sequential(grid, torch.nn.Linear(grid.channels, 1))
    here = torch.linspace(-1, 1, 200)[:, None]
    target = (here > 0.3).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(200):
        loss = (network(here) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_impossible_grids_are_refused():
    with pytest.raises(ValueError, match="finest"):
        HashGridConfig(coarsest=32, finest=16)
    with pytest.raises(ValueError, match="at least 1"):
        HashGridConfig(levels=0)
    with pytest.raises(ValueError, match="dims=4"):
        HashGrid(4)

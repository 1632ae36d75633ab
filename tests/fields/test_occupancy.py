"""The grid knows where a field is, and its samples stand for the right lengths."""

import pytest
import torch

from qsplat.fields.occupancy import OccupancyConfig, OccupancyGrid

CONFIG = OccupancyConfig(resolution=16, samples=6, bins=32, refresh_every=1, refresh_share=1.0)


def grid_of(density: torch.Tensor) -> OccupancyGrid:
    grid = OccupancyGrid(CONFIG)
    grid.density.copy_(density.flatten())
    return grid


def test_a_new_grid_is_empty_nowhere():
    assert bool((OccupancyGrid(CONFIG).at(torch.rand(100, 3) * 2 - 1) > 0).all())


def test_a_thin_field_is_empty_nowhere():
    """The threshold stays below the mean: else a field that begins thin would never be looked at."""
    grid = OccupancyGrid(OccupancyConfig(resolution=8, decay=0.0, refresh_share=1.0))
    grid.refresh(lambda coordinates: torch.full_like(coordinates[:, 0], 1e-6))
    assert bool((grid.at(torch.rand(100, 3) * 2 - 1) > 0).all())


def test_coordinates_are_looked_up_in_the_cell_that_they_lie_in():
    density = torch.zeros(16, 16, 16)
    density[15, 0, 8] = 5.0
    grid = grid_of(density)
    coordinates = torch.tensor([[0.99, -0.99, 0.05], [1.0, -1.0, 0.124], [0.86, -0.99, 0.05], [0.99, -0.99, -0.01]])
    assert grid.at(coordinates).tolist() == [5.0, 5.0, 0.0, 0.0]


def test_cells_too_thin_to_matter_are_empty():
    density = torch.full((16, 16, 16), 10.0)
    density[:, :, 8:] = 0.5 * CONFIG.opacity / (2 / 16)
    grid = grid_of(density)
    assert grid.at(torch.tensor([[0.0, 0.0, -0.5], [0.0, 0.0, 0.5]])).tolist() == [10.0, 0.0]


def test_refreshes_find_what_appears_and_forget_what_vanishes():
    torch.manual_seed(0)
    grid = OccupancyGrid(CONFIG)

    def half(coordinates: torch.Tensor) -> torch.Tensor:
        return 8.0 * (coordinates[:, 0] > 0)

    for _ in range(12):
        grid.refresh(half)
    x = torch.tensor([[-0.5, 0.2, 0.2], [0.5, 0.2, 0.2]])
    assert grid.at(x).tolist() == [0.0, 8.0]
    for _ in range(12):
        grid.refresh(lambda coordinates: 8.0 - half(coordinates))
    assert grid.at(x).tolist() == [8.0, 0.0]


def test_parts_of_the_grid_take_turns():
    torch.manual_seed(0)
    grid = OccupancyGrid(OccupancyConfig(resolution=16, refresh_share=0.25, decay=0.0))
    seen = []

    def count(coordinates: torch.Tensor) -> torch.Tensor:
        seen.append(len(coordinates))
        return torch.full_like(coordinates[:, 0], 3.0)

    for _ in range(40):
        grid.refresh(count)
    assert seen == [16**3 // 4] * 40
    assert bool((grid.density == 3.0).all())


@pytest.mark.parametrize("jitter", [False, True])
def test_samples_lie_in_what_is_occupied_and_their_lengths_add_up_to_it(jitter):
    density = torch.zeros(3, 32)
    density[0, 4:8], density[1, 30:], density[2] = 2.0, 1e4, 0.1
    lengths = torch.full((3, 32), 0.05)
    grid = OccupancyGrid(CONFIG)
    samples = grid.sample(density, lengths, jitter=jitter)
    assert samples.shares.shape == samples.lengths.shape == (3, 6)
    bins = (samples.shares * 32).long().clamp_max(31)
    assert bool((density.gather(1, bins) > 0).all())
    torch.testing.assert_close(samples.lengths.sum(dim=1), torch.tensor([4, 2, 32]) * 0.05)
    assert bool((samples.lengths >= 0).all())
    assert bool((samples.shares[:, 1:] >= samples.shares[:, :-1]).all())


def test_a_gap_between_two_things_is_in_no_length():
    density = torch.zeros(1, 32)
    density[0, 2:4] = density[0, 20:22] = 0.01
    samples = OccupancyGrid(CONFIG).sample(density, torch.full((1, 32), 1.0), jitter=False)
    assert samples.lengths.max() < 1.1
    assert samples.lengths.sum().item() == pytest.approx(4.0)


def test_most_samples_go_where_the_grid_expects_the_surface():
    density = torch.full((1, 32), 0.01)
    density[0, 10] = 1e4
    samples = OccupancyGrid(CONFIG).sample(density, torch.full((1, 32), 0.05), jitter=False)
    assert int(((samples.shares * 32).long() == 10).sum()) >= 4


@pytest.mark.parametrize(
    "values", [{"resolution": 0}, {"samples": 0}, {"refresh_share": 0.0}, {"decay": 1.5}, {"explore": 0.0}]
)
def test_grids_that_cannot_work_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        OccupancyConfig(**values)

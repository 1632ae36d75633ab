"""Which threads work in which phase."""

import pytest
import torch

from qsplat.qnn import QnnConfig
from qsplat.render import RasterConfig
from qsplat.training.fit import FitConfig, fit
from qsplat.training.schedule import Schedule
from qsplat.training.threads import share_threads


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("available", "half"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_pytorch_has_half_of_the_threads_unless_the_network_is_most_of_the_work(threads, available, half):
    crops, half_images, whole, frozen = (
        Schedule(2, head_share=0.5, **changed)
        for changed in ({}, {"crop_share": 0.5}, {"crop_share": 1.0}, {"mode": "frozen"})
    )
    for schedule, expected in ((crops, half), *((one, available) for one in (half_images, whole, frozen))):
        for step, number in ((0, half), (1, expected)):
            share_threads(schedule, step, available)
            assert torch.get_num_threads() == number


def test_a_run_leaves_the_number_of_threads_as_it_was(threads, capture):
    torch.set_num_threads(2)
    seen = []
    schedule = Schedule(4, head_share=0.5, crop_share=1.0)
    config = FitConfig(schedule=schedule, head=QnnConfig(channels=4), densification=None)
    fit(capture, config, on_step=lambda record: seen.append((record.phase, torch.get_num_threads())))
    assert seen == [("splatting", 1)] * 2 + [("joint", 2)] * 2
    assert torch.get_num_threads() == 2


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="threads=0: rasterizing needs at least 1"):
        RasterConfig(threads=0)

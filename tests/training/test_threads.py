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


@pytest.mark.parametrize(("available", "splatting"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_pytorch_has_half_of_the_threads_until_the_joint_phase(threads, available, splatting):
    share_threads("splatting", available)
    assert torch.get_num_threads() == splatting
    share_threads("joint", available)
    assert torch.get_num_threads() == available


def test_a_run_leaves_the_number_of_threads_as_it_was(threads, capture):
    torch.set_num_threads(2)
    seen = []
    config = FitConfig(schedule=Schedule(4, head_share=0.5), head=QnnConfig(channels=4), densification=None)
    fit(capture, config, on_step=lambda record: seen.append((record.phase, torch.get_num_threads())))
    assert seen == [("splatting", 1)] * 2 + [("joint", 2)] * 2
    assert torch.get_num_threads() == 2


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="threads=0: rasterizing needs at least 1"):
        RasterConfig(threads=0)

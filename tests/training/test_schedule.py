"""When things happen."""

import math

import pytest
import torch

from qsplat.qnn import QnnConfig
from qsplat.qnn.convolutions import FDConv
from qsplat.training.config import FitConfig
from qsplat.training.densification import DefaultDensification
from qsplat.training.schedule import Schedule


def test_thirty_thousand_iterations_have_the_usual_times():
    schedule = Schedule(30_000, downscales=2)
    assert [schedule.sh_degree_at(step) for step in (0, 999, 1000, 2000, 3000, 29_999)] == [0, 0, 1, 2, 3, 3]
    assert [schedule.downscale_at(step) for step in (0, 2999, 3000, 5999, 6000, 29_999)] == [4, 4, 2, 2, 1, 1]
    assert schedule.head_start == 22_500
    assert [schedule.phase_at(step) for step in (0, 22_499, 22_500)] == ["splatting", "splatting", "joint"]


def test_short_runs_pass_through_every_stage():
    schedule = Schedule(500, downscales=1)
    assert {schedule.sh_degree_at(step) for step in range(500)} == {0, 1, 2, 3}
    assert {schedule.downscale_at(step) for step in range(500)} == {1, 2}
    assert sum(schedule.phase_at(step) == "joint" for step in range(500)) == 125


def test_the_shortest_run_is_one_step():
    schedule = Schedule(1, downscales=3)
    assert schedule.sh_degree_at(0) == 0
    assert schedule.downscale_at(0) == 8
    assert schedule.phase_at(0) == "splatting"


def test_full_resolution_and_no_head_can_be_asked_for():
    schedule = Schedule(100, head_share=1.0)
    assert {schedule.downscale_at(step) for step in range(100)} == {1}
    assert {schedule.phase_at(step) for step in range(100)} == {"splatting"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"iterations": 0}, "iterations=0"),
        ({"head_share": 1.5}, "head_share=1.5"),
        ({"sh_share": 0.0}, "sh_share=0.0"),
        ({"crop_share": 0.0}, "crop_share=0.0"),
        ({"crop_share": 1.5}, "crop_share=1.5"),
        ({"downscales": -1}, "downscales=-1"),
        ({"head_rate": 0.0}, "head_rate=0.0"),
        ({"head_rate": math.nan}, "head_rate=nan"),
        ({"drawn": "crop", "mode": "frozen"}, "drawn='crop' with mode='frozen'"),
        ({"drawn": "crop", "crop_share": 1.0}, "drawn='crop' with crop_share=1"),
    ],
)
def test_an_impossible_plan_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Schedule(**{"iterations": 100, **wrong})


def test_the_head_sees_a_crop_in_the_joint_phase_alone():
    schedule = Schedule(100, crop_share=0.25)
    size = {"width": 400, "height": 300, "generator": torch.Generator().manual_seed(0)}
    assert schedule.head_window_at(74, **size) is None
    window = schedule.head_window_at(75, **size)
    assert (window.width, window.height) == (200, 150)
    assert Schedule(100, crop_share=1.0).head_window_at(75, **size) is None


@pytest.mark.parametrize("mode", ["joint", "detached", "frozen"])
def test_the_phase_after_the_switch_on_is_the_mode(mode):
    schedule = Schedule(100, head_share=0.5, mode=mode)
    assert [schedule.phase_at(step) for step in (49, 50, 99)] == ["splatting", mode, mode]


@pytest.mark.parametrize(
    ("name", "known"),
    [("mode", "joint, detached, frozen"), ("drawn", "image, crop"), ("head_decay", "cosine, constant")],
)
def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(name, known):
    """Past the annotations, which the tests execute and a program does not."""
    schedule = Schedule(100)
    object.__setattr__(schedule, name, "other")
    with pytest.raises(ValueError, match=f"{name}='other': choose one of {known}"):
        schedule.__post_init__()


def test_a_head_that_needs_all_of_an_image_is_never_shown_a_crop():
    whole, local = QnnConfig(convolution=FDConv()), QnnConfig()
    for share in (None, 1.0):
        assert Schedule(100, crop_share=share).with_head(whole).crop_share == 1
        assert Schedule(100, crop_share=share).with_head(local).crop_share == share
    with pytest.raises(ValueError, match=r"crop_share=0.5 with FDConv"):
        FitConfig(Schedule(100, crop_share=0.5), head=whole)
    with pytest.raises(ValueError, match=r"drawn='crop' with FDConv"):
        FitConfig(Schedule(100, drawn="crop"), head=whole)
    with pytest.raises(ValueError, match=r"drawn='crop' with densification.with_head"):
        FitConfig(Schedule(100, drawn="crop"), densification=DefaultDensification(with_head=True))
    assert Schedule(100).with_head(None).head_start == 100

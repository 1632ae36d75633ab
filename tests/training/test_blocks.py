"""Several sets of Gaussians in one run."""

import pytest

from qsplat.training.blocks import Blocks
from qsplat.training.schedule import Schedule


@pytest.mark.parametrize(("iterations", "sets"), [(100, 1), (100, 2), (101, 3), (23, 7), (10, 9)])
def test_blocks_follow_each_other_and_have_nearly_equal_lengths(iterations: int, sets: int):
    run = Schedule(iterations, head_share=0.9, mode="frozen")
    blocks = Blocks(run, sets)
    trained = [blocks.block_at(step) for step in range(iterations)]
    assert trained == sorted(trained[: run.head_start]) + [None] * (iterations - run.head_start)
    lengths = [trained.count(block) for block in range(sets)]
    assert max(lengths) - min(lengths) <= 1 <= min(lengths)
    for step, block in enumerate(trained):
        if block is not None:
            assert blocks.step_in_plan(step) == step - trained.index(block)
            assert blocks.plan_at(step).iterations == lengths[block]
            assert blocks.plan_at(step).phase_at(blocks.step_in_plan(step)) == "splatting"
        else:
            assert blocks.step_in_plan(step) == step
            assert blocks.plan_at(step).phase_at(step) == "frozen"


def test_each_block_halves_its_images_at_the_start_and_the_head_sees_whole_ones():
    blocks = Blocks(Schedule(100, head_share=0.2, mode="frozen", downscales=2), 2)
    factors = [blocks.plan_at(step).downscale_at(blocks.step_in_plan(step)) for step in range(100)]
    assert factors[:3] == factors[10:13] == [4, 2, 1]
    assert set(factors[20:]) == {1}


@pytest.mark.parametrize(("share", "sets", "said"), [(0.9, 0, "sets=0"), (0.9, 10, "sets=10"), (1.0, 2, "1.0")])
def test_a_run_without_iterations_for_each_part_is_refused(share: float, sets: int, said: str):
    with pytest.raises(ValueError, match=said):
        Blocks(Schedule(10, head_share=share), sets)

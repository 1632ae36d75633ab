"""FreSh on photos of a scene and on an image."""

import math
from dataclasses import replace

import pytest
import torch

from qsplat.encodings import Fourier, Positional
from qsplat.fields.frequencies import Sine
from qsplat.fields.nerf import FieldConfig
from qsplat.training.frequency import candidates_for, choose_field_frequency, choose_image_frequency

TINY = FieldConfig(Sine(), depth=2, width=32, skip=None, view_width=16, density="softplus")


def stripes(cycles: float, height: int, width: int) -> torch.Tensor:
    """Random waves of about ``cycles`` per image."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    angle, phase = torch.rand(2, 60, generator=generator) * 2 * math.pi
    waves = torch.sin(2 * math.pi * cycles * (x[..., None] * angle.cos() + y[..., None] * angle.sin()) + phase)
    return (waves.sum(dim=-1, keepdim=True) / 60 + 0.5).clamp(0, 1).expand(-1, -1, 3).contiguous()


def painted(capture, cycles: float):
    """The scene with finer or coarser pictures in place of its photos."""
    train = tuple(
        replace(view, image=stripes(cycles, view.camera.height, view.camera.width), alpha=None)
        for view in capture.train
    )
    return replace(capture, train=train)


@pytest.mark.parametrize(
    ("frequencies", "candidates"),
    [(Sine(), [10.0, 60.0, 200.0]), (Fourier(16), [1.0, 4.0, 12.0]), (Positional(), [5.0, 7.0, 9.0])],
)
def test_finer_photos_choose_higher_frequencies(capture, frequencies, candidates):
    config = replace(TINY, frequencies=frequencies)
    coarse, fine = (
        choose_field_frequency(painted(capture, cycles), config, candidates=candidates).value for cycles in (1.0, 14.0)
    )
    assert coarse < fine


def test_the_choice_is_reproducible_and_counted(capture):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (choose_field_frequency(capture, TINY, candidates=[20.0, 50.0]) for _ in range(2))
    assert first == second
    assert first.forward_passes == 20
    assert torch.equal(torch.get_rng_state(), state)


def test_precision_does_not_change_the_choice(capture):
    choices = [
        choose_field_frequency(capture, replace(TINY, precision=precision), candidates=[20.0, 50.0])
        for precision in ("fp32", "bf16")
    ]
    assert choices[0] == choices[1]


def test_images_choose_frequencies_too():
    values = [
        choose_image_frequency(
            stripes(cycles, 70, 90), Sine(), width=32, depth=3, bins=30, candidates=[10.0, 40.0, 120.0]
        ).value
        for cycles in (1.0, 12.0)
    ]
    assert values[0] < values[1]


def test_candidates_are_those_of_the_authors():
    assert candidates_for(Sine()) == tuple(range(10, 201, 10))
    assert candidates_for(Fourier()) == tuple(range(1, 21))
    assert candidates_for(Positional()) == tuple(range(1, 17))


def test_a_scene_without_photos_is_refused(capture):
    with pytest.raises(ValueError, match="0 training views"):
        choose_field_frequency(replace(capture, train=()), TINY)

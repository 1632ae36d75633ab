"""What radiance fields cannot do in nerfstudio is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_capture import HEIGHT, WIDTH, run, write_capture
from small_fields import Configure

pytestmark = pytest.mark.usefixtures("small_field_networks")


WRONG_OPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "negative": ("siren", {"frequency": -5.0}, r"--pipeline\.model\.frequency -5\.0"),
    "zero": ("fourier", {"frequency": 0.0}, r"--pipeline\.model\.frequency 0\.0"),
    "not a number": ("siren", {"frequency": float("nan")}, r"--pipeline\.model\.frequency nan"),
    "without end": ("nerf", {"frequency": float("inf")}, r"--pipeline\.model\.frequency inf"),
    "waves": ("rffca", {"frequency": 0.0}, r"--pipeline\.model\.frequency 0\.0: 1/sigma=0\.0"),
    "waves without end": ("rffca", {"frequency": float("inf")}, r"--pipeline\.model\.frequency inf: 1/sigma=inf"),
    "more octaves than digits": ("nerf", {"frequency": 200.0}, r"frequency 200\.0: octaves=200: .*; give fewer"),
    "half an octave": ("nerf", {"frequency": 2.5}, "whole number of octaves"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_what_a_field_cannot_have_is_refused_in_one_sentence(case: str, capture: Path, fields: Configure):
    method, options, said = WRONG_OPTIONS[case]
    config = fields(capture, method=method, **options)
    with pytest.raises(SystemExit, match=said) as refusal:
        run(config)
    assert str(refusal.value).startswith("qsplat: ")
    assert "\n" not in str(refusal.value)
    assert not config.get_checkpoint_dir().exists()


@pytest.mark.parametrize("rate", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused_before_training(rate: float, capture: Path, fields: Configure):
    config = fields(capture)
    config.optimizers["field"]["optimizer"].lr = rate
    with pytest.raises(SystemExit, match=rf"^qsplat: --optimizers\.field\.optimizer\.lr {rate:g}: give a finite rate"):
        run(config)
    assert not config.get_checkpoint_dir().exists()


def test_a_run_without_iterations_is_refused_with_its_option(capture: Path, fields: Configure):
    config = fields(capture)
    config.max_num_iterations = 0
    with pytest.raises(SystemExit, match=r"^qsplat: --max-num-iterations 0: a run has at least 1$"):
        run(config)


def test_iterations_without_rays_are_refused(capture: Path, fields: Configure):
    config = fields(capture)
    config.pipeline.datamanager.train_num_rays_per_batch = 0
    with pytest.raises(SystemExit, match="train-num-rays-per-batch 0"):
        run(config)


def test_photos_without_contrast_have_no_frequency_to_choose_by(tmp_path: Path, fields: Configure):
    folder = write_capture(tmp_path / "grey")
    for photo in (folder / "images").iterdir():
        Image.new("RGB", (WIDTH, HEIGHT), "grey").save(photo)
    with pytest.raises(SystemExit, match="no contrast"):
        run(fields(folder, frequency="auto"))


def test_other_checkpoints_are_refused(nerf: Any, trained: Any, capture: Path, fields: Configure):
    cases = {
        "of a run of qsplat-nerf: give one of a run of qsplat-siren": fields(capture, method="siren"),
        "of no radiance field": fields(capture),
        "--pipeline.model.frequency 10: give that": fields(capture, frequency=4.0),
    }
    for said, config in cases.items():
        config.load_dir = (trained if "no radiance" in said else nerf).checkpoint_dir
        trainer = config.setup(local_rank=0, world_size=1)
        with pytest.raises(SystemExit, match=said):
            trainer.setup()

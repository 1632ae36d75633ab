"""The methods on a GPU: trained, evaluated and resumed there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_capture import held_out, run

from nerfstudio_plugin.runs import load_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", ["qsplat", "qsplat-mcmc"])
def test_a_run_and_its_continuation_are_on_the_gpu(method: str, capture: Path, configured: Callable[..., Any]):
    first = run(configured(capture, method=method, iterations=200))
    assert first.pipeline.model.means.is_cuda
    camera, batch = first.pipeline.datamanager.next_eval(0)
    model = first.pipeline.model.eval()
    metrics, _ = model.get_image_metrics_and_images(model.get_outputs_for_camera(camera), batch)
    assert metrics["psnr"] > 18
    config = configured(capture, method=method, iterations=20)
    config.load_dir = first.checkpoint_dir
    second = run(config)
    assert second.pipeline.model.means.is_cuda
    assert len(second.pipeline.model.means) == len(first.pipeline.model.means)


def test_sets_photos_and_network_of_qsplat_plus_are_on_the_gpu(capture: Path, plus: Callable[..., Any]):
    trainer = run(plus(capture, iterations=200))
    model = trainer.pipeline.model.eval()
    assert model.companions[0].means.is_cuda
    assert model._gain > 0
    shown = model.get_outputs_for_camera(held_out(trainer))
    assert shown["rgb"].is_cuda
    assert not torch.equal(shown["rgb"], shown["rgb_base"])
    loaded = load_run(trainer.base_dir / "config.yml")
    again = loaded.render(loaded.views[0].camera)
    torch.testing.assert_close(again.rgb.cpu(), shown["rgb"].cpu(), atol=1e-4, rtol=0)

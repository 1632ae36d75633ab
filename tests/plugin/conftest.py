"""Runs of the plugin on a small capture, as ns-train would make them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_capture import run, write_capture


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("capture") / "blobs")


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A configuration of a method for a capture, as ns-train would make it."""
    from nerfstudio.configs.method_configs import all_methods

    def configure(data: Path, *, method: str = "qsplat", iterations: int = 300) -> Any:
        config = copy.deepcopy(all_methods[method])
        config.data = config.pipeline.datamanager.data = data
        config.output_dir = tmp_path_factory.mktemp("outputs")
        config.max_num_iterations = iterations
        config.vis = "tensorboard"
        config.set_timestamp()
        config.save_config()
        return config

    return configure


@pytest.fixture(scope="session")
def trained(capture: Path, configured: Callable[..., Any]) -> Any:
    """The trainer of a short run, after it."""
    config = configured(capture)
    config.steps_per_eval_image = 20
    return run(config)

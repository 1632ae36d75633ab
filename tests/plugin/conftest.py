"""Runs of the plugin on a small capture, as ns-train would make them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
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


@pytest.fixture(scope="session")
def plus(configured: Callable[..., Any]) -> Callable[..., Any]:
    """A configuration of qsplat-plus with a small network."""

    def configure(data: Path, *, iterations: int = 300, **options: Any) -> Any:
        config = configured(data, method="qsplat-plus", iterations=iterations)
        model = config.pipeline.model
        model.qnn_options = replace(model.qnn_options, channels=8, layers=2, start=0.6)
        for name, value in options.items():
            setattr(model, name, value)
        config.save_config()
        return config

    return configure


@pytest.fixture(scope="session")
def plus_run(capture: Path, plus: Callable[..., Any]) -> Any:
    """The trainer of a run of two sets and a network, after it."""
    return run(plus(capture))


@pytest.fixture
def small_field_networks(monkeypatch: pytest.MonkeyPatch):
    """Radiance fields with small networks and few samples."""
    from small_fields import tiny

    from nerfstudio_plugin import field_config

    monkeypatch.setattr(field_config, "field_preset", tiny)


@pytest.fixture(scope="session")
def fields(configured: Callable[..., Any]) -> Callable[..., Any]:
    """A configuration of a radiance field with few rays."""
    from small_fields import ITERATIONS, RAYS

    def configure(data: Path, *, method: str = "nerf", iterations: int = ITERATIONS, **options: Any) -> Any:
        config = configured(data, method=f"qsplat-{method}", iterations=iterations)
        config.pipeline.datamanager.train_num_rays_per_batch = RAYS
        for name, value in options.items():
            setattr(config.pipeline.model, name, value)
        config.save_config()
        return config

    return configure


@pytest.fixture(scope="session")
def nerf(capture: Path, fields: Callable[..., Any]) -> Any:
    """The trainer of a run of qsplat-nerf, after it."""
    from small_fields import tiny

    from nerfstudio_plugin import field_config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_config, "field_preset", tiny)
        return run(fields(capture))

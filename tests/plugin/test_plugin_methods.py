"""The entry points and the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import tyro

from nerfstudio_plugin import methods
from nerfstudio_plugin.model_config import SplatModelConfig
from qsplat.encodings import Fourier, Positional
from qsplat.qnn import QnnConfig
from qsplat.training.densification import McmcDensification
from qsplat.training.schedule import Schedule


def parsed(*arguments: str, method: str = "qsplat") -> SplatModelConfig:
    from nerfstudio.configs.method_configs import all_methods

    default = all_methods[method]
    return tyro.cli(tyro.conf.FlagConversionOff[type(default)], default=default, args=list(arguments)).pipeline.model


def test_importing_the_entry_points_imports_neither_torch_nor_nerfstudio():
    code = (
        "import sys, nerfstudio_plugin.methods; sys.exit(any(name in sys.modules for name in ('torch', 'nerfstudio')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_method_that_cannot_be_built_gives_its_reason_instead_of_raising(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr("nerfstudio_plugin.specifications", raising=False)
    monkeypatch.setitem(sys.modules, "nerfstudio_plugin.specifications", None)
    assert isinstance(methods.qsplat, methods.Unavailable)
    assert "specifications" in methods.qsplat.reason


def test_nerfstudio_finds_the_methods_and_the_dataparser():
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_methods

    fields = {"qsplat-nerf", "qsplat-siren", "qsplat-fourier", "qsplat-rffca"}
    assert {"qsplat", "qsplat-mcmc", "qsplat-plus", *fields} <= set(all_methods)
    assert "qsplat-data" in all_dataparsers
    assert isinstance(all_methods["qsplat-mcmc"].pipeline.model.densification, McmcDensification)


def test_the_device_is_what_there_is():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert methods.qsplat.config.machine.device_type == expected


def test_qnn_none_on_the_command_line_means_plain_splatting():
    model = parsed("--pipeline.model.qnn", "none")
    assert model.network() is None
    assert model.schedule(1000).head_start == 1000


def test_the_networks_options_stand_under_the_same_name():
    model = parsed("--pipeline.model.qnn.channels", "16", "--pipeline.model.qnn.start", "0.5")
    assert model.network() == QnnConfig(channels=16)
    assert model.schedule(1000).head_start == 500


def test_every_option_of_the_network_is_one_of_the_command_line():
    given = {
        "layers": "2", "kernel": "1", "activation": "leaky_relu", "input": "queries", "query": "locations",
        "encoding": "fourier", "fourier-features": "5", "fourier-scale": "2.5", "mode": "frozen", "start": "0.9",
        "crop-share": "0.3", "rate": "1e-3", "decay": "constant",
    }  # fmt: skip
    model = parsed(*(word for name, value in given.items() for word in (f"--pipeline.model.qnn.{name}", value)))
    assert model.network() == QnnConfig(
        layers=2, kernel=1, activation="leaky_relu", input="queries", query="locations", encoding=Fourier(5, 2.5)
    )
    assert model.schedule(1000) == Schedule(
        1000, head_share=0.9, mode="frozen", crop_share=0.3, head_rate=1e-3, head_decay="constant"
    )
    positional = parsed("--pipeline.model.qnn.encoding", "positional", "--pipeline.model.qnn.octaves", "4").network()
    assert positional == QnnConfig(encoding=Positional(4))


@pytest.mark.parametrize("method", ["qsplat", "qsplat-mcmc"])
def test_densification_beside_the_network_is_an_option(method):
    assert parsed("--pipeline.model.densification.with-head", "True", method=method).densification.with_head


def test_the_cap_on_gaussians_is_an_option_of_both_methods():
    for method in ("qsplat", "qsplat-mcmc"):
        model = parsed("--pipeline.model.densification.max-gaussians", "1234", method=method)
        assert model.densification.max_gaussians == 1234


def test_ns_viewer_does_not_open_the_viewer_to_other_machines():
    import copy

    from nerfstudio.configs.base_config import ViewerConfig

    config = copy.deepcopy(methods.qsplat.config)
    assert config.viewer.websocket_host == "127.0.0.1"
    config.viewer = ViewerConfig(websocket_port=7777)
    assert (config.viewer.websocket_host, config.viewer.websocket_port) == ("127.0.0.1", 7777)
    config.viewer = ViewerConfig(websocket_host="192.0.2.1")
    assert config.viewer.websocket_host == "192.0.2.1"


def test_numpy_scalars_in_checkpoints_can_be_loaded(tmp_path):
    import numpy as np

    assert methods.qsplat
    torch.save({"rate": np.float64(1.5), "other": np.float32(2)}, tmp_path / "state.ckpt")
    assert torch.load(tmp_path / "state.ckpt")["rate"] == 1.5


def test_every_schedule_has_the_length_of_the_run(monkeypatch: pytest.MonkeyPatch):
    import copy

    from nerfstudio.engine.trainer import TrainerConfig

    monkeypatch.setattr(TrainerConfig, "setup", lambda self: self)
    config = copy.deepcopy(methods.qsplat.config)
    config.max_num_iterations = 600
    scheduler = config.setup().optimizers["camera_opt"]["scheduler"]
    assert (scheduler.max_steps, scheduler.warmup_steps) == (600, 20)

"""The methods ``qsplat``, ``qsplat-mcmc`` and ``qsplat-plus``: their defaults on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from nerfstudio_plugin.datamanager import QsplatDataManagerConfig
from nerfstudio_plugin.dataparser import QsplatDataParserConfig
from nerfstudio_plugin.model_config import QnnOptions, SplatModelConfig
from nerfstudio_plugin.plus_config import PlusModelConfig
from nerfstudio_plugin.progress import ProgressWriterConfig
from nerfstudio_plugin.trainer_config import QsplatTrainerConfig, RunLengthDecayConfig
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.optimizers import EPSILON, RATES


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam as qsplat.training uses it: in one kernel, the fastest on CPU and CUDA alike."""

    fused: bool = True


@dataclass(frozen=True)
class _Defaults:
    """What depends on the machine."""

    device: Literal["cpu", "cuda"]
    iterations: int
    max_side: int
    max_gaussians: int
    steps_per_save: int
    crop_share: float | None


ON_CUDA = _Defaults(
    "cuda", iterations=30_000, max_side=1600, max_gaussians=1_000_000, steps_per_save=2000, crop_share=1.0
)
ON_CPU = _Defaults("cpu", iterations=3000, max_side=400, max_gaussians=100_000, steps_per_save=500, crop_share=None)


def _optimizers() -> dict[str, dict]:
    """Adam at the rates of ``qsplat.training``, which sets them at every step; the camera optimizer and the bilateral
    grid are nerfstudio's, with its rates."""
    groups: dict[str, tuple[float, RunLengthDecayConfig | None]] = {
        **{name: (rate.initial, None) for name, rate in RATES.items()},
        "camera_opt": (1e-4, RunLengthDecayConfig(lr_final=5e-7)),
        "bilateral_grid": (5e-3, RunLengthDecayConfig(lr_final=1e-4)),
    }
    return {
        name: {"optimizer": FusedAdamConfig(lr=rate, eps=EPSILON), "scheduler": scheduler}
        for name, (rate, scheduler) in groups.items()
    }


def _here() -> _Defaults:
    return ON_CUDA if torch.cuda.is_available() else ON_CPU


def _model(densification: DefaultDensification | McmcDensification) -> SplatModelConfig:
    here = _here()
    return SplatModelConfig(
        densification=replace(densification, max_gaussians=here.max_gaussians),
        qnn_options=QnnOptions(crop_share=here.crop_share),
    )


def _specification(name: str, summary: str, model: SplatModelConfig, *, length: float = 1.0) -> MethodSpecification:
    """The method ``name`` with ``length`` times the usual number of iterations."""
    here, iterations = _here(), {each.device: round(length * each.iterations) for each in (ON_CPU, ON_CUDA)}
    return MethodSpecification(
        config=QsplatTrainerConfig(
            method_name=name,
            machine=MachineConfig(device_type=here.device),
            max_num_iterations=iterations[here.device],
            steps_per_save=here.steps_per_save,
            steps_per_eval_batch=0,
            steps_per_eval_image=500,
            steps_per_eval_all_images=iterations[here.device],
            pipeline=VanillaPipelineConfig(
                datamanager=QsplatDataManagerConfig(
                    dataparser=QsplatDataParserConfig(), cache_images_type="uint8", max_side=here.max_side
                ),
                model=model,
            ),
            optimizers=_optimizers(),
            logging=LoggingConfig(local_writer=ProgressWriterConfig(), profiler="none"),
            viewer=ViewerConfig(websocket_host="127.0.0.1", quit_on_train_completion=True),
            vis="viewer",
        ),
        description=(
            f"{summary} With a GPU {iterations['cuda']} iterations at up to {ON_CUDA.max_side} pixels a side and "
            f"{ON_CUDA.max_gaussians} Gaussians; without one {iterations['cpu']}, {ON_CPU.max_side} and "
            f"{ON_CPU.max_gaussians}. The run ends by itself: see it with ns-viewer."
        ),
    )


qsplat = _specification(
    "qsplat",
    "Gaussian splatting corrected by a residual network, on any machine.",
    _model(DefaultDensification()),
)
qsplat_mcmc = _specification(
    "qsplat-mcmc",
    "qsplat with MCMC densification, which fills a given number of Gaussians.",
    _model(McmcDensification()),
)
qsplat_plus = _specification(
    "qsplat-plus",
    "The mean of several sets of Gaussians, weighed and corrected by the nearest photos; takes about twice as "
    "long as qsplat.",
    PlusModelConfig(densification=DefaultDensification(max_gaussians=_here().max_gaussians)),
    length=2.2,
)

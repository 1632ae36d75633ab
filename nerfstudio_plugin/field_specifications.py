"""The methods ``qsplat-nerf``, ``qsplat-siren``, ``qsplat-fourier`` and ``qsplat-rffca``: their defaults on this
machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification
from torch.nn import Parameter
from torch.optim import Optimizer

from nerfstudio_plugin.dataparser import QsplatDataParserConfig
from nerfstudio_plugin.field_config import FieldModelConfig
from nerfstudio_plugin.field_data import FieldDataManagerConfig
from nerfstudio_plugin.progress import ProgressWriterConfig
from nerfstudio_plugin.specifications import FusedAdamConfig
from nerfstudio_plugin.trainer_config import QsplatTrainerConfig
from qsplat.training.field_presets import FieldMethod
from qsplat.training.fit_field import FieldFitConfig


@dataclass
class FieldAdamConfig(FusedAdamConfig):
    """Adam at the rate of the preset, unless another one is given."""

    lr: float | None = None
    """Learning rate at the start, from which it shrinks as that of the preset does; None for the preset's."""

    def setup(self, params: list[Parameter]) -> Optimizer:
        """The optimizer, whose rate the model sets in each iteration.

        Raises:
            SystemExit: the rate is none.
        """
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise SystemExit(
                f"qsplat: --optimizers.field.optimizer.lr {self.lr:g}: give a finite rate above 0, or leave it out for "
                "that of the preset"
            )
        return FusedAdamConfig(**{**vars(self), "lr": self.lr or 0.0}).setup(params)


@dataclass(frozen=True)
class _Defaults:
    """What depends on the machine."""

    device: Literal["cpu", "cuda"]
    iterations: int
    max_side: int
    steps_per_save: int
    steps_per_eval_image: int


ON_CUDA = _Defaults("cuda", FieldFitConfig.iterations, max_side=800, steps_per_save=5000, steps_per_eval_image=5000)
ON_CPU = _Defaults("cpu", iterations=3000, max_side=400, steps_per_save=500, steps_per_eval_image=1000)


def _specification(method: FieldMethod, summary: str) -> MethodSpecification:
    original, small = "8 layers of 256 channels", "4 layers of 128"
    if method == "rffca":
        original, small = "4 blocks of 64 channels over 512 waves", "2 blocks of 32 over 128"
    here = ON_CUDA if torch.cuda.is_available() else ON_CPU
    return MethodSpecification(
        config=QsplatTrainerConfig(
            method_name=f"qsplat-{method}",
            machine=MachineConfig(device_type=here.device),
            max_num_iterations=here.iterations,
            steps_per_save=here.steps_per_save,
            steps_per_eval_batch=0,
            steps_per_eval_image=here.steps_per_eval_image,
            steps_per_eval_all_images=here.iterations,
            pipeline=VanillaPipelineConfig(
                datamanager=FieldDataManagerConfig(
                    dataparser=QsplatDataParserConfig(), cache_images_type="uint8", max_side=here.max_side
                ),
                model=FieldModelConfig(method=method),
            ),
            optimizers={"field": {"optimizer": FieldAdamConfig(), "scheduler": None}},
            logging=LoggingConfig(local_writer=ProgressWriterConfig(), profiler="none"),
            viewer=ViewerConfig(websocket_host="127.0.0.1", quit_on_train_completion=True),
            vis="viewer",
        ),
        description=(
            f"{summary} With a GPU {original}, 64 and 128 samples of a ray, as published, and {ON_CUDA.iterations} "
            f"iterations of {FieldFitConfig.rays} rays, our choice (NeRF: 500000, or 200000 of 4096); without one "
            f"{small}, 12 samples where a grid says that there is something, and {ON_CPU.iterations} iterations. "
            "--pipeline.model.preset chooses either anywhere."
        ),
    )


qsplat_nerf = _specification("nerf", "A radiance field with positional encoding (NeRF), to compare with.")
qsplat_siren = _specification("siren", "A radiance field of sine layers (SIREN), to compare with.")
qsplat_fourier = _specification("fourier", "A radiance field with Gaussian Fourier features, to compare with.")
qsplat_rffca = _specification("rffca", "A radiance field that attends to waves (RFF-CA), to compare with.")

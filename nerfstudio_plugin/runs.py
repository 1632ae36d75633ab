"""Finished runs of ns-train, loaded to be evaluated or shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.trainer import TrainerConfig
from torch import Tensor

from nerfstudio_plugin.cameras import camera_of, cameras_of, mark_as_measured
from nerfstudio_plugin.datamanager import QsplatDataManager
from nerfstudio_plugin.field_model import QsplatFieldModel
from nerfstudio_plugin.refusals import check_checkpoint, newest_checkpoint
from nerfstudio_plugin.splat_model import QsplatModel
from nerfstudio_plugin.views import view_of
from qsplat.cameras import Camera
from qsplat.io.scene import View
from qsplat.metrics.report import RunFacts

METHODS = ("qsplat", "qsplat-mcmc", "qsplat-plus", "qsplat-nerf", "qsplat-siren", "qsplat-fourier", "qsplat-rffca")


@dataclass(frozen=True)
class Shown:
    """What a run's model shows of a view: images in [0, 1], expected depth along the camera's axis in units of its
    world, and coverage.

    ``rgb_base`` is the image that a head corrected; where there is none it is ``rgb``.
    """

    rgb: Float[Tensor, "h w 3"]
    rgb_base: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    accumulation: Float[Tensor, "h w"]


@dataclass(frozen=True)
class Run:
    """A model at its latest checkpoint, the views it was not trained on, and what is known about the training.

    ``held_out`` is False where the capture holds nothing out; then ``views`` are views of the training. Where the
    capture is gone, all but ``views`` and ``training_views`` is there.
    """

    model: QsplatModel | QsplatFieldModel
    held_out: bool
    facts: RunFacts
    photos: QsplatDataManager
    remarks: tuple[str, ...] = ()

    @property
    def background(self) -> Float[Tensor, "3"]:
        """RGB that the model renders over, and that photos with alpha are compared over."""
        return self.model.background_color

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The views to evaluate, named as in the capture.

        Raises:
            ValueError: a photo cannot be read.
        """
        with _raised():
            pairs = self.photos.fixed_indices_eval_dataloader
        names, device = self.photos.eval_dataset.image_filenames, self.model.device
        return tuple(
            replace(view_of(camera_of(camera), batch, device), name=_name(path, self.photos.get_datapath()))
            for path, (camera, batch) in zip(names, pairs, strict=True)
        )

    def cameras(self) -> list[Camera]:
        """Where those views were taken. No photo is read for it: nerfstudio changes cameras of lenses with distortion
        when it reads what they took."""
        return self.photos.evaluated_cameras()

    def training_views(self) -> list[View]:
        """The views that the model was trained on, which are named by number, on the CPU.

        Raises:
            ValueError: a photo cannot be read.
        """
        with _raised():
            return self.photos.training_views(torch.device("cpu"))

    def training_cameras(self) -> list[Camera]:
        """Where those views were taken. No photo is read for it."""
        return self.photos.training_cameras()

    def render(self, camera: Camera) -> Shown:
        """What the model shows of a view."""
        return self._shown(camera, cameras_of([camera]))

    def render_measured(self, camera: Camera) -> Shown:
        """As ``render``, to be compared with the photo that ``camera`` took, which the model does not read."""
        cameras = cameras_of([camera])
        mark_as_measured(cameras)
        return self._shown(camera, cameras)

    @torch.no_grad()
    def _shown(self, camera: Camera, cameras: Cameras) -> Shown:
        outputs = self.model.get_outputs_for_camera(cameras.to(self.model.device))
        depth = outputs["depth"][..., 0]
        if isinstance(self.model, QsplatFieldModel):
            depth = depth * camera.cosines().to(depth)
        return Shown(
            rgb=outputs["rgb"],
            rgb_base=outputs.get("rgb_base", outputs["rgb"]),
            depth=depth,
            accumulation=outputs["accumulation"][..., 0],
        )


def load_run(config: Path) -> Run:
    """Load a run from the config.yml that ns-train wrote, on the GPU when there is one. Where the capture is gone, the
    run's folder is enough.

    The file is nerfstudio's: loading it runs code that it names, so load only configs of people you trust.

    Raises:
        ValueError: there is no such file, it is no config of ours, the run has no checkpoint or a broken one, or its
            capture cannot be read.
    """
    from nerfstudio.utils.eval_utils import eval_load_checkpoint

    if not config.is_file():
        raise ValueError(f"{config} does not exist: give the config.yml in the folder of a run of ns-train")
    settings = _settings(config)
    settings.load_dir = config.parent / settings.relative_model_dir
    checkpoint = newest_checkpoint(settings.load_dir)
    if checkpoint is None:
        raise ValueError(f"{settings.load_dir} holds no checkpoint: let the training run to its first save")
    with _raised():
        check_checkpoint(checkpoint)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        pipeline = settings.pipeline.setup(device=device, test_mode="test").eval()
        _, step = eval_load_checkpoint(settings, pipeline)
    model: Any = pipeline.model
    manager: Any = pipeline.datamanager
    facts = RunFacts(
        method=str(settings.method_name),
        scene=Path(manager.get_datapath()).resolve().name,
        device=_name_of(model.device),
        iterations=step + 1,
        num_gaussians=model.num_gaussians,
        train_seconds=model.train_seconds,
    )
    held_out = set(manager.train_dataset.image_filenames).isdisjoint(manager.eval_dataset.image_filenames)
    return Run(model, held_out, facts, manager, model.remarks)


@contextmanager
def _raised() -> Iterator[None]:
    """Turn what would end a command of nerfstudio into an error.

    Raises:
        ValueError: with the sentence of the refusal.
    """
    try:
        yield
    except SystemExit as refusal:
        raise ValueError(str(refusal.code).removeprefix("qsplat: ")) from None


def _settings(config: Path) -> TrainerConfig:
    """nerfstudio's options of the run."""
    try:
        settings = yaml.load(config.read_text(encoding="utf-8"), Loader=yaml.Loader)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{config} cannot be read ({reason}): give the config.yml of a run of this version") from None
    if not isinstance(settings, TrainerConfig) or settings.method_name not in METHODS:
        method = getattr(settings, "method_name", None)
        raise ValueError(f"{config} is of the method {method}: give that of a run of {', '.join(METHODS)}")
    return settings


def _name(path: Path, folder: Path) -> str:
    """A photo's name in its capture."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _name_of(device: torch.device) -> str:
    """The GPU's name, or cpu and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"

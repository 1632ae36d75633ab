"""nerfstudio's view of a radiance field: it translates cameras, rays and options, and leaves the rest to qsplat."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.models.base_model import Model
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.field_config import FREQUENCY_NAMES, FieldModelConfig
from nerfstudio_plugin.field_data import FieldDataManager
from nerfstudio_plugin.image_metrics import image_metrics
from nerfstudio_plugin.progress import say_where_it_goes_on
from nerfstudio_plugin.refusals import in_one_sentence, refuse_other_sizes
from nerfstudio_plugin.views import background_of, view_of
from qsplat.cameras import Camera
from qsplat.fields import FieldModel, Frequencies, Region, frequency_of, with_frequency
from qsplat.fields.frequencies import with_seed
from qsplat.fields.model import Marched
from qsplat.fields.rays import Rays
from qsplat.fields.region import Box
from qsplat.metrics.psnr import psnr
from qsplat.training.config import TrainingScene
from qsplat.training.field_presets import FieldSize
from qsplat.training.fit_field import field_loss, region_for
from qsplat.training.frequency import choose_field_frequency
from qsplat.training.memory import keep_freed_memory
from qsplat.training.schedule import Schedule
from qsplat.training.targets import Target

NOWHERE = Region(torch.zeros(3), radius=1.0, near=0.0, far=1.0, bounded=True)
"""The region until photos or a checkpoint tell it."""


class QsplatFieldModel(Model):
    """A field that gets its region, and its frequencies if they are chosen, when a run begins or a checkpoint is
    loaded. Both are part of the checkpoint, and so is the length of the run, which a resumed one keeps."""

    config: FieldModelConfig

    def populate_modules(self) -> None:
        """A field somewhere, for a run or a checkpoint to replace."""
        self._size: FieldSize = self.config.size(torch.device(self.kwargs["device"]))
        self.background_color = background_of(self.config.background_color, self.kwargs["metadata"])
        self.radiance = self._new_field(self.config.frequencies(self._size), NOWHERE)
        self.step = 0
        self._iterations = 1
        self._log_every = 1
        self._optimized = False
        self._restored: dict[str, Any] = {}
        self._clock: float | None = None
        self._marched: Marched | None = None

    def _new_field(self, frequencies: Frequencies, region: Region) -> FieldModel:
        config = replace(self.config.fitting(self._size, 1).field, frequencies=frequencies)
        return FieldModel(config, region, self.background_color)

    def _settle(self, frequencies: Frequencies, region: Region) -> None:
        """Begin anew with these frequencies in this region. Parameters stay the same objects, because an optimizer
        holds them already."""
        held = dict(self.radiance.named_parameters())
        self.radiance = self._new_field(frequencies, region).to(self.device)
        for name, drawn in list(self.radiance.named_parameters()):
            held[name].data = drawn.data
            owner, _, last = name.rpartition(".")
            setattr(self.radiance.get_submodule(owner), last, held[name])

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """All parameters of the field."""
        self._optimized = True
        return {"field": list(self.radiance.parameters())}

    # A run

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Begin the run of the trainer, and follow its steps."""
        trainer, optimizers = training_callback_attributes.trainer, training_callback_attributes.optimizers
        assert trainer is not None
        assert optimizers is not None
        assert training_callback_attributes.pipeline is not None
        manager: Any = training_callback_attributes.pipeline.datamanager
        self._log_every = max(1, trainer.config.logging.steps_per_log)
        with in_one_sentence():
            self._begin(trainer.config.max_num_iterations, manager)
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [
            TrainingCallback([before], self.step_cb, args=[optimizers]),
            TrainingCallback([after], self.step_post_backward),
        ]

    def _begin(self, iterations: int, manager: FieldDataManager) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        self._clock = time.monotonic() - (self.train_seconds or 0.0)
        scene = manager.scene()
        if self._restored:
            say_where_it_goes_on(self.step, self._iterations)
        else:
            self._iterations = iterations
            self._settle(self._frequencies_for(scene), region_for(scene))
        manager.draw_from(scene, self.background_color)

    def _frequencies_for(self, scene: TrainingScene) -> Frequencies:
        """What is asked for, or what FreSh chooses, which is said."""
        seed = torch.initial_seed()
        given = with_seed(self.config.frequencies(self._size), seed)
        if self.config.frequency != "auto":
            return given
        began, name = time.monotonic(), FREQUENCY_NAMES[self.config.method]
        choice = choose_field_frequency(scene, self.radiance.config, seed=seed, device=str(self.device))
        tried = [candidate.value for candidate in choice.candidates]
        CONSOLE.print(
            f"FreSh chose {name} = {choice.value:g} from {len(tried)} values between {min(tried):g} and {max(tried):g} "
            f"(default {frequency_of(given):g}): {choice.forward_passes} forward passes of untrained fields, "
            f"{time.monotonic() - began:.0f} s"
        )
        return with_frequency(given, choice.value)

    def step_cb(self, optimizers: Optimizers, step: int) -> None:
        """Before an iteration: its rate, that of the preset. One that the user gave stands for its beginning."""
        self.step = step
        rate = self.config.fitting(self._size, self._iterations).rate
        given = optimizers.config["field"]["optimizer"].lr
        for group in optimizers.optimizers["field"].param_groups:
            group["lr"] = rate.at(step, Schedule(self._iterations)) * (given or rate.initial) / rate.initial

    def step_post_backward(self, step: int) -> None:
        """After an iteration: what the field knows about itself."""
        self._marched = None
        self.radiance.after_step(step)

    # Images

    def get_outputs(self, ray_bundle: Rays | Cameras) -> dict[str, Tensor]:
        """What rays see: ``rgb`` [r, 3]; or all of what a camera does."""
        if isinstance(ray_bundle, Cameras):
            return self.get_outputs_for_camera(ray_bundle)
        self._marched = self.radiance.march(ray_bundle, jitter=self.training)
        return {"rgb": self._marched.fine.over(self.radiance.background)}

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """``rgb`` [h, w, 3], ``depth`` and ``accumulation`` [h, w, 1], of what lies inside the box if there is one. The
        depth is what nerfstudio's viewer takes it for, the way along the ray."""
        seen = camera_of(camera)
        view = self.radiance.render(seen, within=None if obb_box is None else box_of(obb_box))
        depth = view.depth / seen.cosines().to(view.depth)
        return {"rgb": view.rgb, "depth": depth[..., None], "accumulation": view.alpha[..., None]}

    def _target(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The photo [h, w, 3] as it should look over the background, and its mask [h, w]."""
        height, width = batch["image"].shape[:2]
        photographed = Camera(torch.eye(4), fx=1.0, fy=1.0, cx=0.0, cy=0.0, width=width, height=height)
        target = Target.of(view_of(photographed, batch, self.device), 1, str(self.device))
        return target.over(self.radiance.background), target.mask

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """The loss of rays, or in evaluation the mean squared error of an image where its mask is."""
        if self._marched is None:
            photo, mask = self._target(batch)
            error = (outputs["rgb"] - photo).square()
            return {"rgb_loss": (error if mask is None else error[mask]).mean()}
        return {"rgb_loss": field_loss(self._marched, batch["image"], self.radiance.background)}

    @torch.no_grad()
    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Any]:
        """What is logged about an iteration: nothing between two logged ones."""
        if self.training and self.step % self._log_every:
            return {}
        if self._marched is None:
            photo, mask = self._target(batch)
            return {"psnr": psnr(outputs["rgb"], photo, mask=mask)}
        return {"psnr": psnr(outputs["rgb"][None], batch["image"][None])}

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of an evaluated view, and photo and image side by side."""
        photo, mask = self._target(batch)
        return image_metrics(outputs["rgb"], None, photo, mask), {"img": torch.cat([photo, outputs["rgb"]], dim=1)}

    # Files

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors: which field it is and where, and the run's length and time."""
        region = self.radiance.region
        return {
            "method": self.config.method,
            "preset": self._size,
            "frequency": frequency_of(self.radiance.config.frequencies),
            "region": {name: getattr(region, name) for name in ("radius", "near", "far", "bounded")},
            "iterations": self._iterations,
            "train_seconds": self.train_seconds,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over a run."""
        self._restored, self._iterations = state, state["iterations"]

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> Any:
        """Load a checkpoint with its frequencies and its region.

        Raises:
            SystemExit: it is of another method, or of another field than was asked for.
        """
        state = dict.get("_extra_state", {})
        self._refuse_others(state)
        if state["preset"] != self._size:
            self._size = state["preset"]
            self.radiance = self._new_field(self.config.frequencies(self._size), NOWHERE)
        frequencies = with_frequency(self.config.frequencies(self._size), state["frequency"])
        self._settle(frequencies, Region(dict["radiance.center"], **state["region"]))
        refuse_other_sizes(dict, self.state_dict())
        return super().load_state_dict(dict, **kwargs)

    def _refuse_others(self, state: dict[str, Any]) -> None:
        ours = f"qsplat-{self.config.method}"
        if "method" not in state:
            raise SystemExit(f"qsplat: the checkpoint is of no radiance field: give one of a run of {ours}")
        of = f"qsplat: the checkpoint is of a run of qsplat-{state['method']}"
        if state["method"] != self.config.method:
            raise SystemExit(f"{of}: give one of a run of {ours}")
        if self._optimized and state["preset"] != self._size:
            raise SystemExit(f"{of} with --pipeline.model.preset {state['preset']}: give that")
        asked = self.config.frequency
        if not isinstance(asked, str) and not math.isclose(asked, state["frequency"]):
            raise SystemExit(f"{of} with --pipeline.model.frequency {state['frequency']:g}: give that, or leave it out")

    def update_to_step(self, step: int) -> None:
        """The step of the checkpoint about to be loaded."""
        self.step = step

    @property
    def num_gaussians(self) -> None:
        """There are none."""
        return None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to know when the images are judged."""
        name = FREQUENCY_NAMES[self.config.method]
        return (f"preset {self._size}, {name} = {frequency_of(self.radiance.config.frequencies):g}",)

    @property
    def train_seconds(self) -> float | None:
        """Seconds of training so far, those of resumed runs included; None where a checkpoint does not say."""
        return self._restored.get("train_seconds") if self._clock is None else time.monotonic() - self._clock


def box_of(box: OrientedBox) -> Box:
    """nerfstudio's crop box, whose ``S`` are whole sides."""
    world_from_box = torch.eye(4)
    world_from_box[:3, :3], world_from_box[:3, 3] = box.R, box.T
    return Box(torch.linalg.inv(world_from_box), box.S.float() / 2)

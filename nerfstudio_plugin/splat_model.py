"""nerfstudio's view of a qsplat model: it translates cameras, photos and options, and leaves the rest to qsplat."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.model_components.lib_bilagrid import BilateralGrid, color_correct, total_variation_loss
from nerfstudio.models.splatfacto import SH2RGB, SplatfactoModel
from nerfstudio.viewer.viewer_elements import ViewerCheckbox, ViewerSlider
from torch import Tensor
from torch.nn import Parameter, ParameterDict

from nerfstudio_plugin.backends import check_backend
from nerfstudio_plugin.cameras import camera_of
from nerfstudio_plugin.export import ply_being_written, write_head_beside
from nerfstudio_plugin.image_metrics import image_metrics
from nerfstudio_plugin.model_config import SplatModelConfig
from nerfstudio_plugin.progress import PHASE, say_where_it_goes_on
from nerfstudio_plugin.refusals import in_one_sentence, refuse_other_sizes
from nerfstudio_plugin.views import background_of, points_of, view_of
from qsplat.cameras import Camera, Window
from qsplat.gaussians import Gaussians
from qsplat.metrics.psnr import psnr
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.queries import PlacedQueries
from qsplat.render import Rendering
from qsplat.training.averaging import Averager, check_average_share
from qsplat.training.densification import Densifier, regularization
from qsplat.training.memory import keep_freed_memory
from qsplat.training.model import SplatModel, ViewOutputs, without_trace
from qsplat.training.objective import PhotoLoss
from qsplat.training.optimizers import RATES, set_rates
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.schedule import Phase, Schedule
from qsplat.training.targets import Target
from qsplat.training.threads import share_threads
from qsplat.training.training import initial_gaussians


@dataclass(frozen=True)
class Drawn:
    """What an iteration has rendered: the view, its camera, and the part of it that the network corrected (None for all
    of it)."""

    view: ViewOutputs
    camera: Camera
    window: Window | None


class QsplatModel(SplatfactoModel):
    """To nerfstudio's viewer and exporter a splatfacto model; rendering, loss and densification are qsplat's.

    The schedule is part of the checkpoint: a resumed run keeps that of the run it continues.
    """

    config: SplatModelConfig

    def populate_modules(self) -> None:
        """Gaussians at the seed points (or a single one, for a checkpoint to replace) and what goes with them.

        Raises:
            SystemExit: the Gaussians cannot be drawn on this machine.
        """
        config = self.config
        check_backend(config.rasterizer, self.kwargs["device"])
        self.gauss_params = parameters_of(self._first_gaussians(torch.initial_seed()))
        network = config.network()
        with torch.random.fork_rng(devices=[]):  # so that steps before the switch-on are the same as without a network
            self.qnn = None if network is None else self._new_head(network)
        self.camera_optimizer = config.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")
        if config.use_bilateral_grid:
            x, y, w = config.grid_shape
            self.bil_grids = BilateralGrid(num=self.num_train_data, grid_X=x, grid_Y=y, grid_W=w)
        if network is not None:
            self.show_qnn = ViewerCheckbox("QNN", default_value=True)
            self.residual_gain = ViewerSlider("Residual gain", 4.0, min_value=1.0, max_value=20.0, step=0.5)
        self.background_color = background_of(config.background_color, self.kwargs["metadata"])
        self.crop_box: OrientedBox | None = None
        self.step = 0
        self.schedule: Schedule | None = None
        self._log_every = 1
        self._densifier: Densifier | None = None
        self._averager: Averager | None = None
        self._restored: dict[str, Any] = {}
        self._clock: float | None = None
        self._threads = torch.get_num_threads()
        self._crops = torch.Generator().manual_seed(torch.initial_seed())
        self._drawn: Drawn | None = None
        self._frozen: dict[tuple[int, int], Rendering] = {}
        self._eyes: list[Camera] = []
        self._switched_on = False

    def _first_gaussians(self, seed: int) -> Gaussians:
        """Gaussians at the seed points."""
        return initial_gaussians(
            points_of(self.seed_points),
            max_gaussians=self.config.densification.max_gaussians,
            sh_degree=self.config.sh_degree,
            generator=torch.Generator().manual_seed(seed),
        )

    def _new_head(self, network: QnnConfig) -> QNN:
        return QNN(network)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Parameters by the names of ``qsplat.training.optimizers.RATES``, and nerfstudio's own."""
        groups = super().get_param_groups()
        if self.qnn is not None:
            groups["qnn"] = list(self.qnn.parameters())
        return groups

    # A run

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Begin the run of the trainer, and follow its steps."""
        trainer, optimizers = training_callback_attributes.trainer, training_callback_attributes.optimizers
        assert trainer is not None
        assert optimizers is not None
        self._log_every = max(1, trainer.config.logging.steps_per_log)
        assert training_callback_attributes.pipeline is not None
        photos = training_callback_attributes.pipeline.datamanager.train_dataset
        assert photos is not None
        cameras = photos.cameras
        self._eyes = [camera_of(cameras[index : index + 1]) for index in range(len(cameras))]
        self._begin(trainer.config.max_num_iterations)
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [
            TrainingCallback([before], self.step_cb, args=[optimizers]),
            TrainingCallback([after], self.step_post_backward),
        ]

    def _begin(self, iterations: int) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        self._clock = time.monotonic() - (self.train_seconds or 0.0)
        continued = self._restored.get("iterations")
        self.schedule = self.config.schedule(continued or iterations)
        self._begin_set()
        self._switched_on = self._restored.get("switched_on", False)
        if continued:
            assert self._densifier is not None
            assert self._averager is not None
            self._densifier.state = self._here(self._restored["densifier"])
            self._averager.state = self._here(self._restored.get("average", {}))
            say_where_it_goes_on(self.step, continued)

    def _begin_set(self) -> None:
        """New helpers for Gaussians at the beginning of their schedule."""
        self._densifier = Densifier(self.config.densification, self._plan, num_views=self.num_train_data)
        if self._phase == "splatting":
            with in_one_sentence():
                check_average_share(self.config.average_share, self._plan, self.config.densification)
        self._averager = Averager(self.config.average_share, self._plan)

    def _here(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in state.items()}

    def step_cb(self, optimizers: Optimizers, step: int) -> None:
        """Before an iteration: where in the schedule it is, and the rates that follow.

        A rate that the user gave stands for the initial one of ``RATES``.
        """
        self.step, self.optimizers = step, optimizers.optimizers
        share_threads(self._plan, self._plan_step, self._threads)
        if self._phase != "splatting" and not self._switched_on:
            self._switch_on()
        ours = {name: optimizer for name, optimizer in self.optimizers.items() if name in RATES}
        set_rates(ours, self._plan_step, self._plan)
        for name, optimizer in ours.items():
            for group in optimizer.param_groups:
                group["lr"] *= optimizers.config[name]["optimizer"].lr / RATES[name].initial

    def step_post_backward(self, step: int) -> None:
        """After an iteration: densification, and after the last one of the Gaussians their mean."""
        assert self._drawn is not None
        assert self._densifier is not None
        assert self._averager is not None
        drawn, self._drawn = self._drawn, None
        rate = self.optimizers["means"].param_groups[0]["lr"]
        self._densifier.after_backward(
            self.gauss_params,
            self.optimizers,
            step=self._plan_step,
            trace=drawn.view.trace,
            camera=drawn.camera,
            learning_rate=rate,
        )
        self._averager.after_step(self.gauss_params, step=self._plan_step)

    def _switch_on(self) -> None:
        """Tell the network's queries where the scene is."""
        if self.qnn is not None and isinstance(self.qnn.queries, PlacedQueries):
            self.qnn.queries.place(self._eyes, self.means)
        self._switched_on = True

    @property
    def _plan(self) -> Schedule:
        """The schedule of this iteration: the run's; before there is one, that of a run which is at its end."""
        return self.schedule or self.config.schedule(max(1, self.step))

    @property
    def _plan_step(self) -> int:
        """Where in that schedule this iteration is."""
        return self.step

    @property
    def _phase(self) -> Phase:
        """What is trained in this iteration."""
        return self._plan.phase_at(self._plan_step)

    # Images

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """``rgb``, ``rgb_base`` [h, w, 3]; in evaluation also ``residual`` around grey [h, w, 3], ``depth`` and
        ``accumulation`` [h, w, 1]; in training also the ``background`` [3]."""
        plan, phase, training = self._plan, self._phase, self.training
        pose = self.camera_optimizer.apply_to_camera(camera)[0] if training else None
        eye = camera_of(camera, pose).to(self.device)
        factor = plan.downscale_at(self._plan_step) if training else 1
        if factor > 1:
            eye = eye.resized(max(1, round(eye.width / factor)), max(1, round(eye.height / factor)))
        background = self.background_color.to(self.device)
        if training and self.config.background_color == "random":
            background = torch.rand(3, device=self.device)
        shown = training or self.qnn is None or self.show_qnn.value
        model = SplatModel(
            gaussians=self._seen(self.gauss_params),
            head=self.qnn if phase != "splatting" and shown else None,
            background=background,
            config=self.config.raster(depth=not training, threads=self._threads),
        )
        degree, backend = plan.sh_degree_at(self._plan_step), self.config.rasterizer
        if not training:
            return self._images(model.render(eye, sh_degree=degree, backend=backend))
        assert camera.metadata is not None
        index: int = camera.metadata["cam_idx"]
        if phase == "frozen":
            drawn = self._drawn_once(model, eye, (index, factor))
        else:
            drawn = model.draw(eye, sh_degree=degree, backend=backend)
        window = plan.head_window_at(self._plan_step, width=eye.width, height=eye.height, generator=self._crops)
        view = model.corrected(drawn, eye, head_window=window, detached=phase == "detached")
        self._drawn = Drawn(view, eye, window)
        rgb, base = view.rgb, view.rgb_base
        if self.config.use_bilateral_grid:
            rgb = self._apply_bilateral_grid(rgb[None], index, eye.height, eye.width)[0]
            if phase == "detached":
                base = self._apply_bilateral_grid(base[None], index, eye.height, eye.width)[0]
        return {"rgb": rgb, "rgb_base": base, "background": background}

    def _drawn_once(self, model: SplatModel, eye: Camera, key: tuple[int, int]) -> Rendering:
        """What ``eye`` sees of Gaussians that no longer move, kept under ``key``."""
        if key not in self._frozen:
            with torch.no_grad():
                self._frozen[key] = without_trace(model.draw(eye, backend=self.config.rasterizer))
        return self._frozen[key]

    def _seen(self, parameters: Mapping[str, Tensor] | ParameterDict) -> Gaussians:
        """All Gaussians of ``parameters``, or in evaluation those inside the viewer's crop box."""
        if self.crop_box is None or self.training:
            return gaussians_of(parameters)
        inside = self.crop_box.within(parameters["means"])
        return gaussians_of({name: value[inside] for name, value in parameters.items()})

    def _images(self, view: ViewOutputs) -> dict[str, Tensor]:
        assert view.depth is not None
        gain = self.residual_gain.value if self.qnn is not None else 1.0
        covered = view.alpha > 0
        farthest = view.depth[covered].max() if bool(covered.any()) else view.depth.new_tensor(0.0)
        return {
            "rgb": view.rgb.clamp(0, 1),
            "rgb_base": view.rgb_base.clamp(0, 1),
            "residual": (0.5 + gain * view.residual).clamp(0, 1),
            "depth": torch.where(covered, view.depth, farthest)[..., None],
            "accumulation": view.alpha[..., None],
        }

    def set_background(self, background_color: Float[Tensor, "3"]) -> None:
        """The viewer's colour, which takes the place of a random one only."""
        if self.config.background_color == "random":
            self.background_color = background_color

    # Loss and metrics

    def _target(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The photo [h, w, 3] as it should look over the background of ``outputs``, and its mask [h, w]."""
        height, width = batch["image"].shape[:2]
        photographed = Camera(torch.eye(4), fx=1.0, fy=1.0, cx=0.0, cy=0.0, width=width, height=height)
        view = view_of(photographed, batch, self.device)
        downscale = self._plan.downscale_at(self._plan_step) if self.training else 1
        target = Target.of(view, downscale, str(self.device))
        return target.over(outputs.get("background", self.background_color.to(self.device))), target.mask

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """The photometric loss and what densification, camera optimizer and bilateral grid add to it, as far as the
        phase moves them."""
        photo, mask = self._target(outputs, batch)
        rgb, against = outputs["rgb"], PhotoLoss(photo, mask, self.config.ssim_lambda, self._threads)
        if not self.training:
            return {"main_loss": against.of(rgb)}
        assert self._drawn is not None
        losses = {"main_loss": against.in_phase(self._phase, rgb, outputs["rgb_base"], self._drawn.window)}
        if self._phase != "frozen":
            losses["regularization"] = regularization(gaussians_of(self.gauss_params), self.config.densification)
            self.camera_optimizer.get_loss_dict(losses)
        if self.config.use_bilateral_grid:
            losses["tv_loss"] = 10 * total_variation_loss(self.bil_grids.grids)
        return losses

    @torch.no_grad()
    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Any]:
        """What is logged about an iteration: nothing between two logged ones, nor of a photo that is masked out."""
        if self.training and self.step % self._log_every:
            return {}
        photo, mask = self._target(outputs, batch)
        if mask is not None and not bool(mask.any()):
            return {}
        metrics = {
            "psnr": psnr(outputs["rgb"], photo, mask=mask),
            "gaussian_count": self.num_gaussians,
            PHASE: float(get_args(Phase).index(self._phase)),
        }
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of an evaluated view, and photo, base image and image side by side."""
        photo, mask = self._target(outputs, batch)
        rgb, base = outputs["rgb"], outputs["rgb_base"]
        metrics = image_metrics(rgb, base, photo, mask)
        if self.config.color_corrected_metrics:
            metrics["cc_psnr"] = psnr(color_correct(rgb, photo), photo)
        return metrics, {"img": torch.cat([photo, base, rgb], dim=1)}

    # Files

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors: the run's length and time, and densification's memory."""
        return {
            "iterations": (self.schedule or self._plan).iterations,
            "densifier": {} if self._densifier is None else self._densifier.state,
            "average": {} if self._averager is None else self._averager.state,
            "train_seconds": self.train_seconds,
            "switched_on": self._switched_on,
        }

    @property
    def num_gaussians(self) -> int:
        """Those that an image is made of."""
        return self.num_points

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to know when the images are judged."""
        return ()

    @property
    def train_seconds(self) -> float | None:
        """Seconds of training so far, those of resumed runs included; None where a checkpoint does not say."""
        return self._restored.get("train_seconds") if self._clock is None else time.monotonic() - self._clock

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the schedule of a checkpoint; ``get_training_callbacks`` takes over the rest."""
        self._restored = state
        self.schedule = self.config.schedule(state["iterations"])

    def update_to_step(self, step: int) -> None:
        """The step of the checkpoint about to be loaded."""
        self.step = step

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> Any:
        """Load a checkpoint with any number of Gaussians.

        Raises:
            SystemExit: the checkpoint has a residual network and this model has none, or the other way round, or it
                is of a model of other sizes.
        """
        if any(name.startswith("qnn.") for name in dict) != (self.qnn is not None):
            has = "has no" if self.qnn is not None else "has a"
            raise SystemExit(
                f"qsplat: the checkpoint {has} residual network, unlike this run: give --pipeline.model.qnn as to the "
                "run that it comes from"
            )
        for name, parameter in self.gauss_params.items():
            # The parameter stays the same object, because an optimizer holds it already.
            parameter.data = torch.empty_like(dict[f"gauss_params.{name}"], device=self.device)
        refuse_other_sizes(dict, self.state_dict())
        return super(SplatfactoModel, self).load_state_dict(dict, **kwargs)

    @property
    def colors(self) -> Float[Tensor, "n 3"]:
        """RGB without harmonics, for ns-export."""
        self._while_exporting()
        return SH2RGB(self.features_dc)

    @property
    def shs_0(self) -> Float[Tensor, "n 3"]:
        """The constant harmonics, for ns-export."""
        self._while_exporting()
        return self.features_dc

    def _while_exporting(self) -> None:
        ply = ply_being_written()
        if ply is not None and self.qnn is not None:
            write_head_beside(ply, self.qnn, self.background_color, self.config.raster(depth=True, threads=None))

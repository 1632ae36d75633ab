"""nerfstudio's view of ``qsplat-plus``: several sets of Gaussians, then a network that reads photos."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import ModuleList, Parameter

from nerfstudio_plugin.cameras import camera_of, is_measured
from nerfstudio_plugin.export import ply_being_written
from nerfstudio_plugin.kept import KeptGaussians, KeptPhotos
from nerfstudio_plugin.plus_config import PlusModelConfig
from nerfstudio_plugin.refusals import in_one_sentence
from nerfstudio_plugin.splat_model import Drawn, QsplatModel
from qsplat.gaussians import Gaussians
from qsplat.io.scene import View
from qsplat.qnn import QnnConfig, image_residual, part_queries, window_residual
from qsplat.qnn.photo_head import PhotoHead
from qsplat.qnn.photos import PhotoQueries
from qsplat.render import Trace
from qsplat.training.model import ViewOutputs
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.photo_head import LEAST_GAIN, ShownView, photo_queries, settle_belief
from qsplat.training.plus import NEXT_SET
from qsplat.training.plus_model import PlusModel, as_taken
from qsplat.training.schedule import Schedule
from qsplat.training.set_weights import SetWeights, set_weights
from qsplat.training.unseen import given_back, unseen_photos

JUDGED = 32
"""Training views, evenly chosen, by which the network is judged at the end where all sets have seen all photos."""


class QsplatPlusModel(QsplatModel):
    """Each set of Gaussians is trained as ``qsplat`` trains one without a network. Then the first of them is
    ``gauss_params`` again, the others are ``companions``, and the network is trained on what the photos, which the
    model keeps, show besides. What they correct is switched off where it does not help the ``witness``, the last set as
    it was before it saw the photos that were kept from it, on these.
    """

    config: PlusModelConfig

    def populate_modules(self) -> None:
        """Gaussians of the first set, the network, and room for what is kept."""
        super().populate_modules()
        self.companions = ModuleList()
        self.witness = ModuleList()
        self.photos = KeptPhotos()
        self._gain: float | None = None
        self._weights: SetWeights | None = None
        self._shown: list[ShownView] = []
        self._others: list[PhotoQueries] = []
        self._training_views: Callable[[torch.device], list[View]] | None = None
        self._leave_out: Callable[[Collection[int]], None] | None = None

    def _new_head(self, network: QnnConfig) -> PhotoHead:
        return PhotoHead(network)

    @property
    def _head(self) -> PhotoHead:
        assert isinstance(self.qnn, PhotoHead)
        return self.qnn

    # A run

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Begin the run of the trainer, and follow its steps."""
        assert training_callback_attributes.pipeline is not None
        manager: Any = training_callback_attributes.pipeline.datamanager
        self._training_views, self._leave_out = manager.training_views, manager.leave_out
        return super().get_training_callbacks(training_callback_attributes)

    def _begin(self, iterations: int) -> None:
        if len(self.photos) not in (0, self.num_train_data):
            raise SystemExit(
                f"qsplat: the checkpoint keeps {len(self.photos)} photos and this capture has {self.num_train_data} to "
                "train on: give the capture of the run that it comes from"
            )
        if not self._is_on:
            raise SystemExit(
                "qsplat: the checkpoint is of a run that is finished, and what the photos correct was switched off: "
                "nothing is left to train, so begin a new run"
            )
        super()._begin(iterations)

    @property
    def _plan(self) -> Schedule:
        return super()._plan if self.schedule is None else self.config.blocks(self.schedule).plan_at(self.step)

    @property
    def _plan_step(self) -> int:
        return self.step if self.schedule is None else self.config.blocks(self.schedule).step_in_plan(self.step)

    def step_cb(self, optimizers: Optimizers, step: int) -> None:
        """Before an iteration: the next set of Gaussians, if it is its turn, and as without photos."""
        assert self.schedule is not None
        self.step, self.optimizers = step, optimizers.optimizers
        block = self.config.blocks(self.schedule).block_at(step)
        if block is not None and block > len(self.companions):
            self.companions.append(KeptGaussians(self.gauss_params))
            self._put_in_place(self._first_gaussians(torch.initial_seed() + block * NEXT_SET))
            self._begin_set()
        last = block == self.config.sets - 1
        away = last and self._plan_step < given_back(self._plan.iterations)
        if last and not away:
            self._call_witness()
        assert self._leave_out is not None
        self._leave_out(self._unseen if away else ())
        super().step_cb(optimizers, step)

    def _call_witness(self) -> None:
        """Keep the last set of Gaussians as it is before it sees the photos that were kept from it."""
        if self._unseen and not self.witness:
            self.witness.append(KeptGaussians(self.gauss_params))

    def _switch_on(self) -> None:
        """Keep the photos, and put the first set of Gaussians back in its place."""
        self._call_witness()
        first, *others = [*self.companions, KeptGaussians(self.gauss_params)]
        assert isinstance(first, KeptGaussians)
        self.companions = ModuleList(others)
        self._put_in_place(gaussians_of(first.parameters_by_name))
        assert self._training_views is not None
        background = self.background_color.to(self.device)
        self.photos.keep(self._training_views(self.device), background, self.config.photos)
        self._switched_on = True

    def _put_in_place(self, gaussians: Gaussians) -> None:
        """Make ``gaussians`` those that are trained, by optimizers without a memory."""
        for name, value in parameters_of(gaussians).items():
            self.gauss_params[name] = Parameter(value.detach().to(self.device))
            optimizer = self.optimizers[name]
            optimizer.state.clear()
            optimizer.param_groups[0]["params"] = [self.gauss_params[name]]

    def step_post_backward(self, step: int) -> None:
        """After an iteration: densification, or after the last one the judgement of the network."""
        if self._phase == "splatting":
            super().step_post_backward(step)
            return
        assert self.schedule is not None
        self._drawn = None
        if step + 1 == self.schedule.iterations:
            self._judge()

    def _judge(self) -> None:
        def testimony() -> tuple[PhotoQueries, list[ShownView]]:
            kept = self._draw_photos(_fields(self.witness))
            return photo_queries(kept, self.config.photos.config()), self._as_taken(kept)

        views = self._shown_views()
        count = min(JUDGED, len(views))
        chosen = [index * len(views) // count for index in range(count)]
        unseen = self._unseen if self.witness else ()
        self._gain = settle_belief(self._head, views, unseen, testimony, chosen)
        self.witness = ModuleList()
        if unseen:
            by = f"over the last set of Gaussians on {len(unseen)} photos that it had not seen yet"
        else:
            by = f"by leave-one-out on {count} views of the training"
        if self._is_on:
            said = f"gains {self._gain:.2f} dB {by}; the {len(self.photos)} photos take {self.photos.num_bytes} bytes"
        else:
            self.photos = KeptPhotos().to(self.device)
            self._forget_photos()
            said = (
                f"does not help ({self._gain:+.3f} dB {by}) and is switched off: what is shown is the mean of "
                f"{self.config.sets} sets of Gaussians, and no photo is kept"
            )
        CONSOLE.print(f"What the photos correct {said}")

    def _forget_photos(self) -> None:
        """Nothing that was derived from the photos that are kept stays in memory."""
        self._shown, self._others, self._weights = [], [], None
        self._head.photos = PhotoQueries([])

    @property
    def _unseen(self) -> tuple[int, ...]:
        """Photos that the last set of Gaussians does not see at first."""
        return unseen_photos(self.num_train_data, self.config.photos.unseen, sets=self.config.sets)

    @property
    def _is_on(self) -> bool:
        return self._gain is None or self._gain >= LEAST_GAIN

    # Images

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """As without photos; once all sets of Gaussians are trained, in evaluation ``rgb`` is their mean, weighed and
        corrected by the photos, ``rgb_base`` the first of them, and ``residual`` the difference.

        A view of the training does not read its own photo where it is compared with it, as in every evaluation. In the
        viewer and on paths it does: others that come near the place read it too, more the nearer they are.
        """
        if self._phase == "splatting":
            return super().get_outputs(camera)
        if self.training:
            return self._crop_outputs(camera)
        if not self.show_qnn.value:
            return super().get_outputs(camera)
        if self._is_on and not self._head.photos.cameras:
            self._ask(self._draw_photos(self._sets()))
        eye = camera_of(camera).to(self.device)
        own = self.photos.index_of(eye) if is_measured(camera) else None
        model = self._model([self._seen(one) for one in self._sets()])
        return self._images(model.render(eye, backend=self.config.rasterizer, left_out=own))

    def _crop_outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """A view of the training, which the network corrects in a crop by what the other photos say."""
        assert camera.metadata is not None
        index: int = camera.metadata["cam_idx"]
        shown = self._shown_views()[index]
        height, width, _ = shown.image.shape
        window = self._plan.head_window_at(self._plan_step, width=width, height=height, generator=self._crops)
        queries = part_queries(self._others[index], shown.camera, shown.depth)
        if window is None:
            residual = image_residual(self._head, shown.image, queries)
        else:
            residual = window_residual(self._head, shown.image, queries, window)
        empty = torch.empty(0, 2, device=self.device)
        trace = Trace(node=empty, radii=empty[:, 0].int())
        view = ViewOutputs(shown.image + residual, shown.image, residual, shown.depth, shown.alpha, trace)
        self._drawn = Drawn(view, shown.camera, window)
        background = self.background_color.to(self.device)
        return {"rgb": view.rgb, "rgb_base": view.rgb_base, "background": background}

    def _target(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        if self._phase == "splatting" or not self.training:
            return super()._target(outputs, batch)
        shown = self._shown_views()[batch["image_idx"]]
        return shown.photo, shown.mask

    def _shown_views(self) -> list[ShownView]:
        """What the Gaussians show of the photos that are kept, beside the photos as they were taken, by which the
        network learns and is judged. It stays in memory, with what each view is told by the photos that are kept of
        the others."""
        if not self._shown:
            drawn = self._draw_photos(self._sets())
            self._ask(drawn)
            self._others = [self._head.photos.without(index) for index in range(len(drawn))]
            self._shown = self._as_taken(drawn)
        return self._shown

    def _ask(self, drawn: Sequence[ShownView]) -> None:
        """Let ``drawn``, which the sets of Gaussians show of the photos that are kept, tell of other views."""
        config = self.config.photos.config()
        self._head.photos = photo_queries(drawn, config)
        self._weights = set_weights(drawn, config, sets=self.config.sets)

    def _as_taken(self, drawn: Sequence[ShownView]) -> list[ShownView]:
        """``drawn`` beside the photos as they were taken."""
        assert self._training_views is not None
        return as_taken(drawn, self._training_views(self.device), self.background_color.to(self.device))

    def _draw_photos(self, sets: Sequence[Mapping[str, Tensor]]) -> list[ShownView]:
        """What ``sets`` of Gaussians show of the photos that are kept."""
        with in_one_sentence():
            photos = self.photos.views()
        model = self._model([gaussians_of(one) for one in sets])
        return model.shown(photos, cameras=self.photos.cameras(), backend=self.config.rasterizer)

    def _sets(self) -> list[dict[str, Tensor]]:
        return [dict(self.gauss_params.items()), *_fields(self.companions)]

    def _model(self, sets: list[Gaussians]) -> PlusModel:
        return PlusModel(
            sets=tuple(sets),
            head=self._head if self._is_on else None,
            weights=self._weights if self._is_on else None,
            background=self.background_color.to(self.device),
            config=self.config.raster(depth=True, threads=self._threads),
        )

    # Files

    def get_extra_state(self) -> dict[str, Any]:
        """As without photos, the plan of the sets, and the judgement of the network."""
        head_start = None if self.schedule is None else self.schedule.head_start
        plan = {"sets": self.config.sets, "head_start": head_start, "unseen": self.config.photos.unseen}
        return {**super().get_extra_state(), **plan, "gain": self._gain}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the schedule of a checkpoint.

        Raises:
            SystemExit: it is of a run of another plan.
        """
        super().set_extra_state(state)
        assert self.schedule is not None
        ours = {"sets": self.config.sets, "head_start": self.schedule.head_start, "unseen": self.config.photos.unseen}
        theirs = {name: state.get(name) for name in ours}
        if ours != theirs:
            raise SystemExit(
                f"qsplat: the checkpoint is of a run with {theirs}, unlike this one with {ours}: give "
                "--pipeline.model.sets, --pipeline.model.qnn.start and --pipeline.model.photos.unseen as to the run "
                "that it comes from"
            )
        self._gain = state["gain"]

    def load_state_dict(self, dict: dict[str, Any], **kwargs: Any) -> Any:
        """Load a checkpoint with any number of sets, Gaussians and photos.

        Raises:
            SystemExit: it is of a model of other sizes, or of a run of another plan.
        """
        self.companions, self.witness = (self._room_for(name, dict) for name in ("companions", "witness"))
        self.photos.make_room(_under("photos.", dict))
        self._forget_photos()
        return super().load_state_dict(dict, **kwargs)

    def _room_for(self, name: str, tensors: dict[str, Any]) -> ModuleList:
        """Sets of Gaussians of the sizes of those that ``tensors`` has under ``name``."""
        sets = ModuleList()
        while one := _under(f"{name}.{len(sets)}.", tensors):
            empty = {field: torch.empty_like(value, device=self.device) for field, value in one.items()}
            sets.append(KeptGaussians(empty))
        return sets

    @property
    def num_gaussians(self) -> int:
        """Those that an image is made of."""
        if self._phase == "splatting":
            return self.num_points
        return sum(len(one["means"]) for one in self._sets())

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to know when the images are judged."""
        if self._phase == "splatting":
            number = f"set {len(self.companions) + 1} of {self.config.sets}"
            return (f"the run was stopped before its network: this is {number} of the Gaussians, as far as it got",)
        photos = f"weighed and corrected by {len(self.photos)} photos ({self.photos.num_bytes} bytes)"
        if not self._is_on:
            photos = "and nothing else, since what the photos correct was switched off"
        return (f"without: the first set of Gaussians; with: the mean of {self.config.sets} sets, {photos}",)

    def _while_exporting(self) -> None:
        ply = ply_being_written()
        if ply is not None:
            CONSOLE.print(
                f"{ply} holds one set of Gaussians; the mean with the other sets and what the photos correct are only "
                "in the run"
            )


def _fields(sets: ModuleList) -> list[dict[str, Tensor]]:
    return [one.parameters_by_name for one in sets if isinstance(one, KeptGaussians)]


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

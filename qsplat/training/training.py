"""Training step by step: it can be stopped, saved, gone on with, and forked."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians, seed_from_points
from qsplat.render import Rendering
from qsplat.training.config import FitConfig, Points, TrainingScene
from qsplat.training.densification import regularization
from qsplat.training.memory import keep_freed_memory
from qsplat.training.model import SplatModel, ViewOutputs, without_trace
from qsplat.training.objective import PhotoLoss
from qsplat.training.parameters import gaussians_of
from qsplat.training.parts import Parts
from qsplat.training.randomness import PhotoOrder, Randomness, branched, generator_at
from qsplat.training.schedule import Phase
from qsplat.training.seeding import seed_in_view
from qsplat.training.state import TrainingState, detached_copies
from qsplat.training.targets import Target, drawn_alone
from qsplat.training.threads import share_threads


@dataclass(frozen=True)
class StepRecord:
    """One step: its loss, the PSNR in dB of what it drew, and the seconds of training since the run began."""

    step: int
    loss: float
    psnr: float
    num_gaussians: int
    phase: Phase
    seconds: float


class Training:
    """The moving parts of one training on the views of ``scene``, one at a time in shuffled epochs.

    ``step`` is the next step to take, ``history`` holds about a hundred records along the way, ``seconds`` is the time
    spent so far. The caller's random state is left as it was. On a CPU, the process keeps the memory that it frees from
    now on (``memory.keep_freed_memory``).
    """

    def __init__(
        self, scene: TrainingScene, config: FitConfig | None = None, *, state: TrainingState | None = None
    ) -> None:
        """Begin a training, or go on from ``state``, which ``state()`` of a training on the same scene gave.

        Where ``config`` differs from that of the earlier training, it counts from now on. A head of the same
        configuration is taken over as it is, another one is new; the same goes for what densification remembers. With
        another seed everything random begins anew from it.

        Raises:
            ValueError: the scene has no training views or nothing to start from, or ``state`` does not fit.
        """
        began = time.perf_counter()
        self.config = config = config or FitConfig()
        if not scene.train:
            raise ValueError("the scene has 0 training views: training needs at least one")
        if config.device == "cpu":
            keep_freed_memory()
        self.scene = scene
        self.schedule = config.schedule.with_head(config.head)
        self._threads = config.raster.threads or torch.get_num_threads()
        self._raster = replace(config.raster, depth=False, threads=self._threads)
        transparent = any(view.alpha is not None for view in scene.train)
        color = config.background or ((1.0, 1.0, 1.0) if transparent else (0.0, 0.0, 0.0))
        self._background = torch.tensor(color, device=config.device)
        self._targets: dict[tuple[int, int], Target] = {}
        self._drawn: dict[tuple[int, int], Rendering] = {}
        self._random = Randomness(config.seed, config.device)
        self._crops = torch.Generator().manual_seed(config.seed)
        self._order = PhotoOrder(len(scene.train))
        gaussians = self._first_gaussians() if state is None else gaussians_of(state.named("gaussians."))
        self._parts = Parts(config, self.schedule, gaussians, num_views=len(scene.train))
        self._step, self.history = 0, list[StepRecord]()
        self.seconds = time.perf_counter() - began
        if state is not None:
            self._restore(state)

    @property
    def step(self) -> int:
        """The next step to take: as many were taken before."""
        return self._step

    def advance(self, until: int | None = None, on_step: Callable[[StepRecord], None] | None = None) -> None:
        """Take the steps from ``step`` up to, not including, ``until`` (the end of the run when None).

        ``on_step`` is called after every step.

        Raises:
            ValueError: ``until`` lies behind, or beyond the end of the schedule.
        """
        until = self.schedule.iterations if until is None else until
        if not self._step <= until <= self.schedule.iterations:
            raise ValueError(
                f"until={until}: the training stands at step {self._step} of {self.schedule.iterations}; give one "
                "between them"
            )
        threads, began = torch.get_num_threads(), time.perf_counter() - self.seconds
        try:
            with self._random.in_use():
                while self._step < until:
                    self._advance_by_one(began, on_step)
        finally:
            torch.set_num_threads(threads)
            self.seconds = time.perf_counter() - began

    def fork(self, config: FitConfig, *, scene: TrainingScene | None = None) -> Training:
        """An independent copy that goes on under ``config``, as ``__init__`` says.

        From here on the copy draws the order of the photos by itself. All forks of one training see the same order,
        whatever their heads and densifications draw; forks of equal configurations give the same bits. With a ``scene``
        the copy goes on with the views of that one, in an epoch that begins now.

        Raises:
            ValueError: ``scene`` has no training views.
        """
        state = self.state()
        if state.tensors.get("random.order") is None:
            state.tensors["random.order"] = branched(self._random.states[0]).get_state()
        if scene is not None:
            state.facts.update(views=len(scene.train), upcoming=[])
        fork = Training(scene or self.scene, config, state=state)
        if scene is None and config.device == self.config.device:
            fork._targets = self._targets
        return fork

    def model(self) -> SplatModel:
        """A copy of the model as it is now, without gradients."""
        gaussians = gaussians_of(detached_copies(dict(self._parts.parameters)))
        head = copy.deepcopy(self._parts.head)
        if head is not None:
            head.eval().requires_grad_(False)
        return SplatModel(gaussians, head, self._background, self.config.raster)

    def state(self) -> TrainingState:
        """All that the steps to come depend on, besides scene and configuration."""
        parts = self._parts.state()
        tensors = parts.tensors | {f"random.{index}": state for index, state in enumerate(self._random.states)}
        tensors["random.crops"] = self._crops.get_state()
        if self._order.generator is not None:
            tensors["random.order"] = self._order.generator.get_state()
        facts = parts.facts | {
            "step": self._step,
            "seconds": self.seconds,
            "seed": self.config.seed,
            "views": len(self.scene.train),
            "upcoming": list(self._order.upcoming),
            "history": [asdict(record) for record in self.history],
        }
        return TrainingState(detached_copies(tensors), facts)

    def _restore(self, state: TrainingState) -> None:
        facts = state.facts
        if facts["views"] != len(self.scene.train):
            raise ValueError(
                f"the state is of a training on {facts['views']} views, the scene has {len(self.scene.train)}: go on "
                "with the scene that it began with"
            )
        self._step, self.seconds = facts["step"], facts["seconds"]
        if self._step > self.schedule.iterations:
            raise ValueError(
                f"iterations={self.schedule.iterations}: the training stands at step {self._step}; give a longer run"
            )
        self.history = [StepRecord(**record) for record in facts["history"]]
        self._parts.restore(state)
        own_order = "random.order" in state.tensors
        if facts["seed"] == self.config.seed:
            self._random.states = [state.tensors[f"random.{index}"].cpu() for index in range(len(self._random.states))]
            self._crops = generator_at(state.tensors["random.crops"])
            order = generator_at(state.tensors["random.order"]) if own_order else None
            self._order = PhotoOrder(len(self.scene.train), facts["upcoming"], generator=order)
        elif own_order:
            self._order = PhotoOrder(len(self.scene.train), generator=branched(self._random.states[0]))

    def _first_gaussians(self) -> Gaussians:
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        return initial_gaussians(
            self.scene.points or seed_in_view(self.scene.train, config.seeds, generator=generator),
            max_gaussians=config.densification.max_gaussians if config.densification else None,
            sh_degree=config.schedule.sh_degree,
            generator=generator,
        )

    def _advance_by_one(self, began: float, on_step: Callable[[StepRecord], None] | None) -> None:
        step, schedule = self._step, self.schedule
        key = next(self._order), schedule.downscale_at(step)
        if key not in self._targets:
            self._targets[key] = Target.of(self.scene.train[key[0]], key[1], self.config.device)
        phase = schedule.phase_at(step)
        share_threads(schedule, step, self._threads)
        if phase != "splatting":
            self._parts.switch_on([view.camera for view in self.scene.train])
        loss, view, against = self._take(step, key)
        self._step = step + 1
        kept = step % max(1, schedule.iterations // 100) == 0 or self._step == schedule.iterations
        if kept or on_step is not None:
            record = StepRecord(
                step=step,
                loss=float(loss),
                psnr=float(_psnr(view.rgb.detach(), against.photo, against.mask)),
                num_gaussians=len(self._parts.parameters["means"]),
                phase=phase,
                seconds=time.perf_counter() - began,
            )
            self.history += [record] if kept else []
            if on_step is not None:
                on_step(record)

    def _take(self, step: int, key: tuple[int, int]) -> tuple[Tensor, ViewOutputs, PhotoLoss]:
        """Move what the phase moves, once, by the photo ``key``; the loss before that, the view, and what it was
        compared with."""
        config, phase, whole = self.config, self.schedule.phase_at(step), self._targets[key]
        background = self._background
        if config.random_background and whole.alpha is not None:
            background = torch.rand(3, device=background.device)
        gaussians = self._parts.gaussians
        head = None if phase == "splatting" else self._parts.head
        model = SplatModel(gaussians, head, background, self._raster)
        target, size = whole, whole.camera.view
        window = self.schedule.head_window_at(step, width=size.width, height=size.height, generator=self._crops)
        if head is not None and window is not None and self.schedule.drawn == "crop":
            target, window = drawn_alone(whole, window, head)
        camera = target.camera
        view = model.corrected(
            self._drawn_by(model, step, key, camera), camera, head_window=window, detached=phase == "detached"
        )
        against = PhotoLoss(target.over(background), target.mask, config.ssim_weight, self._threads)
        loss = against.in_phase(phase, view.rgb, view.rgb_base, window)
        if phase == "frozen":
            loss.backward()
        else:
            total = loss + regularization(gaussians, config.densification)
            if target is not whole:
                total = total * (target.counted / whole.counted)
            total.backward()
        self._parts.move(step, view, camera)
        return loss.detach(), view, against

    def _drawn_by(self, model: SplatModel, step: int, key: tuple[int, int], camera: Camera) -> Rendering:
        """What ``camera`` sees of the Gaussians; once and for all, under ``key``, where they no longer move."""
        degree, backend = self.schedule.sh_degree_at(step), self.config.backend
        if self.schedule.phase_at(step) != "frozen":
            return model.draw(camera, sh_degree=degree, backend=backend)
        if key not in self._drawn:
            with torch.no_grad():
                self._drawn[key] = without_trace(model.draw(camera, backend=backend))
        return self._drawn[key]


def initial_gaussians(
    points: Points, *, max_gaussians: int | None, sh_degree: int, generator: torch.Generator
) -> Gaussians:
    """Gaussians at ``points``; at most half of the cap that densification keeps to, at random, so that it has room."""
    positions, colors = points.positions, points.colors
    if max_gaussians is not None and len(positions) > (most := max(1, max_gaussians // 2)):
        kept = torch.randperm(len(positions), generator=generator)[:most].sort().values
        positions, colors = positions[kept], colors[kept]
    return seed_from_points(positions, colors, sh_degree=sh_degree, generator=generator)


def _psnr(
    prediction: Float[Tensor, "h w 3"], target: Float[Tensor, "h w 3"], mask: Bool[Tensor, "h w"] | None
) -> Float[Tensor, ""]:
    """PSNR in dB of images in [0, 1] where ``mask`` is True."""
    squared = (prediction.clamp(0, 1) - target).square()
    if mask is not None:
        squared = squared[mask]
    return -10 * torch.log10(squared.mean())

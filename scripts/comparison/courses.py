"""How each method is trained, and what it has learnt so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from safetensors.torch import save
from torch import Tensor

from comparison.methods import Field, Method, Plus, Splats
from comparison.pacing import Part
from comparison.stages import FieldStage, PhotoHeadStage, SplatStage
from qsplat.cameras import Camera
from qsplat.fields.model import FieldModel
from qsplat.gaussians import Gaussians
from qsplat.io.scene import Scene
from qsplat.metrics.report import RenderedView
from qsplat.qnn import QnnConfig
from qsplat.training.config import FitConfig
from qsplat.training.densification import DefaultDensification
from qsplat.training.field_presets import field_preset
from qsplat.training.fit_field import FieldFitConfig
from qsplat.training.model import SplatModel
from qsplat.training.plus import NEXT_SET, PlusConfig
from qsplat.training.plus_model import PlusModel
from qsplat.training.schedule import Schedule
from qsplat.training.unseen import unseen_photos

SETS_END = 0.9
"""Share of the budget that the sets of Gaussians of qsplat-plus divide equally, as in ns-train; the rest is the
head's."""
ANY_LENGTH = 2000
"""Runs are planned by ``pacing``; a configuration has to say something."""


class Learnt(Protocol):
    """A model that shows a view over its background."""

    @property
    def background(self) -> Tensor: ...
    def render(self, camera: Camera) -> RenderedView: ...


@dataclass(frozen=True)
class Size:
    """What a model takes: trained values, Gaussians if it is made of them, and bytes in a file."""

    parameters: int
    gaussians: int | None
    bytes: int


class Course(Protocol):
    """The training of one method on one scene."""

    def parts(self) -> Iterator[Part]:
        """Its stages, each made when it is its turn."""
        ...

    def model(self) -> Learnt:
        """What would be shown if the training ended now."""
        ...

    def size(self) -> Size:
        """Of that model."""
        ...

    def remarks(self) -> list[str]:
        """What has to be said about it."""
        ...


def course_for(method: Method, scene: Scene, *, seed: int, gaussians: int) -> Course:
    """The training of ``method`` with at most so many Gaussians a set."""
    alone = FitConfig(Schedule(ANY_LENGTH), DefaultDensification(max_gaussians=gaussians), head=None, seed=seed)
    match method:
        case Splats(head=False):
            return SplatCourse(scene, alone)
        case Splats():
            return SplatCourse(scene, replace(alone, head=QnnConfig()))
        case Plus():
            return PlusCourse(scene, PlusConfig(base=alone))
        case Field(field=field):
            return FieldCourse(scene, replace(field_preset(field, "small", iterations=ANY_LENGTH), seed=seed))


class SplatCourse:
    """Gaussians, with a head or without."""

    def __init__(self, scene: Scene, config: FitConfig) -> None:
        self._scene, self._config = scene, config

    def parts(self) -> Iterator[Part]:
        self._stage = SplatStage(self._scene, self._config)
        yield Part(self._stage, 1.0)

    def model(self) -> SplatModel:
        return self._stage.training.model()

    def size(self) -> Size:
        model = self.model()
        return size_of([model.gaussians], {} if model.head is None else model.head.state_dict())

    def remarks(self) -> list[str]:
        return []


class PlusCourse:
    """Sets of Gaussians one after the other, then a head that reads photos. Until the head is there, the sets that are
    finished are shown, and until one is, the first as it is."""

    def __init__(self, scene: Scene, config: PlusConfig) -> None:
        self._scene, self._config = scene, config
        self._finished = list[Gaussians]()
        self._head: PhotoHeadStage | None = None

    def parts(self) -> Iterator[Part]:
        config = self._config
        unseen = unseen_photos(len(self._scene.train), config.unseen, sets=config.sets)
        for index in range(config.sets):
            base = replace(config.base, seed=config.base.seed + index * NEXT_SET)
            self._stage = SplatStage(self._scene, base, unseen if index == config.sets - 1 else ())
            yield Part(self._stage, SETS_END * (index + 1) / config.sets)
            self._finished.append(self._stage.training.model().gaussians)
        self._head = PhotoHeadStage(self._scene, self._sets(), config, self._stage.witness)
        yield Part(self._head, 1.0)

    def model(self) -> PlusModel:
        return self._sets() if self._head is None else self._head.model()

    def size(self) -> Size:
        model, photos = self.model(), 0
        tensors = dict[str, Tensor]()
        if self._head is not None and model.head is not None:
            tensors, photos = model.head.state_dict(), self._head.photo_bytes
        size = size_of(model.sets, tensors)
        return replace(size, bytes=size.bytes + photos)

    def remarks(self) -> list[str]:
        dropped = self._head is not None and not self._head.kept
        return ["what the photos correct did not help on photos of the training and was dropped"] if dropped else []

    def _sets(self) -> PlusModel:
        current = self._stage.training.model()
        sets = tuple(self._finished) or (current.gaussians,)
        return PlusModel(sets, background=current.background, config=current.config)


class FieldCourse:
    """A radiance field."""

    def __init__(self, scene: Scene, config: FieldFitConfig) -> None:
        self._scene, self._config = scene, config

    def parts(self) -> Iterator[Part]:
        self._stage = FieldStage(self._scene, self._config)
        yield Part(self._stage, 1.0)

    def model(self) -> FieldModel:
        return self._stage.training.model()

    def size(self) -> Size:
        model = self.model()
        learnt = sum(parameter.numel() for parameter in model.parameters())
        return Size(learnt, None, len(save(_plain(model.state_dict()))))

    def remarks(self) -> list[str]:
        return []


def size_of(sets: Sequence[Gaussians], head: Mapping[str, Tensor]) -> Size:
    """Of Gaussians and the weights of their head."""
    tensors = {
        f"{index}.{entry.name}": getattr(one, entry.name) for index, one in enumerate(sets) for entry in fields(one)
    }
    tensors |= {f"head.{name}": value for name, value in head.items()}
    learnt = sum(value.numel() for value in tensors.values())
    return Size(learnt, sum(len(one) for one in sets), len(save(_plain(tensors))))


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in tensors.items()}

"""The methods that are compared: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qsplat.training.field_presets import FieldMethod

Role = Literal["ours", "baseline"]


@dataclass(frozen=True)
class Splats:
    """Gaussians, with the network that corrects their image or without."""

    name: str
    label: str
    role: Role
    head: bool


@dataclass(frozen=True)
class Plus:
    """Several sets of Gaussians and a network that reads photos."""

    name: str
    label: str
    role: Role


@dataclass(frozen=True)
class Field:
    """A radiance field in the size that is made for CPUs."""

    name: str
    label: str
    role: Role
    field: FieldMethod


Method = Splats | Plus | Field

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Splats("splat", "plain splatting", "baseline", head=False),
        Splats("qsplat", "splatting and QNN", "ours", head=True),
        Plus("qsplat-plus", "two sets and photos", "ours"),
        Field("qsplat-nerf", "NeRF", "baseline", "nerf"),
        Field("qsplat-siren", "SIREN", "baseline", "siren"),
        Field("qsplat-fourier", "Fourier features", "baseline", "fourier"),
        Field("qsplat-rffca", "RFF-CA", "baseline", "rffca"),
    )
}


def chosen(names: Sequence[str]) -> list[Method]:
    """The methods called ``names``, each once.

    Raises:
        ValueError: there is none of that name.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        problem = f"there is no {unknown[0]!r}" if unknown else "none is named"
        raise ValueError(f"{problem}; choose from {', '.join(METHODS)}")
    return [METHODS[name] for name in dict.fromkeys(names)]

"""The entry points: the methods whose names begin with ``qsplat``.

nerfstudio loads the entry points of every installed package without a guard, so that one that raises breaks every ns-*
command. Importing this module imports nothing; asking it for a method builds it, or gives the reason why not, which
nerfstudio prints before it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SPLATS = ("qsplat", "qsplat_mcmc", "qsplat_plus")
FIELDS = ("qsplat_nerf", "qsplat_siren", "qsplat_fourier", "qsplat_rffca")


@dataclass(frozen=True)
class Unavailable:
    """Stands where a method would be."""

    reason: str


def __getattr__(name: str) -> Any:
    if name not in (*SPLATS, *FIELDS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from nerfstudio_plugin.checkpoints import allow_numpy_scalars

        allow_numpy_scalars()
        if name in FIELDS:
            from nerfstudio_plugin import field_specifications as specifications
        else:
            from nerfstudio_plugin import specifications
        return getattr(specifications, name)
    except Exception as error:
        return Unavailable(f"{name} cannot be used: {type(error).__name__}: {error}")

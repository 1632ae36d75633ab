"""nerfstudio's checkpoints under torch from 2.6 on."""

from __future__ import annotations


def allow_numpy_scalars() -> None:
    """Let ``torch.load`` read the NumPy numbers that nerfstudio's schedulers leave in checkpoints.

    Since torch 2.6 it loads tensors and plain values only, unless told of other types. nerfstudio 1.1.5 does not know
    this, so that ns-eval and resuming fail without it.
    """
    import numpy as np
    import torch

    try:
        from numpy._core.multiarray import scalar
    except ModuleNotFoundError:  # NumPy 1
        from numpy.core.multiarray import scalar

    numbers = [type(np.dtype(name)) for name in ("float64", "float32")]
    torch.serialization.add_safe_globals([scalar, np.dtype, *numbers])

"""What a user can get wrong ends a command in one sentence instead of a traceback."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qsplat.render import BackendUnavailable

_NAME = re.compile(r"step-(\d+)\.ckpt")
"""How nerfstudio names checkpoints."""


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Turn the errors by which qsplat and nerfstudio's dataparsers refuse their input into an exit with the sentence.

    Raises:
        SystemExit: instead of ValueError, OSError, ImportError, BackendUnavailable and, where it has a message,
            AssertionError.
    """
    try:
        yield
    except ImportError as error:
        raise SystemExit(
            f"qsplat: a library that this dataparser needs cannot be loaded ({error}): install it, or use qsplat-data, "
            "which reads sparse points without it"
        ) from None
    except (ValueError, OSError, AssertionError, BackendUnavailable) as error:
        if not str(error):
            raise
        raise SystemExit(f"qsplat: {error}") from None


def check_checkpoint(path: Path) -> None:
    """Refuse a file that torch cannot load because its end is missing: its table of contents is there.

    Raises:
        SystemExit: the file is missing or truncated.
    """
    if not path.is_file():
        raise SystemExit(f"qsplat: {path} does not exist: give the checkpoint folder of a run, nerfstudio_models")
    if not zipfile.is_zipfile(path):
        raise SystemExit(f"qsplat: {path} is truncated or no checkpoint: remove it, or train again")


def step_of(checkpoint: Path) -> int:
    """The step after which nerfstudio wrote ``checkpoint``: by its name or, where that is another, by its contents.

    Raises:
        SystemExit: the file is no checkpoint of nerfstudio.
    """
    if named := _NAME.fullmatch(checkpoint.name):
        return int(named[1])
    import torch

    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["step"])
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, pickle.UnpicklingError):
        raise SystemExit(f"qsplat: {checkpoint} is no checkpoint of ns-train: give one that it wrote") from None


def refuse_other_sizes(saved: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse the tensors of a checkpoint that this model has in another size, or not at all, or has more.

    Raises:
        SystemExit: with the first of them.
    """
    for name in sorted({*saved, *ours}):
        there, here = (tuple(getattr(tensors.get(name), "shape", ())) for tensors in (saved, ours))
        if there != here or (name in saved) != (name in ours):
            there, here = (str(list(shape)) if shape else "none" for shape in (there, here))
            raise SystemExit(
                f"qsplat: {name} is {there} in the checkpoint and {here} in this run: give the same options of the "
                "model, such as --pipeline.model.qnn.channels, and the same capture as to the run that it comes from"
            )


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in ``folder``; files of other names than nerfstudio's do not count."""
    named = (path for path in folder.glob("step-*.ckpt") if _NAME.fullmatch(path.name))
    return max(named, default=None, key=step_of)

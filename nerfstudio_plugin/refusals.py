"""What a user can get wrong ends a command in one sentence instead of a traceback."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Turn the errors by which qsplat and nerfstudio's dataparsers refuse their input into an exit with the sentence.

    Raises:
        SystemExit: instead of ValueError, OSError, ImportError and, where it has a message, AssertionError.
    """
    try:
        yield
    except ImportError as error:
        raise SystemExit(
            f"qsplat: a library that this dataparser needs cannot be loaded ({error}): install it, or use qsplat-data, "
            "which reads sparse points without it"
        ) from None
    except (ValueError, OSError, AssertionError) as error:
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
    """The step after which nerfstudio wrote ``checkpoint``."""
    return int(checkpoint.stem.removeprefix("step-"))


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in ``folder``, as nerfstudio names them."""
    return max(folder.glob("step-*.ckpt"), default=None, key=step_of)

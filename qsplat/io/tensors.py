"""Named tensors and plain values in one safetensors file, the values as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from qsplat.io.atomic import written_whole


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, format: str) -> None:
    """Write ``tensors`` and ``facts`` to ``path``, which appears only when it is complete.

    ``format`` names what they mean; ``load_tensors`` refuses a file of another one.
    """
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written_whole(path) as temporary:
        save_file(plain, str(temporary), metadata={"format": format, "header": json.dumps(facts)})


def load_tensors(path: Path | str, *, format: str) -> Contents:
    """Read a file of ``save_tensors``, to the CPU.

    Raises:
        ValueError: the file is missing, truncated, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give the path of a checkpoint")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}): train or copy it again") from None
    if metadata.get("format") != format:
        raise ValueError(f"{path} is no checkpoint of qsplat (format {metadata.get('format')!r} instead of {format!r})")
    try:
        return Contents(tensors, json.loads(metadata["header"]))
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is a damaged checkpoint ({error}): train or copy it again") from None

"""Where finished runs are kept: a JSON file for each, and the trainings that runs branch off from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsplat.io.atomic import written_whole

LIBRARY = Path(__file__).resolve().parents[2] / "qsplat"


def key_of(settings: Mapping[str, Any]) -> str:
    """A name for ``settings``: the same for the same ones in any order, and in practice for no others."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(scripts: Iterable[str], folder: Path, library: Path = LIBRARY) -> str:
    """A name for the state of the sources that make rows, by which rows of different ones can be told apart.

    Args:
        scripts: names of the modules in ``folder`` that decide, with the library, what a row says.
        folder: where they lie.
        library: the folder of the library.
    """
    files = {f"scripts/{name}.py": folder / f"{name}.py" for name in scripts}
    for path in library.rglob("*"):
        if path.suffix in (".py", ".c", ".h"):
            files[f"library/{path.relative_to(library).as_posix()}"] = path
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Cache:
    """A folder of finished runs and states. Files appear when they are complete."""

    folder: Path

    def run(self, key: str) -> Path:
        """The file of the run ``key``."""
        return self.folder / "runs" / f"{key}.json"

    def state(self, key: str) -> Path:
        """The file of the training that stands at a step."""
        return self.folder / "states" / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether the run or state ``key`` is finished."""
        return self.run(key).is_file() or self.state(key).is_file()

    def read(self, key: str) -> dict[str, Any]:
        """What ``write`` wrote.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.run(key)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it, and the run is repeated") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no run: delete it, and the run is repeated")
        return content

    def write(self, key: str, content: Mapping[str, Any]) -> None:
        """Keep a finished run."""
        with written_whole(self.run(key)) as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

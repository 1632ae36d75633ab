"""The descriptions of known scenes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCENES = Path(__file__).parents[2] / "scenes"
KEYS = {"title", "source", "citation", "licence", "format", "scenes", "holdout_every", "downscale"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib comes with Python 3.11")
@pytest.mark.parametrize("path", sorted(SCENES.glob("*.toml")), ids=lambda path: path.stem)
def test_scene_description_says_what_is_needed(path: Path):
    import tomllib

    described = tomllib.loads(path.read_text(encoding="utf-8"))
    assert described.keys() >= KEYS
    assert described.keys() <= KEYS | {"downscale_of", "demo"}
    assert described["format"] in ("transforms", "blender", "colmap")
    assert described["scenes"] == sorted(described["scenes"])
    assert described["source"].startswith(("http://", "https://", "bundled: "))
    assert described["downscale"] >= 1
    assert set(described.get("downscale_of", {})) <= set(described["scenes"])
    assert all(described[key] for key in ("title", "citation", "licence"))

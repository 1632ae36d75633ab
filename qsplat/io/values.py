"""Values of a transforms file: each of the kind that its key promises, or one sentence with the value.

null texts and lists count as absent, as other exporters write them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def number(source: Path, values: Mapping[str, Any], key: str, default: float | int) -> float:
    """A finite number; ``default`` where there is no such key.

    Raises:
        ValueError: it is something else.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{source}: {key} is {value!r} instead of a finite number: correct it")
    return float(value)


def view_angle(source: Path, values: Mapping[str, Any], key: str) -> float:
    """The angle in radians that an image side spans.

    Raises:
        ValueError: it is no number between 0 and pi.
    """
    angle = number(source, values, key, 0.0)
    if not 0 < angle < math.pi:
        raise ValueError(f"{source}: {key} is {angle} instead of an angle between 0 and pi (radians): correct it")
    return angle


def text(source: Path, values: Mapping[str, Any], key: str) -> str | None:
    """A text that is not empty; None where there is none.

    Raises:
        ValueError: it is something else.
    """
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{source}: {key} is {value!r} instead of a text: correct it or remove it")
    return value or None


def items(source: Path, values: Mapping[str, Any], key: str) -> list[Any] | None:
    """A list; None where there is none.

    Raises:
        ValueError: it is something else.
    """
    value = values.get(key)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{source}: {key} is {value!r} instead of a list: correct it or remove it")
    return value

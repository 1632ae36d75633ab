"""What the cells of docs/performance.md say, and how rows of figures become rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ISA = {"x86_64_v4": "AVX-512", "x86_64_v3": "AVX2", "aarch64": "NEON"}

Row = Mapping[str, Any]
Table = Sequence[Mapping[str, str]]


def number(value: float | None) -> str:
    """Three digits or all before the point; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def size(row: Row) -> str:
    """Width and height of a row."""
    return f"{row['width']}x{row['height']}"


def by_case(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """The rows of each case, by binary, in their order."""
    cases: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = row.get("channels"), row["gaussians"], row["width"], row["height"]
        cases.setdefault(key, {})[row["isa"]] = row
    return list(cases.values())


def both_ways(row: Row) -> str:
    """Forward and backward time."""
    return f"{number(row['forward_ms'])} + {number(row['backward_ms'])}"

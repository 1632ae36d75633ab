"""Write the figures of docs/performance.md from the files that the benchmarks wrote.

    python scripts/bench/page.py [--folder DIR] [--page FILE]

Everything between the lines ``<!-- NAME -->`` and ``<!-- end -->`` is replaced by the table NAME. A table whose file is
not in the folder says that it was not measured. ``make bench`` ends with this.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import Table
from measuring import run
from tables import TABLES

from qsplat.io.atomic import written_whole

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- (?P<name>[a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)
NOTHING = "Not measured."


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path, default=ROOT / "docs" / "performance", help="with the JSON files")
    options.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="to be filled")
    given = options.parse_args(arguments)

    def fill() -> None:
        text = filled(given.page.read_text(encoding="utf-8"), read(given.folder))
        with written_whole(given.page) as temporary:
            temporary.write_text(text, encoding="utf-8")

    return run(fill)


def read(folder: Path) -> dict[str, Any]:
    """What the files in ``folder`` say, by the name of the benchmark.

    Raises:
        ValueError: a file is not JSON.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}): measure again") from None
    return found


def filled(text: str, found: Mapping[str, Any]) -> str:
    """``text`` with the tables of what was ``found``.

    Raises:
        ValueError: it asks for a table that does not exist.
    """

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"the page asks for the table {name!r}: there are {', '.join(TABLES)}")
        files, make = TABLES[name]
        try:
            made = markdown(make(*(found[file] for file in files))) if all(file in found for file in files) else ""
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{', '.join(files)}: not what this version writes ({error!r}): measure again") from None
        return f"<!-- {name} -->\n{made or NOTHING}\n<!-- end -->"

    return BLOCK.sub(table, text)


def markdown(rows: Table) -> str:
    """``rows``, which have the same keys, as a table; the first column on the left, the others on the right."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

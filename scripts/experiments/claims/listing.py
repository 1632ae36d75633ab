"""What experiments there are, by their docstrings, and the page of their results."""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PARTS = ("claim", "setting", "source", "expectation")
HELD = {True: "yes", False: "**no**", None: "open"}
BEGINNING = """\
# Claims of the sources, tried

One row for each claim: what the source says, what was measured here, and whether it held. Differences are given as mean
± standard deviation over pairs (the same seed, the same signal or photo), with the number of pairs that agree. A
comparison is open where its mean is within two standard errors of 0, and where it could not be measured here; what is
equal in every pair is not better. Other claims say what they take to hold. Claims that did not hold stay. Figures of
papers that are not at hand are unknown and are not compared with. Steps, sizes and everything else that a source does
not say are our choice, and smaller than the source's where one core has to do: the sections below the table say how.
Command, seeds and minutes stand in the first row of an experiment; minutes are of processor time, on a machine that was
busy with other work.

Photos and scenes come from the folder that `QSPLAT_DATA` names. This page is written from the JSON files in
[experiments](experiments), which hold every seed's figures:

```
OMP_NUM_THREADS=1 python scripts/experiments/run.py --all --output docs/experiments
python scripts/experiments/run.py --page docs/experiments.md --output docs/experiments
```
"""


@dataclass(frozen=True)
class Described:
    """What an experiment says of itself."""

    title: str
    claim: str
    setting: str
    source: str
    expectation: str


def described(folder: Path = FOLDER) -> dict[str, Described]:
    """The experiments in ``folder``, which are the modules that can ``measure``, without importing any.

    Raises:
        ValueError: one does not say its claim, setting, source and expectation.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "measure" for node in module.body):
            found[path.stem] = _described(path.stem, ast.get_docstring(module) or "")
    return found


def _described(name: str, docstring: str) -> Described:
    """The parts of a docstring: a title, and paragraphs that begin with the name of a part."""
    title, _, rest = docstring.partition("\n")
    parts: dict[str, str] = {}
    current = ""
    for line in rest.splitlines():
        word, colon, text = line.partition(":")
        if colon and word.lower() in PARTS:
            current, line = word.lower(), text
        if current:
            parts[current] = f"{parts.get(current, '')} {line.strip()}".strip()
    if missing := [part for part in PARTS if not parts.get(part)]:
        raise ValueError(f"the docstring of the experiment {name} lacks {', '.join(missing)}")
    return Described(title.rstrip("."), **parts)


def page(folder: Path, known: Mapping[str, Described]) -> str:
    """The page of the results in ``folder``: a row for each claim, and a section for each experiment.

    Raises:
        ValueError: a file is not what ``run.py`` writes.
    """
    results = {name: read_result(folder / f"{name}.json") for name in known if (folder / f"{name}.json").exists()}
    rows = [
        "| Experiment | What the source says | What was measured | Held | Command | Seeds | Minutes |",
        "| --- | --- | --- | --- | --- | ---: | ---: |",
    ]
    for name in known:
        rows += _rows(name, results[name]) if name in results else [f"| {name} | | not run | | | | |"]
    machines = sorted({_machine(result["machine"]) for result in results.values()})
    measured = f"Measured on {'; '.join(machines)}.\n" if machines else ""
    sections = [_section(name, one, folder) for name, one in known.items()]
    return "\n".join([BEGINNING, _counts(results), "", *rows, "", measured, *sections]).rstrip() + "\n"


def read_result(path: Path) -> dict[str, Any]:
    """What the JSON file of an experiment holds.

    Raises:
        ValueError: it is not there, or not what ``run.py`` writes.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: measure first") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): measure again") from None
    if not isinstance(result, dict) or not {"seeds", "quick", "machine", "minutes", "figures", "verdicts"} <= set(
        result
    ):
        raise ValueError(f"{path} is not what run.py writes: measure again")
    return result


def _counts(results: Mapping[str, Mapping[str, Any]]) -> str:
    """How many claims held."""
    held = [verdict["held"] for result in results.values() for verdict in result["verdicts"]]
    counts = [sum(one is which for one in held) for which in (True, False, None)]
    return f"Of {len(held)} claims {counts[0]} held, {counts[1]} did not, and {counts[2]} are open."


def _rows(name: str, result: Mapping[str, Any]) -> list[str]:
    quick = " --quick" if result["quick"] else ""
    command = f"`run.py {name} --seeds {result['seeds']}{quick}`"
    run = [command, str(result["seeds"]), f"{result['minutes']:.1f}"]
    cells = (
        [
            f"[{name}](#{name})",
            verdict["claim"],
            verdict["by"],
            HELD[verdict["held"]],
            *(["", "", ""] if index else run),
        ]
        for index, verdict in enumerate(result["verdicts"])
    )
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in cells]


def _machine(machine: Mapping[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}"


def _section(name: str, one: Described, folder: Path) -> str:
    lines = [f"## {name}", "", f"{one.title}."]
    for part in PARTS:
        text = f"**{part.capitalize()}:** {getattr(one, part)}"
        lines += ["", *textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)]
    if (folder / f"{name}.png").exists():
        lines += ["", f"![{one.title}]({folder.name}/{name}.png)"]
    return "\n".join([*lines, ""])

"""How long programs take to begin on this machine.

    python scripts/bench/startup.py [--json FILE] [--repeats N] [--scene DIR] [--max-side N]

Times fresh processes from their start, in turns: until torch is imported, until the first iteration of ``fit()`` on
photos of at most 320 pixels a side is over, and until ``--help`` of every program in ``scripts/`` is answered. The
medians of the stages come from the same processes, so that torch's own share, the start of Python included, stands
beside the rest. Imports depend on whether the bytecode of the packages was compiled: ``bytecode`` names those with it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from measuring import Options, Times, clock, machine, milliseconds, run, show, take_turns, write_json

ROOT = Path(__file__).parents[2]
STAGES = ("torch_ms", "modules_ms", "scene_ms", "iteration_ms")
IMPORT = "import torch; print('torch_ms')"
TRAIN = """
import torch
print("torch_ms")
import sys
from qsplat.io.transforms import load_scene
from qsplat.training.fit import fit
print("modules_ms")
scene = load_scene(sys.argv[1], max_side=int(sys.argv[2]))
print("scene_ms")
def end(record):
    print("iteration_ms")
    sys.exit()
fit(scene, on_step=end)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the rows."""
    options = Options(__doc__)
    options.add_count("--repeats", default=5, help="repeats of every case")
    options.add_argument("--scene", type=Path, default=ROOT / "scenes" / "stilllife", metavar="DIR", help="to train")
    options.add_count("--max-side", default=320, help="longer side of the photos in pixels")
    given = options.parse_args(arguments)

    def bench() -> None:
        found = measure(given.scene, given.max_side, given.repeats)
        if given.json:
            write_json(given.json, found)
        show("until it begins", found["rows"])

    return run(bench)


def measure(scene: Path, max_side: int, repeats: int) -> dict[str, Any]:
    """A row for the import of torch, one for the first iteration, and one for the help of each program."""
    cases: dict[str, Callable[[], Times]] = {
        "import torch": partial(stages, "-c", IMPORT),
        "first iteration of fit()": partial(stages, "-c", TRAIN, str(scene), str(max_side)),
    }
    for path in programs():
        cases[f"{path.relative_to(ROOT)} --help"] = partial(answer, str(path), "--help")
    found = take_turns(list(cases.values()), repeats)
    rows = []
    for name, times in zip(cases, found.medians, strict=True):
        total = times.get("total_ms") or round(sum(times.values()), 3)
        rows.append({"start": name, "total_ms": total, **{stage: times.get(stage) for stage in STAGES}})
    return {"machine": machine(), "bytecode": [name for name in ("torch", "scipy") if has_bytecode(name)], "rows": rows}


def programs() -> list[Path]:
    """The files in ``scripts/`` and ``scripts/bench/`` that are programs and not modules of one."""
    files = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts" / "bench").glob("*.py")]
    return sorted(path for path in files if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8"))


def stages(*arguments: str) -> Times:
    """Milliseconds of the stages of a Python program that prints the name of each when it is over.

    Raises:
        ValueError: it failed.
    """
    began, times = clock(), {}
    command = [sys.executable, "-u", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            ended = clock()
            times[line.strip()] = 1e3 * (ended - began)
            began = ended
        _, complaint = process.communicate()
    _check(process.returncode, complaint)
    return times


def answer(*arguments: str) -> Times:
    """``total_ms`` of a Python program from its start to its end.

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, *arguments]

    def ask() -> None:
        asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        _check(asked.returncode, asked.stderr)

    return {"total_ms": milliseconds(ask)}


def has_bytecode(package: str) -> bool:
    """Whether Python need not compile ``package`` each time it is imported."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.cached is not None
    return Path(found.cached).is_file()


def _check(status: int, complaint: str) -> None:
    if status != 0:
        lines = complaint.strip().splitlines() or [f"status {status}"]
        raise ValueError(f"a program that was to be timed failed: {lines[-1]}")


if __name__ == "__main__":
    sys.exit(main())

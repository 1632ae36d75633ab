"""What a program loads before it does its work: seconds are saved by names, which a test can check on any machine."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("scripts", "scripts/bench") for path in (ROOT / folder).glob("*.py"))
PROGRAMS = [path for path in FILES if "__main__" in path.read_text(encoding="utf-8")]

ASK_FOR_HELP = """
import json, runpy, sys
from pathlib import Path
path = sys.argv[1]
sys.argv = [path, "--help"]
sys.path.insert(0, str(Path(path).parent))
try:
    runpy.run_path(path, run_name="__main__")
finally:
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""

TRAIN = """
import sys
from qsplat.io.transforms import load_scene
from qsplat.training.fit import FitConfig, fit
from qsplat.training.schedule import Schedule

def loaded(record):
    print(record.phase, *sorted({"torch._dynamo", "sympy", "nerfstudio", "matplotlib"} & set(sys.modules)))

fit(load_scene(sys.argv[1], max_side=80), FitConfig(Schedule(2, head_share=0.5)), on_step=loaded)
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "scripts").as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_help_comes_without_torch(path):
    command = [sys.executable, "-c", ASK_FOR_HELP, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not {"torch", "nerfstudio", "scipy", "matplotlib"} & set(json.loads(answer.stderr.splitlines()[-1]))
    if path in PROGRAMS:
        assert answer.stdout.startswith("usage: ")
        assert path.name in answer.stdout.splitlines()[0]


@pytest.fixture
def startup(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts" / "bench")
    return importlib.import_module("startup")


def test_the_benchmark_asks_every_program_for_its_help(startup):
    assert startup.programs() == PROGRAMS


def test_the_benchmark_times_the_stages_that_a_process_prints(startup):
    """Half a second, of which the reader may be late by four fifths."""
    found = startup.stages("-c", "import time; print('first_ms'); time.sleep(0.5); print('second_ms')")
    assert list(found) == ["first_ms", "second_ms"]
    assert found["second_ms"] >= 100


def test_the_benchmark_does_not_time_failures(startup):
    for timed in (startup.stages, startup.answer):
        with pytest.raises(ValueError, match="failed: no such scene"):
            timed("-c", "raise SystemExit('no such scene')")


def test_the_first_steps_of_either_phase_do_not_load_the_compiler():
    command = [sys.executable, "-c", TRAIN, str(ROOT / "scenes" / "stilllife")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["splatting", "joint"]

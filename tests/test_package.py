"""The package as a whole: what an import costs and which way its arrows point."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imported_by(statement: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter after ``statement``."""
    program = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_qsplat_pulls_in_nothing_heavy():
    assert not {"nerfstudio", "viser", "gsplat", "tyro", "torch"} & imported_by("import qsplat")


@pytest.mark.parametrize("module", ["render", "qnn", "training", "training.fit", "metrics", "io", "io.transforms"])
def test_the_library_pulls_in_no_front_end(module):
    assert not {"nerfstudio", "viser", "gsplat", "tyro"} & imported_by(f"import qsplat.{module}")


def test_arrows_point_down():
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout

"""Scripts are programs, not a package: their folder joins the path as it does when one of them runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
# What a shell starts in the background ignores interrupts, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def experiments():
    """The experiments import each other from the folder that they lie in; so do the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "scripts" / "experiments")
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield

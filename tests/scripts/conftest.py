"""Scripts are programs, not a package: their folder joins the path as it does when one of them runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"

sys.path.insert(0, str(EXPERIMENTS.parent))
# What a shell starts in the background ignores interrupts, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def experiments():
    """The experiments import each other from the folder that they lie in; so do the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield


@pytest.fixture(scope="module")
def gain(experiments):
    """The scripts that say where a gain sits."""
    import gain_figures
    import gain_map
    import gain_parts
    import gain_verdict
    import gain_views

    return SimpleNamespace(figures=gain_figures, map=gain_map, parts=gain_parts, verdict=gain_verdict, views=gain_views)

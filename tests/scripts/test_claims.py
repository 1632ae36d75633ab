"""Every experiment in its quick form: it measures, judges and draws."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "scripts" / "experiments"


@pytest.fixture(scope="module", autouse=True)
def experiments():
    """The scripts import each other from the folder that they lie in, and what they share with benchmarks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.syspath_prepend(EXPERIMENTS)
        yield


def names():
    """The experiments, found as ``--list`` finds them."""
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        return list(importlib.import_module("claims.listing").described())
    finally:
        sys.path.remove(str(EXPERIMENTS))


@pytest.mark.parametrize("name", names())
def test_a_quick_run_is_measured_judged_and_drawn(name, tmp_path):
    import torch

    record = importlib.import_module("claims.record")
    module = importlib.import_module(f"claims.{name}")
    with torch.random.fork_rng():
        measured = module.measure(record.Setting(seeds=1, quick=True))
    figures = json.loads(json.dumps(measured, allow_nan=False))
    verdicts = module.judge(figures)
    assert verdicts
    for verdict in verdicts:
        assert verdict.claim
        assert verdict.by
        assert verdict.held in (True, False, None)
    module.draw(figures, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "picture.png").stat().st_size > 5000


@pytest.mark.parametrize("name", ["heads_on_scenes", "input_ablation", "query_generalisation", "super_resolution"])
def test_without_data_a_claim_is_not_measured(name, tmp_path):
    record = importlib.import_module("claims.record")
    module = importlib.import_module(f"claims.{name}")
    figures = module.measure(record.Setting(seeds=1, quick=False, data=None))
    (verdict,) = module.judge(figures)
    assert verdict.held is None
    assert "QSPLAT_DATA" in verdict.by
    module.draw(figures, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")

"""Every experiment in its quick form: it measures, judges and draws."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

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
    claims = [verdict.claim for verdict in verdicts]
    assert all(claims)
    assert len(set(claims)) == len(claims), "each claim is judged once"
    for verdict in verdicts:
        missing = verdict.held is None and re.search("QSPLAT_DATA|is not here", verdict.by)
        assert missing or re.search(r"\d", verdict.by), "a verdict says by how much, or what is missing"
    written = [asdict(verdict) for verdict in verdicts]
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert module.judge(figures) == verdicts, "judging changes no figures"
    module.draw(figures, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 200
        darkest, lightest = picture.convert("L").getextrema()
        assert darkest < 128 < lightest, "something is drawn"


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


def test_a_map_of_edges_is_correlated_with_them_and_an_even_one_is_not():
    import torch

    maps = importlib.import_module("claims.band_maps")
    photo = torch.zeros(9, 12, 3)
    photo[:, 6:] = 1
    edges = torch.zeros(9, 12)
    edges[:, 5:7] = 1
    assert maps.with_edges(edges, photo) == pytest.approx(1)
    assert maps.with_edges(-edges, photo) == pytest.approx(-1)
    assert maps.with_edges(torch.ones(9, 12), photo) == 0


def test_maps_come_back_from_a_file_as_they_were_but_for_rounding():
    import numpy as np
    import torch

    module = importlib.import_module("claims.band_maps")
    photo, maps = torch.rand(7, 5, 3), torch.stack([torch.rand(7, 5) + 0.5, torch.ones(7, 5), 2 * torch.rand(7, 5)])
    known = json.loads(json.dumps(module.kept("a photo", photo, maps)))
    np.testing.assert_allclose(module.photo_of(known) / 255, photo.numpy(), atol=0.51 / 255)
    for found, expected in zip(module.maps_of(known), maps, strict=True):
        spread = float(expected.max() - expected.min())
        np.testing.assert_allclose(found, expected.numpy(), atol=0.51 / 255 * spread + 1e-6)

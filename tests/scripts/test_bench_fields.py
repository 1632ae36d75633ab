"""The benchmark of fields at tiny sizes: what it writes, and that all models see the same rays."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def settings():
    """As the benchmark itself sets them, and back again."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS.parent / "scripts" / "bench")
        patch.syspath_prepend(TESTS / "plugin")
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def fields(settings, monkeypatch):
    module = importlib.import_module("fields")
    monkeypatch.setattr(module, "WARM", 1)
    monkeypatch.setattr(module, "WARM_RAYS", 16)
    monkeypatch.setattr(importlib.import_module("measuring"), "WARM_UP", 0)
    return module


@pytest.fixture(scope="module")
def capture(settings, tmp_path_factory):
    write = importlib.import_module("small_capture").write_capture
    return write(tmp_path_factory.mktemp("captures") / "blobs", transparent=True)


def test_speed_is_beside_vanilla_nerf(fields, capture, tmp_path):
    path = tmp_path / "speed.json"
    options = ["--rays", "4", "--repeats", "1", "--threads", "1"]
    assert fields.main([str(capture), *options, "--json", str(path)]) == 0
    vanilla, original, *small = json.loads(path.read_text())["speed"]
    assert vanilla["times_as_fast"] == 1
    assert [row["model"] for row in small] == [
        f"qsplat-nerf small, {when}"
        for when in ("at first", "after 1 iterations", "the same in bfloat16", "the same in float32")
    ]
    assert original["parameters"] == 2 * 595_844
    for row in (vanilla, original, *small):
        both = row["forward_us_per_ray"] + row["backward_us_per_ray"]
        assert row["us_per_ray"] == pytest.approx(both, abs=0.2)


def test_methods_are_timed_without_vanilla_nerf(fields, capture, tmp_path):
    path = tmp_path / "speed.json"
    options = ["--models", "small", "--methods", "siren", "fourier", "--rays", "8", "--repeats", "1", "--threads", "1"]
    assert fields.main([str(capture), *options, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["speed"]
    assert [row["model"] for row in rows if "first" in row["model"]] == [
        "qsplat-siren small, at first",
        "qsplat-fourier small, at first",
    ]
    assert rows[0]["times_as_fast"] == 1


@pytest.mark.parametrize(("kind", "precision"), [("bfloat16", "bf16"), ("float32", "fp32")])
def test_a_twin_is_the_same_field_in_other_arithmetic(fields, capture, kind, precision):
    from qsplat.io.transforms import load_scene

    scene = load_scene(capture)
    ours = fields.Ours(scene, "nerf", "small", 1)
    twin = ours.computing_in(kind)
    rays, _ = fields.pool(scene.train)(20)
    with torch.no_grad():
        torch.testing.assert_close(twin.colors(rays), ours.colors(rays), atol=0.05, rtol=0)
    assert twin.model.field.config.precision == precision
    assert ours.model.field.config.precision == "auto"
    assert twin.parameters[0] is not ours.parameters[0]
    assert twin.parameters[0] is next(twin.model.parameters())


def test_all_models_learn_from_the_same_rays(fields, capture, tmp_path, monkeypatch):
    seen = {}
    take = fields.take_step

    def watched(model, step, rays, photo):
        seen.setdefault(type(model).__name__ + str(step), []).append((rays.origins, rays.directions, photo))
        take(model, step, rays, photo)

    monkeypatch.setattr(fields, "take_step", watched)
    path = tmp_path / "learning.json"
    options = ["--learn", "--iterations", "2", "--rays", "4", "--pixels", "100", "--threads", "1"]
    options += ["--models", "vanilla", "small", "float32"]
    assert fields.main([str(capture), *options, "--json", str(path)]) == 0
    for step in ("0", "1"):
        (*ours,), (theirs,) = seen["Ours" + step], seen["Vanilla" + step]
        assert len(ours) == 2
        for some in ours:
            assert all(torch.equal(one, other) for one, other in zip(some, theirs, strict=True))
    assert not torch.equal(seen["Ours0"][0][2], seen["Ours1"][0][2])
    rows = json.loads(path.read_text())["learning"]
    assert [row["model"] for row in rows] == [
        *("nerfstudio vanilla-nerf", "qsplat-nerf small", "qsplat-nerf small in float32")
    ]
    assert all(0 < row["psnr"] < 40 for row in rows)


def test_vanilla_nerf_gets_the_rays_of_the_capture(fields, capture):
    """In the units and axes of its files, where the cameras stand in a circle of 3 units, one unit above the object."""
    from qsplat.io.transforms import load_scene

    scene, bundles = load_scene(capture), []
    model = fields.Vanilla(scene)
    model.model.forward = bundles.append
    rays, _ = fields.pool(scene.train)(20)
    model._outputs(rays)
    (bundle,) = bundles
    torch.testing.assert_close(bundle.origins[:, :2].norm(dim=-1), torch.full((20,), 3.0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(bundle.origins[:, 2], torch.full((20,), 1.0), atol=1e-4, rtol=1e-4)
    toward = -(bundle.origins * bundle.directions).sum(-1) / bundle.origins.norm(dim=-1)
    assert float(toward.min()) > 0.8


@pytest.mark.parametrize("words", [["--rays", "0"], ["--models", "nerfacto", "--learn"]])
def test_wrong_options_are_refused_in_one_line(fields, capture, words, capsys):
    with pytest.raises(SystemExit) as refusal:
        fields.main([str(capture), *words])
    assert refusal.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_captures_without_alpha_are_refused(fields, tmp_path, capsys):
    folder = importlib.import_module("small_capture").write_capture(tmp_path / "opaque")
    assert fields.main([str(folder)]) == 1
    assert "photos all have alpha" in capsys.readouterr().err

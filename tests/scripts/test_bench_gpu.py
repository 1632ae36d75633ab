"""The benchmark of the GPU, at tiny sizes on the CPU: what it measures must not rot where there is no GPU."""

import importlib
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from qsplat import render
from qsplat.training.losses import photometric_loss
from qsplat.training.model import SplatModel
from qsplat.training.parameters import gaussians_of

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("gpu")


def test_without_a_gpu_it_says_so_in_one_sentence(gpu, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no NVIDIA GPU" in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_table_is_measured_written_and_shown(gpu, monkeypatch, capsys, tmp_path):
    measure = gpu.measure
    monkeypatch.setattr(gpu, "check_gpu", lambda: None)
    monkeypatch.setattr(gpu, "measure", lambda device, *rest: measure("cpu", *rest))
    monkeypatch.setattr(gpu, "TWIN_CASE", (20, 32, 32))
    small = ["--cases", "20@32x32", "--training", "80@80x70", "--repeats", "1", "--iterations", "2"]
    assert gpu.main([*small, "--json", str(tmp_path / "gpu.json")]) == 0
    found, shown = json.loads((tmp_path / "gpu.json").read_text()), capsys.readouterr().out
    assert list(found) == ["machine", "rows", "twins", "loss", "head", "training"]
    assert [row["phase"] for row in found["training"]] == ["splatting", "joint"]
    assert all(title in shown for title in (*gpu.TABLES, "rendering backward"))


def test_renderings_have_the_rows_of_the_rasterizer(gpu):
    sizes = [(60, 48, 32), (20, 32, 32)]
    rows = gpu.renderings(sizes, 1, "cpu")
    assert [(row["gaussians"], row["width"], row["height"]) for row in rows] == sizes
    usual = {field.name for field in fields(importlib.import_module("rasterizer").Row)}
    for row in rows:
        assert row.keys() == usual | {"peak_memory_mib"}
        assert row["total_ms"] == pytest.approx(row["forward_ms"] + row["backward_ms"], abs=2e-3)
        pixels = row["width"] * row["height"]
        assert row["ns_per_overlap"] == pytest.approx(
            1e6 * row["total_ms"] / (pixels * row["overlap_per_pixel"]), rel=0.05
        )
        assert row["threads"] is None


def test_the_reference_backend_draws_the_twin(gpu, monkeypatch):
    asked, draw = [], render.rasterize
    monkeypatch.setattr(render, "rasterize", lambda *a, **k: asked.append(k["backend"]) or draw(*a, **k))
    row = gpu.twins((20, 32, 32), 1, "cpu")
    assert set(asked) == {None, "reference"}
    twin = row["twin_forward_ms"] + row["twin_backward_ms"]
    assert row["ratio"] == pytest.approx(twin / row["total_ms"], abs=0.06)


def test_the_loss_and_the_head_are_measured_at_every_size_and_precision(gpu):
    rows = gpu.losses([(32, 24), (24, 16)], 1, "cpu")
    assert [(row["width"], row["height"]) for row in rows] == [(32, 24), (24, 16)]
    assert all(row["ratio"] > 0 for row in rows)
    assert [row["precision"] for row in gpu.heads((32, 24), 1, "cpu")] == ["bf16", "fp32"]


def test_training_is_measured_in_both_phases_and_taken_apart(gpu):
    splatting, joint = gpu.trained([(80, 80, 70)], 1, 2, "cpu")
    assert (splatting["phase"], joint["phase"]) == ("splatting", "joint")
    common = ["rendering", "loss", "loss backward", "rendering backward", "optimisers"]
    assert list(splatting["breakdown_ms"]) == common
    assert list(joint["breakdown_ms"]) == [
        "rendering",
        "head",
        "loss",
        "loss backward",
        "head backward",
        "rendering backward",
        "optimisers",
    ]
    assert min(*splatting["breakdown_ms"].values(), joint["iterations_per_second"]) > 0


def test_a_step_taken_apart_is_a_step_of_training(gpu):
    """Its parameters end where autograd through the whole step takes them."""
    training = gpu.Training(gpu.made_up_scene(50, 80, 70), 50, 1, {"joint": "joint"}, device="cpu")
    step, whole = (importlib.import_module("step").Step(training, joint=True) for _ in range(2))
    whole.head.load_state_dict(step.head.state_dict())
    for one in (step, whole):
        torch.nn.init.constant_(one.head.stages[-1].weight, 0.01)
    step.take()
    camera, generator = whole.target.camera, whole.generator
    window = whole.config.schedule.head_window_at(0, width=camera.width, height=camera.height, generator=generator)
    model = SplatModel(gaussians_of(whole.parameters), whole.head, whole.background, whole.raster)
    photometric_loss(model.render(camera, head_window=window).rgb, whole.target.image).backward()
    for optimizer in whole.optimizers.values():
        optimizer.step()
    for name, value in whole.parameters.items():
        assert torch.allclose(step.parameters[name], value, atol=1e-6), name
    for ours, theirs in zip(step.head.parameters(), whole.head.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)

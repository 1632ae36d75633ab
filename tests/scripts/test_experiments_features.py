"""Learnt channels of finished Gaussians as queries of the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiment_rows import module

from qsplat.cameras import Window
from qsplat.qnn import QNN, QnnConfig, part_queries, pixel_queries
from qsplat.qnn.images import rows_and_columns

STILLLIFE = Path(__file__).parents[2] / "scenes" / "stilllife"
CHANNELS = 3

pytestmark = pytest.mark.usefixtures("experiments")


@pytest.fixture(scope="module")
def cell():
    capture = module("captures").read_capture(STILLLIFE, max_side=48, holdout_every=8)
    return module("ablation_plan").Cell(capture, "every8", 0, 60, 80, 200)


@pytest.fixture(scope="module")
def variant():
    """As in the ablation, with a head that is small, sees much of an image and learns fast."""
    features = module("ablation_variants").VARIANTS["posthoc-features-8"]
    schedule = {"head_rate": 3e-3, "crop_share": 0.5}
    return replace(features, features=CHANNELS, head={"channels": 8, "precision": "fp32"}, schedule=schedule)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    return module("ablation_learning").Laboratory(module("ablation_cache").Cache(tmp_path_factory.mktemp("cache")), "-")


@pytest.fixture(scope="module")
def finished(laboratory, cell):
    """A scene and its Gaussians at the end of their training."""
    return module("ablation_learning").scene_of(cell), laboratory.finished(cell, averaged=False)[0].model()


def test_channels_are_splatted_like_the_colour_and_a_crop_of_them_is_that_of_the_image(finished):
    scene, model = finished
    camera = scene.train[0].camera
    queries = module("ablation_features").SplattedQueries(model.gaussians, CHANNELS, model.config)
    with torch.no_grad():
        queries.features.copy_(torch.tensor([1.0, -2.0, 0.0]))
    seen, drawn = queries(camera), model.draw(camera)
    assert torch.equal(seen[..., :2], pixel_queries(camera))
    assert drawn.alpha.max() > 0.5
    torch.testing.assert_close(seen[..., 2:], drawn.alpha[..., None] * torch.tensor([1.0, -2.0, 0.0]))
    window = Window(7, 3, 21, 15)
    torch.testing.assert_close(part_queries(queries, camera)(window), seen[rows_and_columns(window)])


def test_gradients_reach_the_channels_of_gaussians_in_view_and_nothing_else_of_them(finished):
    scene, model = finished
    queries = module("ablation_features").SplattedQueries(model.gaussians, CHANNELS, model.config)
    head = QNN(QnnConfig(precision="fp32"), queries=queries)
    assert sum(one.numel() for one in queries.parameters()) == CHANNELS * len(model.gaussians)
    torch.nn.init.normal_(head.stages[-1].weight)
    view = replace(model, head=head).render(scene.train[0].camera)
    view.residual.square().sum().backward()
    assert (queries.features.grad != 0).any(dim=0).all()
    assert not model.gaussians.means.requires_grad


def test_a_head_with_channels_learns_and_leaves_the_gaussians_as_they_are(laboratory, cell, variant, finished):
    scene, model = finished
    learning = module("ablation_learning")
    config = learning.head_config(cell, variant)
    before = {name: value.clone() for name, value in vars(model.gaussians).items()}
    born = module("ablation_features").train_with_features(
        scene, model, replace(config, schedule=replace(config.schedule, iterations=60, head_share=1.0)), CHANNELS
    )
    trained = [module("ablation_features").train_with_features(scene, model, config, CHANNELS) for _ in range(2)]
    assert all(torch.equal(value, getattr(trained[0].gaussians, name)) for name, value in before.items())
    assert torch.equal(*(one.head.queries.features for one in trained))
    assert trained[0].head.queries.features.abs().max() > 0

    def error(model):
        shown = [model.render(view.camera).rgb for view in scene.train]
        return sum(float((image - view.image).square().mean()) for image, view in zip(shown, scene.train, strict=True))

    assert error(born) == error(model)
    assert error(trained[0]) < 0.98 * error(model)


def test_a_run_is_scored_and_counts_its_channels(laboratory, cell, variant, finished):
    row = laboratory.headed(cell, variant)
    _, model = finished
    plain = laboratory.measured(cell, *laboratory.finished(cell, averaged=False))
    assert row["held_out_base"] == plain["held_out"]
    assert row["held_out"] != plain["held_out"]
    assert row["iterations"] == cell.iterations + cell.head_iterations
    assert row["parameters"] > CHANNELS * len(model.gaussians)
    assert 0 < row["head_cpu_seconds"] < row["cpu_seconds"]


def test_only_finished_gaussians_have_channels():
    variants = module("ablation_variants")
    with pytest.raises(ValueError, match="features=3, mode='joint'"):
        variants.Headed("one", "features", "too early", features=3)

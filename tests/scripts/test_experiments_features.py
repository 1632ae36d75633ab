"""Learnt channels of finished Gaussians as queries of the head."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiment_rows import module

from qsplat.cameras import Window
from qsplat.qnn import QNN, QnnConfig, image_residual, part_queries, pixel_queries
from qsplat.qnn.images import rows_and_columns
from qsplat.qnn.photo_head import PhotoHead
from qsplat.qnn.photos import PhotoConfig
from qsplat.training.photo_head import photo_queries
from qsplat.training.plus_model import PlusModel
from qsplat.training.randomness import PhotoOrder
from qsplat.training.schedule import Schedule

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
    features = module("ablation_variants").FEATURED
    schedule = {"head_rate": 3e-3, "crop_share": 0.5}
    return replace(features, features=CHANNELS, head={"channels": 8, "precision": "fp32"}, schedule=schedule)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    return module("ablation_learning").Laboratory(module("ablation_cache").Cache(tmp_path_factory.mktemp("cache")), "-")


@pytest.fixture(scope="module")
def finished(laboratory, cell):
    """A scene and its Gaussians at the end of their training."""
    return module("ablation_learning").scene_of(cell), laboratory.finished(cell, averaged=False)[0].model()


def channels_of(models, values=()):
    """Channels of the Gaussians of ``models``, each the ``values`` of its set."""
    made = module("ablation_features").SplattedQueries([one.gaussians for one in models], CHANNELS, models[0].config)
    with torch.no_grad():
        for features, value in zip(made.features, values, strict=False):
            features.copy_(torch.tensor(value))
    return made


def test_channels_are_splatted_like_the_colour_and_a_crop_of_them_is_that_of_the_image(finished):
    scene, model = finished
    camera = scene.train[0].camera
    queries = channels_of([model, model], values=([2.0, -4.0, 0.0], [0.0, 0.0, 1.0]))
    seen, drawn = queries(camera), model.draw(camera)
    assert torch.equal(seen[..., :2], pixel_queries(camera))
    assert drawn.alpha.max() > 0.5
    torch.testing.assert_close(seen[..., 2:], drawn.alpha[..., None] * torch.tensor([1.0, -2.0, 0.5]))
    window = Window(7, 3, 21, 15)
    torch.testing.assert_close(part_queries(queries, camera)(window), seen[rows_and_columns(window)])


def test_gradients_reach_the_channels_of_gaussians_in_view(finished):
    scene, model = finished
    queries = channels_of([model])
    head = QNN(QnnConfig(precision="fp32"), queries=queries)
    assert sum(one.numel() for one in queries.parameters()) == CHANNELS * len(model.gaussians)
    torch.nn.init.normal_(head.stages[-1].weight)
    seen = scene.train[0].camera
    view = replace(model, head=head).render(seen.cropped(Window(0, 0, seen.width // 4, seen.height // 4)))
    view.residual.square().sum().backward()
    reached = (queries.features[0].grad != 0).any(dim=1)
    assert reached.any()
    assert not (reached & (view.trace.radii == 0)).any()
    assert (view.trace.radii == 0).any()


def test_a_network_with_channels_learns_and_leaves_the_gaussians_as_they_are(cell, variant, finished):
    scene, model = finished
    config, train = module("ablation_learning").head_config(cell, variant), module("ablation_features")
    sets = PlusModel((model.gaussians,), background=model.background, config=model.config)
    before = {name: value.clone() for name, value in vars(model.gaussians).items()}
    unborn = replace(config, schedule=replace(config.schedule, head_share=1.0))

    def trained_by(config):
        order, crops = (torch.Generator().manual_seed(seed) for seed in (1, 2))
        drawn = {"order": PhotoOrder(len(scene.train), generator=order), "crops": crops}
        return train.train_with_features(sets.sets, sets.shown(scene.train), config, CHANNELS, **drawn)

    born, *trained = (trained_by(each) for each in (unborn, config, config))
    assert all(torch.equal(value, getattr(model.gaussians, name)) for name, value in before.items())
    assert torch.equal(*(one.queries.features[0] for one in trained))
    assert trained[0].queries.features[0].abs().max() > 0

    def error(head):
        shown = [replace(model, head=head).render(view.camera).rgb for view in scene.train]
        return sum(float((image - view.image).square().mean()) for image, view in zip(shown, scene.train, strict=True))

    assert error(born) == error(None)
    assert error(trained[0]) < 0.98 * error(None)


def test_photos_lack_what_they_lack_of_the_mean_that_the_network_has_corrected(cell, variant, finished):
    scene, model = finished
    learning, train = module("ablation_learning"), module("ablation_features")
    config, head = learning.head_config(cell, variant), PhotoHead()
    sets = (model.gaussians, replace(model.gaussians, sh_dc=model.gaussians.sh_dc + 0.1))
    plus = PlusModel(sets, head, background=model.background, config=model.config)
    head.photos, before = photo_queries(plus.shown(scene.train), PhotoConfig(count=3)), len(scene.train)
    made = train.with_features(plus, scene.train, config, CHANNELS)
    assert len(made.head.photos.cameras) == before
    assert made.head.photos.config == head.photos.config
    camera = scene.test[0].camera
    plain, mean = plus.mean(camera), made.mean(camera)
    assert torch.equal(mean.first, plain.first)
    assert not torch.equal(mean.image, plain.image)
    believing = [replace(one, head=copy.deepcopy(one.head)) for one in (plus, made)]
    for one in believing:
        one.head.belief.copy_(torch.tensor([1.0, 0.0]))
    shown = made.shown(scene.train)
    expected = mean.image + image_residual(
        believing[1].head, mean.image, part_queries(photo_queries(shown, PhotoConfig(count=3)), camera, mean.depth)
    )
    torch.testing.assert_close(believing[1].render(camera).rgb, expected)
    assert not torch.allclose(expected - mean.image, believing[0].render(camera).rgb - plain.image, atol=1e-4)


def test_the_head_sees_photos_and_crops_as_one_without_channels_does(laboratory, cell, variant, monkeypatch):
    plan, learning, train = module("ablation_plan"), module("ablation_learning"), module("ablation_features")
    laboratory.finished(cell, averaged=False)
    key = plan.state_key(cell, cell.iterations)
    seen = []

    def crop(schedule, step, **given):
        window = Schedule.head_window_at(schedule, step, **given)
        seen[-1].append(window)
        return window

    class Watched(PhotoOrder):
        def __next__(self):
            index = super().__next__()
            seen[-1].append(index)
            return index

    class Watching(Schedule):
        head_window_at = crop

    for module_path in (train.__name__, "qsplat.training.training"):
        monkeypatch.setattr(f"{module_path}.PhotoOrder", Watched)
    for features in (0, CHANNELS):
        config = learning.head_config(cell, replace(variant, features=features))
        config = replace(config, schedule=Watching(**vars(config.schedule)))
        training, _ = laboratory.load(key, learning.scene_of(cell), config)
        seen.append([])
        if features:
            train.headed_by_features(training, learning.scene_of(cell).train, features)
        else:
            training.advance()
    assert len(seen[0]) == 2 * cell.head_iterations
    assert seen[0] == seen[1]


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
    with pytest.raises(ValueError, match="features=3, covered=False, mode='joint'"):
        variants.Headed("one", "features", "too early", features=3)
    for wrong in ({"weighed": True}, {"quality": 90}):
        with pytest.raises(ValueError, match=r"features=3, weighed=.*, quality="):
            variants.Plus("one", "features", "not so", features=3, **wrong)


def test_features_of_two_sets_are_a_run_of_their_own_for_each_number_of_steps(cell):
    plan, variants = module("ablation_plan"), module("ablation_variants").VARIANTS
    names = ("plus-mean", "plus-mean-features", "plus-unweighed", "plus-features")

    def keys(cell):
        return [plan.runs_of(cell, [variants[name]])[-1].key for name in names]

    ours, longer = keys(cell), keys(replace(cell, head_iterations=81))
    assert len(set(ours)) == 4
    assert [one == other for one, other in zip(ours, longer, strict=True)] == [True, False, True, False]

"""What the Gaussians do while a head learns: joint, detached, frozen."""

import math
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
import torch

from qsplat.cameras import Window
from qsplat.encodings import Positional
from qsplat.gaussians import Gaussians
from qsplat.io.scene import PointCloud, Scene, View
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.images import rows_and_columns
from qsplat.qnn.queries import LocationQueries
from qsplat.training.densification import DefaultDensification, Densification, McmcDensification
from qsplat.training.fit import FitConfig, fit
from qsplat.training.losses import photometric_loss
from qsplat.training.model import SplatModel
from qsplat.training.objective import PhotoLoss
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.parts import Parts
from qsplat.training.schedule import CROP_SHARES, HeadMode, Schedule
from qsplat.training.targets import Target, drawn_alone
from qsplat.training.training import Training

SMALL = QnnConfig(channels=8)
MODES: tuple[HeadMode, ...] = get_args(HeadMode)


def config(mode: HeadMode, densification: Densification | None = None, **options: object) -> FitConfig:
    schedule = Schedule(60, head_share=0.5, mode=mode)
    return FitConfig(schedule=schedule, densification=densification, head=SMALL, **options)  # pyright: ignore[reportArgumentType]


def same(first: Gaussians, second: Gaussians) -> bool:
    return all(torch.equal(value, getattr(second, name)) for name, value in vars(first).items())


def awake() -> QNN:
    torch.manual_seed(0)
    head = QNN(QnnConfig(channels=8, precision="fp32"))
    for parameter in head.stages[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return head


@pytest.mark.parametrize("detached", [False, True])
def test_the_corrected_image_has_a_gradient_to_the_gaussians_unless_it_is_detached(capture, truth, detached):
    parameters, head = parameters_of(truth), awake()
    view = SplatModel(gaussians_of(parameters), head).render(capture.train[0].camera, detached=detached)
    attached = SplatModel(truth, head).render(capture.train[0].camera)
    torch.testing.assert_close(view.rgb.detach(), attached.rgb.detach())
    view.rgb.square().sum().backward(retain_graph=True)
    assert all((value.grad is None) == detached for value in parameters.values())
    assert all(parameter.grad is not None for parameter in head.parameters())
    view.rgb_base.square().sum().backward()
    assert all(value.grad is not None for value in parameters.values())


@pytest.mark.parametrize(
    "densification",
    [DefaultDensification(max_gaussians=90), McmcDensification(max_gaussians=90, with_head=True)],
)
def test_detached_gaussians_learn_as_without_a_head(capture, densification):
    schedule = Schedule(130, head_share=0.2, mode="detached")
    base = FitConfig(schedule=schedule, densification=replace(densification, with_head=True), random_background=True)
    with_head, without = fit(capture, replace(base, head=SMALL)), fit(capture, replace(base, head=None))
    assert same(with_head.model.gaussians, without.model.gaussians)
    assert with_head.model.head.stages[-1].weight.abs().max() > 0


@pytest.mark.parametrize("densification", [None, McmcDensification(max_gaussians=90, with_head=True)])
@pytest.mark.parametrize("random_background", [False, True])
def test_frozen_gaussians_do_not_move(capture, densification, random_background):
    training = Training(capture, config("frozen", densification, random_background=random_background))
    training.advance(30)
    before = training.model()
    training.advance()
    after = training.model()
    assert same(before.gaussians, after.gaussians)
    assert after.head.stages[-1].weight.abs().max() > 0


@pytest.mark.parametrize("mode", ["joint", "detached"])
def test_the_corrected_image_is_detached_from_the_gaussians_unless_training_is_joint(capture, mode, monkeypatch):
    told, corrected = [], SplatModel.corrected

    def watched(model, *drawn, detached, **options):
        told.append(detached)
        return corrected(model, *drawn, detached=detached, **options)

    monkeypatch.setattr(SplatModel, "corrected", watched)
    plan = config(mode)
    fit(capture, plan)
    start, end = plan.schedule.head_start, plan.schedule.iterations
    assert told == [False] * start + [mode == "detached"] * (end - start)


def test_frozen_views_are_drawn_once(capture, monkeypatch):
    drawn, draw = Counter(), SplatModel.draw

    def counted(model, camera, **options):
        drawn[tuple(camera.center.tolist())] += 1
        return draw(model, camera, **options)

    training = Training(capture, replace(config("frozen"), head=replace(SMALL, query="locations")))
    training.advance(30)
    monkeypatch.setattr(SplatModel, "draw", counted)
    training.advance()
    assert len(drawn) == len(capture.train)
    assert set(drawn.values()) == {1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("downscales", [0, 1])
def test_a_training_in_parts_is_that_in_one_piece_in_every_mode(capture, mode, downscales):
    plan = config(mode, DefaultDensification(max_gaussians=90))
    plan = replace(plan, schedule=replace(plan.schedule, downscales=downscales, downscale_share=0.6))
    parts = Training(capture, plan)
    parts.advance(45)
    fork = parts.fork(plan)
    parts.advance()
    assert same(parts.model().gaussians, fit(capture, plan).model.gaussians)
    other = parts.fork(replace(plan, schedule=replace(plan.schedule, iterations=80)))
    for training in (fork, other):
        training.advance()
        assert training.history[-1].phase == mode


def test_a_head_on_a_finished_training_leaves_it_as_it_was(capture):
    base = Training(capture, FitConfig(schedule=Schedule(40), densification=None, head=None))
    base.advance()
    later = base.fork(FitConfig(schedule=Schedule(60, head_share=40 / 60, mode="frozen"), densification=None))
    later.advance()
    assert [record.phase for record in later.history if record.step >= 40] == ["frozen"] * 20
    assert same(later.model().gaussians, base.model().gaussians)


@pytest.mark.parametrize("mode", MODES)
def test_the_head_is_told_once_where_the_scene_is(capture, mode):
    plan = replace(config(mode, McmcDensification(max_gaussians=90)), head=replace(SMALL, query="locations"))
    training, boxes = Training(capture, plan), []
    for step in (30, 31, 45, 60):
        training.advance(step)
        queries = training.fork(plan).model().head.queries
        assert isinstance(queries, LocationQueries)
        boxes.append((queries.center.tolist(), float(queries.radius)))
    assert boxes[0] == ([0.0, 0.0, 0.0], 1.0)
    assert boxes[1] != boxes[0]
    assert boxes[1] == boxes[2] == boxes[3]


def test_the_loss_of_a_step_is_of_what_it_moves():
    torch.manual_seed(0)
    rgb, base, photo = torch.rand(3, 40, 50, 3)
    mask, window = torch.rand(40, 50) > 0.2, Window(5, 8, 30, 20)
    loss = PhotoLoss(photo, mask, ssim_weight=0.3)
    whole = photometric_loss(rgb, photo, ssim_weight=0.3, mask=mask)
    alone = photometric_loss(base, photo, ssim_weight=0.3, mask=mask)
    rows, columns = slice(8, 28), slice(5, 35)
    crop = photometric_loss(rgb[rows, columns], photo[rows, columns], ssim_weight=0.3, mask=mask[rows, columns])
    expected = {"splatting": whole, "joint": whole, "detached": alone + crop, "frozen": crop}
    for phase, value in expected.items():
        torch.testing.assert_close(loss.in_phase(phase, rgb, base, window), value)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(loss.in_phase("frozen", rgb, base, None), whole)


def test_crops_are_larger_where_nothing_else_is_computed():
    sizes = {}
    for mode in MODES:
        generator = torch.Generator().manual_seed(0)
        window = Schedule(10, mode=mode).head_window_at(9, width=400, height=300, generator=generator)
        assert window is not None
        sizes[mode] = window.width * window.height / (400 * 300)
        assert sizes[mode] == pytest.approx(CROP_SHARES[mode], rel=0.02)
    assert sizes["joint"] == sizes["detached"] < sizes["frozen"]


@pytest.mark.parametrize("mode", ["joint", "detached"])
def test_a_crop_that_is_drawn_alone_looks_as_in_the_whole_image(capture, monkeypatch, mode):
    """That crop alone is compared with its photo, and its pixels count as much as in the image."""
    views = {tuple(view.camera.center.tolist()): view for view in capture.train}
    losses, gradients, residuals, found, taken = [], [], [], [], []
    corrected, move = SplatModel.corrected, Parts.move

    def recorded(model, drawn, camera, *, head_window=None, **options):
        view = corrected(model, drawn, camera, head_window=head_window, **options)
        if head_window is not None:
            here, seen = rows_and_columns(camera.view), camera.part(head_window).view
            assert camera.view == seen.grown(model.head.halo, width=48, height=36) != Window(0, 0, 48, 36)
            whole = camera.cropped(None)
            image = corrected(model, model.draw(whole, sh_degree=0), whole, head_window=seen, **options)
            for name in ("rgb", "rgb_base", "residual"):
                torch.testing.assert_close(getattr(view, name), getattr(image, name)[here], rtol=1e-4, atol=1e-4)
            shot = views[tuple(camera.center.tolist())]
            loss = PhotoLoss((shot.image + (1 - shot.alpha)[..., None])[here])
            losses.append(loss.in_phase(mode, image.rgb[here], image.rgb_base[here], head_window))
            share = camera.view.width * camera.view.height / (48 * 36)
            gradients.append(torch.autograd.grad(share * losses[-1], model.gaussians.sh_dc)[0])
            residuals.append(float(view.residual.detach().abs().max()))
        return view

    def moved(parts, *details):
        taken.append(parts.parameters["features_dc"].grad.clone())
        move(parts, *details)

    monkeypatch.setattr(SplatModel, "corrected", recorded)
    monkeypatch.setattr(Parts, "move", moved)
    schedule = Schedule(40, sh_degree=0, head_share=0.75, mode=mode, crop_share=0.01, drawn="crop", head_rate=3e-3)
    network = QnnConfig(channels=8, precision="fp32")
    fit(capture, FitConfig(schedule, densification=None, head=network), on_step=found.append)
    assert len(losses) == 10
    assert residuals[-1] > 0.003
    assert [float(loss) for loss in losses] == pytest.approx([record.loss for record in found[30:]], rel=1e-3)
    for expected, gradient in zip(gradients, taken[30:], strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def test_pixels_of_a_crop_that_is_drawn_alone_count_as_in_the_image(capture):
    """The gradients of crops that cover a masked image add up to those of the image: each pixel counts once."""
    mask = torch.rand(36, 48, generator=torch.Generator().manual_seed(0)) > 0.5
    whole, head = Target.of(replace(capture.train[0], mask=mask), 1, "cpu"), awake()
    image = torch.rand(36, 48, 3, generator=torch.Generator().manual_seed(1))
    parts = [drawn_alone(whole, Window(0, 0, 20, 32), head), drawn_alone(whole, Window(28, 0, 20, 36), head)]
    total = 0.0
    for part, window in parts:
        assert (part.camera.view.width, window.width) == (24, 20)
        assert part.counted == int(part.mask.sum())
        here = rows_and_columns(part.camera.view)
        loss = PhotoLoss(part.over(torch.zeros(3)), part.mask, ssim_weight=0.0).of(image[here])
        total += float(loss) * part.counted / whole.counted
    expected = PhotoLoss(whole.over(torch.zeros(3)), whole.mask, ssim_weight=0.0).of(image)
    assert total == pytest.approx(float(expected), rel=1e-5)


def test_a_crop_in_which_nothing_counts_is_not_drawn_alone(capture):
    mask = torch.zeros(36, 48, dtype=torch.bool)
    mask[:, 40:] = True
    views = tuple(replace(view, mask=mask) for view in capture.train)
    schedule, found = Schedule(40, head_share=0.5, crop_share=0.01, drawn="crop"), []
    fit(replace(capture, train=views), FitConfig(schedule, densification=None, head=SMALL), on_step=found.append)
    assert all(math.isfinite(record.psnr) and record.loss > 0 for record in found)
    assert drawn_alone(Target.of(views[0], 1, "cpu"), Window(0, 0, 24, 24), awake())[0].camera.view.width == 48


def striped(camera) -> torch.Tensor:
    """A photo of stripes four pixels wide, finer than the Gaussians below."""
    x, y = camera.pixel_centers().unbind(-1)
    wave = 0.5 + 0.3 * torch.sin(2 * math.pi * x / 8) * torch.sin(2 * math.pi * y / 8)
    return torch.stack([wave, 1 - wave, torch.full_like(wave, 0.5)], dim=-1)


@pytest.mark.parametrize("mode", MODES)
def test_a_head_lowers_the_loss_of_a_textured_view_to_a_fifth(capture, mode):
    """Compared with the Gaussians alone after as many steps. It was a twentieth when this was written."""
    camera, generator = capture.train[0].camera, torch.Generator().manual_seed(1)
    points = PointCloud(torch.rand(30, 3, generator=generator) - 0.5, torch.rand(30, 3, generator=generator))
    scene = Scene("stripes", (View("one", camera, striped(camera)),), (), points, torch.eye(4))
    schedule = Schedule(200, sh_degree=0, head_share=1 / 3, mode=mode, crop_share=1.0, head_rate=3e-3)
    head = QnnConfig(layers=3, channels=16, precision="fp32", encoding=Positional(6))
    plan = FitConfig(schedule=schedule, densification=None, head=head, seed=1)
    losses = []
    for config in (plan, replace(plan, head=None)):
        view = fit(scene, config).model.render(camera)
        losses.append(float(photometric_loss(view.rgb, scene.train[0].image)))
    assert losses[0] < losses[1] / 5

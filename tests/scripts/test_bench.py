"""The benchmarks of the CPU at tiny sizes: what they write, what they count, and what they refuse."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from qsplat.precision import uses_bfloat16
from qsplat.qnn import QnnConfig
from qsplat.training.losses import photometric_loss

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"
ROW = [
    *("gaussians", "width", "height", "overlap_per_pixel", "forward_ms", "backward_ms", "total_ms", "ns_per_overlap"),
    *("sgemm_gflops", "threads", "isa"),
]
SMALL = {
    "rasterizer": "--repeats 1 --cases 300@64x48 200@70x45 --channels 1 --twin-case 20@32x32",
    "loss": "--repeats 1 --sizes 40x30 --gaussians 200",
    "training": "--repeats 1 --iterations 2 --gaussians 200 --size 40x30 --twin-case 50@32x24",
    "scaling": "--repeats 1 --most 200 --sweeps threads",
    "convolutions": "--repeats 1 --sizes 24x20 --shown 30x24 --channels 32",
    "precision": "--repeats 1 --sizes 24x20 --shown 30x24 --samples 50 --threads 1",
    "head_crops": f"{ROOT}/scenes/stilllife --max-side 64 --seeds 1 --iterations 40 --gaussians 500",
}


@pytest.fixture(scope="module", autouse=True)
def settings():
    """As the benchmarks themselves set them, and back again."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        patch.setenv("OMP_WAIT_POLICY", "passive")
        patch.setenv("KINETO_LOG_LEVEL", os.environ.get("KINETO_LOG_LEVEL", "99"))
        yield
    torch.set_num_threads(threads)


def module(name):
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def written(settings, tmp_path_factory):
    """A folder with the file of every benchmark, and the pictures."""
    folder = tmp_path_factory.mktemp("figures") / "new"
    for name, options in SMALL.items():
        plot = ["--plot", str(folder)] if name == "scaling" else []
        assert module(name).main([*options.split(), "--json", str(folder / f"{name}.json"), *plot]) == 0
    return folder


def read(written, name):
    return json.loads((written / f"{name}.json").read_text())


def test_cases_take_turns_and_warm_up(settings):
    order = []

    def case(name):
        order.append(name)
        return {"ms": float(len(order))}

    found = module("measuring").take_turns(
        [lambda: case("a"), lambda: case("b")], 2, calibrate=lambda: float(len(order))
    )
    assert "".join(order) == "aabb" * 4
    assert [times["ms"] for times in found.medians] == [(10 + 14) / 2, (12 + 16) / 2]
    assert found.sgemm_gflops == (8 + 12) / 2


def test_cases_that_warm_up_by_themselves_run_once_a_turn(settings):
    runs = iter([5.0, 1.0, 2.0])
    found = module("measuring").take_turns([lambda: {"ms": next(runs)}], 3, warm=True, calibrate=lambda: 1.0)
    assert found.medians == [{"ms": 2.0}]


def test_rasterizer_writes_the_rows_of_every_table(written):
    found = read(written, "rasterizer")
    sizes = {(row["gaussians"], row["width"], row["height"]) for row in found["rows"]}
    assert sizes == {(300, 64, 48), (200, 70, 45)}
    for row in found["rows"]:
        assert list(row) == ROW
        assert row["total_ms"] == pytest.approx(row["forward_ms"] + row["backward_ms"], abs=2e-3)
    assert all(list(row) == ["channels", *ROW] for row in found["channels"])
    for row in [*found["projection"], *found["twins"]]:
        assert row["ratio"] > 0
        assert row["twin_backward_ms"] > 0
    (small,) = found["twins"]
    assert small["twin_ns_per_overlap"] / small["ns_per_overlap"] == pytest.approx(small["ratio"], rel=0.05, abs=0.1)
    assert found["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize("size", [(50, 64, 48), (300, 70, 45)])
def test_pairs_and_blocks_are_those_that_every_pixel_counts(settings, size):
    from qsplat.kernels import best_binary

    image = module("rasterizer").Image(size, best_binary())
    means2d, records = (part.detach().double()[image.radii > 0, :, None, None] for part in image.flat)
    y, x = torch.meshgrid(torch.arange(size[2]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    dx, dy = x - means2d[:, 0], y - means2d[:, 1]
    a, b, c, opacity = (records[:, i] for i in range(4))
    seen = opacity * torch.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy) >= 1 / 255
    blocks = torch.nn.functional.max_pool2d(seen.float(), 4, ceil_mode=True)
    work = image.work()
    assert work.pairs == pytest.approx(int(seen.sum()), abs=2)
    assert work.blocks == pytest.approx(int(blocks.sum()), abs=2)


@pytest.mark.parametrize("masked", [False, True])
def test_twin_of_the_loss_is_the_loss(settings, masked):
    case = module("loss").Comparison(30, 24, masked)
    twin = module("loss").loss_by_convolutions(case.image, case.photo, case.mask)
    ours = photometric_loss(case.image, case.photo, mask=case.mask)
    torch.testing.assert_close(twin, ours, atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(loss, case.image)[0] for loss in (twin, ours)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-8, rtol=1e-3)


def test_loss_writes_every_size_with_and_without_a_mask(written):
    found = read(written, "loss")
    assert [(row["width"], row["height"], row["masked"]) for row in found["loss"]] == [(40, 30, False), (40, 30, True)]
    assert {"forward_ms", "backward_ms", "total_ms", "twin_forward_ms", "ratio"} <= set(found["loss"][0])
    (step,) = found["optimiser"]
    assert step["gaussians"] == 200
    assert step["ratio"] == pytest.approx(step["twin_step_ms"] / step["step_ms"], abs=0.1)


def test_training_writes_every_phase_and_the_parts_of_its_step(written):
    speeds = {speed["phase"]: speed for speed in read(written, "training")}
    assert list(speeds) == ["splatting", "joint", "joint, whole images", "splatting, small case"]
    parts = {"projection", "rasterizer", "loss", "rasterizer backward", "projection backward", "optimisers"}
    for phase, speed in speeds.items():
        assert speed["iterations_per_second"] > 0
        convolutions = {"convolutions", "convolutions backward"} if phase.startswith("joint") else set()
        assert {name for name, value in speed["breakdown_ms"].items() if value > 0} >= parts | convolutions
        assert ("convolutions" in speed["breakdown_ms"]) == bool(convolutions)
    small = speeds["splatting, small case"]
    assert small["ratio"] == pytest.approx(
        small["iterations_per_second"] / small["twin_iterations_per_second"], rel=0.05, abs=0.1
    )


def test_operations_belong_to_the_place_where_they_run(settings):
    def event(name, start, length, parent=None):
        span = SimpleNamespace(start=1000.0 * start, elapsed_us=lambda: 1000.0 * length)
        return SimpleNamespace(name=name, time_range=span, cpu_parent=parent)

    training = module("training")
    mark, node = training.MARK, "autograd::engine::evaluate_function: "
    outer = event("Project", 3, 1)
    events = [
        *(event(mark, 0, 0), event("aten::exp", 1, 2), outer, event("aten::empty", 3, 1, outer)),
        *(event("aten::add", 4, 1), event(f"{node}ProjectBackward", 5, 2), event("aten::mul", 7, 1)),
        *(event("Optimizer.step#Adam.step", 8, 1), event("aten::where", 9, 1), event(mark, 14, 0)),
    ]
    assert training.parts_of_median_step(events) == {
        "activations": 2,
        "projection": 1,
        "image operations": 1,
        "projection backward": 2,
        "activations backward": 1,
        "optimisers": 1,
        "densifier and record": 1,
        "between operations": 5,
    }


def test_scaling_measures_a_process_per_case_and_draws(written):
    found = read(written, "scaling")
    threads = [row["threads"] for row in found["rows"]]
    assert threads[0] == 1
    assert threads == sorted(set(threads))
    for row in found["rows"]:
        assert row["peak_mb"] > row["imported_mb"] > 50
        assert row["step_ms"] > 0
    if len(threads) > 1:
        assert {row["quantity"] for row in found["growth"]} == set(module("scaling").GROWING)
    assert (written / "threads.png").read_bytes().startswith(b"\x89PNG")


def test_sweeps_change_the_work_that_they_name(settings):
    sweeps = module("scaling").sweeps(1_000_000)
    assert max(case.gaussians for case in sweeps["gaussians-full-hd"].cases) == 1_000_000
    pixels = [case.width * case.height / 1e6 for case in sweeps["pixels"].cases]
    assert (min(pixels) < 0.06, max(pixels) > 7.9) == (True, True)
    assert len({(case.zoom / case.width, case.gaussians) for case in sweeps["pixels"].cases}) == 1
    assert [case.channels for case in sweeps["channels"].cases][-1] == 16
    assert max(case.gaussians for sweep in module("scaling").sweeps(70).values() for case in sweep.cases) == 70


def test_exponent_of_a_power_is_the_power(settings):
    work = [1.0, 3.0, 10.0, 70.0]
    assert module("scaling").exponent(work, [0.2 * x**1.5 for x in work]) == 1.5


def test_the_training_of_many_densifies_to_all_that_were_asked_for(settings):
    threads = torch.get_num_threads()
    try:
        rows = module("trainer").training(100, 64, 48, threads=1, repeats=1)
    finally:
        torch.set_num_threads(threads)
    assert [(row["phase"], row["gaussians_before"], row["gaussians"]) for row in rows] == [
        ("splatting", 90, 100),
        ("joint", 100, 100),
    ]


def test_a_case_that_fails_is_named(settings):
    with pytest.raises(ValueError, match=r'"splats": 5.* ended with status 1: TypeError'):
        module("scaling").in_a_process({"splats": 5}, 1)


def test_layers_and_heads_are_beside_plain_ones(written):
    rows = read(written, "convolutions")["rows"]
    layers, heads = ["torch Conv2d", "standard", "FDConv", "CF-Conv"], ["CNN", "FDConv", "CF-Conv", "RFF-CA"]
    assert [row["name"] for row in rows] == 2 * (layers + heads)
    plain, standard, *others = rows
    assert plain["parameters"] == standard["parameters"] == 32 * 32 * 9 + 32
    assert len({row["parameters"] for row in (plain, *others[: len(layers) - 2])}) == len(layers) - 1
    for row in rows:
        assert row["forward_ms"] > 0
        assert (row["backward_ms"] is None) == ((row["width"], row["height"]) == (30, 24))
        assert row["times"] == 1 or row["name"] not in ("torch Conv2d", "CNN")


def test_both_kinds_of_arithmetic_are_beside_each_other(written):
    rows = read(written, "precision")["rows"]
    assert [row["what"] for row in rows] == ["head, crop of 24x20", "head, 30x24 shown", "nerf, 50 samples"]
    for row in rows:
        assert row["times"] == pytest.approx(row["bf16_ms"] / row["fp32_ms"], abs=0.02 + 0.01 / row["fp32_ms"])
        assert row["auto"] == ("bf16" if uses_bfloat16("auto", torch.device("cpu")) else "fp32")


def test_times_stand_beside_their_arithmetic(settings, monkeypatch):
    bench = module("precision")
    times = {"bf16": {"forward_ms": 2.0, "backward_ms": 4.0}, "fp32": {"forward_ms": 1.0, "backward_ms": 3.0}}

    def turns(cases, repeats):
        found = [times[case.module.config.precision] for case in cases]
        return SimpleNamespace(medians=found, sgemm_gflops=1.0)

    monkeypatch.setattr(bench, "take_turns", turns)
    given = SimpleNamespace(sizes=[(24, 20)], shown=(30, 24), samples=50, repeats=1)
    for row in bench.measure(given):
        assert (row["bf16_ms"], row["fp32_ms"], row["times"]) == (6.0, 4.0, 1.5)


def test_the_kinds_of_arithmetic_differ(settings):
    bench = module("precision")
    for make in (
        lambda kind: bench.head(QnnConfig(precision=kind), 24, 20, learning=True),
        lambda kind: bench.field(kind, 50),
    ):
        half, full = (make(kind) for kind in bench.KINDS)
        for parameter in half.module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        full.module.load_state_dict(half.module.state_dict())
        found, expected = half.forward(), full.forward()
        error = (found - expected).norm() / expected.norm()
        assert 0 < error < 0.05


def test_memory_of_a_call_is_counted_beyond_what_was_in_use(settings):
    kept = torch.ones(20_000_000)
    for _ in range(2):  # what the first call freed does not hide the second
        found = module("measuring").extra_megabytes(lambda: torch.ones(10_000_000))
        assert found is None or found == pytest.approx(40, abs=15)
    assert kept[0] == 1


def test_every_table_of_the_page_is_filled(written, tmp_path):
    page, files = tmp_path / "page.md", module("tables").TABLES
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    assert module("page").main(["--folder", str(written), "--page", str(page)]) == 0
    text = page.read_text()
    for name, (needed, _) in files.items():
        table = text.partition(f"<!-- {name} -->\n")[2].partition("\n<!-- end -->")[0]
        measured = set(needed) <= SMALL.keys() and name not in ("largest", "growth")
        assert table.startswith("| " if measured else ("Not measured.", "| ")), name
    assert module("page").main(["--folder", str(written), "--page", str(page)]) == 0
    assert page.read_text() == text


def test_aims_say_what_was_reached(settings):
    row = {"gaussians": 30_000, "width": 400, "height": 300, "overlap_per_pixel": 10.0, "isa": "x86_64_v4"}
    rasterizer = {"rows": [row | {"total_ms": 6.2}, row | {"isa": "x86_64_v3", "total_ms": 9.0}], "projection": []}
    speeds = [
        {"phase": "splatting", "iterations_per_second": 24.0},
        {"phase": "joint", "iterations_per_second": 20.0},
    ]
    lines = module("aims").targets(rasterizer, {"loss": [], "optimiser": []}, speeds, {"training": []})
    assert [line["Aim"] for line in lines[:2]] == ["at most 6.12 ms", "at most 1.5 times"]
    assert [line["Reached"] for line in lines] == ["**no**", "yes", "**no**", "yes"]


def test_the_aims_of_programs_and_of_crops_say_what_was_reached(settings):
    starts = [{"start": "first iteration of fit()", "total_ms": 2900.0}, {"start": "a.py --help", "total_ms": 2100.0}]
    rates = [{"command": "fit", "ratio_to_fit": 1.0}, {"command": "ns-train", "ratio_to_fit": 1.2}]
    lines = module("aims").targets_of_programs({"rows": starts}, {"rows": rates})
    assert [line["Reached"] for line in lines] == ["yes", "**no**", "**no**"]
    runs = [
        {"scene": "s", "seed": 0, "variant": name, "gaussians": 9, "psnr": psnr, "splatting_ms": 10.0, "joint_ms": ms}
        for name, psnr, ms in (
            ("no head", 20.0, 10.0),
            ("whole images", 20.1, 80.0),
            ("crops", 20.06, 16.0),
            ("crops alone", 19.0, 12.0),
        )
    ]
    assert [line["Reached"] for line in module("aims").targets_of_crops(runs)] == ["yes", "**no**", "**no**", "yes"]
    (line,) = module("tables").crops(runs)
    assert line["crops, gain of each seed"] == "+0.060"
    assert line["crops alone, gain of each seed"] == "-1.000"
    assert line["time, crops"] == "1.6"


def test_ns_train_is_timed_by_its_median_step(settings):
    ends = [(step, 0.02 * step + (1.0 if step > 300 else 0.0)) for step in range(0, 600, 6)]
    assert module("ns_train").median_milliseconds(ends) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("rasterizer", "--repeats 0", "--repeats: '0': give a whole number of at least 1"),
        ("rasterizer", "--cases 30000", "'30000': give GAUSSIANS@WIDTHxHEIGHT"),
        ("rasterizer", "--binary sparc", "--binary sparc: this processor runs"),
        ("loss", "--sizes 40x9", "40x9: SSIM needs at least 11 pixels"),
        ("loss", "--sizes 40", "'40': give WIDTHxHEIGHT"),
        ("training", "--scene nowhere", "nowhere is not a folder"),
        ("training", "--threads many", "'many': give a whole number"),
        ("convolutions", "--channels 16", "channels=16 with FDConv: choose 17 or more"),
        ("head_crops", "nowhere", "nowhere is not a folder"),
        ("head_crops", "nowhere --crop-share 0", "'0': give a share above 0"),
        ("head_crops", "nowhere --crop-share 1", "'1': give a share above 0 and below 1"),
        ("head_crops", "nowhere --iterations 4", "--iterations 4: a phase is timed from 20 on"),
        ("ns_train", "--iterations 1", "--iterations 1: a median is taken from 10 on"),
        ("ns_train", "--scene nowhere", "nowhere has no transforms.json: give the folder"),
        ("scaling", "--sweeps all", "invalid choice: 'all'"),
        ("scaling", "--plot {file}", "is a file: give a folder"),
        ("page", "--page {folder}/none.md", "none.md"),
        ("page", "--page {file}", "the page asks for the table 'none'"),
        ("page", "--page {file} --folder {folder}", "broken.json is not JSON"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(settings, tmp_path, capsys, name, options, words):
    (tmp_path / "file").write_text("<!-- none -->\n<!-- end -->")
    (tmp_path / "broken.json").write_text("{")
    filled = options.format(file=tmp_path / "file", folder=tmp_path)
    more = [] if name == "page" else ["--json", str(tmp_path / "figures.json")]
    try:
        status = module(name).main([*filled.split(), *more])
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert status in (1, 2)
    assert words in said.err
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.json", "file"]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(settings, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "figures.json"):
        with pytest.raises(SystemExit):
            module("loss").main(["--json", str(path)])
        assert capsys.readouterr().err.count("\n") == 1

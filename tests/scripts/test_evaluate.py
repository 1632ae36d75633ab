"""evaluate.py on a run as ns-train leaves it: the JSON, the pictures, and sentences for runs that are broken."""

import copy
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from qsplat.render import BackendUnavailable

SCRIPTS = Path(__file__).parents[2] / "scripts"
SIDE = 24


@pytest.fixture
def evaluate(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("evaluate", SCRIPTS / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evaluate", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Ten photos of noise from a ring of cameras."""
    folder, rng = tmp_path_factory.mktemp("capture") / "noise", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    frames = []
    for index in range(10):
        angle = 2 * np.pi * index / 10
        back = np.array([np.cos(angle), np.sin(angle), 0.0])
        right = np.array([-np.sin(angle), np.cos(angle), 0.0])
        pose = np.eye(4)
        pose[:3] = np.stack([right, [0.0, 0.0, 1.0], back, 3 * back], axis=1)
        frames.append({"file_path": f"images/{index}.png", "transform_matrix": pose.tolist()})
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 20.0, "frames": frames}))
    return folder


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    """The folder of a run that ended after its tenth step: options, and a checkpoint of what training starts with."""
    from nerfstudio_plugin.specifications import qsplat

    folder = tmp_path_factory.mktemp("run")
    (folder / "nerfstudio_models").mkdir()
    config = copy.deepcopy(qsplat.config)
    config.data = config.pipeline.datamanager.data = capture
    config.pipeline.datamanager.num_random = 50
    (folder / "config.yml").write_text(yaml.dump(config))
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    pipeline.model._begin(10)
    with torch.no_grad():
        pipeline.model.qnn.stages[-1].bias.fill_(0.1)
    state = {"pipeline": pipeline.state_dict(), "step": 9}
    torch.save(state, folder / "nerfstudio_models" / "step-000000009.ckpt")
    return folder


@pytest.fixture
def options(evaluate, trained, tmp_path):
    return evaluate.Options(trained / "config.yml", tmp_path / "answers" / "noise.json", lpips_weights=tmp_path)


def test_a_run_is_measured_on_its_held_out_views(evaluate, options):
    evaluate.print_report(evaluate.evaluate_run(options))
    read = json.loads(options.output.read_text())
    expected = {"method": "qsplat", "scene": "noise", "num_images": 2, "iterations": 10, "num_gaussians": 50}
    assert {key: read[key] for key in expected} == expected
    assert read["device"].startswith("cpu")
    assert read["train_seconds"] >= 0
    assert [image["name"] for image in read["per_image"]] == ["images/0.png", "images/8.png"]
    for scores in (read["mean"], read["base"]):
        assert 4 < scores["psnr"] < 20
        assert scores["lpips"] is None
    assert read["mean"]["psnr"] != read["base"]["psnr"]
    assert any("vgg16-397923af.pth is missing" in note for note in read["notes"])


def test_pictures_lie_beside_the_file(evaluate, options):
    evaluate.evaluate_run(options)
    sheets = sorted((options.output.parent / "noise-pictures").iterdir())
    assert [sheet.name for sheet in sheets] == ["images_0.png", "images_8.png"]
    sheet = Image.open(sheets[0])
    across = -(-160 // SIDE) * SIDE
    assert sheet.width == 3 * across + 2 * 4
    assert sheet.height > 2 * across
    shown = np.asarray(sheet)[-across:, :across]
    assert np.array_equal(shown[:: across // SIDE].repeat(across // SIDE, axis=0), shown)


def test_pictures_can_be_left_out_or_put_elsewhere(evaluate, options, tmp_path):
    evaluate.evaluate_run(replace(options, max_pictures=0))
    assert [entry.name for entry in options.output.parent.iterdir()] == ["noise.json"]
    evaluate.evaluate_run(replace(options, max_pictures=1, pictures=tmp_path / "elsewhere"))
    assert [entry.name for entry in (tmp_path / "elsewhere").iterdir()] == ["images_0.png"]


def test_a_loaded_run_is_measured_without_loading_it_again(evaluate, options, monkeypatch):
    from nerfstudio_plugin import runs

    run, rendered, shown = runs.load_run(options.load_config), [], {}
    monkeypatch.setattr(runs, "load_run", None)
    monkeypatch.setattr(type(run), "render_measured", counted(type(run).render_measured, rendered))
    evaluate.evaluate_run(replace(options, max_pictures=1), run=run, on_panels=shown.__setitem__)
    assert list(shown) == ["images/0.png", "images/8.png"]
    assert len(rendered) == 2
    for view, panels in zip(run.views, shown.values(), strict=True):
        assert np.array_equal(panels.photo, (view.image.cpu().numpy() * 255).round().astype(np.uint8))
    assert len(list((options.output.parent / "noise-pictures").iterdir())) == 1


def counted(render, calls):
    def call(run, camera):
        calls.append(camera)
        return render(run, camera)

    return call


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BackendUnavailable("there are no kernels:\nbuild them"), "evaluate: there are no kernels: build them\n"),
        (MemoryError(), "evaluate: out of memory (no more is known): close other programs, or use a larger machine\n"),
        (torch.OutOfMemoryError("tried 9 GiB"), "evaluate: out of memory (tried 9 GiB): close other programs"),
    ],
)
def test_what_the_machine_cannot_do_is_one_line_and_status_1(evaluate, monkeypatch, capsys, error, words):
    def fail(_):
        raise error

    monkeypatch.setattr(evaluate, "evaluate_run", fail)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--load-config", "config.yml", "--output", "x.json"])
    assert evaluate.main() == 1
    said = capsys.readouterr().err
    assert said.startswith(words)
    assert said.count("\n") == 1


def test_an_error_of_the_program_keeps_its_traceback(evaluate, monkeypatch):
    def fail(_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(evaluate, "evaluate_run", fail)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--load-config", "config.yml", "--output", "x.json"])
    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluate.main()


def refusal(evaluate, options):
    with pytest.raises(ValueError) as caught:
        evaluate.evaluate_run(options)
    assert not options.output.exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_config_is_named(evaluate, options, tmp_path):
    assert "config.yml does not exist" in refusal(evaluate, replace(options, load_config=tmp_path / "config.yml"))


def test_a_config_that_is_no_config_is_refused(evaluate, options, tmp_path):
    (tmp_path / "config.yml").write_text("a: [")
    assert "config.yml cannot be read" in refusal(evaluate, replace(options, load_config=tmp_path / "config.yml"))
    (tmp_path / "config.yml").write_text("method_name: qsplat")
    assert "is of the method None" in refusal(evaluate, replace(options, load_config=tmp_path / "config.yml"))


@pytest.fixture
def broken(trained, tmp_path):
    """A copy of the run without its checkpoint."""
    (tmp_path / "config.yml").write_text((trained / "config.yml").read_text())
    (tmp_path / "nerfstudio_models").mkdir()
    return tmp_path


def test_a_run_without_a_checkpoint_is_refused(evaluate, options, broken):
    assert "holds no checkpoint" in refusal(evaluate, replace(options, load_config=broken / "config.yml"))


def test_a_truncated_checkpoint_is_refused(evaluate, options, broken, trained):
    name = "nerfstudio_models/step-000000009.ckpt"
    whole = (trained / name).read_bytes()
    (broken / name).write_bytes(whole[: len(whole) // 2])
    assert "ckpt is truncated" in refusal(evaluate, replace(options, load_config=broken / "config.yml"))


def test_a_capture_that_has_gone_is_named(evaluate, options, broken, trained):
    config = yaml.load((broken / "config.yml").read_text(), Loader=yaml.Loader)
    config.data = config.pipeline.datamanager.data = broken / "gone"
    (broken / "config.yml").write_text(yaml.dump(config))
    name = "nerfstudio_models/step-000000009.ckpt"
    (broken / name).write_bytes((trained / name).read_bytes())
    assert "gone" in refusal(evaluate, replace(options, load_config=broken / "config.yml"))


@pytest.mark.parametrize(
    ("change", "words"), [({"max_pictures": -1}, "--max-pictures -1"), ({"output": "."}, "a folder")]
)
def test_options_that_make_no_sense_are_refused(evaluate, options, change, words):
    change = {key: Path(value) if key == "output" else value for key, value in change.items()}
    with pytest.raises(ValueError, match=words):
        evaluate.evaluate_run(replace(options, **change))


def test_the_command_line_refuses_in_one_line_with_status_1(tmp_path):
    command = [sys.executable, str(SCRIPTS / "evaluate.py"), "--load-config", "nothing.yml", "--output", "x.json"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("evaluate: nothing.yml does not exist")
    assert answer.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())

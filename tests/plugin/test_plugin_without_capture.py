"""Finished runs whose capture was moved away: shown by what is in their folder, refused where photos are needed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.render import DatasetRender, RenderInterpolated
from nerfstudio.utils.eval_utils import eval_setup
from small_capture import HEIGHT, WIDTH, run, write_blender_files, write_capture

from nerfstudio_plugin.capture_record import read_record
from nerfstudio_plugin.runs import load_run

Configure = Callable[..., Any]
GONE = "this needs the photos of the capture, and .*away is gone: put it back there"


@contextmanager
def gone(folder: Path) -> Iterator[None]:
    """``folder`` has another name for a while."""
    elsewhere = folder.with_name(folder.name + " elsewhere")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture that tests move away."""
    return write_capture(tmp_path_factory.mktemp("capture") / "away")


@pytest.fixture(scope="module")
def finished(moved: Path, plus: Configure) -> Path:
    """The config.yml of a run on it."""
    return run(plus(moved, iterations=60)).base_dir / "config.yml"


def frames(config: Path, folder: Path, source: Any) -> list[bytes]:
    """Images of a path past the cameras of ``source``, as ns-render makes them."""
    RenderInterpolated(
        load_config=config,
        output_path=folder,
        pose_source=source,
        interpolation_steps=1,
        output_format="images",
        image_format="png",
    ).main()
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("source", ["eval", "train"])
def test_ns_render_shows_the_same_frames(
    source: str, moved: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nerfstudio.scripts.render.install_checks.check_ffmpeg_installed", lambda: None)
    before = frames(finished, tmp_path / "before", source)
    with gone(moved):
        assert frames(finished, tmp_path / "after", source) == before
    assert len(before) == (1 if source == "eval" else 7)


def test_a_run_is_loaded_and_shown_from_wherever_its_folder_is(moved: Path, finished: Path, tmp_path: Path):
    there = load_run(finished)
    folder = shutil.copytree(finished.parent, tmp_path / "moved")
    with gone(moved), gone(finished.parent):
        alone = load_run(folder / "config.yml")
    assert (alone.held_out, alone.facts.scene, alone.remarks) == (True, "away", there.remarks)
    assert torch.equal(alone.background, there.background)
    for ours, theirs in zip(
        [*alone.cameras(), *alone.training_cameras()], [*there.cameras(), *there.training_cameras()], strict=True
    ):
        assert torch.equal(ours.cam_from_world, theirs.cam_from_world)
        assert (ours.fx, ours.cy, ours.width, ours.height) == (theirs.fx, theirs.cy, theirs.width, theirs.height)
        assert torch.equal(alone.render(ours).rgb, there.render(theirs).rgb)


def test_what_needs_photos_is_refused_in_one_sentence(moved: Path, finished: Path, tmp_path: Path):
    with gone(moved):
        for split in ("test", "train"):
            with pytest.raises(SystemExit, match=f"^qsplat: {GONE}"):
                DatasetRender(load_config=finished, output_path=tmp_path, split=split).main()
        with pytest.raises(SystemExit, match=f"^qsplat: {GONE}"):
            ComputePSNR(load_config=finished, output_path=tmp_path / "results.json").main()
        alone = load_run(finished)
        for photos in (lambda: alone.views, alone.training_views):
            with pytest.raises(ValueError, match=f"^{GONE}"):
                photos()
        with pytest.raises(SystemExit, match=f"^qsplat: {GONE}"):
            alone.photos.train_dataset.get_image_float32(0)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_evaluate_refuses_with_status_1(
    moved: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    import evaluate

    values = ["--load-config", str(finished), "--output", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *values])
    with gone(moved):
        assert evaluate.main() == 1
    said = capsys.readouterr().err
    assert "evaluate: this needs the photos" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_the_viewer_has_grey_in_the_place_of_photos(moved: Path, finished: Path):
    with gone(moved):
        _, pipeline, _, _ = eval_setup(finished, test_mode="test")
    manager: Any = pipeline.datamanager
    image = manager.train_dataset[3]["image"]
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.unique().tolist() == [0.5]


def test_a_training_is_not_resumed_without_photos(moved: Path, finished: Path, plus: Configure):
    config = plus(moved, iterations=4)
    config.load_dir = finished.parent / "nerfstudio_models"
    with gone(moved), pytest.raises(SystemExit, match="away is not a folder: give the folder of a capture"):
        run(config)
    assert not (config.get_base_dir() / "capture.json").exists()


@pytest.mark.parametrize("folder", [".", "models", "models/of/it"])
def test_the_record_is_looked_for_in_the_run_wherever_its_checkpoints_are(folder: str, plus: Configure, tmp_path: Path):
    config = plus(tmp_path, iterations=4)
    config.relative_model_dir = Path(folder)
    config.load_dir = tmp_path / "run" / folder
    assert config.pipeline.datamanager.record == tmp_path / "run" / "capture.json"


def test_a_run_is_shown_wherever_its_checkpoints_are(moved: Path, plus: Configure):
    config = plus(moved, iterations=4)
    config.relative_model_dir = Path("models/of/it")
    config.save_config()
    folder = run(config).base_dir
    with gone(moved):
        assert len(load_run(folder / "config.yml").cameras()) == 2


def test_a_capture_that_is_there_is_read(moved: Path, finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished.parent, tmp_path / "copy")
    (folder / "capture.json").write_text("{")
    assert len(load_run(folder / "config.yml").views) == 2


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no JSON": lambda _: "{",
    "no object": lambda _: "[1, 2]",
    "a part is missing": lambda content: content.pop("test"),
    "a column is missing": lambda content: content["train"].pop("fx"),
    "a column is short": lambda content: content["train"]["fx"].pop(),
    "a word": lambda content: content["train"]["fx"].__setitem__(0, "wide"),
    "not a number": lambda content: content["train"]["fx"].__setitem__(0, float("nan")),
    "another camera": lambda content: content["test"]["camera_type"].__setitem__(0, "PINHOLE"),
    "no views": lambda content: content["train"].__setitem__("photos", []),
    "a colour": lambda content: content.__setitem__("alpha_color", [1.0]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_in_one_sentence(damage: str, moved: Path, finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished.parent, tmp_path / "copy")
    content = json.loads((folder / "capture.json").read_text())
    result = DAMAGES[damage](content)
    text = result if isinstance(result, str) and result[0] in "{[" else json.dumps(content)
    (folder / "capture.json").write_text(text)
    with gone(moved), pytest.raises(ValueError, match=r"capture\.json is damaged .* put the capture back") as refusal:
        load_run(folder / "config.yml")
    assert "\n" not in str(refusal.value)


def test_a_record_without_views_to_evaluate_is_read(finished: Path, tmp_path: Path):
    content = json.loads((finished.parent / "capture.json").read_text())
    content["test"] = {name: None if column is None else [] for name, column in content["test"].items()}
    (tmp_path / "capture.json").write_text(json.dumps(content))
    record = read_record(tmp_path / "capture.json")
    assert len(record.outputs("train").cameras) == len(content["train"]["photos"])
    assert len(record.outputs("test").cameras) == len(record.outputs("test").image_filenames) == 0


def test_an_empty_folder_is_a_capture_that_is_gone(moved: Path, finished: Path):
    camera = load_run(finished).cameras()[0]
    with gone(moved):
        moved.mkdir()
        assert torch.equal(load_run(finished).cameras()[0].cam_from_world, camera.cam_from_world)
        moved.rmdir()


def test_gaussians_are_exported_as_before(moved: Path, finished: Path, tmp_path: Path):
    try:
        from nerfstudio.scripts.exporter import ExportGaussianSplat
    except (ImportError, OSError) as error:
        pytest.skip(f"nerfstudio's exporter cannot be imported here: {error}")
    files = []
    for name in ("before", "after"):
        with gone(moved) if name == "after" else nullcontext():
            ExportGaussianSplat(load_config=finished, output_dir=tmp_path / name).main()
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert any(name.endswith(".ply") for name in files[0])


def test_a_capture_without_views_for_the_finished_run_is_trained_on(configured: Configure, tmp_path: Path):
    folder = write_capture(tmp_path / "away")
    path = folder / "transforms.json"
    description = json.loads(path.read_text())
    names = [frame["file_path"] for frame in description["frames"]]
    path.write_text(json.dumps({**description, "train_filenames": names[2:], "val_filenames": names[:2]}))
    config = configured(folder, iterations=2)
    config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig()
    config.pipeline.datamanager.max_side, config.pipeline.datamanager.num_random = 24, 100
    config.save_config()
    record = read_record(run(config).base_dir / "capture.json")
    assert len(record.train.photos) == len(names) - 2
    assert [photo.name for photo in record.test.photos] == [Path(name).name for name in names[:2]]


def test_without_a_record_the_refusal_is_that_of_the_dataparser(moved: Path, finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished.parent, tmp_path / "copy")
    (folder / "capture.json").unlink()
    with gone(moved), pytest.raises(ValueError, match="away is not a folder: give the folder of a capture"):
        load_run(folder / "config.yml")


def test_a_config_from_before_the_record_is_loaded(finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished.parent, tmp_path / "copy")
    settings = yaml.load((folder / "config.yml").read_text(), Loader=yaml.Loader)
    del settings.pipeline.datamanager.__dict__["record"]
    (folder / "config.yml").write_text(yaml.dump(settings))
    assert "record" not in (folder / "config.yml").read_text()
    (folder / "capture.json").unlink()
    assert len(load_run(folder / "config.yml").views) == 2


def test_nothing_is_written_where_the_start_is_refused(moved: Path, plus: Configure):
    config = plus(moved, sets=0)
    with pytest.raises(SystemExit):
        run(config)
    assert [path.name for path in config.get_base_dir().iterdir()] == ["config.yml"]


def test_a_resumed_run_writes_its_own_record(moved: Path, finished: Path, plus: Configure):
    text = (finished.parent / "capture.json").read_text()
    (finished.parent / "capture.json").unlink()
    config = plus(moved, iterations=2)
    config.load_dir = finished.parent / "nerfstudio_models"
    resumed = run(config)
    assert not (finished.parent / "capture.json").exists()
    assert (resumed.base_dir / "capture.json").read_text() == text
    (finished.parent / "capture.json").write_text(text)


def distort(folder: Path) -> None:
    path = folder / "transforms.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "k1": 0.1, "k2": -0.02}))


@pytest.mark.parametrize("kind", ["nerfstudio", "blender"])
def test_runs_of_nerfstudios_dataparsers_are_shown_as_well(
    kind: str, configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Photos of distorting lenses; and transparent ones, of which some are held out for the finished run only."""
    monkeypatch.setattr("nerfstudio.scripts.render.install_checks.check_ffmpeg_installed", lambda: None)
    folder = write_capture(tmp_path / "away", transparent=kind == "blender")
    if kind == "blender":
        write_blender_files(folder)
    else:
        distort(folder)
    config = configured(folder, iterations=6)
    parsers = {"nerfstudio": NerfstudioDataParserConfig, "blender": BlenderDataParserConfig}
    config.pipeline.datamanager.dataparser = parsers[kind]()
    config.pipeline.datamanager.max_side, config.pipeline.datamanager.num_random = 24, 100
    config.save_config()
    path = run(config).base_dir / "config.yml"
    there = load_run(path)
    before = frames(path, tmp_path / "before", "train")
    with gone(folder):
        alone = load_run(path)
        assert frames(path, tmp_path / "after", "train") == before
    assert torch.equal(alone.background, there.background)
    assert alone.background.tolist() == [float(kind == "blender")] * 3
    assert alone.held_out == there.held_out
    ours, theirs = (one.photos.eval_dataset for one in (alone, there))
    assert ours.image_filenames == theirs.image_filenames
    for column in ("camera_to_worlds", "fx", "cy", "width", "height", "camera_type", "distortion_params"):
        one, other = (getattr(dataset.cameras, column) for dataset in (ours, theirs))
        assert one is other or torch.equal(one, other)


def test_a_radiance_field_is_shown_as_well(configured: Configure, tmp_path: Path):
    folder = write_capture(tmp_path / "away", transparent=True)
    config = configured(folder, method="qsplat-nerf", iterations=3)
    config.save_config()
    path = run(config).base_dir / "config.yml"
    there = load_run(path)
    with gone(folder):
        alone = load_run(path)
    camera = there.cameras()[0]
    assert torch.equal(alone.render(camera).rgb, there.render(camera).rgb)


def test_a_relative_capture_is_missed_elsewhere(
    moved: Path, configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run whose data were named relative to a folder is shown from any other one."""
    monkeypatch.chdir(moved.parent)
    config = configured(Path(moved.name), iterations=2)
    path = run(config).base_dir / "config.yml"
    camera = load_run(path).cameras()[0]
    monkeypatch.chdir(tmp_path)
    assert torch.equal(load_run(path).cameras()[0].cam_from_world, camera.cam_from_world)

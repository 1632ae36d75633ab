"""Our own checkpoint files: exact round trips, nothing half-written, and sentences for broken files."""

import json
import os
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from qsplat.cameras import Camera
from qsplat.encodings import Fourier, Positional
from qsplat.gaussians import Gaussians
from qsplat.io.atomic import written_whole
from qsplat.io.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from qsplat.io.tensors import load_tensors, save_tensors
from qsplat.qnn import QNN, QnnConfig, image_residual, part_queries
from qsplat.qnn.convolutions import CFConv, FDConv
from qsplat.qnn.queries import PlacedQueries
from qsplat.render import RasterConfig

CAMERA = Camera(torch.eye(4), 10.0, 10.0, 5.5, 4.5, 11, 9)


def trained():
    torch.manual_seed(0)
    gaussians = Gaussians(*(torch.randn(7, *shape) for shape in ((3,), (3,), (4,), (), (3,), (15, 3))))
    head = QNN(QnnConfig(layers=3, channels=8, precision="fp32"))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    background, raster = torch.tensor([1.0, 0.5, 0.0]), RasterConfig(antialiased=True)
    return Checkpoint(gaussians, head, background, raster)


def test_a_model_survives_a_round_trip_exactly(tmp_path):
    before = trained()
    save_checkpoint(tmp_path / "model.safetensors", before)
    after = load_checkpoint(tmp_path / "model.safetensors")
    assert before.gaussians is not None
    for name in vars(before.gaussians):
        assert torch.equal(getattr(before.gaussians, name), getattr(after.gaussians, name)), name
    assert after.raster == before.raster
    assert torch.equal(after.background, before.background)
    assert before.head is not None
    assert after.head is not None
    assert after.head.config == before.head.config
    signal, queries = torch.rand(1, 3, 9, 11), torch.rand(1, 2, 9, 11)
    assert torch.equal(after.head(signal, queries), before.head(signal, queries))


@pytest.mark.parametrize(
    "config",
    [
        QnnConfig(layers=2, channels=8, precision="fp32", query="locations", encoding=Fourier(5, scale=2.0, seed=3)),
        QnnConfig(layers=2, channels=8, precision="fp32", query="rays", encoding=Positional(2), kernel=1),
        QnnConfig(layers=2, channels=8, precision="fp32", input="queries", activation="leaky_relu"),
        QnnConfig(layers=2, channels=8, precision="fp32", input="render"),
        QnnConfig(layers=3, channels=18, precision="fp32", convolution=FDConv(groups=5)),
        QnnConfig(layers=3, channels=8, precision="fp32", convolution=CFConv(grid=6, samples=100, width=8)),
    ],
)
def test_every_kind_of_head_survives_a_round_trip_with_its_queries(tmp_path, config):
    torch.manual_seed(0)
    head = QNN(config).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    if isinstance(head.queries, PlacedQueries):
        head.queries.place([CAMERA, replace(CAMERA, cam_from_world=torch.eye(4) + 0.1)], torch.rand(20, 3))
    save_checkpoint(tmp_path / "head.safetensors", Checkpoint(None, head))
    read = load_checkpoint(tmp_path / "head.safetensors").head
    assert read is not None
    assert read.config == config
    image, depth = torch.rand(9, 11, 3), torch.rand(9, 11)
    expected, found = (image_residual(one, image, part_queries(one.queries, CAMERA, depth)) for one in (head, read))
    assert expected.abs().max() > 0
    assert torch.equal(found, expected)


def test_a_file_of_an_earlier_version_has_the_head_that_it_had(tmp_path):
    head = trained().head
    assert head is not None
    old = {"config": {"layers": 3, "channels": 8, "kernel": 3, "precision": "fp32", "dims": 2}, "signal_channels": 3}
    tensors = {f"head.{name}": value.contiguous() for name, value in head.state_dict().items()}
    header = {"head": old, "raster": asdict(RasterConfig())}
    save_file(
        {"background": torch.zeros(3), **tensors},
        str(tmp_path / "old.safetensors"),
        metadata={"format": "qsplat-1", "header": json.dumps(header)},
    )
    read = load_checkpoint(tmp_path / "old.safetensors").head
    assert read is not None
    assert read.config == head.config
    signal, queries = torch.rand(1, 3, 9, 11), torch.rand(1, 2, 9, 11)
    assert torch.equal(read(signal, queries), head(signal, queries))


@pytest.mark.parametrize("encoding", [{"kind": "waves"}, {"kind": "positional", "octaves": 0}, {}])
def test_an_unknown_encoding_is_a_damaged_checkpoint(tmp_path, encoding):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, trained())
    contents = load_tensors(path, format="qsplat-1")
    contents.facts["head"]["config"]["encoding"] = encoding
    save_tensors(path, contents.tensors, contents.facts, format="qsplat-1")
    with pytest.raises(ValueError, match=r"model\.safetensors is a damaged checkpoint"):
        load_checkpoint(path)


def test_gaussians_alone_and_a_head_alone_are_kept_too(tmp_path):
    model = trained()
    save_checkpoint(tmp_path / "base.safetensors", Checkpoint(model.gaussians))
    save_checkpoint(tmp_path / "head.safetensors", Checkpoint(None, model.head))
    assert load_checkpoint(tmp_path / "base.safetensors").head is None
    assert load_checkpoint(tmp_path / "head.safetensors").gaussians is None
    assert load_checkpoint(tmp_path / "head.safetensors").head is not None


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_checkpoint_is_refused_in_one_sentence(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, trained())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is truncated or no safetensors file") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match=r"other\.safetensors is no checkpoint of qsplat"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.safetensors does not exist"):
        load_checkpoint(tmp_path / "nothing.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write_half():
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_checkpoint_may_be_read_by_those_whom_the_umask_lets(tmp_path, umask, mode):
    path = tmp_path / "model.safetensors"
    before = os.umask(umask)
    try:
        save_checkpoint(path, trained())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode

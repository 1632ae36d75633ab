"""Our own checkpoint files: exact round trips, nothing half-written, and sentences for broken files."""

import os

import pytest
import torch
from safetensors.torch import save_file

from qsplat.gaussians import Gaussians
from qsplat.io.atomic import written_whole
from qsplat.io.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from qsplat.qnn import QNN, QnnConfig
from qsplat.render import RasterConfig


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

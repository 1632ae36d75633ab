"""LPIPS against its own equation, and its answer where the weights are missing."""

from pathlib import Path

import lpips as package
import pytest
import torch
import torchvision

from qsplat.metrics.lpips import WEIGHT_FILES, Lpips, LpipsUnavailable, load_lpips, weights_file

LAYERS = {"alex": ("alexnet", (1, 4, 7, 9, 11)), "vgg": ("vgg16", (3, 8, 15, 22, 29))}
"""Indices of the rectified layers whose features are compared (Zhang et al. 2018)."""


@pytest.fixture(params=["alex", "vgg"])
def backbone(request, tmp_path):
    """Random convolutions in a file like torchvision's, and themselves."""
    torch.manual_seed(0)
    name, layers = LAYERS[request.param]
    features = getattr(torchvision.models, name)(weights=None).features.eval()
    weights = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save(weights, tmp_path / WEIGHT_FILES[request.param])
    return request.param, layers, features, tmp_path


def test_lpips_agrees_with_its_equation(backbone):
    """Weighted squared differences of unit-normalised features, averaged over the image, summed over layers."""
    net, layers, features, folder = backbone
    calibrated = torch.load(Path(package.__file__).parent / "weights" / "v0.1" / f"{net}.pth", map_location="cpu")
    images = torch.rand(2, 3, 64, 80)
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    signal, expected = (2 * images - 1 - shift) / scale, 0.0
    with torch.no_grad():
        for index, layer in enumerate(features):
            signal = layer(signal)
            if index in layers:
                unit = signal / (signal.norm(dim=1, keepdim=True) + 1e-10)
                weight = calibrated[f"lin{layers.index(index)}.model.1.weight"][0]
                expected += (weight * (unit[0] - unit[1]).square()).sum(dim=0).mean().item()
    measure = load_lpips(net, folder=folder)
    assert isinstance(measure, Lpips)
    assert measure(images[0].permute(1, 2, 0), images[1].permute(1, 2, 0)) == pytest.approx(expected, rel=1e-4)
    assert measure(images[0].permute(1, 2, 0), images[0].permute(1, 2, 0)) == 0.0


def test_missing_weights_are_reported_with_the_remedy_and_nothing_is_downloaded(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    for net in ("vgg", "alex"):
        answer = load_lpips(net)
        assert isinstance(answer, LpipsUnavailable)
        assert str(tmp_path / "hub" / "checkpoints" / WEIGHT_FILES[net]) in answer.reason
        assert "weights='DEFAULT'" in answer.reason


def test_torch_home_says_where_weights_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert weights_file("alex") == tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    assert weights_file("vgg", Path("elsewhere")) == Path("elsewhere") / "vgg16-397923af.pth"


def test_a_broken_weights_file_is_reported(tmp_path):
    (tmp_path / WEIGHT_FILES["alex"]).write_bytes(b"half a file")
    answer = load_lpips("alex", folder=tmp_path)
    assert isinstance(answer, LpipsUnavailable)
    assert "holds no weights of alex" in answer.reason


def test_a_tiny_image_has_no_lpips(tmp_path):
    measure = Lpips("alex", torch.nn.Identity())
    assert measure(torch.zeros(16, 80, 3), torch.zeros(16, 80, 3)) is None

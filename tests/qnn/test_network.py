"""The QNN as a network."""

import json
from contextlib import nullcontext
from dataclasses import asdict

import pytest
import torch

from qsplat.encodings import Fourier, Identity, Positional
from qsplat.precision import _bfloat16_is_faster, uses_bfloat16
from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.convolutions import CFConv, FDConv, Standard

FP32 = QnnConfig(precision="fp32")


def awake(head: QNN) -> QNN:
    """A head whose last layer no longer is zero."""
    torch.nn.init.normal_(head.stages[-1].weight, std=0.05)
    return head


def test_default_network_has_the_published_size():
    assert sum(parameter.numel() for parameter in QNN().parameters()) == 78_531


@pytest.mark.parametrize("convolution", [Standard(), FDConv(), CFConv(grid=8)])
@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
@pytest.mark.parametrize("shape", [(1, 3, 17, 23), (2, 3, 1, 1)])
def test_new_network_is_the_identity(precision, shape, convolution):
    head = QNN(QnnConfig(channels=18, precision=precision, convolution=convolution))
    residual = head(torch.rand(shape), torch.rand(1, 2, *shape[2:]))
    assert residual.shape == shape
    assert residual.dtype == torch.float32
    assert torch.equal(residual, torch.zeros(shape))


def test_one_dimensional_network_is_the_same_class():
    torch.manual_seed(0)
    head = awake(QNN(QnnConfig(dims=1, precision="fp32"), signal_channels=1))
    signal, queries = torch.rand(2, 1, 50), torch.linspace(-1, 1, 50)[None, None]
    assert head(signal, queries).shape == (2, 1, 50)
    shifted = head(signal, queries + 0.5)
    assert not torch.allclose(head(signal, queries), shifted), "the residual must depend on the queries"


def test_residual_depends_on_signal_and_queries_within_the_halo_only():
    torch.manual_seed(0)
    head = awake(QNN(FP32))
    signal, queries = torch.rand(1, 3, 21, 21), torch.rand(1, 2, 21, 21)
    before = head(signal, queries)
    for changed in (signal, queries):
        changed = changed.clone()
        changed[0, 0, 10, 10] += 1
        after = head(changed, queries) if changed.shape[1] == 3 else head(signal, changed)
        moved = (after - before).abs().amax(dim=(0, 1)) > 0
        assert bool(moved[10, 10])
        rows, columns = moved.nonzero().unbind(-1)
        assert int((rows - 10).abs().max()) == head.halo == 4
        assert int((columns - 10).abs().max()) == head.halo


def test_gradients_reach_the_signal_once_the_head_is_awake():
    signal = torch.rand(1, 3, 9, 9, requires_grad=True)
    awake(QNN(FP32))(signal, torch.zeros(1, 2, 9, 9)).sum().backward()
    assert signal.grad is not None
    assert signal.grad.abs().sum() > 0


def test_bfloat16_stays_close_to_float32():
    torch.manual_seed(0)
    exact = awake(QNN(FP32))
    rounded = QNN(QnnConfig(precision="bf16"))
    rounded.load_state_dict(exact.state_dict())
    signal, queries = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 32, 32) * 2 - 1
    expected, found = exact(signal, queries), rounded(signal, queries)
    error = (expected - found).norm() / expected.norm()
    assert 0 < error < 0.02, "bfloat16 must be in use and harmless"


@pytest.mark.parametrize(
    ("avx512", "amx", "vendor", "half"),
    [
        (False, False, "AuthenticAMD", False),
        (True, False, "AuthenticAMD", True),
        (False, False, "GenuineIntel", False),
        (True, False, "GenuineIntel", False),
        (True, True, "GenuineIntel", True),
    ],
)
@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_automatic_precision_follows_the_processor(monkeypatch, tmp_path, avx512, amx, vendor, half, system):
    told = tmp_path / "cpuinfo"
    if system == "Linux":
        told.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr("qsplat.precision.CPU_INFO", told)
    monkeypatch.setattr("platform.machine", lambda: "x86_64" if system == "Linux" else "AMD64")
    monkeypatch.setattr("platform.processor", lambda: "" if system == "Linux" else f"Family 6 Model 143, {vendor}")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("qsplat.precision._bfloat16_is_faster", _bfloat16_is_faster.__wrapped__)
    torch.manual_seed(0)
    automatic, exact = awake(QNN()), QNN(FP32)
    exact.load_state_dict(automatic.state_dict())
    signal, queries = torch.rand(1, 3, 16, 16), torch.rand(1, 2, 16, 16)
    assert torch.equal(automatic(signal, queries), exact(signal, queries)) != half


@pytest.mark.parametrize("there", [True, False])
def test_other_processors_are_asked_for_bfloat16(monkeypatch, there):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: there)
    assert _bfloat16_is_faster.__wrapped__() == there


def test_without_a_vendor_the_instructions_decide(monkeypatch, tmp_path):
    monkeypatch.setattr("qsplat.precision.CPU_INFO", tmp_path / "none")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    assert _bfloat16_is_faster.__wrapped__()


@pytest.mark.parametrize("there", [True, False])
def test_gpus_that_imitate_bfloat16_compute_in_float32(monkeypatch, there):
    asked = []

    def supported(including_emulation=True):
        return including_emulation or there

    monkeypatch.setattr("torch.cuda.device", lambda device: asked.append(device) or nullcontext())
    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    device = torch.device("cuda", 1)
    assert uses_bfloat16("auto", device) == there
    assert asked == [device]


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (QnnConfig(), 5),
        (QnnConfig(input="render"), 3),
        (QnnConfig(input="queries"), 2),
        (QnnConfig(query="locations"), 6),
        (QnnConfig(query="rays"), 9),
        (QnnConfig(encoding=Positional(3)), 3 + 2 * 7),
        (QnnConfig(encoding=Fourier(10), input="queries", query="rays"), 20),
    ],
)
def test_the_network_sees_what_it_is_told_to(config, channels):
    assert QNN(config).stages[0].in_channels == channels


def test_a_network_of_kernel_one_sees_each_pixel_alone():
    head = awake(QNN(QnnConfig(kernel=1, precision="fp32")))
    assert head.halo == 0
    signal, queries = torch.rand(1, 3, 5, 6), torch.rand(1, 2, 5, 6)
    torch.testing.assert_close(
        head(signal, queries)[..., 2:3, 4:5], head(signal[..., 2:3, 4:5], queries[..., 2:3, 4:5])
    )


def test_a_leaky_network_passes_on_what_a_relu_does_not():
    slopes = []
    for activation in ("relu", "leaky_relu"):
        head = awake(QNN(QnnConfig(layers=2, activation=activation, precision="fp32")))
        torch.nn.init.constant_(head.stages[0].bias, -100.0)
        signal = torch.rand(1, 3, 4, 4, requires_grad=True)
        head(signal, torch.zeros(1, 2, 4, 4)).sum().backward()
        slopes.append(float(signal.grad.abs().sum()))
    assert slopes[0] == 0
    assert slopes[1] > 0


def test_the_frequencies_of_a_fourier_encoding_are_part_of_the_state():
    head = QNN(QnnConfig(encoding=Fourier(7, scale=3.0, seed=5)))
    assert head.state_dict()["encoder.frequencies"].shape == (7, 2)


@pytest.mark.parametrize("encoding", [Identity(), Positional(3), Fourier(7, scale=2.5, seed=9)])
def test_a_configuration_survives_json(encoding):
    config = QnnConfig(layers=2, input="queries", query="rays", encoding=encoding, activation="leaky_relu")
    assert QnnConfig.of(json.loads(json.dumps(asdict(config)))) == config
    for convolution in (FDConv(9, band_modulation=False), CFConv(8, samples=99)):
        config = QnnConfig(encoding=encoding, convolution=convolution)
        assert QnnConfig.of(json.loads(json.dumps(asdict(config)))) == config
    assert QnnConfig.of({"layers": 2}) == QnnConfig(layers=2), "what earlier versions did not have is as it was"


def test_network_learns_a_detail_that_the_signal_lost():
    torch.manual_seed(0)
    head = QNN(QnnConfig(channels=16, precision="fp32"))
    target = torch.rand(1, 3, 16, 16)
    blurred = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1)
    axis = torch.linspace(-1, 1, 16)
    queries = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-3)
    before = (blurred - target).square().mean()
    for _ in range(100):
        optimizer.zero_grad()
        loss = (blurred + head(blurred, queries) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < before / 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel": 4}, "kernel=4: choose an odd size"),
        ({"layers": 0}, "layers=0"),
        ({"channels": 0}, "channels=0"),
        ({"input": "render", "query": "rays"}, "query='rays' and encoding='identity' with input='render'"),
        ({"input": "render", "encoding": Positional()}, "encoding='positional' with input='render'"),
        ({"dims": 1, "query": "locations"}, "query='locations' with dims=1"),
    ],
)
def test_impossible_network_is_refused_with_the_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        QnnConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input": "image"}, "input='image': choose one of both, render, queries"),
        ({"query": "depth"}, "query='depth': choose one of pixels, locations, rays"),
        ({"activation": "gelu"}, "activation='gelu': choose one of relu, leaky_relu"),
        ({"precision": "fp16"}, "precision='fp16': choose one of auto, bf16, fp32"),
        ({"encoding": "fourier"}, "encoding='fourier': give one of qsplat.encodings"),
        ({"convolution": "fdconv"}, "convolution='fdconv': give one of qsplat.qnn.convolutions"),
    ],
)
def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(wrong, message):
    """Past the annotations, which the tests execute and a program does not."""
    config = QnnConfig()
    for name, value in wrong.items():
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=message):
        config.__post_init__()

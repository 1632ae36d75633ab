"""The QNN as a network."""

import pytest
import torch

from qsplat.qnn import QNN, QnnConfig
from qsplat.qnn.network import _processor_has_bfloat16

FP32 = QnnConfig(precision="fp32")


def awake(head: QNN) -> QNN:
    """A head whose last layer no longer is zero."""
    torch.nn.init.normal_(head.stages[-1].weight, std=0.05)
    return head


def test_default_network_has_the_published_size():
    assert sum(parameter.numel() for parameter in QNN().parameters()) == 78_531


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
@pytest.mark.parametrize("shape", [(1, 3, 17, 23), (2, 3, 1, 1)])
def test_new_network_is_the_identity(precision, shape):
    residual = QNN(QnnConfig(precision=precision))(torch.rand(shape), torch.rand(1, 2, *shape[2:]))
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


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, False), (False, True)])
def test_automatic_precision_follows_the_processor(monkeypatch, avx512, amx):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    _processor_has_bfloat16.cache_clear()
    torch.manual_seed(0)
    automatic, exact = awake(QNN()), QNN(FP32)
    exact.load_state_dict(automatic.state_dict())
    signal, queries = torch.rand(1, 3, 16, 16), torch.rand(1, 2, 16, 16)
    assert torch.equal(automatic(signal, queries), exact(signal, queries)) != (avx512 or amx)
    _processor_has_bfloat16.cache_clear()


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
    ],
)
def test_impossible_network_is_refused_with_the_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        QnnConfig(**wrong)

"""Attention as a head: the contract of a QNN, and where its residual comes from."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from qsplat.cameras import Window
from qsplat.encodings import Positional
from qsplat.frequency_tokens import Tokens
from qsplat.io.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from qsplat.qnn import QNN, QnnConfig, crop_residual, image_residual
from qsplat.qnn import attention as attention_module
from qsplat.qnn.attention import AttentionStages
from qsplat.qnn.convolutions import FDConv

SMALL = Tokens(base=8, octaves=4, sigma=0.2, query="coordinates")
CONFIG = QnnConfig(architecture="rffca", tokens=SMALL, channels=16, layers=2, precision="fp32")


def stages_of(head: QNN) -> AttentionStages:
    assert isinstance(head.stages, AttentionStages)
    return head.stages


def awake(config: QnnConfig = CONFIG, **more) -> QNN:
    """A head whose last layer no longer is zero."""
    torch.manual_seed(0)
    head = QNN(config, **more)
    torch.nn.init.normal_(stages_of(head).last.weight, std=0.1)
    return head


def picture(height: int = 12, width: int = 15) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    axes = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.rand(1, 3, height, width, generator=generator), torch.stack(axes[::-1])[None]


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (2, 3, 1, 1)])
def test_a_new_head_is_the_identity(precision, shape):
    head = QNN(QnnConfig(architecture="rffca", precision=precision))
    residual = head(torch.rand(shape), torch.rand(1, 2, *shape[2:]))
    assert residual.dtype == torch.float32
    assert torch.equal(residual, torch.zeros(shape))


def test_the_default_head_has_as_many_weights_as_its_layers_say():
    """A convolution of 9x9 from 3 + 2 channels, 4 blocks of 5 matrices and 3 biases, 3 outputs, and beta."""
    count = sum(parameter.numel() for parameter in QNN(QnnConfig(architecture="rffca")).parameters())
    assert count == (81 * 5 * 64 + 64) + 4 * (5 * 64**2 + 3 * 64) + (64 * 3 + 3) + 1


def test_the_residual_is_that_of_each_pixel_by_itself():
    """The slow way: a pixel's neighbourhood, its waves, PyTorch's own attention, one pixel after the other."""
    head, (signal, queries) = awake(), picture(5, 6)
    stages = stages_of(head)
    found = head(signal, queries)
    padded = torch.nn.functional.pad(torch.cat([signal, queries], dim=1), (2, 2, 2, 2))
    for row in range(5):
        for column in range(6):
            around = padded[0, :, row : row + 5, column : column + 5]
            query = (stages.first.weight * around).sum(dim=(1, 2, 3)) + stages.first.bias
            tokens = stages.bank(queries[0, :, row, column]).view(2, 16)
            for block in stages.blocks:
                one = block.attention
                sought, keys, values = one.query(query), one.key(tokens), one.value(tokens)
                each = [
                    torch.nn.functional.scaled_dot_product_attention(*(part[..., 4 * h : 4 * h + 4] for part in parts))
                    for h in range(4)
                    for parts in [(sought[None], keys, values)]
                ]
                query = query + one.out(torch.cat(each, dim=-1)[0])
                query = query + torch.nn.functional.gelu(block.feedforward(query))
            torch.testing.assert_close(found[0, :, row, column], stages.last(query), atol=1e-5, rtol=1e-4)


def test_a_residual_depends_on_the_signal_within_the_halo_and_on_waves_of_its_own_pixel():
    head, (signal, queries) = awake(), picture(13, 13)
    assert head.halo == 2
    before = head(signal, queries)
    moved_signal = signal.clone()
    moved_signal[0, 0, 6, 6] += 1
    rows, columns = ((head(moved_signal, queries) - before).abs().amax(dim=(0, 1)) > 0).nonzero().unbind(-1)
    assert int((rows - 6).abs().max()) == int((columns - 6).abs().max()) == 2
    with torch.no_grad():
        stages_of(head).first.weight[:, 3:] = 0
    before, moved_queries = head(signal, queries), queries.clone()
    moved_queries[0, 0, 6, 6] += 0.1
    assert ((head(signal, moved_queries) - before).abs().amax(dim=(0, 1)) > 0).nonzero().tolist() == [[6, 6]]


def test_a_crop_and_tiles_have_the_values_of_the_whole():
    head, (signal, queries) = awake().requires_grad_(False), picture(20, 23)
    image, told = signal[0].permute(1, 2, 0), queries[0].permute(1, 2, 0)
    whole = image_residual(head, image, told)
    torch.testing.assert_close(image_residual(head, image, told, tile=7), whole, atol=1e-6, rtol=1e-5)
    part = crop_residual(head, image, told, Window(3, 5, 9, 8))
    torch.testing.assert_close(part, whole[5:13, 3:12], atol=1e-6, rtol=1e-5)


def test_pieces_change_neither_values_nor_gradients(monkeypatch):
    head, (signal, queries) = awake(), picture()
    results = []
    for size in (attention_module.PIECE, 50):
        monkeypatch.setattr(attention_module, "PIECE", size)
        seen = signal.clone().requires_grad_()
        values = head(seen, queries)
        gradients = torch.autograd.grad(values.square().sum(), [seen, *head.parameters()])
        with torch.no_grad():
            results.append([values, head(signal, queries), *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_images_of_a_batch_share_their_queries():
    head, (signal, queries) = awake(), picture()
    both = head(torch.cat([signal, 1 - signal]), queries)
    torch.testing.assert_close(both[1:], head(1 - signal, queries))


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (CONFIG, 5),
        (replace(CONFIG, input="queries"), 2),
        (replace(CONFIG, query="locations"), 6),
        (replace(CONFIG, query="rays"), 9),
        (replace(CONFIG, encoding=Positional(3)), 17),
    ],
)
def test_signal_and_queries_are_concatenated(config, channels):
    stages = stages_of(QNN(config))
    assert stages.first.in_channels == channels
    assert stages.bank.frequencies.shape[1] == {"pixels": 2, "locations": 3, "rays": 6}[config.query]


def test_signals_of_one_dimension_have_the_same_head():
    head = awake(replace(CONFIG, dims=1), signal_channels=1)
    signal, queries = torch.rand(2, 1, 30), torch.linspace(-1, 1, 30)[None, None]
    assert head(signal, queries).shape == (2, 1, 30)
    assert not torch.allclose(head(signal, queries), head(signal, queries + 0.5))


def test_bfloat16_stays_close_to_float32():
    exact, (signal, queries) = awake(), picture()
    rounded = QNN(replace(CONFIG, precision="bf16"))
    rounded.load_state_dict(exact.state_dict())
    expected, found = exact(signal, queries), rounded(signal, queries)
    assert 0 < (expected - found).norm() / expected.norm() < 0.02


def test_every_weight_learns():
    head, (signal, queries) = awake(), picture()
    head(signal, queries).square().sum().backward()
    assert all(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in head.parameters())


def test_the_head_learns_a_detail_that_the_signal_lost():
    torch.manual_seed(0)
    head, (target, queries) = QNN(replace(CONFIG, layers=2)), picture(16, 16)
    blurred = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    before = (blurred - target).square().mean()
    for _ in range(100):
        optimizer.zero_grad()
        loss = (blurred + head(blurred, queries) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < before / 2


def test_a_checkpoint_keeps_the_head(tmp_path):
    head, (signal, queries) = awake(), picture()
    save_checkpoint(tmp_path / "head.safetensors", Checkpoint(None, head))
    loaded = load_checkpoint(tmp_path / "head.safetensors").head
    assert loaded is not None
    assert loaded.config == head.config
    assert torch.equal(loaded(signal, queries), head(signal, queries))
    assert QnnConfig.of(json.loads(json.dumps(asdict(CONFIG)))) == CONFIG


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": 24}, "width 24: choose a width that divides the waves"),
        ({"input": "render"}, "input='render' with architecture='rffca'"),
        ({"tokens": Tokens()}, "tokens.query='features': the attention of a head begins with what it sees"),
        ({"activation": "leaky_relu"}, "activation='leaky_relu' with architecture='rffca'"),
        ({"convolution": FDConv(), "layers": 4, "channels": 32}, "convolution='fdconv'"),
    ],
)
def test_what_attention_cannot_have_is_refused_with_the_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **wrong)

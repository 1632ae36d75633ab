"""Waves by their formula, and attention against PyTorch's own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from qsplat.frequency_tokens import AttentionBlock, CrossAttention, TokenBank, Tokens


def test_waves_follow_the_formula_of_the_paper():
    """sqrt(1/M) exp(-beta sigma |w|) cos(w x + b), wave by wave and in plain Python."""
    bank = TokenBank(2, Tokens(base=3, octaves=4, sigma=0.25, decay=0.3))
    point = torch.tensor([[0.4, -0.9]])
    expected = []
    for number in range(12):
        first, second = (2 ** (number // 3) * value for value in bank.frequencies[number % 3].tolist())
        amplitude = math.exp(-0.3 * 0.25 * math.hypot(first, second)) / math.sqrt(12)
        expected.append(amplitude * math.cos(0.4 * first - 0.9 * second + float(bank.phases[number])))
    torch.testing.assert_close(bank(point)[0], torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_each_octave_is_twice_as_fast_as_the_one_before_and_the_lowest_has_the_deviation_asked_for():
    bank = TokenBank(3, Tokens(base=4000, octaves=3, sigma=0.05))
    lowest, middle, highest = bank.frequencies.unflatten(0, (3, 4000))
    assert torch.equal(middle, 2 * lowest)
    assert torch.equal(highest, 4 * lowest)
    torch.testing.assert_close(lowest.std(dim=0), torch.full((3,), 20.0), rtol=0.05, atol=0)
    assert 0 <= bank.phases.min() < 0.01
    assert 2 * math.pi - 0.01 < bank.phases.max() <= 2 * math.pi


def test_many_waves_make_a_gaussian_kernel():
    """Rahimi and Recht: 2 phi(x) phi(y) is exp(-|x - y|^2 / (2 sigma^2)) on average, with amplitudes near one."""
    bank = TokenBank(1, Tokens(base=20_000, octaves=1, sigma=0.5, decay=1e-6))
    points = torch.linspace(-1, 1, 9)[:, None]
    kernel = 2 * bank(points) @ bank(points).T
    expected = torch.exp(-(points - points.T).square() / (2 * 0.5**2))
    torch.testing.assert_close(kernel, expected, atol=0.03, rtol=0)


def test_only_the_decay_of_a_bank_is_learnt():
    bank = TokenBank(2, Tokens(base=4, decay=0.1))
    assert [name for name, _ in bank.named_parameters()] == ["raw_decay"]
    assert bank.decay.item() == pytest.approx(0.1)
    assert set(bank.state_dict()) == {"raw_decay", "frequencies", "phases", "sigma"}
    with torch.no_grad():
        bank.raw_decay.fill_(-50.0)
    assert bank.decay >= 0
    bank(torch.rand(5, 2)).square().sum().backward()
    assert bank.raw_decay.grad is not None


def test_seeds_draw_other_waves_and_leave_the_random_state_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (TokenBank(2, Tokens(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.frequencies, again.frequencies)
    assert torch.equal(first.phases, again.phases)
    assert not torch.equal(first.frequencies, other.frequencies)


def pytorchs(attention: CrossAttention) -> nn.MultiheadAttention:
    """PyTorch's attention with the same weights, and no bias of keys and values."""
    width = attention.out.in_features
    twin = nn.MultiheadAttention(width, attention.heads, batch_first=True).to(attention.out.weight)
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        twin.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        twin.in_proj_bias.zero_()
        twin.in_proj_bias[:width] = attention.query.bias
        twin.out_proj.load_state_dict(attention.out.state_dict())
    return twin


def small_attention(width: int = 12, heads: int = 3, count: int = 5) -> tuple[CrossAttention, Tensor, Tensor]:
    torch.manual_seed(0)
    attention = CrossAttention(width, heads).double()
    query, tokens = torch.randn(7, width).double(), torch.randn(7, count, width).double()
    return attention, query.requires_grad_(), tokens.requires_grad_()


@pytest.mark.parametrize("mask", [None, [0.0, 0.0, -6.0, -1.5, -6.0]])
def test_attention_is_that_of_pytorch_values_and_gradients(mask):
    attention, query, tokens = small_attention()
    twin, logits = pytorchs(attention), None if mask is None else torch.tensor(mask).double()
    found = attention(query, tokens, logits)
    spread = None if logits is None else logits.expand(1, 5)
    expected = twin(query[:, None], tokens, tokens, attn_mask=spread, need_weights=False)[0][:, 0]
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [
        torch.autograd.grad((weights * values).sum(), [query, tokens, *network.parameters()])
        for values, network in ((found, attention), (expected, twin))
    ]
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])
    ours = dict(zip([name for name, _ in attention.named_parameters()], gradients[0][2:], strict=True))
    theirs = dict(zip([name for name, _ in twin.named_parameters()], gradients[1][2:], strict=True))
    stacked = torch.cat([ours[f"{name}.weight"] for name in ("query", "key", "value")])
    torch.testing.assert_close(stacked, theirs["in_proj_weight"])
    torch.testing.assert_close(ours["query.bias"], theirs["in_proj_bias"][:12])
    torch.testing.assert_close(ours["out.weight"], theirs["out_proj.weight"])
    torch.testing.assert_close(ours["out.bias"], theirs["out_proj.bias"])


def test_one_head_by_the_formula():
    attention, query, tokens = small_attention(width=4, heads=1)
    sought = attention.query(query)[:, None]
    expected = functional.scaled_dot_product_attention(sought, attention.key(tokens), attention.value(tokens))
    torch.testing.assert_close(attention(query, tokens), attention.out(expected[:, 0]))


def test_second_derivatives_of_a_block_are_right():
    torch.manual_seed(0)
    block = AttentionBlock(6, 2).double()
    query, tokens = torch.randn(2, 6).double().requires_grad_(), torch.randn(2, 3, 6).double().requires_grad_()
    assert torch.autograd.gradgradcheck(block, (query, tokens))


def test_a_block_is_two_residual_steps():
    torch.manual_seed(0)
    block = AttentionBlock(8, 2)
    query, tokens = torch.randn(3, 8), torch.randn(3, 4, 8)
    middle = query + block.attention(query, tokens)
    expected = middle + functional.gelu(block.feedforward(middle))
    torch.testing.assert_close(block(query, tokens), expected)


@given(st.permutations(range(5)))
def test_the_order_of_tokens_does_not_matter(order):
    attention, query, tokens = small_attention()
    torch.testing.assert_close(attention(query, tokens[:, order]), attention(query, tokens))


def test_a_lower_mask_takes_a_tokens_influence():
    attention, query, tokens = small_attention()
    moved = tokens.detach().clone()
    moved[:, -1] += 1
    changes = []
    for logit in (-12.0, -6.0, -3.0, 0.0):
        mask = torch.zeros(5).double()
        mask[-1] = logit
        changes.append((attention(query, moved, mask) - attention(query, tokens, mask)).norm().item())
    assert changes == sorted(changes)
    assert changes[0] < 1e-3 * changes[-1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base": 0}, "base=0"),
        ({"octaves": 0}, "octaves=0"),
        ({"heads": 0}, "heads=0"),
        ({"sigma": 0.0}, "sigma=0.0: the waves of tokens need a finite one above 0"),
        ({"sigma": math.nan}, "sigma=nan"),
        ({"decay": 0.0}, "decay=0.0"),
    ],
)
def test_impossible_tokens_are_refused_with_the_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        Tokens(**wrong)


def test_an_unknown_query_is_refused_with_those_that_there_are():
    """Past the annotations, which the tests execute and a program does not."""
    tokens = Tokens()
    object.__setattr__(tokens, "query", "angles")
    with pytest.raises(ValueError, match="query='angles': choose one of features, coordinates"):
        tokens.__post_init__()


@pytest.mark.parametrize("width", [48, 2])
def test_a_width_that_tokens_or_heads_cannot_have_is_refused(width):
    with pytest.raises(ValueError, match=f"width {width}: choose a width that divides the waves"):
        Tokens().check(width)

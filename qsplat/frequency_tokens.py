"""Random waves of several octaves as tokens, and the cross-attention by which a point chooses among them (RFF-CA).

Source: Feng, Tang, Wan and Zhou 2025, Overcoming Spectral Bias via Cross-Attention (arXiv 2512.18586). The authors'
code is unreleased. What is not known of it is our choice and named so below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

TokenQuery = Literal["features", "coordinates"]


@dataclass(frozen=True)
class Tokens:
    """Waves that points attend to, and how.

    Args:
        base: waves of the lowest octave, drawn from a normal distribution.
        octaves: each has the waves of the one before, twice as fast. The paper counts K + 1 of them.
        sigma: standard deviation of the lowest frequencies is 1/sigma radians per unit, along each axis. The paper
            names none for images and fields; ours has its top octave, at 80 radians per unit, reach 25 turns across a
            domain from -1 to 1.
        decay: beta at birth of the amplitudes exp(-beta sigma |frequency|). The paper's formula has no sigma and starts
            at 0.1, which in radians puts out all waves faster than a few turns; in units of the lowest octave not.
        heads: of the attention.
        query: what a point begins with: its waves (RFF-CA), or its coordinates (NN-CA).
        seed: draws frequencies and phases.

    Raises:
        ValueError: there are no such waves.
    """

    base: int = 128
    octaves: int = 4
    sigma: float = 0.1
    decay: float = 0.1
    heads: int = 4
    query: TokenQuery = "features"
    seed: int = 0
    kind: Literal["tokens"] = field(default="tokens", init=False)

    def __post_init__(self) -> None:
        if min(self.base, self.octaves, self.heads) < 1:
            raise ValueError(
                f"base={self.base}, octaves={self.octaves}, heads={self.heads}: tokens need at least 1 of each"
            )
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma={self.sigma}: the waves of tokens need a finite one above 0")
        if not 0 < self.decay < math.inf:
            raise ValueError(f"decay={self.decay}: the amplitudes of tokens start at a finite one above 0")
        if self.query not in get_args(TokenQuery):
            raise ValueError(f"query={self.query!r}: choose one of {', '.join(get_args(TokenQuery))}")

    @property
    def waves(self) -> int:
        """All of them (M in the paper)."""
        return self.base * self.octaves

    def check(self, width: int) -> None:
        """Refuse tokens of ``width`` waves that these cannot be cut into, or that the heads cannot share.

        Raises:
            ValueError: they cannot.
        """
        if self.waves % width or width % self.heads:
            raise ValueError(
                f"{self.waves} waves (base={self.base}, octaves={self.octaves}), heads={self.heads}, width {width}: "
                "choose a width that divides the waves and is a multiple of the heads"
            )


def tokens_of(description: Mapping[str, Any]) -> Tokens:
    """The tokens that ``dataclasses.asdict`` made ``description`` of.

    Raises:
        KeyError, TypeError, ValueError: it describes none.
    """
    values = dict(description)
    values.pop("kind")
    return Tokens(**values)


class TokenBank(nn.Module):
    """phi(x) = a cos(w x + b) / sqrt(M), octave after octave, with a = exp(-beta sigma |w|).

    Frequencies w, phases b (uniform in a turn) and sigma are fixed and part of the state. beta is learnt and kept
    positive by a softplus.
    """

    frequencies: Float[Tensor, "m dims"]
    phases: Float[Tensor, " m"]
    sigma: Float[Tensor, ""]

    def __init__(self, dims: int, tokens: Tokens) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(tokens.seed)
        lowest = torch.randn(tokens.base, dims, generator=generator) / tokens.sigma
        octaves = 2.0 ** torch.arange(tokens.octaves)
        self.register_buffer("frequencies", (octaves[:, None, None] * lowest).flatten(0, 1))
        self.register_buffer("phases", 2 * math.pi * torch.rand(tokens.waves, generator=generator))
        self.register_buffer("sigma", torch.tensor(tokens.sigma))
        self.raw_decay = nn.Parameter(torch.tensor(math.log(math.expm1(tokens.decay))))

    @property
    def decay(self) -> Float[Tensor, ""]:
        """beta."""
        return functional.softplus(self.raw_decay)

    def forward(self, coordinates: Float[Tensor, "*points dims"]) -> Float[Tensor, "*points m"]:
        """The waves at ``coordinates``."""
        amplitudes = torch.exp(-self.decay * self.sigma * self.frequencies.norm(dim=-1)) / math.sqrt(len(self.phases))
        return amplitudes * torch.cos(coordinates @ self.frequencies.T + self.phases)


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(d) + mask) V of one query for each point over tokens of that point, in several heads.

    It is PyTorch's ``MultiheadAttention`` without what changes nothing: a bias of the keys, which softmax ignores, and
    one of the values, which the last bias holds. d is the width of a head and a linear layer mixes the heads, as there;
    the paper writes the width of the query and says nothing of the layer. Keys and values are never formed. Their
    matrices are applied to the query and to the weighted mean of the tokens instead, which is the same in exact
    arithmetic and half the time.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(
        self, query: Float[Tensor, "n w"], tokens: Float[Tensor, "n t w"], mask: Float[Tensor, " t"] | None = None
    ) -> Float[Tensor, "n w"]:
        """What the points take from their tokens. ``mask`` is added to the logits of each token."""
        width = query.shape[-1]
        each = self.heads, width // self.heads
        keys = self.key.weight.unflatten(0, each) / math.sqrt(each[1])
        matrix = torch.einsum("hdi,hdj->hji", self.query.weight.unflatten(0, each), keys).flatten(0, 1)
        offset = torch.einsum("hd,hdj->hj", self.query.bias.unflatten(0, each), keys).flatten()
        sought = functional.linear(query, matrix, offset).unflatten(-1, (self.heads, width))
        logits = torch.bmm(sought, tokens.to(sought).transpose(1, 2))
        weights = torch.softmax(logits if mask is None else logits + mask, dim=-1)
        found = torch.bmm(weights.to(sought), tokens.to(sought)).flatten(1)
        values = torch.einsum(
            "ohd,hdj->ohj", self.out.weight.unflatten(-1, each), self.value.weight.unflatten(0, each)
        ).flatten(1)
        return functional.linear(found, values, self.out.bias)


class AttentionBlock(nn.Module):
    """q~ = q + CA(q, H), then q~ + gelu(W q~ + b). The paper does not name the activation: ours is smooth, because
    differential equations need its second derivative."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.feedforward = CrossAttention(width, heads), nn.Linear(width, width)

    def forward(
        self, query: Float[Tensor, "n w"], tokens: Float[Tensor, "n t w"], mask: Float[Tensor, " t"] | None = None
    ) -> Float[Tensor, "n w"]:
        """The query of the next block."""
        query = query + self.attention(query, tokens, mask)
        return query + functional.gelu(self.feedforward(query))

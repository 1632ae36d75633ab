"""Networks of coordinates that attend to waves (RFF-CA), and their frequency enhancement (AFE).

Source: Feng, Tang, Wan and Zhou 2025, Overcoming Spectral Bias via Cross-Attention (arXiv 2512.18586), whose code is
unreleased; blocks and waves are those of ``frequency_tokens``. The schedule of the enhancement is known from a reading
of the paper by others. What else it leaves open is our choice, named so.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qsplat.frequency_tokens import AttentionBlock, TokenBank, Tokens

HELD = -6.0
"""The paper's logit (eta) of the tokens of an enhancement before their release, by which they keep a weight of e^-6.
Here they keep none, see ``release_weight``."""
HELD_SHARE = 0.7
"""Share of the second stage of training before the release begins."""


class TokenEncoding(nn.Module):
    """Coordinates, the waves of a bank there, and those that an enhancement has added.

    The added waves cos(w x + b) / sqrt(M), with M the waves of the bank, have the frequencies found, and fixed phases
    uniform in a turn. They fill whole tokens of ``width``: where too few were found, they are repeated with other
    phases, by which two waves of one frequency make any wave of it. (The paper does not say what fills a token. Its
    amplitude is sqrt(2 / m) for m added waves, where ours is the largest of the bank: with few of them theirs are
    several times as large as all that the attention has learnt on, and so are their logits.)
    """

    found: Float[Tensor, "k dims"]
    found_phases: Float[Tensor, " k"]

    def __init__(self, tokens: Tokens, dims: int, width: int) -> None:
        super().__init__()
        self.bank, self.width = TokenBank(dims, tokens), width
        self.register_buffer("found", torch.empty(0, dims))
        self.register_buffer("found_phases", torch.empty(0))

    def enhance(self, frequencies: Float[Tensor, "k dims"]) -> None:
        """Add waves of ``frequencies`` (radians per unit) in place of those added before."""
        count = math.ceil(2 * len(frequencies) / self.width) * self.width
        self.found = frequencies.to(self.found).repeat(math.ceil(count / max(1, len(frequencies))), 1)[:count]
        self.found_phases = 2 * math.pi * torch.rand(count).to(self.found)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A network gets as many added waves as the state has."""
        for name in ("found", "found_phases"):
            if (given := state_dict.get(prefix + name)) is not None:
                own = self.get_buffer(name)
                setattr(self, name, own.new_zeros(*given.shape[:1], *own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, coordinates: Float[Tensor, "n dims"]) -> Float[Tensor, "n channels"]:
        """Coordinates first, added waves last."""
        waves = self.bank(coordinates)
        added = torch.cos(coordinates @ self.found.T + self.found_phases) / math.sqrt(waves.shape[-1])
        return torch.cat([coordinates, waves, added], dim=-1)


class TokenLayers(nn.Module):
    """What comes after a ``TokenEncoding``: a linear layer makes the query of ``width`` channels, and ``depth`` blocks
    let it attend to the waves, cut into tokens of the same width.

    ``release``, part of the state, multiplies the weights of the tokens of an enhancement in the softmax: with 0 they
    are as if they were not there, with 1 they are like all others. The linear layer is our choice: the paper does not
    say how the query gets its width.
    """

    release: Float[Tensor, ""]

    def __init__(self, tokens: Tokens, dims: int, *, width: int, depth: int) -> None:
        super().__init__()
        tokens.check(width)
        self.dims, self.width, self.waves = dims, width, tokens.waves
        self.reads_coordinates = tokens.query == "coordinates"
        self.first = nn.Linear(dims if self.reads_coordinates else tokens.waves, width)
        self.blocks = nn.ModuleList(AttentionBlock(width, tokens.heads) for _ in range(depth))
        self.register_buffer("release", torch.tensor(0.0))

    def forward(self, encoded: Float[Tensor, "n channels"]) -> Float[Tensor, "n width"]:
        """The query after the last block."""
        coordinates, waves = encoded.tensor_split([self.dims], dim=-1)
        query = self.first(coordinates if self.reads_coordinates else waves[:, : self.waves])
        tokens = waves.to(query).unflatten(-1, (-1, self.width))
        added = torch.arange(tokens.shape[1], device=tokens.device) >= self.waves // self.width
        mask = torch.where(added, self.release.log(), 0.0)
        for block in self.blocks:
            query = block(query, tokens, mask)
        return query


class RffcaNetwork(nn.Module):
    """Coordinates to ``outputs`` values, by attention to waves: RFF-CA, or NN-CA where ``tokens`` ask for it.

    Defaults are the paper's. Training with enhancement has two stages: a plain one; then ``enhance``, and one with
    ``release_at`` before each step.
    """

    def __init__(
        self, tokens: Tokens | None = None, *, dims: int = 2, outputs: int = 3, width: int = 64, depth: int = 4
    ) -> None:
        super().__init__()
        tokens = tokens or Tokens()
        self.encoding = TokenEncoding(tokens, dims, width)
        self.layers = TokenLayers(tokens, dims, width=width, depth=depth)
        self.last = nn.Linear(width, outputs)

    def forward(self, coordinates: Float[Tensor, "n dims"]) -> Float[Tensor, "n outputs"]:
        """The values at ``coordinates``."""
        return self.last(self.layers(self.encoding(coordinates)))

    @torch.no_grad()
    def enhance(self, *, low: float, high: float, size: int, threshold: float = 0.02) -> Int[Tensor, "k dims"]:
        """Add tokens of the frequencies that the network's values have now, still held back; those frequencies in turns
        across the domain.

        The values are taken at ``size`` points a side of the square domain from ``low`` to ``high``, whose sides they
        take for one period: it suits functions that are periodic in it. The paper has 4096 points of an interval.
        """
        dims = self.layers.dims
        axis = low + (high - low) * torch.arange(size).to(self.encoding.found) / size
        points = torch.stack(torch.meshgrid(*[axis] * dims, indexing="ij"), dim=-1).flatten(0, -2)
        values = torch.cat([self(part) for part in points.split(2**15)])
        modes = dominant_modes(values.reshape(*[size] * dims, -1), threshold=threshold)
        self.encoding.enhance(2 * math.pi / (high - low) * modes.to(self.encoding.found))
        self.layers.release.zero_()
        return modes

    def release_at(self, share: float) -> None:
        """Weigh the added tokens as at ``share``, from 0 to 1, of the second stage."""
        self.layers.release.fill_(release_weight(share))


def release_weight(share: float) -> float:
    """Weight of the added tokens at ``share`` of the second stage: (e^eta - e^-6) / (1 - e^-6), where eta is -6 for the
    first 70 %, and goes to 0 by a cosine from there.

    The paper's weight is e^eta. Ours is our choice: logits of a trained network can outweigh -6, so that tokens would
    act before their release, and this begins at 0 exactly.
    """
    way = min(max((share - HELD_SHARE) / (1 - HELD_SHARE), 0.0), 1.0)
    eta = HELD * (1 + math.cos(math.pi * way)) / 2
    return math.expm1(eta - HELD) / math.expm1(-HELD)


def dominant_modes(values: Float[Tensor, "*grid c"], *, threshold: float) -> Int[Tensor, "k dims"]:
    """Frequencies, in turns across the grid, whose Fourier coefficient exceeds ``threshold`` times the strongest.

    Real values have a frequency and its negative alike; the one whose last number other than 0 is positive is given.
    The mean is no frequency (our choice). Of several channels the strongest counts. The lowest come first.

    Raises:
        ValueError: the threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold}: the share of the strongest frequency lies between 0 and 1")
    dims = values.dim() - 1
    strength = torch.fft.fftn(values.double(), dim=tuple(range(dims))).abs().amax(dim=-1)
    axes = [torch.fft.fftfreq(size, 1 / size).round().long() for size in values.shape[:-1]]
    modes = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2).to(values.device)
    # The sign of the last number that is not 0: each counts more than all before it
    places = (2 * max(values.shape[:-1])) ** torch.arange(dims, device=values.device)
    half = (modes * places).sum(dim=-1) > 0
    modes, strength = modes[half], strength.flatten()[half]
    if not strength.numel() or strength.max() <= 0:
        return modes[:0]
    chosen = modes[strength > threshold * strength.max()]
    return chosen[chosen.double().norm(dim=-1).argsort(stable=True)]

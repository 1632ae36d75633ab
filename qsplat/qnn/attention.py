"""A head that attends to waves of the queries (RFF-CA) where a QNN has convolutions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qsplat.frequency_tokens import AttentionBlock, TokenBank, Tokens

PIECE = 2**16
"""Samples at once: an image of more is computed in pieces, whose inner values are not kept but computed again for the
gradient."""


class AttentionStages(nn.Module):
    """One convolution makes the query of each sample from the signal and the queries around it, and ``depth`` blocks
    let it attend to the waves at the sample's own queries; a linear layer ends them, which is zero at birth.

    The convolution sees ``reach`` samples on each side, as many as the convolutions whose place this takes. All that
    follows is local: a residual depends on the signal within the reach, and nothing else. A head has an image to begin
    with where a network of coordinates has none, so that its query is made of what is seen (NN-CA) and not of waves.
    That a head is made of this attention is our choice: Feng et al. 2025 (arXiv 2512.18586) have networks of
    coordinates.
    """

    def __init__(
        self, inputs: int, outputs: int, tokens: Tokens, *, queries: int, dims: int, width: int, depth: int, reach: int
    ) -> None:
        """``queries`` are the channels that waves are made of, ``dims`` the dimensions of the signal."""
        super().__init__()
        tokens.check(width)
        self.width = width
        kind = nn.Conv2d if dims == 2 else nn.Conv1d
        self.first = kind(inputs, width, 2 * reach + 1, padding=reach)
        self.bank = TokenBank(queries, tokens)
        self.blocks = nn.ModuleList(AttentionBlock(width, tokens.heads) for _ in range(depth))
        self.last = nn.Linear(width, outputs)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, seen: Float[Tensor, "b c *space"], queries: Float[Tensor, "#b d *space"]
    ) -> Float[Tensor, "b o *space"]:
        """The residual from what is ``seen``, signal and encoded queries, and the ``queries`` as they are."""
        begun = self.first(seen).movedim(1, -1)
        shape = begun.shape[:-1]
        told = queries.movedim(1, -1).expand(*shape, queries.shape[1])
        points = begun.reshape(-1, self.width), told.reshape(-1, queries.shape[1])
        pieces = list(zip(*(values.split(PIECE) for values in points), strict=True))
        if len(pieces) > 1 and torch.is_grad_enabled():
            values = [checkpoint(self._values, *piece, use_reentrant=False) for piece in pieces]
        else:
            values = [self._values(*piece) for piece in pieces]
        return torch.cat(values).unflatten(0, shape).movedim(-1, 1)

    def _values(self, query: Float[Tensor, "n w"], coordinates: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        # Waves need their angles in full precision: bfloat16 tells only 256 coordinates apart
        with torch.autocast(query.device.type, enabled=False):
            waves = self.bank(coordinates.to(self.bank.frequencies))
        tokens = waves.to(query).unflatten(-1, (-1, self.width))
        for block in self.blocks:
            query = block(query, tokens)
        return self.last(query)

"""The queried-convolution network (QNN): a residual CNN over a signal and the coordinates of its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qsplat.encodings import Encoding, Identity, encoder, encoding_of
from qsplat.frequency_tokens import Tokens, tokens_of
from qsplat.precision import Precision, uses_bfloat16
from qsplat.qnn.attention import AttentionStages
from qsplat.qnn.convolutions import Convolution, Standard, convolution, convolution_of
from qsplat.qnn.queries import Queries, QueryKind, queries_of

Input = Literal["both", "render", "queries"]
Activation = Literal["relu", "leaky_relu"]
Architecture = Literal["cnn", "rffca"]

LEAK = 0.1
"""Slope of a leaky ReLU below zero."""


@dataclass(frozen=True)
class QnnConfig:
    """Shape and arithmetic of a QNN.

    Args:
        layers: number of convolutions, or of blocks of attention.
        channels: hidden channels.
        kernel: samples a side of a convolution.
        precision: arithmetic of the convolutions: ``auto`` takes bfloat16 where the processor multiplies it faster than
            float32, and float32 elsewhere.
        dims: dimensions of the signal.
        input: what the network sees: the signal (an image: the render), the queries, or both. Its output is added to
            the signal in any case.
        query: what it is told about the pixels of an image: their coordinates, the world locations of the surface, or
            their rays.
        encoding: what the queries go through first.
        activation: between two convolutions; ``leaky_relu`` has a slope of 0.1 below zero.
        convolution: what the convolutions between the first and the last one are. Those two are always standard: the
            first sees few channels, and the last is zero at birth.
        architecture: convolutions, or attention to waves of the queries (``AttentionStages``) that sees as much of the
            signal as so many convolutions of that kernel.
        tokens: the waves that attention has.

    Raises:
        ValueError: a size the network cannot have, a name that is none, or options that contradict each other.
    """

    layers: int = 4
    channels: int = 64
    kernel: int = 3
    precision: Precision = "auto"
    dims: Literal[1, 2] = 2
    input: Input = "both"
    query: QueryKind = "pixels"
    encoding: Encoding = field(default_factory=Identity)
    activation: Activation = "relu"
    convolution: Convolution = field(default_factory=Standard)
    architecture: Architecture = "cnn"
    tokens: Tokens = field(default_factory=lambda: Tokens(query="coordinates"))

    def __post_init__(self) -> None:
        if self.layers < 1 or self.channels < 1:
            raise ValueError(f"layers={self.layers}, channels={self.channels}: a QNN needs at least one of each")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel}: choose an odd size, so that the network keeps the signal's size")
        choices = {
            "precision": Precision,
            "input": Input,
            "query": QueryKind,
            "activation": Activation,
            "architecture": Architecture,
        }
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(get_args(choice))}")
        if not isinstance(self.encoding, Encoding):
            raise ValueError(f"encoding={self.encoding!r}: give one of qsplat.encodings")
        if self.dims == 1 and self.query != "pixels":
            raise ValueError(f"query={self.query!r} with dims=1: only the pixels of images have {self.query}")
        if self.input == "render" and (self.query, self.encoding) != ("pixels", Identity()):
            raise ValueError(
                f"query={self.query!r} and encoding={self.encoding.kind!r} with input='render': a network that sees "
                "the render alone has no queries; choose input='both' or leave the queries as they are"
            )
        if not isinstance(self.convolution, Convolution):
            raise ValueError(f"convolution={self.convolution!r}: give one of qsplat.qnn.convolutions")
        if self.layers < 3 and not isinstance(self.convolution, Standard):
            raise ValueError(
                f"layers={self.layers} with {type(self.convolution).__name__}: it takes the place of the convolutions "
                "between the first and the last one; give at least 3 layers"
            )
        self.convolution.check(kernel=self.kernel, dims=self.dims, channels=self.channels)
        if self.architecture == "rffca":
            self._check_attention()

    def _check_attention(self) -> None:
        self.tokens.check(self.channels)
        if self.tokens.query != "coordinates":
            raise ValueError(
                f"tokens.query={self.tokens.query!r}: the attention of a head begins with what it sees; give "
                "'coordinates'"
            )
        if self.input == "render":
            raise ValueError(
                "input='render' with architecture='rffca': attention needs queries; choose both or queries"
            )
        if not isinstance(self.convolution, Standard) or self.activation != "relu":
            raise ValueError(
                f"convolution={self.convolution.kind!r}, activation={self.activation!r} with architecture='rffca': "
                "they are of convolutions; leave them at standard and relu"
            )

    @property
    def halo(self) -> int | None:
        """Number of samples on each side of a sample that the residual depends on; None where it is all of them."""
        reach = self.convolution.reach(self.kernel)
        hidden = max(0, self.layers - 2)
        return None if reach is None else (self.layers - hidden) * (self.kernel // 2) + hidden * reach

    @staticmethod
    def of(description: Mapping[str, Any]) -> QnnConfig:
        """The configuration that ``dataclasses.asdict`` made ``description`` of; what is missing has its default.

        Raises:
            KeyError, TypeError, ValueError: it describes none.
        """
        values = dict(description)
        if "encoding" in values:
            values["encoding"] = encoding_of(values["encoding"])
        if "convolution" in values:
            values["convolution"] = convolution_of(values["convolution"])
        if "tokens" in values:
            values["tokens"] = tokens_of(values["tokens"])
        return QnnConfig(**values)


class QNN(nn.Module):
    """Residual of a signal from the signal itself and the coordinates of its samples.

    f(x, q) = Conv(ReLU(... Conv(x (+) g(q)))), zero-padded convolutions, encoded coordinates concatenated as channels.
    Attention may follow a larger first convolution in place of the others. The last layer starts at zero, so that a new
    network leaves the signal as it is. With the default configuration and RGB images it has 78,531 parameters and sees
    9x9 pixels.

    ``queries`` is what the network is told about the pixels of an image, None for signals of one dimension. It is part
    of the network's state where it is a module.

    Source: Kumar et al. 2025, Qonvolution (arXiv 2512.12898), section 4. The initialisation, the padding and the
    coordinate range are not stated there and are our choice: PyTorch's defaults, zeros, and [-1, 1].
    """

    def __init__(
        self,
        config: QnnConfig | None = None,
        *,
        signal_channels: int = 3,
        output_channels: int | None = None,
        queries: Queries | None = None,
    ) -> None:
        """A new network for ``signal_channels`` channels that gives as many, or ``output_channels``; ``queries`` of any
        number of channels may take the place of those that ``config`` names."""
        super().__init__()
        self.config = config = config or QnnConfig()
        self.signal_channels = signal_channels
        self.queries: Queries | None = queries or (queries_of(config.query) if config.dims == 2 else None)
        self.encoder = encoder(config.encoding, config.dims if self.queries is None else self.queries.channels)
        seen = {
            "both": signal_channels + self.encoder.channels,
            "render": signal_channels,
            "queries": self.encoder.channels,
        }
        outputs = output_channels or signal_channels
        self.stages: nn.Module
        match config.architecture:
            case "cnn":
                self.stages = _convolutions(config, seen[config.input], outputs)
            case "rffca":
                reach = config.halo
                assert reach is not None
                self.stages = AttentionStages(
                    seen[config.input],
                    outputs,
                    config.tokens,
                    queries=self.encoder.dims,
                    dims=config.dims,
                    width=config.channels,
                    depth=config.layers,
                    reach=reach,
                )
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @property
    def halo(self) -> int | None:
        """Number of samples on each side of a sample that its residual depends on; None where it is all of them."""
        return self.config.halo

    @property
    def reads_queries(self) -> bool:
        """Whether the residual depends on queries at all."""
        return self.config.input != "render"

    def forward(
        self, signal: Float[Tensor, "b c *space"], queries: Float[Tensor, "#b d *space"] | None
    ) -> Float[Tensor, "b o *space"]:
        """The residual to add to ``signal``, given the ``queries`` of its samples, such as coordinates in [-1, 1]; they
        may be None where the network does not read them."""
        seen = [signal] if self.config.input != "queries" else []
        if self.reads_queries:
            assert queries is not None
            encoded = self.encoder(queries.movedim(1, -1)).movedim(-1, 1)
            seen.append(encoded.expand(signal.shape[0], *encoded.shape[1:]))
        half = uses_bfloat16(self.config.precision, signal.device)
        with torch.autocast(signal.device.type, dtype=torch.bfloat16, enabled=half):
            told = (queries,) if isinstance(self.stages, AttentionStages) else ()
            residual = self.stages(torch.cat(seen, dim=1), *told)
        return residual.to(signal.dtype)


def _convolutions(config: QnnConfig, inputs: int, outputs: int) -> nn.Sequential:
    """The convolutions and what is between them; the last one is zero."""
    widths = [inputs, *[config.channels] * (config.layers - 1), outputs]
    stages: list[nn.Module] = []
    for layer, (width, following) in enumerate(pairwise(widths)):
        chosen = config.convolution if 0 < layer < config.layers - 1 else Standard()
        stages.append(convolution(chosen, width, following, kernel=config.kernel, dims=config.dims))
        stages.append(nn.ReLU() if config.activation == "relu" else nn.LeakyReLU(LEAK))
    for parameter in stages[-2].parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*stages[:-1])

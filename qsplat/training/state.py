"""A training in the middle of its run as named tensors and plain values, to be copied or written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

STATE_FORMAT = "qsplat-training-1"
"""Names the layout of ``TrainingState`` in files."""


@dataclass(frozen=True)
class TrainingState:
    """``tensors``, none of which is shared with the training that they were taken from, and ``facts``, which JSON can
    hold."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Copies of the tensors whose names begin with ``prefix``, without it."""
        return {
            name.removeprefix(prefix): value.clone() for name, value in self.tensors.items() if name.startswith(prefix)
        }


def moments_of(optimizer: Optimizer, parameters: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """What ``optimizer`` remembers of ``parameters``, as "name.what": nothing before its first step."""
    return {
        f"{name}.{what}": value
        for name, parameter in parameters.items()
        for what, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(optimizer: Optimizer, parameters: Mapping[str, Parameter], moments: Mapping[str, Tensor]) -> None:
    """Make ``optimizer`` remember ``moments`` of ``parameters``.

    They get the layout in memory of their parameters, which the fused step takes for granted.
    """
    for name, value in moments.items():
        owner, what = name.rsplit(".", 1)
        parameter = parameters[owner]
        like = parameter if value.shape == parameter.shape else value.to(parameter.device)
        optimizer.state[parameter][what] = torch.empty_like(like, requires_grad=False).copy_(value)


def split_state(values: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors among ``values``, and the rest."""
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in values.items() if name not in tensors}


def detached_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in memory of their own, without gradients."""
    return {name: value.detach().clone() for name, value in tensors.items()}

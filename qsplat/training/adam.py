"""Adam without torch's compiler."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import Adam as TorchAdam


class Adam(TorchAdam):
    """``torch.optim.Adam`` that does not import ``torch._dynamo``: the same in every value and in its state. Its steps
    cannot be differentiated.

    torch's own imports it, and sympy with it, when the first one is built: its methods are wrapped so that the compiler
    leaves them alone. That takes seconds. Where nothing is compiled they work without the wrap.
    """

    add_param_group = unwrap(TorchAdam.add_param_group)
    zero_grad = unwrap(TorchAdam.zero_grad)
    state_dict = unwrap(TorchAdam.state_dict)
    load_state_dict = unwrap(TorchAdam.load_state_dict)
    step = torch.no_grad()(unwrap(TorchAdam.step))

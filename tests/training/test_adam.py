"""The optimiser that leaves torch's compiler alone, against torch's own."""

import pytest
import torch
from torch.nn import Parameter, ParameterDict

from qsplat.training.adam import Adam
from qsplat.training.strategies import replace_parameters

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


class Descent:
    """Parameters of different sizes that optimisers of ``kind`` move along gradients drawn from a seed."""

    def __init__(self, kind: type[torch.optim.Adam], device: str) -> None:
        self.generator = torch.Generator().manual_seed(3)
        shapes = {"means": (700, 3), "opacities": (700, 1), "rest": (700, 15, 3)}
        self.parameters = ParameterDict({name: Parameter(self.random(*shape)) for name, shape in shapes.items()})
        self.parameters.to(device)
        self.optimizers = {
            name: kind([value], lr=1e-2, eps=1e-15, fused=True) for name, value in self.parameters.items()
        }

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator)

    def walk(self, steps: int, *, without: str | None = None) -> None:
        for step in range(steps):
            for name, value in self.parameters.items():
                value.grad = None if name == without else self.random(*value.shape).to(value)
            for optimizer in self.optimizers.values():
                optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)
                optimizer.step()
                optimizer.zero_grad()

    def densify(self) -> None:
        """Drop the first hundred rows and append fifty new ones, whose moments are zero."""
        new = {name: self.random(50, *value.shape[1:]).to(value) for name, value in self.parameters.items()}
        replace_parameters(
            lambda name, value: Parameter(torch.cat([value.detach()[100:], new[name]])),
            lambda _, moment: torch.cat([moment[100:], moment.new_zeros(50, *moment.shape[1:])]),
            self.parameters,
            self.optimizers,
        )


def assert_equal_bit_for_bit(ours: Descent, theirs: Descent) -> None:
    for name, value in theirs.parameters.items():
        assert torch.equal(ours.parameters[name], value), name
        found, expected = (run.optimizers[name].state[run.parameters[name]] for run in (ours, theirs))
        assert list(found) == list(expected) == ["step", "exp_avg", "exp_avg_sq"]
        for key, moment in expected.items():
            assert found[key].dtype == moment.dtype
            assert found[key].device == moment.device
            assert torch.equal(found[key], moment), (name, key)


@pytest.mark.parametrize("device", DEVICES)
def test_every_value_is_that_of_torch_also_after_densification(device):
    ours, theirs = Descent(Adam, device), Descent(torch.optim.Adam, device)
    for run in (ours, theirs):
        run.walk(4)
        run.walk(2, without="rest")
        run.densify()
        run.walk(4)
    assert_equal_bit_for_bit(ours, theirs)


@pytest.mark.parametrize(("first", "second"), [(Adam, torch.optim.Adam), (torch.optim.Adam, Adam)])
def test_a_run_is_continued_by_either_from_the_state_of_the_other(first, second):
    through, whole = Descent(first, "cpu"), Descent(first, "cpu")
    through.walk(3)
    whole.walk(3)
    saved = {name: optimizer.state_dict() for name, optimizer in through.optimizers.items()}
    through.optimizers = {name: second([value], fused=True) for name, value in through.parameters.items()}
    for name, optimizer in through.optimizers.items():
        optimizer.load_state_dict(saved[name])
        assert optimizer.param_groups[0]["eps"] == 1e-15
    through.walk(3)
    whole.walk(3)
    assert_equal_bit_for_bit(through, whole)


def test_hooks_run_and_a_closure_has_gradients():
    value, seen = Parameter(torch.ones(2)), []
    optimizer = Adam([value], lr=0.1, fused=True)
    optimizer.register_step_post_hook(lambda *_: seen.append(value.detach().clone()))

    def closure() -> torch.Tensor:
        loss = value.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2
    assert torch.equal(seen[0], value)
    assert torch.all(value < 1)

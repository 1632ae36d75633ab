"""The moving parts of one training: Gaussians, head, their optimisers, and what densifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from torch import Tensor

from qsplat.cameras import Camera
from qsplat.gaussians import Gaussians
from qsplat.qnn import QNN
from qsplat.qnn.queries import PlacedQueries
from qsplat.training.averaging import Averager
from qsplat.training.config import FitConfig
from qsplat.training.densification import Densifier
from qsplat.training.model import ViewOutputs
from qsplat.training.optimizers import gaussian_optimizers, optimizer_for, set_rates
from qsplat.training.parameters import gaussians_of, parameters_of
from qsplat.training.randomness import Randomness
from qsplat.training.schedule import Schedule
from qsplat.training.state import TrainingState, moments_of, restore_moments, split_state


class Parts:
    """What the steps of a training move."""

    def __init__(self, config: FitConfig, schedule: Schedule, gaussians: Gaussians, *, num_views: int) -> None:
        self.config, self.schedule = config, schedule
        self.parameters = parameters_of(gaussians.to(config.device))
        self.optimizers = gaussian_optimizers(self.parameters)
        # Drawn from a state of its own, so that the steps before the switch-on are the same with a head as without.
        with Randomness(config.seed, config.device).in_use():
            self.head = QNN(config.head).to(config.device) if config.head else None
        if self.head is not None:
            self.optimizers["qnn"] = optimizer_for("qnn", self.head.parameters())
        self._switched_on = False
        self._densifier = (
            Densifier(config.densification, schedule, num_views=num_views) if config.densification else None
        )
        self._averager = Averager(config.average_share, schedule)

    @property
    def gaussians(self) -> Gaussians:
        """Made of the parameters, with gradients to them."""
        return gaussians_of(self.parameters)

    def switch_on(self, cameras: Sequence[Camera]) -> None:
        """Tell a new head where the scene is that ``cameras`` see; once."""
        if not self._switched_on and self.head is not None and isinstance(self.head.queries, PlacedQueries):
            self.head.queries.place(cameras, self.gaussians.means)
        self._switched_on = True

    def move(self, step: int, view: ViewOutputs, camera: Camera) -> None:
        """Let the optimisers and the densifier act on the gradients of ``view``; what has none stays as it is. After
        the last step the mean of the Gaussians takes their place, if there is to be one."""
        set_rates(self.optimizers, step, self.schedule)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._densifier is not None:
            self._densifier.after_backward(
                self.parameters,
                self.optimizers,
                step=step,
                trace=view.trace,
                camera=camera,
                learning_rate=self.optimizers["means"].param_groups[0]["lr"],
            )
        self._averager.after_step(self.parameters, step=step)

    def state(self) -> TrainingState:
        """The parts as they are; the tensors are the parts' own."""
        tensors: dict[str, Tensor] = {f"gaussians.{name}": value for name, value in self.parameters.items()}
        for name, parameter in self.parameters.items():
            moments = moments_of(self.optimizers[name], {name: parameter})
            tensors |= {f"moments.{key}": value for key, value in moments.items()}
        if self.head is not None:
            tensors |= {f"head.{name}": value for name, value in self.head.state_dict().items()}
            moments = moments_of(self.optimizers["qnn"], dict(self.head.named_parameters()))
            tensors |= {f"head moments.{key}": value for key, value in moments.items()}
        remembered, plain = split_state(self._densifier.state if self._densifier else {})
        tensors |= {f"densifier.{name}": value for name, value in remembered.items()}
        tensors |= {f"average.{name}": value for name, value in self._averager.state.items()}
        facts = {
            "head": asdict(self.config.head) if self.config.head else None,
            "switched on": self._switched_on,
            "densification": type(self.config.densification).__name__,
            "densifier": plain,
        }
        return TrainingState(tensors, facts)

    def restore(self, state: TrainingState) -> None:
        """Take over what belongs to the Gaussians of ``state``, which these parts were made with: a head of the same
        configuration, and the memory of a densification of the same kind."""
        facts, config = state.facts, self.config
        for name, parameter in self.parameters.items():
            moments = {f"{name}.{key}": value for key, value in state.named(f"moments.{name}.").items()}
            restore_moments(self.optimizers[name], {name: parameter}, moments)
        if self.head is not None and config.head is not None and facts["head"] == asdict(config.head):
            self.head.load_state_dict(state.named("head."))
            restore_moments(self.optimizers["qnn"], dict(self.head.named_parameters()), state.named("head moments."))
            self._switched_on = facts["switched on"]
        if self._densifier is not None and facts["densification"] == type(config.densification).__name__:
            remembered = {name: value.to(config.device) for name, value in state.named("densifier.").items()}
            self._densifier.state = {**facts["densifier"], **remembered}
        self._averager.state = {name: value.to(config.device) for name, value in state.named("average.").items()}

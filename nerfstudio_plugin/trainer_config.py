"""nerfstudio's trainer options with refusals in a sentence and a viewer that only this machine reaches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig

from nerfstudio_plugin.capture_record import FILE_NAME
from nerfstudio_plugin.refusals import check_checkpoint, in_one_sentence, newest_checkpoint, step_of


@dataclass
class RunLengthDecayConfig(ExponentialDecaySchedulerConfig):
    """nerfstudio's exponential decay over the length of the run, after a warm-up of a thirtieth of it.

    Both are so where they are 0; at 30000 iterations they are splatfacto's.
    """

    max_steps: int = 0
    warmup_steps: int = 0
    lr_pre_warmup: float = 0.0


@dataclass
class QsplatTrainerConfig(TrainerConfig):
    """Options of a run."""

    def setup(self, **arguments: Any) -> Any:
        """The trainer. Options and a checkpoint to resume from are checked, the schedulers of
        ``RunLengthDecayConfig`` get the run's length, and the datamanager where to write down the capture.

        Raises:
            SystemExit: an option has a value that it cannot have, or the checkpoint cannot be loaded.
        """
        resumed = self._checkpoint_to_resume()
        model: Any = self.pipeline.model
        with in_one_sentence():
            if self.max_num_iterations < 1:
                raise ValueError(f"--max-num-iterations {self.max_num_iterations}: a run has at least 1")
            model.check(self.max_num_iterations, resumed=resumed is not None)
        last = self.max_num_iterations
        if resumed is not None:
            check_checkpoint(resumed)
            last += step_of(resumed) + 1
            if self.load_dir is not None:
                self.load_step = step_of(resumed)
        self.optimizers = {name: _fitted_to_run(group, last) for name, group in self.optimizers.items()}
        self._datamanager.record = self.get_base_dir() / FILE_NAME
        return super().setup(**arguments)

    @property
    def _datamanager(self) -> Any:
        return self.pipeline.datamanager

    def _checkpoint_to_resume(self) -> Path | None:
        if self.load_dir is None:
            return self.load_checkpoint
        if self.load_step is not None:
            return self.load_dir / f"step-{self.load_step:09d}.ckpt"
        return newest_checkpoint(self.load_dir) or self.load_dir / "step-000000000.ckpt"

    def get_checkpoint_dir(self) -> Path:
        """Where the checkpoints of this run are. The newest is checked, because ns-eval and the others load it next."""
        folder = super().get_checkpoint_dir()
        newest = newest_checkpoint(folder)
        if newest is not None:
            check_checkpoint(newest)
        return folder

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option, as the commands do with those of a finished run.

        When ns-viewer replaces the viewer options by its own defaults, which listen on all interfaces, the run's host
        stays. When a folder of checkpoints is set, its newest is chosen, because nerfstudio would choose by the names
        of all the files in it, and fail at those that it did not give; and the record of the capture is the one of the
        run whose ``relative_model_dir`` that is.
        """
        if name == "viewer" and "viewer" in self.__dict__ and value.websocket_host == ViewerConfig().websocket_host:
            value.websocket_host = self.viewer.websocket_host
        if name == "load_dir" and "load_dir" in self.__dict__ and value is not None:
            newest = newest_checkpoint(value)
            self.load_step = None if newest is None else step_of(newest)
            run = value
            for _ in self.relative_model_dir.parts:
                run = run.parent
            self._datamanager.record = run / FILE_NAME
        super().__setattr__(name, value)


def _fitted_to_run(group: dict[str, Any], iterations: int) -> dict[str, Any]:
    scheduler = group["scheduler"]
    if not isinstance(scheduler, RunLengthDecayConfig):
        return group
    warmup = scheduler.warmup_steps or max(1, iterations // 30)
    return {**group, "scheduler": replace(scheduler, max_steps=scheduler.max_steps or iterations, warmup_steps=warmup)}

"""nerfstudio's trainer options with refusals in a sentence and a viewer that only this machine reaches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.engine.trainer import TrainerConfig

from nerfstudio_plugin.refusals import check_checkpoint, newest_checkpoint


@dataclass
class QsplatTrainerConfig(TrainerConfig):
    """Options of a run."""

    def setup(self, **arguments: Any) -> Any:
        """The trainer. A checkpoint to resume from is checked first."""
        if self.load_dir is not None:
            step = self.load_step
            found = newest_checkpoint(self.load_dir) if step is None else self.load_dir / f"step-{step:09d}.ckpt"
            check_checkpoint(found or self.load_dir / "step-*.ckpt")
        elif self.load_checkpoint is not None:
            check_checkpoint(self.load_checkpoint)
        return super().setup(**arguments)

    def get_checkpoint_dir(self) -> Path:
        """Where the checkpoints of this run are. The newest is checked, because ns-eval and the others load it next."""
        folder = super().get_checkpoint_dir()
        newest = newest_checkpoint(folder)
        if newest is not None:
            check_checkpoint(newest)
        return folder

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option. When ns-viewer replaces the run's viewer options by its own defaults, which listen on all
        interfaces, the run's host stays."""
        if name == "viewer" and "viewer" in self.__dict__ and value.websocket_host == ViewerConfig().websocket_host:
            value.websocket_host = self.viewer.websocket_host
        super().__setattr__(name, value)

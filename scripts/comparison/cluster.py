"""Runs spread over a Ray cluster."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from comparison.plan import Run
from scripts.experiments.workers import Finished, reason_of

LOCAL = "local"
RETRIES = 3
"""How often a run begins anew where its process or machine is lost."""

Train = Callable[[Run], dict[str, Any]]
Outcome = tuple[dict[str, Any] | None, str | None, float]
"""A row, or why there is none, and the seconds that it took."""


def spread(
    runs: Sequence[Run], train: Train, address: str, *, at_once: int | None = None
) -> Iterator[tuple[Finished[Run], dict[str, Any] | None]]:
    """Let the machines of the cluster at ``address`` ``train`` the ``runs``, one on each of their processors, and say
    of each that it is over, with its row if there is one.

    ``local`` starts a cluster of ``at_once`` processes on this machine (2 when None), which ends with the runs;
    elsewhere ``at_once`` is how many runs there are at the same time, as many as there is room for when None. A run
    whose process is killed, or whose machine is lost, begins anew elsewhere.

    Raises:
        ValueError: Ray is not installed, or no cluster answers.
    """
    if find_spec("ray") is None:
        raise ValueError('--ray: Ray is not installed here: pip install -e ".[scale]"')
    ray = _connected(address, at_once)
    pending = dict[Any, Run]()
    try:
        perform = ray.remote(num_cpus=1, max_retries=RETRIES)(_perform)
        waiting = list(runs)
        limit = len(runs) if address == LOCAL or at_once is None else at_once
        while waiting or pending:
            while waiting and len(pending) < limit:
                run = waiting.pop(0)
                pending[perform.remote(train, run)] = run
            (over, *_), _ = ray.wait(list(pending))
            run = pending.pop(over)
            try:
                row, failure, seconds = ray.get(over)
            except ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[0]
                row, failure, seconds = None, f"lost {RETRIES + 1} times ({type(error).__name__}: {said})", 0.0
            yield Finished(run, failure, seconds), row
    finally:
        for left in pending:
            ray.cancel(left, force=True)
        ray.shutdown()


def _connected(address: str, at_once: int | None) -> Any:
    """Ray, which reads the environment when it is imported, once it has found its cluster."""
    # Ray reports its use to its makers unless it is told not to.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        # What Ray calls a cluster is reachable from other machines; without one it listens on 127.0.0.1 alone.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    # Programs are found by their path here; the workers have another one.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    settings: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}, "log_to_driver": False}
    settings["logging_level"] = "ERROR"
    if address == LOCAL:
        patience = {"agent_register_timeout_ms": 60_000}  # of Ray with its own processes on a busy machine
        settings |= {"num_cpus": at_once or 2, "include_dashboard": False, "_system_config": patience}
    try:
        _knock(address)
        ray.init(address, **settings)
    except Exception as error:
        said = " ".join(str(error).split())
        remedy = "try again when the machine is less busy" if address == LOCAL else "start one with 'ray start --head'"
        raise ValueError(f"--ray {address}: no Ray cluster answers ({said}): {remedy}") from None
    return ray


def _knock(address: str) -> None:
    """See whether anything listens at HOST:PORT, for which Ray would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=20).close()


def _perform(train: Train, run: Run) -> Outcome:
    began = time.perf_counter()
    try:
        row = train(run)
    except Exception as error:
        return None, reason_of(error), time.perf_counter() - began
    return row, None, time.perf_counter() - began

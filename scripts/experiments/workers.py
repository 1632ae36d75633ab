"""Jobs that depend on each other, done by a number of processes. A job that fails takes down those that need it, and no
others; neither does a process that is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Generic, Protocol, TypeVar


class Job(Protocol):
    """Something to do once those with the keys ``needs`` are done; keys that no job has count as done."""

    @property
    def key(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Finished(Generic[J]):
    """A job that is over, why it failed if it did, and the seconds it took."""

    job: J
    failure: str | None
    seconds: float


def work_off(jobs: Sequence[J], do: Callable[[J], object], count: int) -> Iterator[Finished[J]]:
    """Let ``count`` processes ``do`` the ``jobs``, each when its needs are met, and say of each that it is over.

    ``do`` is a function that another process can import. Where the caller stops listening, or is interrupted, jobs in
    flight are broken off.
    """
    waiting, failures = list(jobs), dict[str, str]()
    idle, busy = list[_Worker[J]](), dict[Connection, _Worker[J]]()
    try:
        while waiting or busy:
            while job := next((job for job in waiting if failures.keys() & set(job.needs)), None):
                waiting.remove(job)
                failures[job.key] = next(failures[key] for key in job.needs if key in failures)
                yield Finished(job, f"what it builds on failed ({failures[job.key]})", 0.0)
            pending = {job.key for job in waiting} | {worker.job.key for worker in busy.values() if worker.job}
            for job in [job for job in waiting if not pending & set(job.needs)][: count - len(busy)]:
                waiting.remove(job)
                worker = idle.pop() if idle else _Worker(do)
                worker.begin(job)
                busy[worker.connection] = worker
            for connection in wait(list(busy)) if busy else []:
                assert isinstance(connection, Connection)
                worker = busy.pop(connection)
                finished, alive = worker.end()
                idle += [worker] if alive else []
                if finished.failure is not None:
                    failures[finished.job.key] = finished.failure
                yield finished
    finally:
        for worker in (*idle, *busy.values()):
            worker.stop()


class _Worker(Generic[J]):
    """A process that does one job after the other."""

    def __init__(self, do: Callable[[J], object]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(do, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.job: J | None = None
        self._began = 0.0

    def begin(self, job: J) -> None:
        self.job, self._began = job, time.perf_counter()
        self.connection.send(job)

    def end(self) -> tuple[Finished[J], bool]:
        """What became of the job, and whether the process is ready for another one."""
        assert self.job is not None
        alive = True
        try:
            failure = self.connection.recv()
        except EOFError:
            self.process.join()
            failure, alive = f"its process ended with status {self.process.exitcode}", False
        finished = Finished(self.job, failure, time.perf_counter() - self._began)
        self.job = None
        return finished, alive

    def stop(self) -> None:
        """End the process, now if it is at work."""
        if self.job is None:
            with suppress(BrokenPipeError):
                self.connection.send(None)
        elif self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)
        self.process.join(10)
        self.process.kill()


def _serve(do: Callable[[J], object], connection: Connection) -> None:
    """What the process does: jobs, until there are no more, it is interrupted, or the process that began it is gone."""
    Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    with suppress(KeyboardInterrupt, EOFError):
        while (job := connection.recv()) is not None:
            connection.send(_failure(do, job))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _failure(do: Callable[[J], object], job: J) -> str | None:
    """Do ``job``; None, or why that failed."""
    try:
        do(job)
    except Exception as error:
        return reason_of(error)
    return None


def reason_of(error: Exception) -> str:
    """Why a job failed, in one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, ValueError) and said else f"{type(error).__name__}: {said}"

"""Which runs an experiment is made of, what each builds on, and the settings that name it in the cache.

Runs of one cell (scene, hold-out, seed, budget) share one training without a head: the reference goes on with it to
the end, heads branch off from it at their switch-on, and all see the photos in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ablation_cache import Cache, key_of
from ablation_variants import AVERAGE_SHARE, REFERENCE, VARIANTS, Headed, Plain, Plus, Variant
from captures import Capture
from holdouts import HoldOut

NAMING = {"name", "group", "sentence", "time_of", "like", "start"}
"""Fields of a variant that are no settings of its run."""
WHERE_GIVEN = {"averaged", "on", "unseen", "weighed", "features", "covered", "trust"}
"""Those that are among the settings only where they make a difference."""


@dataclass(frozen=True)
class Cell:
    """What is the same in runs that are compared: ``iterations`` without a head, ``gaussians`` at most, and
    ``head_iterations`` in which a head learns, the last ones of a joint training or further ones, or plain splatting
    goes on. Every ``unseen``-th training photo is left out, none where that is 0. What was learnt is filmed in ``film``
    frames, if there are any."""

    capture: Capture
    hold_out: HoldOut
    seed: int
    iterations: int
    head_iterations: int
    gaussians: int
    unseen: int = 0
    film: int = 0

    def settings(self) -> dict[str, Any]:
        """What the training without a head depends on."""
        return {
            "scene": self.capture.settings(),
            "hold_out": self.hold_out,
            "seed": self.seed,
            "iterations": self.iterations,
            "gaussians": self.gaussians,
            **({"unseen": self.unseen} if self.unseen else {}),
        }


@dataclass(frozen=True)
class State:
    """Training without a head up to ``step``, ``averaged`` or not; ``needs`` names the state of an earlier step, if
    there is one."""

    cell: Cell
    step: int
    needs: tuple[str, ...] = ()
    averaged: bool = False

    @property
    def key(self) -> str:
        return state_key(self.cell, self.step, averaged=self.averaged)


@dataclass(frozen=True)
class Run:
    """A variant in a cell. It goes on from the state ``base``; a run that gets another one's time has no base, but
    ``spenders``, the keys of the reference and of that other run."""

    cell: Cell
    variant: Variant
    base: str | None = None
    spenders: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return (*self.spenders, *([self.base] if self.base else []))

    @property
    def key(self) -> str:
        own = _own_settings(self.cell, self.variant)
        return key_of({**self.cell.settings(), **own, **filming(self.cell), "spenders": self.spenders})


def state_key(cell: Cell, step: int, *, averaged: bool = False) -> str:
    """The key of the training without a head at ``step``."""
    return key_of({**cell.settings(), "state": step, **averaging(averaged)})


def averaging(averaged: bool) -> dict[str, float]:
    """What averaging adds to the settings of a training."""
    return {"averaged": AVERAGE_SHARE} if averaged else {}


def filming(cell: Cell) -> dict[str, int]:
    """What a film adds to the settings of a run."""
    return {"film": cell.film} if cell.film else {}


def averaging_begins(cell: Cell) -> int:
    """The step up to which trainings with and without averaging are the same."""
    return cell.iterations - round(AVERAGE_SHARE * cell.iterations)


def base_step(cell: Cell, variant: Variant) -> int:
    """The step of the state without a head and averaging that ``variant`` goes on from."""
    if isinstance(variant, Headed):
        return switch_on(cell, variant)
    return averaging_begins(cell) if variant.averaged else cell.iterations


def switch_on(cell: Cell, variant: Headed) -> int:
    """The step at which the head of ``variant`` begins to learn: the end of the base where that is frozen."""
    if variant.mode == "frozen":
        return cell.iterations
    return cell.iterations - cell.head_iterations if variant.start is None else round(variant.start * cell.iterations)


def length(cell: Cell, variant: Headed) -> int:
    """All iterations of a training with a head, those of its base included."""
    return cell.iterations + (cell.head_iterations if variant.mode == "frozen" else 0)


def runs_of(cell: Cell, variants: Sequence[Variant]) -> list[Run]:
    """The runs of ``variants``, each after those whose time it gets, which may be more variants than were asked for."""
    planned: dict[str, Run] = {}

    def plan(variant: Variant) -> Run:
        if variant.name in planned:
            return planned[variant.name]
        if isinstance(variant, Plain) and variant.time_of is not None:
            run = Run(cell, variant, spenders=(plan(VARIANTS[REFERENCE]).key, plan(VARIANTS[variant.time_of]).key))
        elif isinstance(variant, Plain) and variant.stretch != 1:
            run = Run(cell, variant)
        else:
            run = Run(cell, variant, state_key(cell, base_step(cell, variant)))
        planned[variant.name] = run
        return run

    for variant in variants:
        plan(variant)
    return list(planned.values())


def jobs_of(runs: Iterable[Run], cache: Cache) -> list[State | Run]:
    """What is still to be done, states before the runs that go on from them."""
    to_do = list({run.key: run for run in runs if not cache.has(run.key)}.values())
    wanted: dict[Cell, set[int]] = {}
    for run in to_do:
        if run.base is not None:
            wanted.setdefault(run.cell, set()).add(base_step(run.cell, run.variant))
    jobs: list[State | Run] = []
    for cell in dict.fromkeys(run.cell for run in to_do):
        jobs += [state for state in _chain(cell, wanted.get(cell, set())) if not cache.has(state.key)]
        jobs += [run for run in to_do if run.cell == cell]
    return jobs


def _chain(cell: Cell, steps: set[int]) -> list[State]:
    """The states at ``steps``, each going on from the one before."""
    chain = list[State]()
    for step in sorted(steps):
        chain.append(State(cell, step, (chain[-1].key,) if chain else ()))
    return chain


def _own_settings(cell: Cell, variant: Variant) -> Mapping[str, Any]:
    """What a variant adds to the settings of its cell; names and sentences are not part of it."""
    own = {name: value for name, value in asdict(variant).items() if name not in NAMING | WHERE_GIVEN}
    if isinstance(variant, Plain):
        return own | averaging(variant.averaged) | ({"on": cell.head_iterations} if variant.on else {})
    if isinstance(variant, Plus):
        return own | averaging(variant.averaged) | _plus_settings(cell, variant)
    if variant.mode != "frozen" and "crop_share" not in variant.schedule:
        from qsplat.training.schedule import CROP_SHARES

        own["crop_share"] = CROP_SHARES[variant.mode]
    features = {"features": variant.features} if variant.features else {}
    covered = {"covered": True} if variant.covered else {}
    return {**own, **features, **covered, "switch_on": switch_on(cell, variant), "length": length(cell, variant)}


def _plus_settings(cell: Cell, variant: Plus) -> dict[str, Any]:
    """What is left out of the settings of a ``Plus`` where it makes no difference, and how its head learns and reads
    photos where the variant does not say."""
    from qsplat.training.plus import PlusConfig

    own: dict[str, Any] = {}
    if variant.unseen:
        own |= {"unseen": variant.unseen, "given_back": True}
    if variant.weighed:
        own |= {"weighed": True}
    if variant.photos:
        config = PlusConfig()
        own |= {"trust": dict(variant.trust)} if variant.trust else {}
        own["defaults"] = {name: asdict(config)[name] for name in ("head", "photos", "head_steps", "crop_share")}
    if variant.features:
        own |= {"features": variant.features, "feature_steps": cell.head_iterations}
    return own

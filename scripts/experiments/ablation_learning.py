"""Doing one job of an ablation: training a base up to a step, or a run and its scores.

Time is the processor time of the steps themselves, on one thread: on a busy machine it is steadier than the wall clock,
which is written down too. Reading photos, restoring states and measuring do not count.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from ablation_cache import Cache, key_of
from ablation_pairs import times_of
from ablation_plan import Cell, Run, State, averaging, averaging_begins, filming, length, state_key, switch_on
from ablation_time import Seconds, paid_gaussians, paid_iterations
from ablation_variants import AVERAGE_SHARE, FEATURED, Headed, Plus
from holdouts import HoldOut, gaps, held_out

if TYPE_CHECKING:
    from qsplat.gaussians import Gaussians
    from qsplat.io.scene import Scene, View
    from qsplat.qnn import QNN
    from qsplat.training.config import FitConfig
    from qsplat.training.model import SplatModel
    from qsplat.training.plus_model import PlusModel
    from qsplat.training.training import Training


@dataclass(frozen=True)
class Laboratory:
    """Does the jobs of an ablation: what it finds goes to ``cache``, marked with the ``code`` that found it."""

    cache: Cache
    code: str

    def __call__(self, job: State | Run) -> None:
        from scripts.bench.measuring import use_threads

        use_threads(1)
        if isinstance(job, State):
            self.advance(job)
        else:
            self.cache.write(job.key, self.row(job))

    def advance(self, state: State) -> None:
        """Train without a head up to the step of ``state``, from the state that it needs or from the beginning."""
        cell, config = state.cell, base_config(state.cell, averaged=state.averaged)
        if state.needs:
            training, spent = self.load(state.needs[0], scene_of(cell), config)
        else:
            training, spent = begin(scene_of(cell), config), Seconds()
        self.save(state.key, training, spent.plus(training, state.step))

    def finished(self, cell: Cell, *, averaged: bool) -> tuple[Training, Seconds]:
        """The training of ``cell`` at its end, without a head, and what it has taken."""
        before = State(cell, averaging_begins(cell))
        end = State(cell, cell.iterations, (before.key,), averaged)
        if not self.cache.has(end.key):
            if not self.cache.has(before.key):
                self.advance(before)
            self.advance(end)
        return self.load(end.key, scene_of(cell), base_config(cell, averaged=averaged))

    def given_back(self, cell: Cell, *, averaged: bool) -> tuple[Training, Seconds, Gaussians]:
        """The training of ``cell``, which leaves photos out, at its end, after it has seen all photos in its last
        tenth; what it has taken; and its Gaussians as they were before that."""
        from qsplat.training.unseen import given_back

        before = State(cell, given_back(cell.iterations))
        if not self.cache.has(before.key):
            self.advance(before)
        config, whole = base_config(cell, averaged=averaged), scene_of(replace(cell, unseen=0))
        training, spent = self.load(before.key, scene_of(cell), config)
        witness, end = training.model().gaussians, key_of({"given back": before.key, **averaging(averaged)})
        if not self.cache.has(end):
            training = training.fork(config, scene=whole)
            self.save(end, training, spent.plus(training))
        return *self.load(end, whole, config), witness

    def row(self, run: Run) -> dict[str, Any]:
        """The scores of a run and what it took."""
        variant, cell = run.variant, run.cell
        if isinstance(variant, Headed):
            return self.headed(cell, variant)
        if isinstance(variant, Plus):
            return self.plus(cell, variant)
        if variant.on:
            return self.going_on(cell)
        if run.base is not None:
            return self.measured(cell, *self.finished(cell, averaged=variant.averaged))
        if not run.spenders:
            cell = replace(cell, iterations=round(variant.stretch * cell.iterations))
            return self.plain(cell, averaged=variant.averaged)
        alone, spender = (self.cache.read(key) for key in run.spenders)
        ratio = times_of(spender, alone)
        if variant.spent_on == "gaussians":
            cell = replace(cell, gaussians=paid_gaussians(cell.gaussians, ratio))
        else:
            cell = replace(cell, iterations=paid_iterations(cell.iterations, ratio))
        return self.plain(cell, averaged=variant.averaged)

    def headed(self, cell: Cell, variant: Headed) -> dict[str, Any]:
        """Go on from the shared training with a head."""
        base = state_key(cell, switch_on(cell, variant))
        scene, config = scene_of(cell), head_config(cell, variant)
        if variant.covered:
            scene = replace(scene, train=tuple(where_covered(view) for view in scene.train))
        training, before = self.load(base, scene, config)
        if variant.features:
            from ablation_features import headed_by_features

            model, spent = before.doing(partial(headed_by_features, training, scene.train, variant.features))
            row = {**self.described(cell, model, spent), "iterations": config.schedule.iterations}
        else:
            spent = before.plus(training)
            row = self.measured(cell, training, spent)
        return {**row, "head_cpu_seconds": round(spent.cpu - before.cpu, 3)}

    def going_on(self, cell: Cell) -> dict[str, Any]:
        """Plain splatting that goes on from its end for as many iterations as a head on finished Gaussians learns for,
        at the rates with which a training of that length ends: that of the means, too, rises once more and falls. There
        is no densification any more."""
        config = base_config(replace(cell, iterations=cell.iterations + cell.head_iterations))
        config = replace(config, densification=None)
        training, before = self.load(state_key(cell, cell.iterations), scene_of(cell), config)
        spent = before.plus(training)
        return self.measured(cell, training, spent)

    def plus(self, cell: Cell, variant: Plus) -> dict[str, Any]:
        """Sets of Gaussians that are trained like the shared one, from other seeds, and a head that reads photos."""
        from qsplat.qnn.photos import PhotoConfig
        from qsplat.training.plus import NEXT_SET, PlusConfig
        from qsplat.training.plus_model import PlusModel
        from qsplat.training.unseen import Witness, unseen_photos

        scene, sets, spent, witness = scene_of(cell), [], Seconds(), None
        unseen = unseen_photos(len(scene.train), variant.unseen, sets=variant.sets)
        for index in range(variant.sets):
            one = replace(cell, seed=cell.seed + index * NEXT_SET)
            if unseen and index == variant.sets - 1:
                one = replace(one, unseen=variant.unseen)
                training, taken, before = self.given_back(one, averaged=variant.averaged)
                witness = Witness(before, unseen)
            else:
                training, taken = self.finished(one, averaged=variant.averaged)
            sets.append(training.model())
            spent = Seconds(spent.cpu + taken.cpu, spent.wall + taken.wall)
        model = PlusModel(tuple(one.gaussians for one in sets), background=sets[0].background, config=sets[0].config)
        trained, said = spent, {"leave_one_out": None, "photo_bytes": None}
        if variant.photos:
            from ablation_plus import with_photos

            config = PlusConfig(base=base_config(cell), photos=PhotoConfig(variant.photos, **variant.trust))
            (model, said), spent = spent.doing(partial(with_photos, model, scene, variant, config, witness))
        networks: list[QNN] = [] if model.head is None else [model.head]
        if variant.features:
            from ablation_features import with_features

            learning = head_config(cell, FEATURED)
            model, spent = spent.doing(partial(with_features, model, scene.train, learning, variant.features))
            networks.append(model.network)
        belief = None if model.head is None else model.head.belief.tolist()
        found = {
            "iterations": cell.iterations,
            "sets": variant.sets,
            "head_cpu_seconds": round(spent.cpu - trained.cpu, 3),
            "belief": belief,
            "parameters": sum(one.numel() for network in networks for one in network.parameters()) or None,
        }
        return {**self.described(cell, model, spent), **found, **said}

    def plain(self, cell: Cell, *, averaged: bool = False) -> dict[str, Any]:
        """A training without a head, from its beginning."""
        key = key_of({**cell.settings(), "plain": True, **averaging(averaged), **filming(cell)})
        if not self.cache.has(key):
            self.cache.write(key, self.measured(cell, *self.finished(cell, averaged=averaged)))
        return self.cache.read(key)

    def measured(self, cell: Cell, training: Training, spent: Seconds) -> dict[str, Any]:
        """The row of a finished training."""
        return {**self.described(cell, training.model(), spent), "iterations": training.step}

    def described(self, cell: Cell, model: SplatModel | PlusModel, spent: Seconds) -> dict[str, Any]:
        """What is written about a model."""
        from ablation_film import filmed
        from ablation_scores import scores_of

        from scripts.bench.measuring import processor

        scene = scene_of(cell)
        apart = gaps(scene)
        return {
            **scores_of(scene, model),
            "film": filmed(scene, model, cell.film) if cell.film else None,
            "gap": round(statistics.mean(apart.values()), 4),
            "gaps": {name: round(distance, 5) for name, distance in apart.items()},
            "max_gaussians": cell.gaussians,
            "cpu_seconds": round(spent.cpu, 3),
            "wall_seconds": round(spent.wall, 3),
            "code": self.code,
            "processor": processor(),
        }

    def save(self, key: str, training: Training, spent: Seconds) -> None:
        """Keep ``training`` as it stands."""
        from qsplat.io.tensors import save_tensors
        from qsplat.training.state import STATE_FORMAT

        state = training.state()
        save_tensors(self.cache.state(key), state.tensors, {**state.facts, "spent": asdict(spent)}, format=STATE_FORMAT)

    def load(self, key: str, scene: Scene, config: FitConfig) -> tuple[Training, Seconds]:
        """The training ``key``, to go on under ``config``, and what it has taken."""
        from qsplat.io.tensors import load_tensors
        from qsplat.training.state import STATE_FORMAT, TrainingState
        from qsplat.training.training import Training

        contents = load_tensors(self.cache.state(key), format=STATE_FORMAT)
        spent = Seconds(**contents.facts.pop("spent"))
        return Training(scene, config, state=TrainingState(contents.tensors, contents.facts)), spent


def begin(scene: Scene, config: FitConfig) -> Training:
    """A training at its beginning whose photos come in an order of their own: whatever goes on from it, under any
    configuration, sees the same one."""
    from qsplat.training.training import Training

    return Training(scene, config).fork(config)


@lru_cache(maxsize=2)
def _scene(folder: str, max_side: int, way: HoldOut) -> Scene:
    from qsplat.io.transforms import load_scene

    return held_out(load_scene(folder, max_side=max_side), way)


def scene_of(cell: Cell) -> Scene:
    """The views of a cell, read once for the cells that follow each other."""
    from qsplat.training.unseen import unseen_photos, without_unseen

    scene = _scene(cell.capture.folder, cell.capture.max_side, cell.hold_out)
    left = without_unseen(scene, unseen_photos(len(scene.train), cell.unseen))
    return replace(scene, train=tuple(left.train))


def where_covered(view: View) -> View:
    """``view``, of which only pixels that the photo's alpha covers count; all that counted where it has none."""
    if view.alpha is None:
        return view
    covered = view.alpha > 0
    return replace(view, mask=covered if view.mask is None else covered & view.mask)


def base_config(cell: Cell, *, averaged: bool = False) -> FitConfig:
    """Gaussians without a head."""
    from qsplat.training.config import FitConfig
    from qsplat.training.densification import DefaultDensification
    from qsplat.training.schedule import Schedule

    return FitConfig(
        schedule=Schedule(cell.iterations),
        densification=DefaultDensification(max_gaussians=cell.gaussians),
        head=None,
        seed=cell.seed,
        average_share=AVERAGE_SHARE if averaged else 0.0,
    )


def head_config(cell: Cell, variant: Headed) -> FitConfig:
    """What the shared training goes on under once the head of ``variant`` is switched on."""
    from qsplat.qnn import QnnConfig

    base, iterations = base_config(cell), length(cell, variant)
    start = switch_on(cell, variant) / iterations
    densification = base.densification
    if variant.densify and densification is not None:
        densification = replace(densification, with_head=True)
    return replace(
        base,
        schedule=replace(base.schedule, iterations=iterations, head_share=start, mode=variant.mode, **variant.schedule),
        densification=densification,
        head=QnnConfig.of(variant.head),
    )

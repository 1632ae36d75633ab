"""A head that reads photos, on the sets of Gaussians of an ablation."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ablation_variants import Plus

from qsplat.io.packed_photos import pack_masks, pack_photos
from qsplat.io.scene import Scene, View
from qsplat.training.plus import PlusConfig, finish_plus
from qsplat.training.plus_model import PlusModel
from qsplat.training.targets import Target
from qsplat.training.unseen import Witness


def with_photos(
    model: PlusModel, scene: Scene, variant: Plus, config: PlusConfig, witness: Witness | None
) -> tuple[PlusModel, dict[str, Any]]:
    """``model``, which has no head, with one that reads the training photos of ``scene`` as ``variant`` keeps them, and
    what is written about it."""
    kept, size, began = None, None, time.perf_counter()
    if variant.quality is not None:
        kept, size = packed(scene, model, variant.quality, variant.side)
    fitted = finish_plus(model, scene, config, began=began, kept=kept, witness=witness)
    made = fitted.model if variant.weighed else replace(fitted.model, weights=None)
    return made, {"leave_one_out": fitted.leave_one_out, "photo_bytes": size}


def packed(scene: Scene, model: PlusModel, quality: int, side: int | None) -> tuple[list[View], int]:
    """The training views of ``scene`` with their photos as JPEGs, over the background of ``model``, and the number of
    their bytes."""
    targets = [Target.of(view, 1, "cpu") for view in scene.train]
    kept = pack_photos([target.over(model.background) for target in targets], max_side=side, quality=quality)
    views = []
    for view, photo in zip(scene.train, kept.unpack(), strict=True):
        mask = None if view.mask is None else pack_masks([view.mask], max_side=side).unpack_masks()[0]
        camera = view.camera.resized(photo.shape[1], photo.shape[0])
        views.append(replace(view, camera=camera, image=photo, alpha=None, mask=mask))
    return views, len(kept.data)

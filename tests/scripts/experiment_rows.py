"""Rows of an ablation as its program writes them, made up. This module does not import torch."""

from __future__ import annotations

import importlib


def module(name):
    """A script of the experiments, which import each other from the folder that they lie in."""
    return importlib.import_module(name)


def row(psnr=20.0, *, views=2, seconds=10.0, parameters: int | None = None, edges: float | None = 18.0, code="code"):
    scores = {"psnr": psnr, "ssim": psnr / 25, "psnr_edge": edges, "band_psnr": [psnr + octave for octave in range(5)]}
    return {
        **dict.fromkeys(("train", "train_base", "held_out", "held_out_base"), scores),
        **{f"{part}_views": {f"{index}": {"psnr": psnr} for index in range(views)} for part in ("train", "held_out")},
        **{
            "splats": 9,
            "parameters": parameters,
            "dead_units": None,
            "mean_residual": None,
            "iterations": 40,
            "gap": 0.5,
        },
        **{"max_gaussians": 9, "cpu_seconds": seconds, "wall_seconds": seconds, "code": code, "processor": "abacus"},
    }


def named(variant, seed=0, *, scene="a", **others):
    return {"scene": scene, "hold_out": "every8", "seed": seed, "variant": variant, **row(**others)}

"""The still life in mitsuba: materials, light, and the camera that photographs it.

Only this module and ``sparse_points`` (through the scene object) know mitsuba.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stilllife.composition import Item
from stilllife.orbit import Array, Orbit

MAX_DEPTH = 5
SHOULDER = 0.7
"""Linear radiance above which highlights are compressed instead of clipped."""


def mitsuba(threads: int = 1) -> Any:
    """The mitsuba module in its ``scalar_rgb`` variant, which needs neither a GPU nor LLVM.

    Raises:
        ValueError: it is not installed.
    """
    try:
        module = importlib.import_module("mitsuba")
    except ImportError as error:
        raise ValueError('mitsuba is not installed: pip install -e ".[scene]"') from error
    module.set_variant("scalar_rgb")
    importlib.import_module("drjit").set_thread_count(threads)
    return module


def lit(mi: Any, items: tuple[Item, ...]) -> Any:
    """A mitsuba scene of ``items`` under a warm lamp and a cool, even sky."""
    stand = mi.ScalarTransform4f().look_at(origin=[1.5, -1.1, 2.5], target=[0, 0, 0.1], up=[0, 0, 1])
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": MAX_DEPTH},
        "sky": {"type": "constant", "radiance": {"type": "rgb", "value": [0.43, 0.48, 0.57]}},
        "lamp": {
            "type": "rectangle",
            "to_world": stand @ mi.ScalarTransform4f().scale([0.55, 0.55, 1]),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": [24.0, 19.0, 13.4]}},
        },
    }
    return mi.load_dict({**scene, **{item.name: _mesh(mi, item) for item in items}})


def photograph(mi: Any, scene: Any, orbit: Orbit, index: int, *, samples: int) -> NDArray[np.uint8]:
    """View ``index`` as sRGB ``h w 3``, with ``samples`` light paths per pixel (rounded up to whole strata)."""
    mitsuba_from_opengl = np.diag([-1.0, 1.0, -1.0, 1.0])  # mitsuba looks along +z, with x to the left
    size = {"width": orbit.width, "height": orbit.height}
    sensor = mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(orbit.width / 2 / orbit.focal))),
            "fov_axis": "x",
            "to_world": mi.ScalarTransform4f(orbit.poses[index] @ mitsuba_from_opengl),
            "film": {"type": "hdrfilm", **size, "rfilter": {"type": "gaussian"}},
            "sampler": {"type": "multijitter", "sample_count": samples},
        }
    )
    return develop(np.array(mi.render(scene, sensor=sensor, seed=index), dtype=np.float64))


def develop(radiance: Array) -> NDArray[np.uint8]:
    """Linear radiance as 8 bit sRGB (IEC 61966-2-1), with a smooth shoulder for the highlights."""
    room = 1 - SHOULDER
    above = np.maximum(radiance - SHOULDER, 0)
    linear = np.where(radiance > SHOULDER, SHOULDER + room * (1 - np.exp(-above / room)), np.maximum(radiance, 0))
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(np.clip(encoded, 0, 1) * 255).astype(np.uint8)


def _mesh(mi: Any, item: Item) -> Any:
    properties = mi.Properties()
    properties["material"] = mi.load_dict(_material(mi, item))
    shape = item.shape
    counts = {"vertex_count": len(shape.vertices), "face_count": len(shape.triangles)}
    mesh = mi.Mesh(item.name, **counts, has_vertex_normals=True, has_vertex_texcoords=True, props=properties)
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = shape.vertices.astype(np.float32).ravel()
    parameters["vertex_normals"] = shape.normals().astype(np.float32).ravel()
    parameters["vertex_texcoords"] = shape.uv.astype(np.float32).ravel()
    parameters["faces"] = shape.triangles.astype(np.uint32).ravel()
    parameters.update()
    return mesh


def _material(mi: Any, item: Item) -> dict[str, Any]:
    if isinstance(item.paint, np.ndarray):
        color = {"type": "bitmap", "bitmap": mi.Bitmap(item.paint), "raw": False}
    else:
        color = {"type": "rgb", "value": list(item.paint)}
    match item.surface:
        case "matt":
            bsdf = {"type": "diffuse", "reflectance": color}
        case "glazed":
            bsdf = {"type": "roughplastic", "distribution": "ggx", "alpha": 0.12, "diffuse_reflectance": color}
        case "copper":
            bsdf = {"type": "roughconductor", "material": "Cu", "distribution": "ggx", "alpha": 0.10}
    return {"type": "twosided", "bsdf": bsdf}

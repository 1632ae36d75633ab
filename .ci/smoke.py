"""What an installed wheel must do without the checkout: import lightly, render on the CPU, offer its methods."""

import sys
import time

start = time.perf_counter()
import qsplat  # noqa: E402

seconds = time.perf_counter() - start
heavy = {"nerfstudio", "viser", "gsplat", "tyro"} & set(sys.modules)
if seconds > 2 or heavy:
    sys.exit(f"import qsplat took {seconds:.1f} s and pulled in {sorted(heavy) or 'nothing heavy'}")

import importlib.metadata  # noqa: E402

import torch  # noqa: E402

from qsplat.cameras import Camera  # noqa: E402
from qsplat.gaussians import seed_from_points  # noqa: E402
from qsplat.render import rasterize  # noqa: E402
from qsplat.training.losses import photometric_loss, portable_loss  # noqa: E402

if "site-packages" not in qsplat.__file__:
    sys.exit(f"this is not the installed package: {qsplat.__file__}")
pose = torch.eye(4)
pose[2, 3] = 3.0
splats = seed_from_points(torch.rand(200, 3) - 0.5, torch.rand(200, 3)).activate()
camera = Camera(pose, 80.0, 80.0, 32.0, 24.0, 64, 48)
fast = rasterize(splats, camera).color
slow = rasterize(splats, camera, backend="reference").color
if float((fast - slow).abs().max()) > 1e-4 or float(fast.max()) == 0:
    sys.exit("the installed CPU backend disagrees with the reference")
photo = torch.rand(48, 64, 3)
if abs(float(photometric_loss(fast, photo) - portable_loss(fast, photo))) > 1e-5:
    sys.exit("the installed loss disagrees with its slow twin")

offered = {entry.name for entry in importlib.metadata.entry_points(group="nerfstudio.method_configs")}
if not {"qsplat", "qsplat-mcmc"} <= offered:
    sys.exit(f"the wheel offers nerfstudio only {sorted(offered)}")
print(f"wheel: qsplat {qsplat.__version__} imported in {seconds:.2f} s, renders and offers its methods")

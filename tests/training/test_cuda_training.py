"""Training on a GPU: the same rules as on the CPU, through gsplat's kernels."""

import pytest
import torch

from qsplat.qnn import QnnConfig
from qsplat.render import RasterConfig
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.fit import FitConfig, fit
from qsplat.training.schedule import Schedule

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    "densification",
    [
        DefaultDensification(max_gaussians=90),
        DefaultDensification(max_gaussians=90, absolute_gradient=True, grow_gradient=8e-4),
        McmcDensification(max_gaussians=90),
    ],
)
def test_cuda_learns_as_the_cpu_does(capture, densification):
    config = {
        "schedule": Schedule(300, sh_degree=1),
        "head": QnnConfig(),
        "densification": densification,
        "raster": RasterConfig(absgrad=getattr(densification, "absolute_gradient", False)),
    }
    on_cpu = fit(capture, FitConfig(**config))
    on_gpu = fit(capture, FitConfig(**config, device="cuda"))
    assert on_gpu.model.gaussians.means.is_cuda
    assert on_gpu.history[-1].num_gaussians <= 90
    found, expected = (sum(r.psnr for r in run.history[-20:]) / 20 for run in (on_gpu, on_cpu))
    assert found > 18
    assert abs(found - expected) < 1.5

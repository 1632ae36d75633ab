"""Training on a GPU: the same rules as on the CPU, through gsplat's kernels."""

import pytest
import torch
from photo_views import believing, two_miscoloured
from torch import Tensor

from qsplat.encodings import Fourier
from qsplat.gaussians import Gaussians
from qsplat.io.scene import Scene
from qsplat.qnn import QnnConfig
from qsplat.render import RasterConfig
from qsplat.training.densification import DefaultDensification, McmcDensification
from qsplat.training.fit import FitConfig, fit
from qsplat.training.plus_model import PlusModel
from qsplat.training.schedule import Schedule
from qsplat.training.training import Training

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


@pytest.mark.parametrize("mode", ["joint", "detached", "frozen"])
@pytest.mark.parametrize("query", ["locations", "rays"])
def test_heads_learn_in_every_mode_and_forks_go_on(capture, mode, query):
    head = QnnConfig(channels=8, query=query, encoding=Fourier(6, scale=1.0))
    schedule = Schedule(60, head_share=0.5, mode=mode)
    training = Training(capture, FitConfig(schedule=schedule, densification=None, head=head, device="cuda"))
    training.advance(40)
    fork = training.fork(training.config)
    fork.advance()
    before, after = training.model(), fork.model()
    assert after.head.stages[-1].weight.is_cuda
    assert not torch.equal(before.head.stages[-1].weight, after.head.stages[-1].weight)
    assert torch.equal(before.gaussians.means, after.gaussians.means) == (mode == "frozen")


def asking(truth: Gaussians, capture: Scene, device: str) -> Tensor:
    """The first held-out view of two sets on ``device``, weighed and corrected by photos."""
    model = two_miscoloured(truth)
    sets = (Gaussians(**{name: value.to(device) for name, value in vars(one).items()}) for one in model.sets)
    model = PlusModel(tuple(sets), background=model.background.to(device))
    views = model.shown(capture.train)
    rgb = model.asking(believing(views, 1.0).to(device), views).render(capture.test[0].camera.to(device)).rgb
    assert rgb.device.type == device
    return rgb.cpu()


def test_photos_say_the_same_on_a_gpu(truth, capture):
    on_cpu, on_gpu = asking(truth, capture, "cpu"), asking(truth, capture, "cuda")
    difference = (on_cpu - on_gpu).abs()
    assert difference.mean() < 1e-3
    assert difference.median() < 1e-4

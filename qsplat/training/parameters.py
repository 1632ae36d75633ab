"""Gaussians as the parameters that optimisers and densification strategies move, under the field's usual names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import Parameter, ParameterDict

from qsplat.gaussians import Gaussians


def parameters_of(gaussians: Gaussians) -> ParameterDict:
    """Leaves holding copies of the fields: means [n, 3], scales (log) [n, 3], quats [n, 4], opacities (logits) [n, 1],
    features_dc [n, 3] and features_rest [n, k - 1, 3]. The names and shapes are those of gsplat and nerfstudio."""
    values = {
        "means": gaussians.means,
        "scales": gaussians.log_scales,
        "quats": gaussians.quats,
        "features_dc": gaussians.sh_dc,
        "features_rest": gaussians.sh_rest,
        "opacities": gaussians.opacity_logits[:, None],
    }
    return ParameterDict({name: Parameter(value.detach().clone()) for name, value in values.items()})


def gaussians_of(parameters: Mapping[str, Tensor] | ParameterDict) -> Gaussians:
    """The Gaussians these parameters are; gradients of whatever is made of them reach the parameters."""
    return Gaussians(
        means=parameters["means"],
        log_scales=parameters["scales"],
        quats=parameters["quats"],
        opacity_logits=parameters["opacities"][:, 0],
        sh_dc=parameters["features_dc"],
        sh_rest=parameters["features_rest"],
    )

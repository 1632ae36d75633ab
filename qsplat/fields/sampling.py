"""Where along a ray a field is evaluated. Everything is in shares, from 0 to 1, of the ray's way through the region."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def strata(
    rays: int, count: int, *, jitter: bool, device: torch.device | str | None = None
) -> Float[Tensor, "rays count"]:
    """One share in each of ``count`` equal parts: at random if ``jitter``, in the middle otherwise. They ascend."""
    within = torch.rand(rays, count, device=device) if jitter else torch.full((rays, count), 0.5, device=device)
    return (torch.arange(count, device=device) + within) / count


def inverse_cdf(weights: Float[Tensor, "r b"], quantiles: Float[Tensor, "r s"]) -> Float[Tensor, "r s"]:
    """The shares at which the integral of a density over the ray reaches ``quantiles``, each from 0 to 1.

    The density is constant within each of ``b`` equal parts of the ray and proportional to ``weights``, which are not
    negative and not all 0. Ascending quantiles have ascending shares. No gradient passes.

    Source: Mildenhall et al. 2020, section 5.2.
    """
    weights, bins = weights.detach(), weights.shape[1]
    cdf = weights.cumsum(dim=1)
    cdf = cdf / cdf[:, -1:]
    # The part that a quantile lies in is one with a weight: equal neighbours in the CDF are stepped over
    part = torch.searchsorted(cdf, quantiles.contiguous(), right=True).clamp_max(bins - 1)
    above = cdf.gather(1, part)
    below = torch.where(part > 0, cdf.gather(1, (part - 1).clamp_min(0)), 0.0)
    within = (quantiles - below) / (above - below).clamp_min(1e-12)
    return (part + within.clamp(0, 1)) / bins


def lengths_between(distances: Float[Tensor, "r s"], last: Float[Tensor, "r 1"]) -> Float[Tensor, "r s"]:
    """From each sample to the next one, and from the last one to the end of the ray at ``last``."""
    return torch.cat([distances[:, 1:], last], dim=1) - distances

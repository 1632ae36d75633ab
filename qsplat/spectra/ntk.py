"""The neural tangent kernel: how far a step of gradient descent on one output moves another one.

Theta = J J^T, J holding the derivatives of all outputs with respect to all weights. As long as the kernel stays as it
is, gradient descent at the rate eta on half the sum of squared errors shrinks the part of the error along the
eigenvector i by the factor (1 - eta lambda_i) a step: small eigenvalues are learnt slowly. For networks of coordinates
they belong to high frequencies, which is spectral bias.

Source: Jacot et al. 2018; the kernel of infinitely wide networks after Cho and Saul 2009 and Lee et al. 2019; its use
for networks of coordinates after Tancik et al. 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

BLOCK = 256
"""Outputs whose derivatives are in memory at once, twice."""


def empirical_ntk(network: nn.Module, *inputs: Tensor, block: int = BLOCK) -> Float[Tensor, "n n"]:
    """Theta of ``network`` for all values of its outputs at ``inputs``, in the order of ``flatten()``.

    Nothing is assumed of the network: an output may depend on all inputs, as in convolutions. At most twice ``block``
    rows of J exist at a time.

    Raises:
        ValueError: no weight to derive by, or an empty block.
    """
    if block < 1:
        raise ValueError(f"block={block}: give at least 1")
    weights = {name: weight.detach() for name, weight in network.named_parameters() if weight.requires_grad}
    if not weights:
        raise ValueError("the network has no weight that is learnt: there is nothing to derive by")
    outputs = functional_call(network, weights, inputs).numel()
    kernel = next(iter(weights.values())).new_zeros(outputs, outputs)
    for rows, above in _jacobian_blocks(network, weights, inputs, block, 0):
        for columns, left in _jacobian_blocks(network, weights, inputs, block, rows.start):
            product = above @ left.T
            kernel[rows, columns], kernel[columns, rows] = product, product.T
    return kernel


def _jacobian_blocks(
    network: nn.Module, weights: dict[str, Tensor], inputs: tuple[Tensor, ...], block: int, first: int
) -> Iterator[tuple[slice, Float[Tensor, "b weights"]]]:
    """The rows of J from ``first`` on, ``block`` at a time, and which they are."""
    outputs, pull, *_ = vjp(lambda values: functional_call(network, values, inputs).flatten(), weights)
    for start in range(first, len(outputs), block):
        rows = slice(start, min(start + block, len(outputs)))
        chosen = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)[rows]
        (derivatives,) = vmap(pull)(chosen)
        yield rows, torch.cat([derivatives[name].flatten(1) for name in weights], dim=1)


def relu_ntk(
    first: Float[Tensor, "n d"], second: Float[Tensor, "m d"], *, layers: int
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Covariance of the outputs and NTK of an infinitely wide network of ``layers`` linear layers with ReLU between.

    In the parametrisation in which weights are standard normal, a layer of c inputs is multiplied by sqrt(2 / c) (the
    first one by 1 / sqrt(d)), and there are no biases.

    Raises:
        ValueError: no layer.
    """
    if layers < 1:
        raise ValueError(f"layers={layers}: a network has at least 1")
    dims = first.shape[1]
    covariance = first @ second.T / dims
    lengths = torch.outer(first.norm(dim=1), second.norm(dim=1)) / dims
    kernel = covariance
    for _ in range(layers - 1):
        angle = torch.arccos((covariance / lengths.clamp_min(1e-300)).clamp(-1, 1))
        slope = (math.pi - angle) / math.pi
        covariance = lengths * (torch.sin(angle) + (math.pi - angle) * torch.cos(angle)) / math.pi
        # The lengths stay: a factor of 2 makes up for the half that ReLU takes
        kernel = kernel * slope + covariance
    return covariance, kernel


def fourier_eigenvalues(kernel: Float[Tensor, "n n"]) -> Float[Tensor, " m"]:
    """How fast each frequency is learnt from evenly spaced samples of a period: the quadratic forms of ``kernel`` with
    the waves of 0 to n // 2 cycles, each of length 1.

    They are the eigenvalues where the kernel depends on distances around the period alone.
    """
    waves: Complex[Tensor, "n n"] = torch.fft.fft(torch.eye(len(kernel)).to(kernel), norm="ortho")
    return torch.einsum("ki,ij,kj->k", waves.conj(), kernel.to(waves), waves).real[: len(kernel) // 2 + 1]


@dataclass(frozen=True)
class LinearisedTraining:
    """Gradient descent on half the sum of squared errors, as if the kernel stayed what it is.

    ``values`` are the kernel's eigenvalues from the largest on, ``vectors`` [n, n] its eigenvectors as columns.
    """

    values: Float[Tensor, " n"]
    vectors: Float[Tensor, "n n"]

    @staticmethod
    def of(kernel: Float[Tensor, "n n"]) -> LinearisedTraining:
        """By the eigenvalues of a symmetric ``kernel``; what rounding leaves below 0 becomes 0."""
        values, vectors = torch.linalg.eigh(kernel)
        return LinearisedTraining(values.clamp_min(0).flip(0), vectors.flip(1))

    def residual(self, start: Float[Tensor, " n"], *, rate: float, step: int) -> Float[Tensor, " n"]:
        """What is left of the error ``start`` after ``step`` steps.

        Raises:
            ValueError: at that rate, descent diverges.
        """
        if not 0 < rate * float(self.values[0]) < 2:
            raise ValueError(
                f"rate={rate}: with the largest eigenvalue {float(self.values[0]):.3g}, descent converges for rates "
                f"above 0 and below {2 / max(float(self.values[0]), 1e-300):.3g}"
            )
        return self.vectors @ ((1 - rate * self.values) ** step * (self.vectors.T @ start))

    def elsewhere(
        self, kernel: Float[Tensor, "m n"], start: Float[Tensor, " n"], *, rate: float, step: int
    ) -> Float[Tensor, " m"]:
        """How far outputs that are not learnt have moved after ``step`` steps, given their ``kernel`` with the learnt
        ones and the error ``start`` (prediction less target) of those at the beginning."""
        along = self.vectors.T @ start
        decayed = (1 - rate * self.values) ** step
        flat = self.values <= 1e-12 * self.values[0]
        # Where the eigenvalue is 0, (1 - (1 - rate v)^t) / v tends to rate t
        taken = torch.where(flat, rate * step, (1 - decayed) / self.values.masked_fill(flat, 1))
        return -kernel @ (self.vectors @ (taken * along))

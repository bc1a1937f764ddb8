"""Lanczos iteration for a symmetric operator given by its matrix-vector products (Lanczos, 1950)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ScoreError

Rule = tuple[np.ndarray, np.ndarray]
"""Nodes and weights of a quadrature."""
BLOCK = 16
"""Basis vectors for which memory is allocated at a time."""


class Lanczos:
    """A run from one start vector, extended step by step: A Q_k = Q_k T_k + beta_k q_{k+1} e_k'.

    All basis vectors are kept, and every new one is made orthogonal to them, so that no eigenvalue appears twice. After
    k steps they take (k + 1) P numbers.
    """

    def __init__(self, product: Callable[[Tensor], Tensor], start: Tensor) -> None:
        self.product = product
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self._basis = [torch.empty(BLOCK, len(start), dtype=start.dtype, device=start.device)]
        self._basis[0][0] = start / _norm(start)
        self._filled = 1

    @property
    def steps(self) -> int:
        """k, the steps made."""
        return len(self.alphas)

    @property
    def exhausted(self) -> bool:
        """Whether the Krylov space of the start vector is complete: no step is left, the Ritz values are exact."""
        return self._filled == self.steps

    def step(self) -> None:
        """Compute one more product, unless the run is exhausted."""
        if self.exhausted:
            return
        last = self._vector(self._filled - 1)
        w = self.product(last)
        size = _norm(w)
        if not math.isfinite(size):
            raise ScoreError("a Hessian-vector product is not a finite number; has the network diverged?")
        self.alphas.append(float(torch.dot(w.double(), last.double())))
        # In exact arithmetic, w overlaps only with the last two vectors; the next pass removes rounding from the rest.
        w = w.sub(last, alpha=self.alphas[-1])
        if self.betas:
            w.sub_(self._vector(self._filled - 2), alpha=self.betas[-1])
        rest = _norm(w)
        beta = _norm(self._orthogonal(w))
        if beta < 0.7 * rest:  # cancellation magnified rounding errors; a second pass is enough (Daniel et al., 1976)
            beta = _norm(self._orthogonal(w))
        scale = max(map(abs, [*self.alphas, *self.betas, size]))
        if self.steps == len(w) or beta <= 10 * torch.finfo(w.dtype).eps * scale:
            self.betas.append(0.0)
            return
        self.betas.append(beta)
        if self._filled % BLOCK == 0:
            self._basis.append(torch.empty_like(self._basis[0]))
        torch.div(w, beta, out=self._vector(self._filled))
        self._filled += 1

    def _vector(self, i: int) -> Tensor:
        return self._basis[i // BLOCK][i % BLOCK]

    def _orthogonal(self, w: Tensor) -> Tensor:
        """The part of w that is orthogonal to all basis vectors; w is overwritten."""
        for i, block in enumerate(self._basis):
            known = block[: self._filled - i * BLOCK]
            w -= known.T @ (known @ w)
        return w

    def ritz(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values after the first k steps, their weights tau^2, and their residual norms.

        An eigenvalue lies within its residual norm of each Ritz value. The weights sum to 1: sum_i tau_i^2 f(theta_i)
        is the Gauss quadrature of q' f(A) q (Golub and Meurant, 1994).

        Args:
            steps: k; the results are shorter if the run was exhausted earlier.

        Returns:
            Three arrays (k,), by increasing Ritz value.
        """
        k = min(steps, self.steps)
        values, vectors = _eigen(self.alphas[:k], self.betas[: k - 1])
        return values, vectors[0] ** 2, np.abs(self.betas[k - 1] * vectors[-1])

    def quadratures(self, steps: int) -> tuple[Rule, Rule]:
        """Two rules for q' f(A) q, whose errors have opposite signs for most f: their mean is the estimate.

        Gauss with k - 1 nodes, and anti-Gauss with k (Laurie, 1996): T_k with its last off-diagonal times sqrt(2),
        which makes the opposite error for polynomials of degree 2 k - 1. Half of their difference is the error of the
        number of steps. If the run was exhausted, both are the exact rule.

        Args:
            steps: k, 2 at least and made already, unless the run was exhausted.

        Returns:
            Nodes and weights of each; the weights of a rule sum to 1.
        """
        if self.steps < steps or (self.exhausted and self.steps == steps):
            exact = self.ritz(steps)[:2]
            return exact, exact
        betas = [*self.betas[: steps - 2], self.betas[steps - 2] * math.sqrt(2)]
        values, vectors = _eigen(self.alphas[:steps], betas)
        return self.ritz(steps - 1)[:2], (values, vectors[0] ** 2)


def _eigen(diagonal: list[float], beside: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a symmetric tridiagonal matrix."""
    from scipy.linalg import eigh_tridiagonal

    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
    return values, vectors


def _norm(vector: Tensor) -> float:
    """Euclidean norm in float64, where squares neither underflow nor overflow."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def density(values: np.ndarray, weights: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """Spectral density by stochastic Lanczos quadrature: Gaussians at the Ritz values, summed by their weights.

    phi(t) = sum_i tau_i^2 N(t; theta_i, width^2); over several runs, the mean of their densities (Lin, Saad and Yang,
    2016; Ghorbani et al., 2019). It integrates to 1.

    Args:
        values: Ritz values theta, (k,).
        weights: tau^2, (k,).
        grid: values of t, (n,).
        width: standard deviation of the Gaussians, in the unit of the values.

    Returns:
        phi, (n,).
    """
    z = (grid[:, None] - values[None, :]) / width
    return np.asarray(np.exp(-0.5 * z**2) @ weights / (width * np.sqrt(2 * np.pi)))

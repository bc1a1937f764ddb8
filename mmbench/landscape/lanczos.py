"""Lanczos's iteration for a symmetric operator that is only known by its products (Lanczos, 1950)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Lanczos:
    """A run from one start vector, extended step by step: A Q_k = Q_k T_k + beta_k q_{k+1} e_k'.

    All basis vectors are kept and every new one is made orthogonal to them, so that no eigenvalue appears twice; after
    k steps they take (k + 1) P numbers.
    """

    def __init__(self, product: Callable[[Tensor], Tensor], start: Tensor) -> None:
        self.product = product
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self._basis = (start / torch.linalg.vector_norm(start))[None]
        self._filled = 1

    @property
    def steps(self) -> int:
        """k, the steps made."""
        return len(self.alphas)

    @property
    def exhausted(self) -> bool:
        """Whether the space that the start vector reaches is used up: no step is left, the Ritz values are exact."""
        return self._filled == self.steps

    def step(self) -> None:
        """One more product; nothing if the run is exhausted."""
        if self.exhausted:
            return
        known = self._basis[: self._filled]
        w = self.product(known[-1])
        size = float(torch.linalg.vector_norm(w))
        self.alphas.append(float(torch.dot(w, known[-1])))
        w = w - known.T @ (known @ w)
        beta = float(torch.linalg.vector_norm(w))
        if beta < 0.7 * size:  # rounding errors weigh now; once more is enough (Daniel et al., 1976)
            w -= known.T @ (known @ w)
            beta = float(torch.linalg.vector_norm(w))
        scale = max(map(abs, [*self.alphas, *self.betas, size]))
        if self.steps == len(w) or beta <= 10 * torch.finfo(w.dtype).eps * scale:
            self.betas.append(0.0)
            return
        self.betas.append(beta)
        if self._filled == len(self._basis):
            room = self._basis.new_empty(min(2 * self._filled, len(w)), len(w))
            room[: self._filled] = self._basis
            self._basis = room
        torch.div(w, beta, out=self._basis[self._filled])
        self._filled += 1

    def ritz(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values after the first k steps, (k,) in rising order, their weights tau^2, and their residual norms.

        A run that was exhausted before has fewer. Within its residual norm of each Ritz value lies an eigenvalue. The
        weights sum to 1: sum_i tau_i^2 f(theta_i) is Gauss's quadrature of q' f(A) q (Golub and Meurant, 1994).
        """
        k = min(steps, self.steps)
        values, vectors = eigh_tridiagonal(np.array(self.alphas[:k]), np.array(self.betas[: k - 1]))
        return values, vectors[0] ** 2, np.abs(self.betas[k - 1] * vectors[-1])


def density(values: np.ndarray, weights: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """Spectral density by stochastic Lanczos quadrature: Gaussians at the Ritz values, summed by their weights.

    phi(t) = sum_i tau_i^2 N(t; theta_i, width^2) at every t of `grid`; over several runs, the mean of their densities
    (Lin, Saad and Yang, 2016; Ghorbani et al., 2019). It integrates to 1.
    """
    z = (grid[:, None] - values[None, :]) / width
    return np.asarray(np.exp(-0.5 * z**2) @ weights / (width * np.sqrt(2 * np.pi)))

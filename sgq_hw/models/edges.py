"""Attention over edges: scores, their softmax and weighted sums, with gradients.

Edges are those of a CSR matrix in its order, so the edges of one target lie together: sums over
them are NumPy's segment reductions and SciPy's sparse products, which on one CPU thread are
several times faster than gathering and scattering in PyTorch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Edges:
    """Edge lists of a graph of which every node has an edge (a self loop).

    Attributes:
        pattern: CSR [n, n]; its values do not matter.
        targets: int32 [e], row of every edge; ascending.
    """

    pattern: sparse.csr_array[Any]
    targets: npt.NDArray[np.int32]

    @classmethod
    def of(cls, adjacency: sparse.csr_array[Any]) -> "Edges":
        """Return the edges of an adjacency, which may have no empty row."""
        n = adjacency.shape[0]
        return cls(adjacency, np.repeat(np.arange(n, dtype=np.int32), np.diff(adjacency.indptr)))

    @property
    def sources(self) -> npt.NDArray[Any]:
        """int32 [e], column of every edge."""
        return self.pattern.indices

    def matrix(self, values: npt.NDArray[Any]) -> sparse.csr_array[Any]:
        """Return the CSR matrix [n, n] of one value an edge."""
        parts = (values, self.pattern.indices, self.pattern.indptr)
        return sparse.csr_array(parts, shape=self.pattern.shape)

    def spread(self, reduction: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Reduce `values` [e] over the edges of each target; return the result at every edge."""
        reduced = reduction.reduceat(values, self.pattern.indptr[:-1])
        return np.repeat(reduced, np.diff(self.pattern.indptr))

    def dots(self, at_targets: npt.NDArray[Any], at_sources: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the dot products [e] of two [n, channels], one's target with other's source."""
        targets, sources = at_targets[self.targets], at_sources[self.sources]
        result: npt.NDArray[Any] = np.einsum("ec,ec->e", targets, sources)
        return result


class _Sum(torch.autograd.Function):
    """score_ij = at_targets_i + at_sources_j."""

    @staticmethod
    def forward(ctx: Any, at_targets: Tensor, at_sources: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        left, right = at_targets.detach().numpy(), at_sources.detach().numpy()
        return torch.from_numpy(left[edges.targets] + right[edges.sources])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        matrix = ctx.edges.matrix(grads[0].numpy())
        rows, columns = matrix.sum(axis=1), matrix.sum(axis=0)
        return torch.from_numpy(rows), torch.from_numpy(columns), None


class _Dot(torch.autograd.Function):
    """score_ij = rows_i . rows_j."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(rows)
        values = rows.detach().numpy()
        return torch.from_numpy(edges.dots(values, values))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        matrix, values = ctx.edges.matrix(grads[0].numpy()), rows.numpy()
        return torch.from_numpy(matrix @ values + matrix.T @ values), None


class _Softmax(torch.autograd.Function):
    """weight_ij = exp(score_ij) / sum_k exp(score_ik)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        values = scores.detach().numpy()
        # The maximum changes no weight; without it the exponential would overflow.
        powers = np.exp(values - edges.spread(np.maximum, values))
        weights = torch.from_numpy(powers / edges.spread(np.add, powers))
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        weighted = (weights * grads[0]).numpy()
        shares = weights.numpy() * ctx.edges.spread(np.add, weighted)
        return torch.from_numpy(weighted - shares), None


class _WeightedSum(torch.autograd.Function):
    """result_i = sum_j weight_ij rows_j."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(weights, rows)
        return torch.from_numpy(edges.matrix(weights.detach().numpy()) @ rows.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        weights, rows = ctx.saved_tensors
        grad = grads[0].numpy()
        to_weights = ctx.edges.dots(grad, rows.numpy())
        to_rows = ctx.edges.matrix(weights.numpy()).T @ grad
        return torch.from_numpy(to_weights), torch.from_numpy(to_rows), None


def edge_sums(at_targets: Tensor, at_sources: Tensor, edges: Edges) -> Tensor:
    """Return at_targets_i + at_sources_j, both [n], of every edge [e]."""
    scores: Tensor = _Sum.apply(at_targets, at_sources, edges)  # type: ignore[no-untyped-call]
    return scores


def edge_dots(rows: Tensor, edges: Edges) -> Tensor:
    """Return the dot product of the two rows, of [n, channels], of every edge [e]."""
    scores: Tensor = _Dot.apply(rows, edges)  # type: ignore[no-untyped-call]
    return scores


def edge_softmax(scores: Tensor, edges: Edges) -> Tensor:
    """Return the softmax of `scores` [e] over the edges of each target [e]."""
    weights: Tensor = _Softmax.apply(scores, edges)  # type: ignore[no-untyped-call]
    return weights


def weighted_sums(weights: Tensor, rows: Tensor, edges: Edges) -> Tensor:
    """Return the sum [n, channels] of the source rows of each target's edges, weighted [e]."""
    sums: Tensor = _WeightedSum.apply(weights, rows, edges)  # type: ignore[no-untyped-call]
    return sums

"""Attention over edges: scores, their softmax and weighted sums, with gradients.

Edges are those of a CSR matrix in its order, so the edges of one target lie together. Scores and
weights are [e, heads].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from sgq_hw.models import kernels


@dataclass(frozen=True, eq=False)
class Edges:
    """Edge lists of a graph of which every node has an edge (a self loop).

    Attributes:
        indptr: int32 [n + 1], where the edges of each target start.
        sources: int32 [e], column of every edge.
    """

    indptr: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int32]

    @classmethod
    def of(cls, adjacency: sparse.csr_array[Any]) -> "Edges":
        """Return the edges of an adjacency, which may have no empty row."""
        return cls(
            adjacency.indptr.astype(np.int32, copy=False),
            adjacency.indices.astype(np.int32, copy=False),
        )


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return the values; kernels are compiled for contiguous ones."""
    return np.ascontiguousarray(tensor.detach().numpy())


def _with(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Return what the forward pass kept, followed by the gradient of its result."""
    return (*ctx.parts, _array(gradient))


class _LeakySum(torch.autograd.Function):
    """score_ij = leaky(at_targets_i + at_sources_j)."""

    @staticmethod
    def forward(
        ctx: Any, at_targets: Tensor, at_sources: Tensor, slope: float, edges: Edges
    ) -> Tensor:
        ends = (_array(at_targets), _array(at_sources))
        ctx.parts = (edges.indptr, edges.sources, *ends, slope)
        return torch.from_numpy(kernels.leaky_sums(*ctx.parts))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_targets, to_sources = kernels.leaky_sums_backward(*_with(ctx, grads[0]))
        return torch.from_numpy(to_targets), torch.from_numpy(to_sources), None, None


class _Dot(torch.autograd.Function):
    """score_ij = rows_i . rows_j."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, edges: Edges) -> Tensor:
        ctx.parts = (edges.indptr, edges.sources, _array(rows))
        return torch.from_numpy(kernels.dots(*ctx.parts))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(kernels.dots_backward(*_with(ctx, grads[0]))), None


class _Softmax(torch.autograd.Function):
    """weight_ij = exp(score_ij) / sum_k exp(score_ik)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, edges: Edges) -> Tensor:
        # The maximum changes no weight; without it the exponential would overflow.
        weights = kernels.less_largest(edges.indptr, _array(scores))
        np.exp(weights, out=weights)
        kernels.normalise(edges.indptr, weights)
        ctx.parts = (edges.indptr, weights)
        return torch.from_numpy(weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(kernels.softmax_backward(*_with(ctx, grads[0]))), None


class _WeightedSum(torch.autograd.Function):
    """result_i = sum_j weight_ij rows_j, head by head."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Tensor, edges: Edges, dropout: float) -> Tensor:
        kept = np.zeros((0, 0), np.bool_)
        if dropout:
            # Doubles drawn head by head are what PyTorch's dropout draws, in a third of its time.
            drawn = torch.rand(*weights.T.shape, dtype=torch.float64)
            kept = (drawn < 1 - dropout).numpy()
        parts = (edges.indptr, edges.sources, _array(weights), _array(rows))
        ctx.parts = (*parts, kept, 1 / (1 - dropout))
        return torch.from_numpy(kernels.weighted_sums(*ctx.parts))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_weights, to_rows = kernels.weighted_sums_backward(*_with(ctx, grads[0]))
        return torch.from_numpy(to_weights), torch.from_numpy(to_rows), None, None


def leaky_edge_sums(at_targets: Tensor, at_sources: Tensor, slope: float, edges: Edges) -> Tensor:
    """Return leaky(at_targets_i + at_sources_j), both [n, heads], of every edge [e, heads]."""
    scores: Tensor = _LeakySum.apply(at_targets, at_sources, slope, edges)  # type: ignore[no-untyped-call]
    return scores


def edge_dots(rows: Tensor, edges: Edges) -> Tensor:
    """Return the dot product of the two rows, of [n, channels], of every edge [e, 1]."""
    scores: Tensor = _Dot.apply(rows, edges)  # type: ignore[no-untyped-call]
    return scores


def edge_softmax(scores: Tensor, edges: Edges) -> Tensor:
    """Return the softmax of `scores` [e, heads] over the edges of each target [e, heads]."""
    weights: Tensor = _Softmax.apply(scores, edges)  # type: ignore[no-untyped-call]
    return weights


def weighted_sums(weights: Tensor, rows: Tensor, edges: Edges, dropout: float = 0.0) -> Tensor:
    """Return the sum of the source rows of each target's edges, weighted.

    Args:
        weights: [e, heads].
        rows: [n, heads * channels], head by head.
        edges: Of the graph.
        dropout: Probability that a weight is dropped, drawn from PyTorch's random state.

    Returns:
        [n, heads * channels].
    """
    by_head = rows.view(len(rows), weights.shape[1], -1)
    sums: Tensor = _WeightedSum.apply(weights, by_head, edges, dropout)  # type: ignore[no-untyped-call]
    return sums.flatten(1)

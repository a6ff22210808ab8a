"""Compiled loops over the edges of a CSR graph: sparse products and softmax attention.

All heads of a layer are handled together, an edge at a time and without gathered copies: on one
thread several times faster than NumPy, SciPy or PyTorch operations. Sums run in the order of the
edges, so results do not depend on the machine's load.

In all of them edge e of row i lies from `indptr[i]` to `indptr[i + 1]` and `indices[e]` is its
column j. Weights are [edges, heads]; rows are [nodes, heads, channels], or [nodes, channels] where
heads do not matter. Elements are indexed in full: a view of a row, or an index computed within it,
keeps the compiler from vectorising loops of eight channels.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return `function` compiled at its first call for each combination of types."""
    try:
        # The code is kept beside this file or, where that is read-only, in the user's cache.
        return cast(Function, numba.njit(cache=True)(function))
    except RuntimeError:  # neither can be written: it is compiled once a process
        return cast(Function, numba.njit(function))


@compiled
def product(indptr: Indices, indices: Indices, values: Floats, rows: Floats) -> Floats:
    """Return the sum over each row's edges of `values[e] * rows[j]`, [rows, channels]."""
    channels = rows.shape[1]
    result = np.zeros((len(indptr) - 1, channels), rows.dtype)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            value, j = values[e], indices[e]
            for c in range(channels):
                result[i, c] += value * rows[j, c]
    return result


@compiled
def transposed_product(
    indptr: Indices, indices: Indices, values: Floats, rows: Floats, columns: int
) -> Floats:
    """Return the sum over each column's edges of `values[e] * rows[i]`, [columns, channels]."""
    channels = rows.shape[1]
    result = np.zeros((columns, channels), rows.dtype)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            value, j = values[e], indices[e]
            for c in range(channels):
                result[j, c] += value * rows[i, c]
    return result


@compiled
def selected(
    indptr: Indices, indices: Indices, values: Floats, kept: Mask, factor: float
) -> tuple[Indices, Indices, Floats]:
    """Return row starts, columns and values times `factor` of the edges that `kept` [e] keeps."""
    scale = values.dtype.type(factor)
    starts, count = np.empty_like(indptr), 0
    # One element more: a value is written before it is known whether it stays.
    columns = np.empty(np.count_nonzero(kept) + 1, indices.dtype)
    results = np.empty(len(columns), values.dtype)
    for i in range(len(indptr) - 1):
        starts[i] = count
        for e in range(indptr[i], indptr[i + 1]):
            columns[count] = indices[e]
            results[count] = values[e] * scale
            count += kept[e]
    starts[-1] = count
    return starts, columns[:count], results[:count]


@compiled
def leaky_sums(
    indptr: Indices, indices: Indices, at_targets: Floats, at_sources: Floats, slope: float
) -> Floats:
    """Return `leaky(at_targets[i] + at_sources[j])`, both [nodes, heads]."""
    heads = at_targets.shape[1]
    factor = at_targets.dtype.type(slope)
    result = np.empty((len(indices), heads), at_targets.dtype)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            for h in range(heads):
                score = at_targets[i, h] + at_sources[j, h]
                result[e, h] = score if score > 0 else score * factor
    return result


@compiled
def leaky_sums_backward(
    indptr: Indices,
    indices: Indices,
    at_targets: Floats,
    at_sources: Floats,
    slope: float,
    gradient: Floats,
) -> tuple[Floats, Floats]:
    """Return the gradients of `at_targets` and `at_sources`."""
    heads = at_targets.shape[1]
    factor = at_targets.dtype.type(slope)
    to_targets, to_sources = np.zeros_like(at_targets), np.zeros_like(at_sources)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            for h in range(heads):
                positive = at_targets[i, h] + at_sources[j, h] > 0
                share = gradient[e, h] if positive else gradient[e, h] * factor
                to_targets[i, h] += share
                to_sources[j, h] += share
    return to_targets, to_sources


@compiled
def dots(indptr: Indices, indices: Indices, rows: Floats) -> Floats:
    """Return `rows[i] . rows[j]`, [edges, 1], of rows [nodes, channels]."""
    channels = rows.shape[1]
    result = np.zeros((len(indices), 1), rows.dtype)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            for c in range(channels):
                result[e, 0] += rows[i, c] * rows[j, c]
    return result


@compiled
def dots_backward(indptr: Indices, indices: Indices, rows: Floats, gradient: Floats) -> Floats:
    """Return the gradient of `rows`."""
    channels = rows.shape[1]
    result = np.zeros_like(rows)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j, share = indices[e], gradient[e, 0]
            for c in range(channels):
                result[i, c] += share * rows[j, c]
            for c in range(channels):
                result[j, c] += share * rows[i, c]
    return result


@compiled
def less_largest(indptr: Indices, logits: Floats) -> Floats:
    """Return the logits less the largest of their row and head."""
    heads = logits.shape[1]
    result = np.empty_like(logits)
    largest = np.empty(heads, logits.dtype)
    for i in range(len(indptr) - 1):
        largest[:] = -np.inf
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                largest[h] = max(largest[h], logits[e, h])
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                result[e, h] = logits[e, h] - largest[h]
    return result


@compiled
def normalise(indptr: Indices, weights: Floats) -> None:
    """Divide the weights by the sum of their row and head, in place."""
    heads = weights.shape[1]
    sums = np.empty(heads, weights.dtype)
    for i in range(len(indptr) - 1):
        sums[:] = 0
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                sums[h] += weights[e, h]
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                weights[e, h] /= sums[h]


@compiled
def softmax_backward(indptr: Indices, weights: Floats, gradient: Floats) -> Floats:
    """Return the gradient of the logits."""
    heads = weights.shape[1]
    result = np.empty_like(weights)
    means = np.empty(heads, weights.dtype)
    for i in range(len(indptr) - 1):
        means[:] = 0
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                means[h] += weights[e, h] * gradient[e, h]
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                result[e, h] = weights[e, h] * (gradient[e, h] - means[h])
    return result


@compiled
def weighted_sums(
    indptr: Indices, indices: Indices, weights: Floats, rows: Floats, kept: Mask, factor: float
) -> Floats:
    """Return the sum over each row's edges of `weights[e] * rows[j]`, head by head.

    Args:
        indptr: Row starts.
        indices: Columns.
        weights: Of the edges.
        rows: Of the nodes.
        kept: Weights that dropout keeps, [heads, edges]; [0, 0] without dropout.
        factor: What kept weights are multiplied by.
    """
    _, heads, channels = rows.shape
    scale = rows.dtype.type(factor)
    result = np.zeros((len(indptr) - 1, heads, channels), rows.dtype)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            for h in range(heads):
                weight = weights[e, h]
                if kept.size:
                    if not kept[h, e]:
                        continue
                    weight *= scale
                for c in range(channels):
                    result[i, h, c] += weight * rows[j, h, c]
    return result


@compiled
def weighted_sums_backward(
    indptr: Indices,
    indices: Indices,
    weights: Floats,
    rows: Floats,
    kept: Mask,
    factor: float,
    gradient: Floats,
) -> tuple[Floats, Floats]:
    """Return the gradients of `weights` and `rows`."""
    _, heads, channels = rows.shape
    scale = rows.dtype.type(factor)
    to_weights, to_rows = np.zeros_like(weights), np.zeros_like(rows)
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            for h in range(heads):
                weight = weights[e, h]
                total = rows.dtype.type(0)
                if kept.size:
                    if not kept[h, e]:
                        continue
                    weight *= scale
                for c in range(channels):
                    total += gradient[i, h, c] * rows[j, h, c]
                to_weights[e, h] = total * scale
                for c in range(channels):
                    to_rows[j, h, c] += weight * gradient[i, h, c]
    return to_weights, to_rows

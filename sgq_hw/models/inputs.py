"""What a network reads: features, and the adjacency in the form that its layers sum over."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph, input_row_factors, with_self_loops

Array = npt.NDArray[np.float32]
Matrix = sparse.csr_array[np.float32]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network reads, float32 CSR.

    Attributes:
        features: [n, f], rows summing to one (see `input_row_factors`).
        adjacency: [n, n], in one of the forms below.
        pooling: [graphs, n], ones where a node belongs to a graph; None for one graph.
    """

    features: Matrix
    adjacency: Matrix
    pooling: Matrix | None = None


def input_features(graph: Graph) -> Matrix:
    """Return the row-normalised features."""
    factors = np.repeat(input_row_factors(graph), np.diff(graph.x_indptr))
    raw = 1.0 if graph.x_values is None else graph.x_values
    shape = (graph.num_nodes, graph.num_features)
    return _matrix(raw * factors, graph.x_indices, graph.x_indptr, shape)


def normalised_adjacency(graph: Graph) -> Matrix:
    """Return D^-1/2 (A + I) D^-1/2, D the in-degree plus one (Kipf & Welling 2017, section 2.2).

    A self loop that the graph stores is that of I: it counts once.
    """
    indptr, indices = with_self_loops(graph)
    degree = np.diff(indptr)
    scale = degree**-0.5
    return _square(np.repeat(scale, degree) * scale[indices], indices, indptr)


def mean_adjacency(graph: Graph) -> Matrix:
    """Return D^-1 A as stored, no self loop added; the row of a node without neighbours is zero."""
    return _square(np.repeat(1.0 / np.maximum(graph.degrees, 1), graph.degrees),
                   graph.indices, graph.indptr)  # fmt: skip


def summed_adjacency(graph: Graph) -> Matrix:
    """Return A + I, all ones: sums, and the edge list of attention. No row is empty."""
    indptr, indices = with_self_loops(graph)
    return _square(np.ones(indices.size), indices, indptr)


def sum_pooling(graphs: GraphSet) -> Matrix:
    """Return the sum over each graph's nodes."""
    n = graphs.union.num_nodes
    return _matrix(np.ones(n), np.arange(n), graphs.node_ptr, (graphs.num_graphs, n))


def _square(
    values: npt.NDArray[np.float64], indices: npt.NDArray[np.int64], indptr: npt.NDArray[np.int64]
) -> Matrix:
    n = indptr.size - 1
    return _matrix(values, indices, indptr, (n, n))


def _matrix(
    values: npt.NDArray[np.float64],
    indices: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    shape: tuple[int, int],
) -> Matrix:
    # int32 indices halve the traffic of the sparse products.
    parts = (values.astype(np.float32), indices.astype(np.int32), indptr.astype(np.int32))
    return sparse.csr_array(parts, shape=shape)

"""Pubmed with its published graph, and inputs made up where the shared data set has none.

The features of 60 training and 1,000 test nodes are real. Every other row is drawn like them: as
many non-zeros on average (10 % of 500), values taken from theirs. Good for cycles and memory, never
for accuracy.
"""

from dataclasses import replace

import numpy as np

from sgq_hw.graphs import Graph, load_graph

SEED = 7


def filled_pubmed() -> Graph:
    """Return the graph with every row of its inputs present; always the same."""
    graph = load_graph("pubmed_topology")
    assert graph.x_known is not None
    assert graph.x_values is not None
    rng = np.random.default_rng(SEED)
    lengths = np.diff(graph.x_indptr)
    missing = np.flatnonzero(~graph.x_known)
    density = lengths[graph.x_known].mean() / graph.num_features
    indices, values = [], []
    filled = lengths.copy()
    filled[missing] = np.maximum(rng.binomial(graph.num_features, density, missing.size), 1)
    for node in range(graph.num_nodes):
        if graph.x_known[node]:
            own = slice(graph.x_indptr[node], graph.x_indptr[node + 1])
            indices.append(graph.x_indices[own])
            values.append(graph.x_values[own])
        else:
            drawn = rng.choice(graph.num_features, filled[node], replace=False)
            indices.append(np.sort(drawn).astype(graph.x_indices.dtype))
            values.append(rng.choice(graph.x_values, filled[node]))
    return replace(
        graph,
        x_indptr=np.concatenate([[0], np.cumsum(filled)]).astype(graph.x_indptr.dtype),
        x_indices=np.concatenate(indices),
        x_values=np.concatenate(values),
        x_known=None,
    )

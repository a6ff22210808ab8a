"""Small real bundles without training: random float weights, quantised on a named graph."""

from itertools import pairwise
from typing import Literal

import numpy as np

from sgq_hw.bundle import Bundle
from sgq_hw.graphs import load_graph


def quantised(
    name: str,
    bits: int = 4,
    normalisation: Literal["factored", "edge"] = "factored",
    hidden: int = 16,
) -> Bundle:
    """Return a two-layer network of `uniform_config(bits)` with random weights on a graph."""
    from sgq_hw.quantize.config import uniform_config
    from sgq_hw.quantize.network import QuantizedNetwork

    graph = load_graph(name)
    rng = np.random.default_rng(0)
    sizes = [graph.num_features, hidden, graph.num_classes]
    weights = [
        rng.normal(0, (2 / (rows + columns)) ** 0.5, (rows, columns)).astype(np.float32)
        for rows, columns in pairwise(sizes)
    ]
    biases = [rng.normal(0, 0.1, columns).astype(np.float32) for columns in sizes[1:]]
    config = uniform_config(bits, 2, normalisation)
    return QuantizedNetwork(weights, biases, graph, config).freeze()

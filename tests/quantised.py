"""Small real bundles without training: random float weights, quantised on a named graph."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sgq_hw.bundle import Bundle
from sgq_hw.graphs import Graph, load_graph

if TYPE_CHECKING:
    from sgq_hw.quantize.config import BitConfig
    from sgq_hw.quantize.network import QuantizedNetwork


def gcn_of(
    weights: Sequence[npt.NDArray[np.float32]],
    biases: Sequence[npt.NDArray[np.float32]],
    graph: Graph,
    config: "BitConfig",
) -> "QuantizedNetwork":
    """Return a quantised GCN of the given float parameters, one of each for every layer."""
    from sgq_hw.quantize.network import QuantizedNetwork

    named = {f"layer{index}/combine/weight": value for index, value in enumerate(weights)}
    named |= {f"layer{index}/bias": value for index, value in enumerate(biases)}
    return QuantizedNetwork(named, ("gcn",) * len(weights), graph, config)


def quantised(
    name: str,
    bits: int = 4,
    normalisation: Literal["factored", "edge"] = "factored",
    hidden: int = 16,
    bucket_bits: Sequence[int] = (),
) -> Bundle:
    """Return a two-layer network of `uniform_config(bits)` with random weights on a graph.

    With `bucket_bits` every hidden tensor, those before aggregation included, has these bits at
    SGQuant's splits; two instead of one where it has a sign.
    """
    from sgq_hw.quantize.config import Taq, uniform_config
    from sgq_hw.quantize.freeze import freeze

    graph = load_graph(name)
    rng = np.random.default_rng(0)
    sizes = [graph.num_features, hidden, graph.num_classes]
    weights = [
        rng.normal(0, (2 / (rows + columns)) ** 0.5, (rows, columns)).astype(np.float32)
        for rows, columns in pairwise(sizes)
    ]
    biases = [rng.normal(0, 0.1, columns).astype(np.float32) for columns in sizes[1:]]
    config = uniform_config(bits, 2, normalisation)
    if bucket_bits:
        taq = Taq(splits=(4, 8, 16), bits=tuple(bucket_bits))
        signed = Taq(splits=(4, 8, 16), bits=tuple(max(2, width) for width in bucket_bits))
        first, last = config.layers
        layers = (
            msgspec.structs.replace(first, combine=signed, aggregate=taq),
            msgspec.structs.replace(last, combine=signed),
        )
        config = msgspec.structs.replace(config, layers=layers)
    return freeze(gcn_of(weights, biases, graph, config))

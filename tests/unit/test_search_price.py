"""The memory by which points are ranked, against that of the real networks."""

from dataclasses import replace

import numpy as np
import pytest

from sgq_hw.graphs import Graph, karate_club
from sgq_hw.quantize.network import QuantizedNetwork
from sgq_hw.search.price import Pricer
from sgq_hw.search.space import Inputs, config_of, gcn_space
from sgq_hw.search.trial import budget_of, charged_bits
from sgq_hw.train import train


def karate_with(inputs: Inputs) -> Graph:
    graph = karate_club()
    values = np.random.default_rng(0).uniform(0.1, 1.0, len(graph.x_indices))
    if inputs == "signed":
        values[::2] *= -1
    return graph if inputs == "binary" else replace(graph, x_values=values)


@pytest.mark.parametrize("inputs", ["binary", "unsigned", "signed"])
def test_every_memory_but_the_biases_is_exact(inputs: Inputs) -> None:
    graph = karate_with(inputs)
    trained = train(graph, epochs=5)
    space = gcn_space(2, inputs)
    pricer = Pricer(space, trained, graph)
    for point in space.sample(np.random.default_rng(1), 40):
        config = config_of(space, point)
        network = QuantizedNetwork(list(trained.weights), list(trained.biases), graph, config)
        real, priced = budget_of(network.freeze()), pricer.budget(point)
        assert priced.input_bits == real.input_bits, config
        assert priced.tensors == real.tensors, config
        sizes = [
            {m.name: (m.width, m.depth) for m in b.design.memories if m.role != "channel"}
            for b in (priced, real)
        ]
        assert sizes[0] == sizes[1], config
        biases = real.design.memory("channel_memory").bits
        assert abs(pricer(point) - charged_bits(real)) < biases

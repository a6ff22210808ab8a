"""The memory by which points are ranked, against that of the real networks."""

from dataclasses import replace

import numpy as np
import pytest

from sgq_hw.compression import charged_memory
from sgq_hw.graphs import Graph, karate_club
from sgq_hw.quantize.config import kinds_for
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.pipeline import quantized_network
from sgq_hw.search.price import Pricer
from sgq_hw.search.space import Inputs, config_of, space_of
from sgq_hw.train import train


def karate_with(inputs: Inputs) -> Graph:
    graph = karate_club()
    values = np.random.default_rng(0).uniform(0.1, 1.0, len(graph.x_indices))
    if inputs == "signed":
        values[::2] *= -1
    return graph if inputs == "binary" else replace(graph, x_values=values)


@pytest.mark.parametrize("model", ["gcn", "sage", "gin", "gat", "agnn"])
@pytest.mark.parametrize("inputs", ["binary", "unsigned", "signed"])
def test_every_charge_but_biases_and_constants_is_exact(model: str, inputs: Inputs) -> None:
    graph = karate_with(inputs)
    trained = train(graph, model=model, epochs=3)
    kinds = kinds_for(trained, graph)
    space = space_of(kinds, inputs)
    pricer = Pricer(space, kinds, trained, graph)
    associations = set()
    for point in space.sample(np.random.default_rng(1), 12):
        config = config_of(space, kinds, point)
        associations.add(config.layers[-1].association)
        real = charged_memory(freeze(quantized_network(trained, graph, config)))
        priced = pricer.charges(point)
        loose = {"biases", "constants"} | ({"tables"} if model in ("gat", "agnn") else set())
        for name in real.keys() - loose:
            assert priced[name] == real[name], (name, config)
        slack = sum(real[name] for name in loose) + 8 * 256
        assert abs(pricer(point) - sum(real.values())) < slack
    assert associations == ({"A(XW)", "(AX)W"} if model == "gcn" else {"A(XW)"})

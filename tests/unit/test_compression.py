"""The compression figures of every model, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from sgq_hw.bundle import Bundle
from sgq_hw.compression import as_json, charged_memory, compression, float_bits, tensors
from sgq_hw.graphs import load_graph
from sgq_hw.quantize.config import make_taq, uniform_config, with_taq
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.pipeline import quantized_network
from sgq_hw.quantize.workload import degree_buckets
from sgq_hw.train import train
from tests.quantised import gcn_of

NODES, LINKS, HIDDEN, CLASSES = 34, 2 * 78, 16, 2


def karate(model: str, bits: int) -> Bundle:
    """Two layers on karate, whose 34 features are one-hot."""
    graph = load_graph("karate")
    trained = train(graph, model=model, epochs=2)
    kinds = (model, model) if model != "agnn" else ("linear", "propagate", "propagate", "linear")
    return freeze(quantized_network(trained, graph, uniform_config(bits, kinds)))


def test_sage_by_hand() -> None:
    """Two combinations a layer, 1 / degree with 16 bits, no self loops."""
    bundle = karate("sage", 4)
    hidden, wide = NODES * HIDDEN, 8
    figures = compression(bundle)
    inputs = NODES * NODES
    assert figures.features == 32 * (inputs + hidden) / (inputs + 4 * hidden)
    assert figures.hidden == 8
    results = NODES * CLASSES
    stored = inputs + 2 * wide * hidden + 4 * hidden + 2 * wide * results + NODES * (12 + 16)
    values = inputs + 3 * hidden + 2 * results + 2 * NODES
    assert figures.stored == pytest.approx(32 * values / stored)
    weights = 2 * (NODES * HIDDEN + HIDDEN * CLASSES)
    charged = charged_memory(bundle)
    assert charged["weights"] == 4 * weights
    assert charged["node_factors"] == NODES * (12 + 16)
    # Column of 6 bits, end of row, and a flag for rows without an edge, which have a record too.
    assert charged["graph"] == LINKS * (6 + 1 + 1)
    assert charged["buckets"] == charged["tables"] == 0
    # Neighbour and root term, and the sum being written.
    assert charged["features"] == (2 * wide + 4) * hidden
    # One-hot rows: a column of 6 bits and a length of 1 bit.
    assert charged["input"] == NODES * 7
    parameters = weights + HIDDEN + CLASSES
    dense = inputs + 3 * hidden + 3 * results + parameters + 2 * LINKS
    assert float_bits(bundle) == 32 * dense
    assert figures.total == pytest.approx(32 * dense / sum(charged.values()))
    assert as_json(figures)["charged_bits"] == sum(charged.values())


def test_attention_by_hand() -> None:
    """GAT keeps its scores, two columns a head, and a row's largest; its tables are charged."""
    bundle = karate("gat", 4)
    names = [tensor.name for tensor in tensors(bundle)]
    assert names[1:4] == ["layer0.combine", "layer0.score", "layer0.aggregate"]
    score = tensors(bundle)[2]
    assert (score.elements, score.payload_bits) == (NODES * 16, NODES * 16 * 12)
    network = bundle.network
    exponentials = sum(4 * table.size for table in network.exponentials.values())
    elu = 4 * 2**3
    charged = charged_memory(bundle)
    assert charged["tables"] == exponentials + elu
    # Scores, a row's largest, the 64 channels that are weighed (8 bits) and the means (4 bits).
    assert charged["features"] == NODES * (8 * 3 * 12 + 64 * (8 + 4))


@pytest.mark.parametrize(
    ("name", "average"), [("cora", 6.23), ("citeseer", 7.03), ("amazon_computers", 2.18)]
)
def test_degree_aware_bits(name: str, average: float, data_folder: Path) -> None:
    """Average bits of a hidden value at splits 4, 8, 16 and bits 8, 4, 2, 1, from the degrees."""
    graph = load_graph(name)
    buckets = degree_buckets(graph, (4, 8, 16))
    with np.load(data_folder / f"{name}.npz") as file:
        degrees = np.diff(file["indptr"])
    expected = sum(
        bits * np.count_nonzero((degrees >= low) & (degrees < high))
        for bits, low, high in ((8, 0, 4), (4, 4, 8), (2, 8, 16), (1, 16, 1 << 40))
    )
    rng = np.random.default_rng(0)
    weights = [
        rng.normal(0, 0.1, shape).astype(np.float32)
        for shape in ((graph.num_features, 4), (4, graph.num_classes))
    ]
    biases = [np.zeros(4, np.float32), np.zeros(graph.num_classes, np.float32)]
    config = with_taq(uniform_config(8, 2), ("gcn", "gcn"), make_taq((4, 8, 16), (8, 4, 2, 1)))
    bundle = freeze(gcn_of(weights, biases, graph, config))
    assert bundle.workload.buckets is not None
    assert np.array_equal(bundle.workload.buckets, buckets)
    hidden = next(tensor for tensor in tensors(bundle) if tensor.name == "layer0.aggregate")
    assert hidden.payload_bits == 4 * expected
    assert hidden.average_bits == pytest.approx(average, abs=0.005)
    assert compression(bundle).hidden == pytest.approx(32 / hidden.average_bits)

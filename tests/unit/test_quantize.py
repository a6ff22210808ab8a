"""The quantised network in torch: equal to the golden model in every code, and accurate."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from sgq_hw.bundle import Bundle
from sgq_hw.errors import InputError
from sgq_hw.golden.network import evaluate, run
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.quantize.config import BitConfig, LayerBits, uniform_config
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.network import QuantizedNetwork
from sgq_hw.quantize.pipeline import check_exact, fine_tune, quantize, quantized_network
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.quantize.workload import bind
from sgq_hw.train import TrainedModel, train
from tests.quantised import gcn_of
from tests.random_networks import gcn_layers, validated

Norm = Literal["factored", "edge"]
FloatArray = npt.NDArray[np.float64]

BITS = (1, 2, 4, 8, 16)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def trained(name: str, layers: int = 2, epochs: int | None = None) -> tuple[TrainedModel, Graph]:
    """Train once in a session."""
    graph = load_graph(name)
    return train(graph, layers=layers, epochs=epochs), graph


def network_of(
    model: TrainedModel, graph: Graph, config: BitConfig
) -> QuantizedNetwork:
    return quantized_network(model, graph, config)


def assert_exact(network: QuantizedNetwork) -> Bundle:
    """Every code of torch equals the golden model's, on the bundle as it comes from a file."""
    bundle = validated(freeze(network))
    trace = run(bundle.network, bundle.workload)
    codes = network.stage_codes()
    assert list(codes) == list(trace)
    for key, expected in trace.items():
        assert np.array_equal(codes[key], expected), key
    return bundle


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("norm", ["factored", "edge"])
@pytest.mark.parametrize("name", ["karate", "cora"])
def test_torch_equals_golden(
    name: str, norm: Norm, bits: int, request: pytest.FixtureRequest
) -> None:
    if name != "karate":
        request.getfixturevalue("data_folder")
    bundle = assert_exact(network_of(*trained(name), uniform_config(bits, 2, norm)))
    for index, layer in enumerate(gcn_layers(bundle.network.manifest)):
        assert layer.weight.bits == max(bits, 2)
        assert layer.combine.output.bits == max(bits, 8)
        assert layer.aggregate.output.bits == (16 if index == 1 else bits)
    codes = run(bundle.network, bundle.workload)
    assert all(len(np.unique(values)) > 1 for values in codes.values())


@pytest.mark.parametrize(("name", "bits"), [*(("karate", n) for n in BITS), ("cora", 4)])
def test_aggregation_first(name: str, bits: int, request: pytest.FixtureRequest) -> None:
    """(AX)W in the second layer: the aggregated features need no sign, and are not the logits."""
    if name != "karate":
        request.getfixturevalue("data_folder")
    config = uniform_config(bits, 2, "edge")
    second = LayerBits(
        weight=max(bits, 2), combine=16, aggregate=max(bits, 8), association="(AX)W"
    )
    config = msgspec.structs.replace(config, layers=(config.layers[0], second))
    bundle = assert_exact(network_of(*trained(name), config))
    last = gcn_layers(bundle.network.manifest)[1]
    assert list(run(bundle.network, bundle.workload))[-2:] == [(1, "aggregate"), (1, "combine")]
    assert not last.aggregate.output.signed
    assert (last.combine.output.bits, last.combine.output.signed) == (16, True)


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (uniform_config(4, 2, "edge"), r"layers\[0\]"),
        (uniform_config(4, 2, "factored"), r"layers\[1\]"),
    ],
)
def test_aggregation_first_is_refused(config: BitConfig, where: str) -> None:
    index = int(where[-3])
    layers = list(config.layers)
    layers[index] = msgspec.structs.replace(layers[index], association="(AX)W")
    with pytest.raises(InputError, match=rf"^{where}\.association: "):
        network_of(*trained("karate"), msgspec.structs.replace(config, layers=tuple(layers)))


@pytest.mark.parametrize("norm", ["factored", "edge"])
def test_three_layers(norm: Norm) -> None:
    model, graph = trained("karate", layers=3, epochs=40)
    bundle = assert_exact(network_of(model, graph, uniform_config(3, 3, norm)))
    assert len(bundle.network.weights) == 3


def test_fine_tuning() -> None:
    """It changes weights, the same way for the same seed, keeps exactness, does not do worse."""
    model, graph = trained("karate", epochs=8)  # far from its best, so that tuning helps
    config, options = uniform_config(2, 2), FineTuning(epochs=16, lr_factor=1.0)
    plain = network_of(model, graph, config)
    before = freeze(plain)
    tuned = []
    for seed in (0, 0, 1):
        network = network_of(model, graph, config)
        fine_tune(network, model, graph, options, seed, progress=False)
        assert_exact(network)
        tuned.append(freeze(network))
    first, again, other = (
        [w.tolist() for w in bundle.network.weights.values()] for bundle in tuned
    )
    assert first == again
    assert first != other
    assert first != [weight.tolist() for weight in before.network.weights.values()]
    assert evaluate(tuned[0])["val"] >= evaluate(before)["val"]
    whole = quantize(model, graph, config, tuning=options, seed=0)
    assert [weight.tolist() for weight in whole.network.weights.values()] == first


def test_fine_tuning_refusals() -> None:
    model, graph = trained("karate")
    for unlabelled in (replace(graph, y=None), replace(graph, train_mask=None)):
        with pytest.raises(InputError, match=r"^karate: train_mask: "):
            quantize(model, unlabelled, uniform_config(4, 2), tuning=FineTuning())
    for seed in (-1, 2**64):
        with pytest.raises(InputError, match=f"^--seed: {seed} "):
            quantize(model, graph, uniform_config(4, 2), tuning=FineTuning(), seed=seed)


def row_sums(graph: Graph) -> list[float]:
    sums = []
    for node in range(graph.num_nodes):
        place = slice(graph.x_indptr[node], graph.x_indptr[node + 1])
        values = 1.0 if graph.x_values is None else graph.x_values[place]
        sums.append(float(np.sum(np.broadcast_to(values, (place.stop - place.start,)))))
    return sums


@pytest.mark.parametrize("bits", [1, 4, 16])
@pytest.mark.parametrize("norm", ["factored", "edge"])
@pytest.mark.parametrize("name", ["karate", "cora"])
def test_binary_inputs_take_one_bit(
    name: str, norm: Norm, bits: int, request: pytest.FixtureRequest
) -> None:
    """Their codes are all one; the row's factor restores the real value up to its own LSB."""
    if name != "karate":
        request.getfixturevalue("data_folder")
    model, graph = trained(name)
    bundle = freeze(network_of(model, graph, uniform_config(bits, 2, norm)))
    spec, workload = bundle.network.manifest.input, bundle.workload
    assert (spec.bits, spec.signed, spec.row_normalised) == (1, False, True)
    assert workload.x_codes is None
    assert np.array_equal(workload.x_indices, graph.x_indices)
    table = bundle.network.manifest.node_tables[0]
    assert table.rule == ("input-degree" if norm == "factored" else "input")
    codes = workload.node_tables[table.name]
    for node, total in enumerate(row_sums(graph)):
        loops = node in graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
        degree = graph.degrees[node] + (not loops)
        real = (1 / total if total else 0.0) * (degree**-0.5 if norm == "factored" else 1.0)
        # A factor of 1 is saturated to the highest code, one step below.
        assert abs(codes[node] * table.scale - real) <= table.scale * (1 if real == 1 else 0.5)


def with_values(values: FloatArray) -> Graph:
    return replace(load_graph("karate"), x_values=values)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("norm", ["factored", "edge"])
@pytest.mark.parametrize("kind", ["real", "negative"])
def test_real_inputs(kind: str, norm: Norm, bits: int) -> None:
    """Codes relative to the row's largest value; times the row's factor they are the inputs."""
    rng = np.random.default_rng(1)
    graph = load_graph("karate")
    columns = [np.sort(rng.choice(34, rng.integers(1, 9), replace=False)) for _ in range(34)]
    x_indptr = np.concatenate([[0], np.cumsum([len(row) for row in columns])])
    values = rng.lognormal(0.0, 1.0, x_indptr[-1])
    if kind == "negative":
        values *= rng.choice([-1.0, 1.0], len(values))
    graph = replace(
        graph, x_indptr=x_indptr, x_indices=np.concatenate(columns), x_values=values
    )
    model = train(graph, epochs=10)
    bundle = assert_exact(network_of(model, graph, uniform_config(bits, 2, norm)))
    spec, workload = bundle.network.manifest.input, bundle.workload
    signed = kind == "negative"
    assert (spec.bits, spec.signed) == (max(bits, 2) if signed else bits, signed)
    assert spec.row_normalised != signed
    # Rebuild the inputs from codes and factors, and compare with the real ones.
    table = bundle.network.manifest.node_tables[0]
    highest = 2 ** (spec.bits - 1) - 1 if signed else 2**spec.bits - 1
    for node in range(34):
        row = np.zeros(34)
        place = slice(workload.x_indptr[node], workload.x_indptr[node + 1])
        row[workload.x_indices[place]] = 1 if workload.x_codes is None else workload.x_codes[place]
        real = np.zeros(34)
        stored = slice(x_indptr[node], x_indptr[node + 1])
        real[graph.x_indices[stored]] = values[stored]
        factor = 1.0 if signed else 1 / real.sum()
        factor *= (graph.degrees[node] + 1) ** -0.5 if norm == "factored" else 1.0
        peak = np.abs(real).max() * factor
        # Half a code step, and half a step of the factor on a full-scale code.
        tolerance = peak / highest / 2 + table.scale * highest / 2
        rebuilt = row * workload.node_tables[table.name][node] * table.scale
        assert np.abs(rebuilt - real * factor).max() <= tolerance * 1.001
        # The factor's own step must not swamp it: it has 12 bits.
        assert table.scale * highest <= peak / 4


def test_one_bit_real_inputs_keep_only_ones() -> None:
    """A one-bit record holds no value: inputs rounded to zero may not be stored."""
    values = np.linspace(0.05, 1.0, 34)
    graph = replace(
        with_values(values),
        x_indptr=np.concatenate([[0, 34], np.full(33, 34)]),
        x_indices=np.arange(34),
    )
    model, _ = trained("karate")
    bundle = freeze(network_of(model, graph, uniform_config(1, 2)))
    assert bundle.workload.x_codes is None
    kept = np.flatnonzero(values / values.max() >= 0.5)
    assert bundle.workload.x_indices.tolist() == kept.tolist()
    # The same where a binary network meets a graph with real inputs.
    binary = freeze(network_of(*trained("karate"), uniform_config(4, 2)))
    bound = bind(graph, binary.network.manifest)
    assert bound.x_codes is None
    assert bound.x_indices.tolist() == kept.tolist()


@pytest.mark.parametrize("norm", ["factored", "edge"])
def test_dblp(norm: Norm, data_folder: Path) -> None:
    """Real inputs of a data set, at every width; at many bits nothing may be lost."""
    model, graph = trained("dblp", epochs=30)
    for bits in (1, 4, 16):
        network = network_of(model, graph, uniform_config(bits, 2, norm))
        bundle = assert_exact(network)
    assert abs(evaluate(bundle)["test"] - model.accuracy["test"]) < 1.0


def test_a_bias_far_beyond_the_output_range() -> None:
    """Torch and integers must agree even where sums are the small difference of large terms."""
    graph = load_graph("karate")
    weights = [np.full((34, 4), -1.0, np.float32), np.ones((4, 2), np.float32)]
    for offset in (0.6, 0.7, 1.0, 40.0, -3.0):
        biases = [np.full(4, offset, np.float32), np.array([0.5, -60.0], np.float32)]
        for bits in (1, 4):
            network = gcn_of(weights, biases, graph, uniform_config(bits, 2))
            assert_exact(network)


def test_cora_accuracy(data_folder: Path) -> None:
    """Within one point of float: 8 bits as they are, 4 bits after fine-tuning."""
    model, graph = trained("cora")
    eight = quantize(model, graph, uniform_config(8, 2))
    assert abs(evaluate(eight)["test"] - model.accuracy["test"]) <= 1.0
    four = quantize(model, graph, uniform_config(4, 2), tuning=FineTuning(), seed=0)
    assert abs(evaluate(four)["test"] - model.accuracy["test"]) <= 1.0
    assert gcn_layers(four.network.manifest)[0].aggregate.output.bits == 4


def test_a_network_meets_another_graph() -> None:
    """`bind` refuses what the network cannot read, by field."""
    manifest = freeze(network_of(*trained("karate"), uniform_config(4, 2))).network.manifest
    graph = load_graph("karate")
    with pytest.raises(InputError, match=r"^karate: x_shape: 35 features; the network has 34$"):
        bind(replace(graph, num_features=35), manifest)
    with pytest.raises(InputError, match=r"^karate: x_data: negative inputs"):
        bind(with_values(np.linspace(-1, 1, 34)), manifest)
    assert graph.y is not None
    with pytest.raises(InputError, match=r"^karate: y: class 2; the network has 2$"):
        bind(replace(graph, y=graph.y + 1), manifest)


def test_codes_that_training_did_not_see_are_refused() -> None:
    model, graph = trained("karate", epochs=5)
    network = network_of(model, graph, uniform_config(4, 2))
    bundle = freeze(network)
    check_exact(network, bundle)
    other = bundle.network.weights[1, "combine"].copy()
    other[0, 0] += 5
    changed = replace(bundle.network, weights=bundle.network.weights | {(1, "combine"): other})
    with pytest.raises(InputError, match=r"layer 1 combine: sums beyond 2\*\*53"):
        check_exact(network, replace(bundle, network=changed))

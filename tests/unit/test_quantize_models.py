"""All models quantised: torch and golden model agree in every code, whatever the configuration."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import sparse

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.errors import InputError
from sgq_hw.formats import Format
from sgq_hw.golden.attention_unit import (
    attention_sums,
    attention_table,
    edge_weights,
    fitting_norm_bits,
)
from sgq_hw.golden.network import run
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.layers import AgnnAttention, GatAttention
from sgq_hw.models.catalogue import network_for
from sgq_hw.models.edges import Edges
from sgq_hw.models.layout import kinds_of
from sgq_hw.quantize import pipeline
from sgq_hw.quantize.attention import Attention, choose_agnn, exact_mean
from sgq_hw.quantize.config import (
    COMPONENTS,
    RESULTS,
    BitConfig,
    Calibration,
    LayerBits,
    Taq,
    check_config,
    config_kinds,
    uniform_config,
    with_taq,
)
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.network import QuantizedNetwork
from sgq_hw.quantize.pipeline import fine_tune, quantize, quantized_network
from sgq_hw.quantize.plan import PlannedStage
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.quantize.workload import degree_buckets
from sgq_hw.train import TrainedModel, train
from tests.random_networks import validated

Inputs = Literal["binary", "real", "signed"]
INPUTS: tuple[Inputs, ...] = get_args(Inputs)
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)
MODELS = ("gcn", "sage", "gin", "gat", "agnn", "gin of graphs")
BITS = (1, 2, 4, 8, 16)
SPLITS = (4, 8, 16)
TAQ = Taq(splits=SPLITS, bits=(8, 4, 2, 1))
SIGNED_TAQ = Taq(splits=SPLITS, bits=(8, 4, 2, 2))
SIGNED = {"gcn": "combine", "sage": "combine", "gin": "combine", "gat": "combine"}
"""Kinds of layers whose product with the weights has a sign."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def graph_set() -> GraphSet:
    """Rings and stars of 1 to 20 nodes, so that degrees reach every bucket; three node labels."""
    sizes = [1, 3, 5, 20, 4, 6, 12, 2, 7, 9, 3, 8]
    rows: list[list[int]] = []
    for number, size in enumerate(sizes):
        start = len(rows)
        ring = [{(i - 1) % size, (i + 1) % size} - {i} for i in range(size)]
        star = [set(range(1, size)) if i == 0 else {0} for i in range(size)]
        rows += [sorted(start + j for j in row) for row in (star if number % 2 else ring)]
    nodes = len(rows)
    part = np.arange(len(sizes)) % 4
    return GraphSet(
        union=Graph(
            name="rings-and-stars",
            indptr=np.cumsum([0, *map(len, rows)]),
            indices=np.array([j for row in rows for j in row]),
            x_indptr=np.arange(nodes + 1),
            x_indices=np.arange(nodes) % 3,
            x_values=None,
            num_features=3,
        ),
        graph_of_node=np.repeat(np.arange(len(sizes)), sizes),
        y=np.arange(len(sizes)) % 2,
        train_mask=part < 2,
        val_mask=part == 2,
        test_mask=part == 3,
    )


def with_inputs(graph: Graph, inputs: Inputs) -> Graph:
    """The graph with up to four features a node, some of them stored zeros."""
    if inputs == "binary":
        return graph
    rng = np.random.default_rng(1)
    columns = [
        np.sort(rng.choice(graph.num_features, rng.integers(0, 4), replace=False))
        for _ in range(graph.num_nodes)
    ]
    stored = sum(map(len, columns))
    values = rng.lognormal(0.0, 1.0, stored) * (rng.random(stored) < 0.9)
    if inputs == "signed":
        values *= rng.choice([-1.0, 1.0], stored)
    return replace(
        graph,
        x_indptr=np.cumsum([0, *map(len, columns)]),
        x_indices=np.concatenate(columns),
        x_values=values,
    )


@functools.cache
def trained(model: str, inputs: Inputs = "binary") -> tuple[TrainedModel, Graph | GraphSet]:
    """Train once in a session."""
    if model == "gin of graphs":
        graphs = graph_set()
        graphs = replace(graphs, union=with_inputs(graphs.union, inputs))
        return train(graphs, model="gin", hidden=5, epochs=8), graphs
    graph = with_inputs(load_graph("karate"), inputs)
    return train(graph, model=model, epochs=12), graph


def kinds_for(model: TrainedModel, data: Graph | GraphSet) -> tuple[str, ...]:
    of_graphs = isinstance(data, GraphSet)
    kinds = kinds_of(model.model, model.num_layers, of_graphs=of_graphs)
    return config_kinds(kinds, of_graphs=of_graphs)


def assert_exact(network: QuantizedNetwork) -> Bundle:
    """Every code of torch equals the golden model's, on the bundle as it comes from a file."""
    bundle = validated(freeze(network))
    trace = run(bundle.network, bundle.workload)
    codes = network.stage_codes()
    assert list(codes) == list(trace)
    for key, expected in trace.items():
        assert np.array_equal(codes[key], expected), key
    logits = network().detach().numpy()
    output = bundle.network.manifest.steps()[-1].epilogue.output
    assert np.array_equal(logits, trace[next(reversed(trace))] * output.scale)
    return bundle


# ---- configurations -----------------------------------------------------------------------------


def by_component(kinds: tuple[str, ...]) -> BitConfig:
    """Every component another width."""
    widths = {
        "weight": 5, "combine": 9, "aggregate": 3, "root": 6, "mlp": 4, "score": 10,
        "attention": 6, "readout": 13,
    }  # fmt: skip
    return from_widths(kinds, lambda name, _: widths[name])


def by_layer(kinds: tuple[str, ...]) -> BitConfig:
    """Every layer another width, narrower from layer to layer."""
    return from_widths(kinds, lambda _, index: 9 - 2 * index)


def from_widths(kinds: tuple[str, ...], width: Callable[[str, int], int]) -> BitConfig:
    layers = [
        {name: width(name, index) for name in COMPONENTS[kind]} for index, kind in enumerate(kinds)
    ]
    layers[-1][RESULTS.get(kinds[-1], "aggregate")] = 16
    config = {"input": 3, "factor": 11, "input_factor": 9, "layers": layers}
    return msgspec.convert(config, BitConfig)


def on_combine(kinds: tuple[str, ...]) -> BitConfig:
    """Degree-aware products with the weights, in all layers whose logits are another stage."""
    config = uniform_config(8, kinds)
    layers = list(config.layers)
    for index, kind in enumerate(kinds):
        if kind in SIGNED:
            layers[index] = msgspec.structs.replace(layers[index], combine=SIGNED_TAQ)
        elif kind == "linear" and index < len(kinds) - 1:
            layers[index] = msgspec.structs.replace(layers[index], combine=TAQ)
    return msgspec.structs.replace(config, layers=tuple(layers))


def configurations(kinds: tuple[str, ...]) -> dict[str, BitConfig]:
    found = {f"uniform {bits}": uniform_config(bits, kinds) for bits in BITS}
    found |= {"by component": by_component(kinds), "by layer": by_layer(kinds)}
    found["on combine"] = on_combine(kinds)
    if "gat" not in kinds:
        found["taq"] = with_taq(uniform_config(8, kinds), kinds, TAQ)
        found["taq everywhere"] = with_taq(on_combine(kinds), kinds, TAQ)
    if kinds[0] == "gcn":
        for name in ("uniform 4", "taq"):
            found[f"{name}, edge"] = msgspec.structs.replace(found[name], normalisation="edge")
        turned = LayerBits(weight=4, combine=16, aggregate=TAQ, association="(AX)W")
        plain = found["uniform 4, edge"]
        layers = (plain.layers[0], turned)
        found["taq, (AX)W"] = msgspec.structs.replace(plain, layers=layers)
    return found


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("model", MODELS)
def test_torch_equals_golden(model: str, inputs: Inputs) -> None:
    """Every configuration, with the usual calibration and another; few codes may be all alike."""
    pair = trained(model, inputs)
    kinds = kinds_for(*pair)
    flat = stages = 0
    others = itertools.cycle(method for method in CALIBRATIONS if method != "error")
    cases = [
        (name, msgspec.structs.replace(config, calibration=method))
        for name, config in configurations(kinds).items()
        for method in ("error", next(others))
    ]
    assert {config.calibration for _, config in cases} == set(CALIBRATIONS)
    for name, config in cases:
        network = quantized_network(*pair, config)
        bundle = assert_exact(network)
        manifest = bundle.network.manifest
        assert manifest.input.signed == (inputs == "signed")
        assert ("taq" in name or "combine" in name) == (manifest.degree_splits == SPLITS)
        for codes in network.stage_codes().values():
            stages += 1
            flat += len(np.unique(codes)) == 1
    assert flat < 0.2 * stages


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("bits", BITS)
def test_uniform_bits(model: str, bits: int) -> None:
    """What `--bits N` promises, for the hidden features of every model."""
    pair = trained(model)
    network = quantized_network(*pair, uniform_config(bits, kinds_for(*pair)))
    steps = freeze(network).network.manifest.steps()
    for step, planned in zip(steps, network.stages, strict=True):
        output = step.epilogue.output
        if planned.hidden or (model == "agnn" and step is not steps[-1]):
            assert output.bits == (max(bits, 2) if output.signed else bits), step.name
        if step.weight is not None:
            assert step.weight.bits == max(bits, 2)
    assert steps[-1].epilogue.output.bits == 16


@pytest.mark.parametrize("model", [model for model in MODELS if model != "gat"])
def test_windows_follow_the_in_degree(model: str) -> None:
    """Self loops that a network adds do not count; hidden results have the promised bits."""
    pair = trained(model)
    kinds = kinds_for(*pair)
    network = quantized_network(*pair, with_taq(uniform_config(8, kinds), kinds, TAQ))
    bundle = freeze(network)
    data = pair[1]
    graph = data.union if isinstance(data, GraphSet) else data
    degrees = [len(set(graph.indices[a:b])) for a, b in zip(graph.indptr, graph.indptr[1:],
                                                           strict=False)]  # fmt: skip
    expected = [sum(degree >= split for split in SPLITS) for degree in degrees]
    assert bundle.workload.buckets is not None
    assert bundle.workload.buckets.tolist() == expected
    assert set(expected) == {0, 1, 2, 3}
    outputs = [step.epilogue.output for step in bundle.network.manifest.steps()]
    found = [output for output in outputs if output.windows]
    assert len(found) == len(kinds) - 1
    assert all(tuple(w.bits for w in output.windows) == TAQ.bits for output in found)


def test_isolated_nodes_are_in_the_lowest_bucket() -> None:
    graph = load_graph("karate")
    lonely = replace(graph, indptr=np.zeros(35, np.int64), indices=np.zeros(0, np.int64))
    assert degree_buckets(lonely, SPLITS).tolist() == [0] * 34
    assert degree_buckets(graph, (17,)).sum() == 1


# ---- what configurations are refused ------------------------------------------------------------


def test_gat_has_no_windows_before_elu() -> None:
    model, graph = trained("gat")
    config = with_taq(uniform_config(8, ("gat", "gat")), ("gat", "gat"), SIGNED_TAQ)
    assert (config.layers[0].combine, config.layers[0].aggregate) == (SIGNED_TAQ, 8)
    first = msgspec.structs.replace(config.layers[0], aggregate=SIGNED_TAQ)
    config = msgspec.structs.replace(config, layers=(first, config.layers[1]))
    with pytest.raises(InputError, match=r"^layers\[0\]\.aggregate: has no degree-aware bits: "):
        quantize(model, graph, config)


@pytest.mark.parametrize("name", ["combine", "aggregate"])
def test_signed_results_have_two_bits(name: str) -> None:
    config = uniform_config(4, ("gat", "gat"))
    narrow: dict[str, Any] = {name: 1}
    first = msgspec.structs.replace(config.layers[0], **narrow)
    config = msgspec.structs.replace(config, layers=(first, config.layers[1]))
    with pytest.raises(InputError, match=rf"^layers\[0\]\.{name}: 1 bit; signed tensors"):
        check_config(config, ("gat", "gat"))


def test_logits_without_room_for_a_norm() -> None:
    """Features of 16 bits leave norms fewer bits; of very many channels, none."""
    stage = PlannedStage(
        key=(2, "aggregate"), operation="attend", source=(1, "aggregate"), bits=16, signed=False,
        attention_bits=8, score_bits=12,
    )  # fmt: skip
    found = [choose_agnn(stage, 1.0, 16, 2**bits - 1).record for bits in (8, 11, 16)]
    assert [getattr(record, "norm_bits", 0) for record in found] == [12, 12, 8]
    with pytest.raises(InputError, match=r"^layers\[2\]\.score: 12 bits are too many for 1048576 "):
        choose_agnn(stage, 1.0, 2**20, 2**16 - 1)


# ---- fine-tuning --------------------------------------------------------------------------------

THOROUGH = FineTuning(epochs=6, lr_factor=3.0, protect=(0.1, 0.6), distill=0.5)


@pytest.fixture
def last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the last epoch, not the best: after few epochs the best may be the start."""
    numbers = itertools.count()
    monkeypatch.setattr(pipeline, "_score", lambda *_: (next(numbers), 0.0))


@pytest.mark.usefixtures("last_epoch")
@pytest.mark.parametrize("model", MODELS)
def test_exact_after_fine_tuning(model: str) -> None:
    """With Degree-Quant's protection and distillation, at narrow and at degree-aware bits."""
    pair = trained(model)
    kinds = kinds_for(*pair)
    for config in (uniform_config(2, kinds), on_combine(kinds), configurations(kinds).get("taq")):
        if config is None:
            continue
        network = quantized_network(*pair, config)
        before = {name: value.detach().clone() for name, value in network.named.items()}
        fine_tune(network, *pair, THOROUGH, 0, progress=False)
        assert_exact(network)
        fixed = network_for(pair[0].model, pair[1]).FIXED
        for name, value in network.named.items():
            assert torch.equal(value, before[name]) == (name in fixed), name


@pytest.mark.usefixtures("last_epoch")
@pytest.mark.parametrize("model", MODELS)
def test_the_seed_decides(model: str, tmp_path: Path) -> None:
    pair = trained(model)
    config = uniform_config(3, kinds_for(*pair))
    files = []
    for number, seed in enumerate((5, 5, 6)):
        torch.manual_seed(number)  # what ran before must not matter
        state = torch.random.get_rng_state()
        bundle = quantize(*pair, config, tuning=THOROUGH, seed=seed)
        assert torch.equal(state, torch.random.get_rng_state())
        save_bundle(tmp_path / "bundle.npz", bundle)
        files.append((tmp_path / "bundle.npz").read_bytes())
    assert files[0] == files[1] != files[2]


def test_protection_grows_with_the_degree() -> None:
    """From the first probability, of the lowest in-degree, towards the second."""
    graph = load_graph("karate")
    chances = pipeline._protection(graph, (0.125, 0.625))
    by_degree = dict(zip(graph.degrees.tolist(), chances.tolist(), strict=True))
    ordered = [by_degree[degree] for degree in sorted(by_degree)]
    assert ordered == sorted(set(chances.tolist()))
    assert (ordered[0], ordered[-1]) == (0.125, 0.625)
    for node, degree in enumerate(graph.degrees):
        lower = int((graph.degrees < degree).sum())
        assert chances[node] == pytest.approx(0.125 + 0.5 * lower / 33)


@pytest.mark.usefixtures("last_epoch")
def test_protection_and_distillation_have_an_effect() -> None:
    pair = trained("gcn")
    config = uniform_config(2, 2)
    plain = FineTuning(epochs=8, lr_factor=3.0)
    found = set()
    for options in (plain, replace(plain, protect=(0.2, 0.9)), replace(plain, distill=1.0)):
        network = quantized_network(*pair, config)
        fine_tune(network, *pair, options, 0, progress=False)
        found.add(network.weight_codes(network.stages[0]).tobytes())
    assert len(found) == 3


# ---- degenerate data ----------------------------------------------------------------------------


def constant_rows(graph: Graph) -> Graph:
    return replace(graph, x_values=np.full(len(graph.x_indices), 0.375))


def zero_rows(graph: Graph) -> Graph:
    """No node has features; those that are stored are zero."""
    return replace(graph, x_values=np.zeros(len(graph.x_indices)))


def no_rows(graph: Graph) -> Graph:
    nothing = np.zeros(0, np.int64)
    return replace(graph, x_indptr=np.zeros(graph.num_nodes + 1, np.int64), x_indices=nothing)


def half_isolated(graph: Graph) -> Graph:
    """Nodes from 17 on have no edges."""
    rows = np.repeat(np.arange(graph.num_nodes), graph.degrees)
    kept = (rows < 17) & (graph.indices < 17)
    counts = np.bincount(rows[kept], minlength=graph.num_nodes)
    return replace(graph, indptr=np.cumsum([0, *counts]), indices=graph.indices[kept])


def no_edges(graph: Graph) -> Graph:
    nothing = np.zeros(0, np.int64)
    return replace(graph, indptr=np.zeros(graph.num_nodes + 1, np.int64), indices=nothing)


DEGENERATE = (constant_rows, zero_rows, no_rows, half_isolated, no_edges)


@pytest.mark.parametrize("change", DEGENERATE)
@pytest.mark.parametrize("model", MODELS[:-1])
def test_degenerate_graphs(model: str, change: Callable[[Graph], Graph]) -> None:
    """Weights of another graph's training on tensors that are constant, zero, or lack edges."""
    parameters, graph = trained(model)
    assert isinstance(graph, Graph)
    changed = change(graph)
    kinds = kinds_for(parameters, graph)
    for name, config in configurations(kinds).items():
        if name in ("uniform 1", "uniform 8", "on combine", "taq", "uniform 4, edge"):
            for method in CALIBRATIONS:
                chosen = msgspec.structs.replace(config, calibration=method)
                assert_exact(quantized_network(parameters, changed, chosen))


@pytest.mark.parametrize("model", MODELS[:-1])
def test_single_columns(model: str) -> None:
    """One feature and one hidden channel (for each head)."""
    graph = load_graph("karate")
    narrow = replace(
        graph, x_indices=np.zeros(34, np.int64), x_values=np.linspace(-1.0, 2.0, 34), num_features=1
    )
    parameters = train(narrow, model=model, hidden=1, epochs=4)
    for config in configurations(kinds_for(parameters, narrow)).values():
        assert_exact(quantized_network(parameters, narrow, config))


@pytest.mark.parametrize("model", MODELS)
def test_parameters_of_zeros(model: str) -> None:
    parameters, data = trained(model)
    zeros = {name: np.zeros_like(value) for name, value in parameters.parameters.items()}
    for config in configurations(kinds_for(parameters, data)).values():
        network = quantized_network(replace(parameters, parameters=zeros), data, config)
        bundle = assert_exact(network)
        assert not any(weights.any() for weights in bundle.network.weights.values())


@pytest.mark.parametrize("exponent", [-60, -30, -8, 8, 30, 60])
@pytest.mark.parametrize("model", MODELS)
def test_parameters_of_any_size(model: str, exponent: int) -> None:
    """Those of attention: scores far below and above 1. All of them: as far as 62 bits reach."""
    parameters, data = trained(model)
    factor = np.float32(2.0**exponent)
    of_attention = ("source", "target", "beta")
    for names in (("",), of_attention) if abs(exponent) == 8 else (of_attention,):
        scaled = {
            name: value * factor if name.endswith(names) else value
            for name, value in parameters.parameters.items()
        }
        for bits in (2, 12):
            config = uniform_config(bits, kinds_for(parameters, data))
            assert_exact(quantized_network(replace(parameters, parameters=scaled), data, config))


@pytest.mark.parametrize("beta", [0.0, -3.0, 1e-9, 700.0])
def test_any_factor_of_the_cosines(beta: float) -> None:
    parameters, graph = trained("agnn")
    values = parameters.parameters | {"layer2/beta": np.array([beta], np.float32)}
    for bits in (2, 8, 16):
        config = uniform_config(bits, kinds_for(parameters, graph))
        assert_exact(quantized_network(replace(parameters, parameters=values), graph, config))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("model", MODELS)
def test_parameters_that_are_no_numbers(model: str, value: float) -> None:
    parameters, data = trained(model)
    config = uniform_config(4, kinds_for(parameters, data))
    for name, array in parameters.parameters.items():
        broken: npt.NDArray[np.float32] = array.copy()
        broken.flat[0] = value
        other = replace(parameters, parameters=parameters.parameters | {name: broken})
        with pytest.raises(InputError) as caught:
            quantize(other, data, config)
        assert str(caught.value) == f"{name}: holds NaN or infinity"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers(value: float) -> None:
    for model in MODELS[:-1]:
        parameters, graph = trained(model)
        assert isinstance(graph, Graph)
        values = np.ones(len(graph.x_indices))
        values[3] = value
        config = uniform_config(4, kinds_for(parameters, graph))
        with pytest.raises(InputError, match=r"^karate: x_data: holds NaN or infinity$"):
            quantize(parameters, replace(graph, x_values=values), config)


def test_layers_that_miss_a_component() -> None:
    model, graph = trained("sage")
    config = uniform_config(4, ("sage", "sage"))
    first = msgspec.structs.replace(config.layers[0], root=None)
    missing = msgspec.structs.replace(config, layers=(first, config.layers[1]))
    with pytest.raises(InputError, match=r"^layers\[0\]\.root: missing, a sage layer has it$"):
        quantize(model, graph, missing)
    other = msgspec.structs.replace(config.layers[0], mlp=4)
    surplus = msgspec.structs.replace(config, layers=(other, config.layers[1]))
    with pytest.raises(InputError, match=r"^layers\[0\]\.mlp: a sage layer has none$"):
        quantize(model, graph, surplus)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("model", ["gat", "agnn"])
def test_integers_of_evaluation_are_those_of_the_golden_unit(model: str, bits: int) -> None:
    """Every numerator, factor and exponent, with a hub and rows of a single edge."""
    nodes, heads, channels = 70, 2 if model == "gat" else 1, 5
    rng = np.random.default_rng(bits)
    pattern = (rng.random((nodes, nodes)) < 0.1) | np.eye(nodes, dtype=np.bool_)
    pattern[3] = pattern[:, 4] = True
    pattern[8:12] = np.eye(nodes, dtype=np.bool_)[8:12]
    edges = Edges.of(sparse.csr_array(pattern.astype(np.float64)))
    source = Format(bits=bits, signed=True, scale=0.25)
    codes = rng.integers(-source.magnitude, source.magnitude, (nodes, heads * channels))
    codes[5] = 0  # without a direction
    scores = rng.integers(-2047, 2048, (nodes, 2 * heads))
    table = attention_table(bits, 2.0**-9, 256)
    record: GatAttention | AgnnAttention = GatAttention(
        heads=heads, bits=bits, index_shift=table.index_shift, slope_code=13, slope_shift=6,
        bound="row",
    )  # fmt: skip
    if model == "agnn":
        norm_bits = fitting_norm_bits(channels, source.magnitude, 12)
        record = AgnnAttention(
            bits=bits, index_shift=table.index_shift, score_bits=12, norm_bits=norm_bits, beta=-900
        )
    bias = rng.integers(-99, 99, heads * channels)
    given = scores if model == "gat" else None
    found, exponents = exact_mean(
        Attention(record, table, 2.0**-9), edges, torch.from_numpy(codes * source.scale), source,
        given, bias,
    )  # fmt: skip
    graph = (edges.indptr.astype(np.int64), edges.sources.astype(np.int64))
    weights = edge_weights(*graph, record, table, codes, source.magnitude, given).codes
    assert len(np.unique(weights)) > 5
    numerators, factors, expected = attention_sums(*graph, weights, codes)
    assert np.array_equal(exponents, expected)
    assert np.array_equal(found, numerators * factors + (bias << expected))

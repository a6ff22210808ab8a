"""The golden model against a second one, written here with Python integers and loops only."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sgq_hw.bundle import Bundle
from sgq_hw.formats import Epilogue
from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.network import accuracy, evaluate, input_matrix, predict, run, useful_macs
from tests.random_networks import (
    ASSOCIATIONS,
    GRAPHS,
    INPUTS,
    MULTIPLIERS,
    NORMALISATIONS,
    GraphKind,
    InputKind,
    Normalisation,
    gcn_layers,
    other_parameters,
    random_bundle,
    random_workload,
)

Table = list[list[int]]
Key = tuple[int, str]


def reference_input(bundle: Bundle) -> Table:
    """The input as complete rows."""
    workload = bundle.workload
    starts, columns = workload.x_indptr.tolist(), workload.x_indices.tolist()
    codes = [1] * len(columns) if workload.x_codes is None else workload.x_codes.tolist()
    table = []
    for node in range(len(starts) - 1):
        row = [0] * bundle.network.manifest.input.channels
        for place in range(starts[node], starts[node + 1]):
            row[columns[place]] = codes[place]
        table.append(row)
    return table


def reference_combine(features: Table, weights: Table) -> Table:
    """X W."""
    channels = len(weights[0])
    return [
        [sum(x * weights[k][c] for k, x in enumerate(row)) for c in range(channels)]
        for row in features
    ]


def reference_aggregate(bundle: Bundle, features: Table) -> Table:
    """A X: an edge without a code counts once, a row without edges is zero."""
    workload = bundle.workload
    starts, columns = workload.indptr.tolist(), workload.indices.tolist()
    codes = [1] * len(columns) if workload.edge_codes is None else workload.edge_codes.tolist()
    result = []
    for node in range(len(starts) - 1):
        sums = [0] * len(features[0])
        for edge in range(starts[node], starts[node + 1]):
            for channel, value in enumerate(features[columns[edge]]):
                sums[channel] += codes[edge] * value
        result.append(sums)
    return result


def epilogue_of(bundle: Bundle, key: Key) -> Epilogue:
    """The stage's record, by its name in the layer."""
    epilogue: Epilogue = getattr(bundle.network.manifest.layers[key[0]], key[1])
    return epilogue


def reference_multiplier(bundle: Bundle, key: Key, node: int, channel: int) -> int:
    """M for one result."""
    multiplier = epilogue_of(bundle, key).multiplier
    if multiplier.kind == "layer":
        return multiplier.value
    if multiplier.kind == "channel":
        return int(bundle.network.multipliers[key][channel])
    return int(bundle.workload.node_tables[multiplier.table][node])


def reference_epilogue(bundle: Bundle, key: Key, sums: Table) -> Table:
    """`sat(round_shift(acc * M + bias, S))`, DESIGN section 3 items 2 to 4."""
    epilogue = epilogue_of(bundle, key)
    bits, shift = epilogue.output.bits, epilogue.shift
    low = -(2 ** (bits - 1)) if epilogue.output.signed else 0
    high = low + 2**bits - 1
    biases = bundle.network.biases[key].tolist() if epilogue.bias_bits else [0] * len(sums[0])
    result = []
    for node, row in enumerate(sums):
        codes = []
        for channel, acc in enumerate(row):
            value = acc * reference_multiplier(bundle, key, node, channel) + biases[channel]
            if shift > 0:
                value = (value + (1 << (shift - 1))) >> shift
            codes.append(min(max(value, low), high))
        result.append(codes)
    return result


def reference_run(bundle: Bundle) -> dict[Key, Table]:
    """All codes, in the order in which they are computed."""
    features = reference_input(bundle)
    trace: dict[Key, Table] = {}
    for index, layer in enumerate(gcn_layers(bundle.network.manifest)):
        order = ["combine", "aggregate"]
        if layer.association == "(AX)W":
            order.reverse()
        for stage in order:
            if stage == "combine":
                sums = reference_combine(features, bundle.network.weights[index, stage].tolist())
            else:
                sums = reference_aggregate(bundle, features)
            features = reference_epilogue(bundle, (index, stage), sums)
            trace[index, stage] = features
    return trace


def assert_equal(bundle: Bundle) -> None:
    expected = reference_run(bundle)
    found = run(bundle.network, bundle.workload)
    assert list(found) == list(expected)
    for key, codes in found.items():
        assert codes.tolist() == expected[key], key


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_network_against_python_integers(
    graph: GraphKind, inputs: InputKind, normalisation: Normalisation
) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        bundle = random_bundle(
            rng, graph=graph, inputs=inputs, normalisation=normalisation, layers=seed + 1
        )
        assert_equal(bundle)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    choices=st.fixed_dictionaries(
        {},
        optional={
            "nodes": st.integers(1, 12),
            "features": st.integers(1, 12),
            "hidden": st.integers(1, 6),
            "classes": st.integers(1, 5),
            "layers": st.integers(1, 3),
            "max_bits": st.integers(2, 16),
            "self_loops": st.booleans(),
            "bias": st.booleans(),
            "multipliers": st.sampled_from([[kind] for kind in MULTIPLIERS]),
            "associations": st.sampled_from([[kind] for kind in ASSOCIATIONS]),
        },
    ),
)
def test_any_network_against_python_integers(seed: int, choices: dict[str, Any]) -> None:
    assert_equal(random_bundle(np.random.default_rng(seed), **choices))


def test_other_graphs_and_parameters() -> None:
    """What a loadable design may be given after it was generated."""
    rng = np.random.default_rng(5)
    for _ in range(5):
        bundle = random_bundle(rng, nodes=9)
        other = other_parameters(rng, bundle)
        formats = [layer.weight for layer in gcn_layers(other.network.manifest)]
        assert formats == [layer.weight for layer in gcn_layers(bundle.network.manifest)]
        workload = random_workload(
            rng, other.network.manifest, 8, max_edges=12, max_row_edges=4, max_row_nonzeros=2
        )
        lengths = np.diff(workload.indptr)
        assert lengths.max() <= 4
        assert np.maximum(lengths, 1).sum() <= 12
        assert np.diff(workload.x_indptr).max() <= 2
        assert_equal(other)
        assert_equal(Bundle(other.network, workload))


def test_the_random_networks_cover_what_they_promise() -> None:
    """A generator that always drew the same would make the tests above weak."""
    seen: set[object] = set()
    spread = stages = 0
    for seed in range(60):
        bundle = random_bundle(np.random.default_rng(seed), nodes=12)
        manifest, workload = bundle.network.manifest, bundle.workload
        lengths = np.diff(workload.indptr)
        seen |= {("layers", len(manifest.layers)), ("self loops", manifest.self_loops)}
        seen.add(manifest.normalisation)
        seen |= {("empty row", bool((lengths == 0).any())), ("input bits", manifest.input.bits)}
        seen |= {("hub", bool((lengths == 12).any()))}
        rows = np.repeat(np.arange(workload.num_nodes), lengths)
        seen.add(("loops", int((rows == workload.indices).sum())))
        for (index, stage), codes in run(bundle.network, workload).items():
            layer = gcn_layers(manifest)[index]
            epilogue = epilogue_of(bundle, (index, stage))
            seen |= {layer.association, epilogue.multiplier.kind, ("bias", epilogue.bias_bits > 0)}
            seen |= {("weight", layer.weight.bits), ("output", epilogue.output.bits)}
            seen.add(("signed", epilogue.output.signed))
            stages += codes.size >= 8
            spread += codes.size >= 8 and len(np.unique(codes)) > 1
    wanted: set[object] = {*NORMALISATIONS, *ASSOCIATIONS, *MULTIPLIERS}
    for name in ("self loops", "empty row", "hub", "bias", "signed"):
        wanted |= {(name, False), (name, True)}
    wanted |= {("layers", 1), ("layers", 2), ("layers", 3)}
    wanted |= {("weight", bits) for bits in range(2, 17)}
    wanted |= {("output", bits) for bits in range(1, 17)}
    assert wanted <= seen
    assert sum(isinstance(item, tuple) and item[0] == "loops" for item in seen) > 4
    assert sum(isinstance(item, tuple) and item[0] == "input bits" for item in seen) > 8
    assert spread >= 0.97 * stages


def test_combination_dense_sparse_and_wide_agree() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(-40, 40, (7, 9)) * (rng.random((7, 9)) < 0.5)
    weights = rng.integers(-8, 8, (9, 5))
    expected = reference_combine(features.tolist(), weights.tolist())
    for bound in (9 * 40 * 8, 2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**61):
        assert combination_unit(features, weights, bound).tolist() == expected
        assert combination_unit(sparse.csr_array(features), weights, bound).tolist() == expected


@pytest.mark.parametrize("factor", [2**11 + 1, 2**12 + 1, 2**26 + 1, 2**30 + 1])
def test_combination_is_exact_on_both_sides_of_floats(factor: int) -> None:
    """Odd products above 2**24 are in no float32, and above 2**53 in no float64."""
    features, weights = np.array([[factor]]), np.array([[factor - 2, -factor]])
    bound = factor * factor
    expected = [[factor * (factor - 2), -factor * factor]]
    assert combination_unit(features, weights, bound).tolist() == expected
    assert combination_unit(sparse.csr_array(features), weights, bound).tolist() == expected


def test_a_row_without_edges_is_zero() -> None:
    features = np.array([[5, -3], [7, 2]])
    for values in (None, np.array([9])):
        sums = aggregation_unit(np.array([0, 0, 1]), np.array([0]), values, features)
        factor = 1 if values is None else 9
        assert sums.tolist() == [[0, 0], [5 * factor, -3 * factor]]


def test_rows_are_independent() -> None:
    """Each node computed alone, with its own row of every table, gives the same codes."""
    bundle = random_bundle(
        np.random.default_rng(11), nodes=10, layers=1, multipliers=["node"], bias=True
    )
    workload = bundle.workload
    combined = run(bundle.network, workload)[0, "combine"]
    matrix = input_matrix(bundle.network, workload)
    for node in range(10):
        row = matrix[[node]].tocsr()
        alone = replace(
            workload,
            indptr=np.array([0, 0]),
            indices=np.zeros(0, np.int64),
            edge_codes=None if workload.edge_codes is None else np.zeros(0, np.int64),
            x_indptr=row.indptr.astype(np.int64),
            x_indices=row.indices.astype(np.int64),
            x_codes=row.data,
            node_tables={name: table[[node]] for name, table in workload.node_tables.items()},
        )
        assert run(bundle.network, alone)[0, "combine"].tolist() == combined[[node]].tolist()


def test_the_lowest_index_wins_a_tie() -> None:
    logits = np.array([[1, 3, 3], [2, 2, 2], [-5, -7, -5], [0, 1, 2], [-1, -1, 0]])
    assert predict(logits).tolist() == [1, 0, 0, 2, 2]


def test_accuracy_ignores_nodes_without_a_label() -> None:
    logits = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    labels = np.array([0, 0, -1, 1])
    every = np.ones(4, np.bool_)
    masks = {"train": every, "val": labels < 0, "test": np.array([0, 1, 1, 1], np.bool_)}
    # Nodes 0 and 3 are right, node 1 is wrong; the validation mask selects no labelled node.
    assert accuracy(logits, labels, masks) == {
        "train": pytest.approx(200 / 3), "test": pytest.approx(50),
    }  # fmt: skip


def test_evaluate_scores_the_logits() -> None:
    bundle = random_bundle(np.random.default_rng(3), graph="random", nodes=20, classes=3)
    logits = list(reference_run(bundle).values())[-1]
    assert bundle.workload.labels is not None
    labels = bundle.workload.labels.tolist()
    expected = {}
    for name, mask in bundle.workload.masks.items():
        chosen = [i for i in range(20) if mask[i] and labels[i] >= 0]
        right = [i for i in chosen if logits[i].index(max(logits[i])) == labels[i]]
        if chosen:
            expected[name] = pytest.approx(100 * len(right) / len(chosen))
    assert len(expected) == 3
    assert evaluate(bundle) == expected
    assert evaluate(replace(bundle, workload=replace(bundle.workload, labels=None))) == {}


def test_useful_macs_are_counted_by_hand() -> None:
    for seed in range(6):
        bundle = random_bundle(np.random.default_rng(seed), nodes=8, layers=2)
        workload, trace = bundle.workload, reference_run(bundle)
        operand = reference_input(bundle)
        expected = {}
        for key, codes in trace.items():
            if key[1] == "combine":
                terms = sum(value != 0 for row in operand for value in row)
            elif workload.edge_codes is None:
                terms = len(workload.indices)
            else:
                terms = sum(code != 0 for code in workload.edge_codes.tolist())
            expected[key] = terms * len(codes[0])
            operand = codes
        found = run(bundle.network, workload)
        assert useful_macs(bundle.network, workload, found) == expected

"""Every kind of layer against two second models, and against its own definition."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq_hw.bundle import Bundle
from sgq_hw.formats import Epilogue, Key, Window
from sgq_hw.golden import attention_unit, network
from sgq_hw.golden.attention_unit import elu_table
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.golden.network import Trace, evaluate, run, useful_macs
from sgq_hw.golden.readout_unit import readout_unit
from sgq_hw.golden.requantize import requantize, requantize_windows
from tests.layer_models import dense_run, scalar_run
from tests.random_layers import KINDS, NETWORKS, Kinds, random_layers
from tests.random_workloads import GRAPHS, GraphKind, Rng

DRAWS = 40
"""Draws in which a planted difference must be found."""


def codes_of(bundle: Bundle) -> Trace:
    return run(bundle.network, bundle.workload)


def assert_equal(bundle: Bundle) -> None:
    found = codes_of(bundle)
    for name, expected in (("scalar", scalar_run(bundle)), ("dense", dense_run(bundle))):
        assert list(found) == list(expected)
        for key, codes in found.items():
            assert codes.tolist() == expected[key], (name, key)


def seeded(seed: int, *args: Any, **choices: Any) -> Bundle:
    return random_layers(np.random.default_rng(seed), *args, **choices)


# ---- against the second models ------------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kinds", NETWORKS, ids="-".join)
def test_the_models_on_every_graph(kinds: Kinds, graph: GraphKind) -> None:
    for seed in range(4):
        assert_equal(seeded(seed, kinds, graph=graph))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    choices=st.fixed_dictionaries(
        {},
        optional={
            "nodes": st.integers(1, 12),
            "max_bits": st.integers(2, 16),
            "self_loops": st.booleans(),
            "windows": st.booleans(),
            "graph": st.sampled_from(GRAPHS),
        },
    ),
)
def test_any_mixture(seed: int, choices: dict[str, Any]) -> None:
    assert_equal(seeded(seed, **choices))


def test_a_larger_graph_with_a_hub() -> None:
    for kinds in NETWORKS:
        assert_equal(seeded(1, kinds, nodes=60, graph="hub"))


def test_the_draws_cover_what_they_promise() -> None:
    seen: set[object] = set()
    flat = stages = 0
    for seed in range(120):
        bundle = seeded(seed, nodes=12)
        manifest, workload, trace = bundle.network.manifest, bundle.workload, codes_of(bundle)
        seen |= {manifest.normalisation, ("loops", manifest.self_loops)}
        seen.add(("empty row", bool((np.diff(workload.indptr) == 0).any())))
        seen.add(("graphs", manifest.reads_graphs and workload.num_results > 1))
        for layer in manifest.layers:
            seen |= {layer.kind, (layer.kind, "first", layer is manifest.layers[0])}
        for step in manifest.steps():
            epilogue, output = step.epilogue, step.epilogue.output
            seen |= {epilogue.multiplier.kind, step.activation}
            seen |= {("bits", output.bits), ("bias", epilogue.bias_bits > 0)}
            seen.add(("windows", step.operation, bool(output.windows), output.signed))
            seen |= {("exponent", w.exponent > 0) for w in output.windows}
            if step.attention is not None:
                seen |= {("heads", getattr(step.attention, "heads", 0))}
                seen |= {getattr(step.attention, "bound", "agnn")}
            codes = trace[step.key]
            stages += codes.size >= 8
            flat += codes.size >= 8 and len(np.unique(codes)) == 1
    wanted: set[object] = {*KINDS, "layer", "channel", "node", "reciprocal", "elu", "row", "global"}
    wanted |= {("heads", heads) for heads in range(5)}
    wanted |= {("bits", bits) for bits in range(1, 17)}
    wanted |= {(name, value) for name in ("loops", "empty row", "bias") for value in (True, False)}
    wanted |= {("exponent", False), ("exponent", True), ("graphs", True)}
    wanted |= {("windows", part, True, True) for part in ("combine", "aggregate", "attend")}
    wanted |= {("windows", part, True, False) for part in ("combine", "aggregate", "attend")}
    wanted |= {(kind, "first", False) for kind in KINDS}
    wanted |= {(kind, "first", True) for kind in KINDS if kind not in ("agnn", "readout")}
    assert wanted <= seen
    assert flat <= 0.08 * stages


@pytest.mark.parametrize("kinds", [kinds for kinds in NETWORKS if "readout" not in kinds])
def test_nodes_may_be_numbered_in_any_order(kinds: Kinds) -> None:
    """Every node keeps its codes when all nodes get other numbers."""
    for seed in range(5):
        bundle = seeded(seed, kinds, nodes=9)
        old = bundle.workload
        order = np.random.default_rng(seed).permutation(9)
        number = np.argsort(order)
        rows = [np.arange(old.indptr[i], old.indptr[i + 1]) for i in order]
        # Columns need not ascend for the arithmetic: the order of the entries is immaterial.
        entries = np.concatenate(rows)
        places = np.concatenate([np.arange(old.x_indptr[i], old.x_indptr[i + 1]) for i in order])
        moved = replace(
            old,
            indptr=np.cumsum([0, *map(len, rows)]),
            indices=number[old.indices[entries]],
            edge_codes=None if old.edge_codes is None else old.edge_codes[entries],
            x_indptr=np.cumsum([0, *np.diff(old.x_indptr)[order]]),
            x_indices=old.x_indices[places],
            x_codes=None if old.x_codes is None else old.x_codes[places],
            node_tables={name: table[order] for name, table in old.node_tables.items()},
            buckets=None if old.buckets is None else old.buckets[order],
        )
        expected, found = codes_of(bundle), run(bundle.network, moved)
        for key, codes in found.items():
            assert np.array_equal(codes, expected[key][order]), key


# ---- degree-aware rematching --------------------------------------------------------------------


def with_epilogue(bundle: Bundle, key: Key, **changes: Any) -> Bundle:
    """The bundle with another shift or output of one stage."""
    manifest = bundle.network.manifest
    layers = list(manifest.layers)
    epilogue: Epilogue = getattr(layers[key[0]], key[1])
    changed = msgspec.structs.replace(epilogue, **changes)
    layers[key[0]] = msgspec.structs.replace(layers[key[0]], **{key[1]: changed})
    manifest = msgspec.structs.replace(manifest, layers=tuple(layers))
    return replace(bundle, network=replace(bundle.network, manifest=manifest))


def windowed(bundle: Bundle) -> dict[Key, Epilogue]:
    steps = bundle.network.manifest.steps()
    return {step.key: step.epilogue for step in steps if step.epilogue.output.windows}


def test_codes_keep_to_their_windows() -> None:
    for seed in range(60):
        bundle = seeded(seed, windows=True)
        buckets, trace = bundle.workload.buckets, codes_of(bundle)
        assert buckets is not None
        for key, epilogue in windowed(bundle).items():
            output = epilogue.output
            for codes, bucket in zip(trace[key].tolist(), buckets.tolist(), strict=True):
                window = output.windows[bucket]
                low = -(2 ** (window.bits - 1)) if output.signed else 0
                for code in codes:
                    assert code % 2**window.exponent == 0
                    assert low <= code // 2**window.exponent < low + 2**window.bits


@pytest.mark.parametrize("kinds", [None, *NETWORKS])
def test_a_window_is_plain_requantisation_with_a_larger_shift(kinds: Kinds | None) -> None:
    """Bucket k alone: shift S + e_k to b_k bits, then `<< e_k`; every kind of stage."""
    compared = 0
    for seed in range(15):
        bundle = seeded(seed, kinds, nodes=10)
        for key, epilogue in windowed(bundle).items():
            codes, buckets = codes_of(bundle)[key], bundle.workload.buckets
            assert buckets is not None
            for bucket, window in enumerate(epilogue.output.windows):
                plain = msgspec.structs.replace(
                    epilogue.output, windows=(), bits=window.bits
                )
                other = with_epilogue(
                    bundle, key, output=plain, shift=epilogue.shift + window.exponent
                )
                rows = buckets == bucket
                expected = codes_of(other)[key][rows] * 2**window.exponent
                assert np.array_equal(codes[rows], expected)
                compared += int(rows.sum())
    assert compared > 30


def test_equal_windows_at_the_bottom_are_none() -> None:
    for seed in range(40):
        bundle = seeded(seed, windows=True)
        plain = bundle
        for key, epilogue in windowed(bundle).items():
            output = epilogue.output
            equal = tuple(Window(exponent=0, bits=output.bits) for _ in output.windows)
            full = msgspec.structs.replace(output, windows=equal)
            bundle = with_epilogue(bundle, key, output=full)
            none = msgspec.structs.replace(output, windows=())
            plain = with_epilogue(plain, key, output=none)
        expected = codes_of(plain)
        for key, codes in codes_of(bundle).items():
            assert np.array_equal(codes, expected[key]), key


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 15), st.integers(2, 16)), min_size=1, max_size=4),
    st.integers(0, 30),
    st.booleans(),
    st.integers(0, 2**16),
    st.data(),
)
def test_requantising_into_windows(
    sums: list[int],
    pairs: list[tuple[int, int]],
    shift: int,
    signed: bool,
    factor: int,
    data: st.DataObject,
) -> None:
    windows = [Window(exponent=exponent, bits=bits) for exponent, bits in pairs]
    drawn = st.lists(st.integers(0, len(pairs) - 1), min_size=len(sums), max_size=len(sums))
    buckets = np.array(data.draw(drawn))
    column = np.array(sums)[:, None]
    addend, bias = column[::-1] % 1001 - 500, np.array([data.draw(st.integers(-(2**30), 2**30))])
    one = np.array(3)
    found = requantize_windows(
        column, one, bias, shift, windows, signed, buckets, addend, factor
    )
    for row, bucket in enumerate(buckets):
        part = slice(row, row + 1)
        exponent, bits = pairs[bucket]
        plain = requantize(
            column[part], one, bias, shift + exponent, bits, signed, addend[part], factor
        )
        assert found[part].tolist() == (plain * 2**exponent).tolist()


# ---- ELU, readout, counts -----------------------------------------------------------------------


def test_elu_changes_negative_codes_only() -> None:
    """Its table's entry k belongs to code k - 2^(bits - 1)."""
    changed = 0
    for seed in range(25):
        bundle = seeded(seed, ("gat",), nodes=8)
        key = (0, "aggregate")
        table = bundle.network.activations.get(key)
        if table is None:
            continue
        plain = replace(bundle, network=replace(bundle.network, activations={}))
        before, after = codes_of(plain)[key], codes_of(bundle)[key]
        expected = np.where(before < 0, table[np.minimum(before, -1) + len(table)], before)
        assert np.array_equal(after, expected)
        changed += int((after != before).sum())
    assert changed > 20


@given(st.integers(2, 12), st.integers(-10, 2))
def test_elu_tables_are_rounded_reals(bits: int, exponent: int) -> None:
    scale = 2.0**exponent
    table = elu_table(bits, scale)
    codes = np.arange(-(2 ** (bits - 1)), 0)
    assert len(table) == len(codes)
    assert np.all(np.abs(table * scale - np.expm1(codes * scale)) <= scale / 2)
    assert np.all(np.diff(table) >= 0)
    assert table.max() <= 0
    assert table.min() >= math.floor(-1 / scale)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_readout_adds_the_nodes_of_each_graph(sizes: list[int], seed: int) -> None:
    graphs = np.repeat(np.arange(len(sizes)), sizes)
    codes = np.random.default_rng(seed).integers(-(2**15), 2**15, (len(graphs), 3))
    expected = np.zeros((len(sizes), 3), np.int64)
    np.add.at(expected, graphs, codes)
    assert readout_unit(graphs, codes).tolist() == expected.tolist()


def test_graphs_of_one_node_and_one_graph() -> None:
    codes = np.arange(12).reshape(4, 3)
    assert readout_unit(np.arange(4), codes).tolist() == codes.tolist()
    assert readout_unit(np.zeros(4, np.int64), codes).tolist() == [[18, 22, 26]]


def test_graphs_are_scored_not_nodes() -> None:
    bundle = seeded(2, ("gin", "gin", "readout", "linear"), nodes=16)
    workload, trace = bundle.workload, codes_of(bundle)
    logits = trace[next(reversed(trace))].tolist()
    assert workload.graph_of_node is not None
    assert workload.labels is not None
    assert len(logits) == workload.num_results == int(workload.graph_of_node.max()) + 1 > 2
    right = [
        row.index(max(row)) == label
        for row, label in zip(logits, workload.labels.tolist(), strict=True)
    ]
    expected = {}
    for name, mask in workload.masks.items():
        chosen = [hit for hit, use, label in zip(right, mask, workload.labels, strict=True)
                  if use and label >= 0]  # fmt: skip
        if chosen:
            expected[name] = pytest.approx(100 * sum(chosen) / len(chosen))
    assert evaluate(bundle) == expected != {}


def test_useful_macs_of_every_kind() -> None:
    """Products of operands that are not zero; attention counts its true edges and heads."""
    for seed in range(40):
        bundle = seeded(seed, nodes=8)
        trace = codes_of(bundle)
        workload, expected = bundle.workload, {}
        edges = workload.num_edges
        if workload.edge_codes is not None:
            edges = int(np.count_nonzero(workload.edge_codes))
        operand: IntArray = np.ones(len(workload.x_indices), np.int64)
        if workload.x_codes is not None:
            operand = workload.x_codes
        for index, layer in enumerate(bundle.network.manifest.layers):
            source = operand
            for (_, stage), codes in ((k, c) for k, c in trace.items() if k[0] == index):
                # Sums over the graph read what ran before; scores and roots the layer's input.
                terms = int(np.count_nonzero(source if stage in ("score", "root") else operand))
                if stage == "readout":
                    terms = workload.num_nodes
                elif stage == "aggregate" and layer.kind in ("gat", "agnn"):
                    terms = workload.num_edges * (2 if layer.kind == "agnn" else 1)
                elif stage == "aggregate":
                    terms = edges
                expected[index, stage] = terms * codes.shape[1]
                operand = codes
        assert useful_macs(bundle.network, workload, trace) == expected


# ---- planted differences ------------------------------------------------------------------------


def other_layer(bundle: Bundle, kind: str, change: Callable[[Any], Any]) -> Bundle | None:
    """The bundle with another record of its first layer of a kind; None if that is none."""
    manifest = bundle.network.manifest
    layers = list(manifest.layers)
    index = next((i for i, layer in enumerate(layers) if layer.kind == kind), None)
    if index is None:
        return None
    layers[index] = change(layers[index])
    manifest = msgspec.structs.replace(manifest, layers=tuple(layers))
    return replace(bundle, network=replace(bundle.network, manifest=manifest))


def other_attention(kind: str, **change: Callable[[Any], Any]) -> Callable[[Bundle, Rng], Any]:
    """One field of an attention's record becomes a function of it."""
    ((name, function),) = change.items()

    def changed(layer: Any) -> Any:
        value = function(getattr(layer.attention, name))
        attention = msgspec.structs.replace(layer.attention, **{name: value})
        return msgspec.structs.replace(layer, attention=attention)

    return lambda bundle, _: other_layer(bundle, kind, changed)


def one_entry(name: str) -> Callable[[Bundle, Rng], Any]:
    """One entry of a parameter becomes 1 less, or 1 where it was 0."""

    def changed(bundle: Bundle, rng: Rng) -> Bundle | None:
        arrays: dict[Key, IntArray] = getattr(bundle.network, name)
        if not arrays:
            return None
        key = sorted(arrays)[int(rng.integers(len(arrays)))]
        values = arrays[key].copy()
        place = np.unravel_index(int(rng.integers(values.size)), values.shape)
        values[place] = values[place] - 1 if values[place] else 1
        other: dict[str, Any] = {name: arrays | {key: values}}
        return replace(bundle, network=replace(bundle.network, **other))

    return changed


def other_root_factor(bundle: Bundle, _: Rng) -> Bundle | None:
    return other_layer(
        bundle, "sage", lambda layer: msgspec.structs.replace(
            layer, root_factor=layer.root_factor + 1)
    )  # fmt: skip


def other_bucket(bundle: Bundle, rng: Rng) -> Bundle | None:
    buckets = bundle.workload.buckets
    if buckets is None:
        return None
    highest = len(bundle.network.manifest.degree_splits)
    place = int(rng.integers(len(buckets)))
    changed = buckets.copy()
    changed[place] = (changed[place] + 1) % (highest + 1)
    return replace(bundle, workload=replace(bundle.workload, buckets=changed))


def other_window(name: str) -> Callable[[Bundle, Rng], Any]:
    def changed(bundle: Bundle, rng: Rng) -> Bundle | None:
        found = windowed(bundle)
        if not found:
            return None
        key = sorted(found)[0]
        windows = list(found[key].output.windows)
        place = int(rng.integers(len(windows)))
        value = getattr(windows[place], name) + 1
        windows[place] = msgspec.structs.replace(windows[place], **{name: value})
        output = msgspec.structs.replace(found[key].output, windows=tuple(windows), bits=16)
        return with_epilogue(bundle, key, output=output)

    return changed


def other_graphs(bundle: Bundle, rng: Rng) -> Bundle | None:
    graphs = bundle.workload.graph_of_node
    starts = [] if graphs is None else np.flatnonzero(np.diff(graphs)).tolist()
    if graphs is None or not starts:
        return None
    moved = graphs.copy()
    place = starts[int(rng.integers(len(starts)))]
    if place == 0 or graphs[place - 1] != graphs[place]:
        return None  # its graph would lose its only node
    moved[place] += 1
    return replace(bundle, workload=replace(bundle.workload, graph_of_node=moved))


def other_table(bundle: Bundle, rng: Rng) -> Bundle | None:
    tables = bundle.workload.node_tables
    if not tables:
        return None
    name = sorted(tables)[0]
    values = tables[name].copy()
    place = int(rng.integers(len(values)))
    values[place] = values[place] - 1 if values[place] else 1
    workload = replace(bundle.workload, node_tables=tables | {name: values})
    return replace(bundle, workload=workload)


PLANTED: dict[str, tuple[Kinds | None, Callable[[Bundle, Rng], Bundle | None]]] = {
    "weight": (None, one_entry("weights")),
    "bias": (None, one_entry("biases")),
    "multiplier": (None, one_entry("multipliers")),
    "exponential": (("gat", "gat"), one_entry("exponentials")),
    "exponential of agnn": (NETWORKS[4], one_entry("exponentials")),
    "elu": (("gat", "gat"), one_entry("activations")),
    "node table": (None, other_table),
    "addend factor": (("sage", "sage"), other_root_factor),
    "bucket": (None, other_bucket),
    "exponent": (None, other_window("exponent")),
    "window's bits": (None, other_window("bits")),
    "graph of a node": (NETWORKS[5], other_graphs),
    "slope code": (("gat",), other_attention("gat", slope_code=lambda v: v + 1)),
    "slope shift": (("gat",), other_attention("gat", slope_shift=lambda v: v + 1)),
    "index shift": (("gat",), other_attention("gat", index_shift=lambda v: v + 1)),
    "bound": (("gat",), other_attention("gat", bound=lambda v: "row" if v == "global" else
                                        "global")),
    "beta": (NETWORKS[4], other_attention("agnn", beta=lambda v: v - 1 if v > 0 else v + 1)),
    "norm bits": (NETWORKS[4], other_attention("agnn", norm_bits=lambda v: max(2, v - 1))),
    "index shift of agnn": (NETWORKS[4], other_attention("agnn", index_shift=lambda v: v + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_seen(name: str) -> None:
    """Otherwise equality with the second models would say nothing about that value."""
    kinds, plant = PLANTED[name]
    for seed in range(DRAWS):
        bundle = seeded(seed, kinds, nodes=10, windows=None)
        changed = plant(bundle, np.random.default_rng(seed))
        if changed is None:
            continue
        found, expected = codes_of(changed), scalar_run(bundle)
        if any(found[key].tolist() != codes for key, codes in expected.items()):
            return
    pytest.fail(f"no draw depends on {name}")


def cut_shift(values: IntArray, shift: int) -> IntArray:
    return values >> np.int64(shift)


def one_up_reciprocals(denominators: IntArray) -> tuple[IntArray, IntArray]:
    exponents, factors = ORIGINAL_RECIPROCALS(denominators)
    return exponents, factors + (denominators > 1)


def low_windows(
    sums: IntArray, factor: IntArray, bias: IntArray, shift: int, windows: list[Window], *rest: Any
) -> IntArray:
    """Windows that all start at bit 0."""
    low = [Window(exponent=0, bits=window.bits) for window in windows]
    return requantize_windows(sums, factor, bias, shift, low, *rest)


def without_addend(*args: Any) -> IntArray:
    return requantize(*args[:6])


def mean_readout(graph_of_node: IntArray, features: IntArray) -> IntArray:
    return readout_unit(graph_of_node, features) // np.bincount(graph_of_node)[:, None]


def norms_without_saturation(values: IntArray, bits: int, signed: bool) -> IntArray:
    return values & ((1 << bits) - 1)


ORIGINAL_RECIPROCALS = attention_unit.reciprocals
FORMULAS: dict[str, tuple[Kinds, Any, str, Any]] = {
    "index cut": (("gat",), attention_unit, "round_shift", cut_shift),
    "reciprocal": (("gat",), attention_unit, "reciprocals", one_up_reciprocals),
    "slope for all": (("gat",), attention_unit, "leaky", lambda v, code, _: v * np.int64(code)),
    "no elu": (("gat",), network, "elu", lambda codes, _: codes),
    "elu by magnitude": (("gat",), network, "elu", lambda codes, table: np.where(
        codes < 0, table[np.clip(-codes - 1, 0, len(table) - 1)], codes)),
    "norms that wrap": (NETWORKS[4], attention_unit, "saturate", norms_without_saturation),
    "bound of agnn": (NETWORKS[4], attention_unit, "agnn_bounds", lambda rows, beta: np.full(
        (rows, 1), beta)),
    "no exponents": (("gin",), network, "requantize_windows", low_windows),
    "no exponents of attention": (NETWORKS[4], attention_unit, "requantize_windows", low_windows),
    "no addend": (("sage",), network, "requantize", without_addend),
    "mean of a graph": (NETWORKS[5], network, "readout_unit", mean_readout),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_a_wrong_formula_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, module, function, wrong = FORMULAS[name]
    for seed in range(DRAWS):
        bundle = seeded(seed, kinds, nodes=10)
        expected = scalar_run(bundle)
        with monkeypatch.context() as patch:
            patch.setattr(module, function, wrong)
            found = codes_of(bundle)
        if any(found[key].tolist() != codes for key, codes in expected.items()):
            return
    pytest.fail(f"no draw shows that {name} is wrong")

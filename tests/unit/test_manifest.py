"""Manifests and arrays of every kind of layer: refusals, in one line that names the field."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sgq_hw.bundle import Bundle, load_bundle, save_bundle
from sgq_hw.errors import InputError
from sgq_hw.layers import LAYER_KINDS
from sgq_hw.lowering import Capacity, lower
from sgq_hw.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, Manifest, parse_manifest
from tests.random_layers import KINDS, NETWORKS, Kinds, random_layers

Json = dict[str, Any]
SIGNED: Json = {"bits": 8, "signed": True, "scale": 0.25}
UNSIGNED: Json = {"bits": 8, "signed": False, "scale": 0.25}
WINDOWS = [{"exponent": 2, "bits": 6}, {"exponent": 0, "bits": 3}]
"""Two buckets, in a word of eight bits."""
TAQ: Json = SIGNED | {"windows": WINDOWS}
NODE: Json = {"kind": "node", "bits": 8, "table": "degree"}
WIDTH = 6


def epilogue(output: Json = SIGNED, kind: str = "layer") -> Json:
    return {"multiplier": {"kind": kind}, "shift": 3, "bias_bits": 0, "output": output}


GAT: Json = {
    "heads": 3, "bits": 8, "index_shift": 2, "slope_code": 13, "slope_shift": 6, "bound": "row",
}  # fmt: skip
AGNN: Json = {"bits": 8, "index_shift": 2, "score_bits": 6, "norm_bits": 8, "beta": 31}
WEIGHT: Json = {"bits": 4, "signed": True, "scale": 0.5}


def layer(kind: str) -> Json:
    """A valid layer of six channels, in and out."""
    product = {"out_channels": WIDTH, "weight": WEIGHT, "combine": epilogue()}
    aggregate = {"aggregate": epilogue()}
    attend = {"aggregate": epilogue(kind="reciprocal")}
    fields: dict[str, Json] = {
        "gcn": {"association": "A(XW)", **product, **aggregate},
        "sage": {"root_weight": WEIGHT, "root": epilogue(), "root_factor": 4, **product,
                 **aggregate},
        "gin": {"hidden_channels": 5, "mlp_weight": WEIGHT, "mlp": epilogue(), **product,
                **aggregate},
        "gat": {"score_weight": WEIGHT, "score": epilogue(), "attention": GAT,
                "activation": "elu", **product, **attend},
        "agnn": {"attention": AGNN, **attend},
        "linear": product,
        "readout": {"readout": epilogue()},
    }  # fmt: skip
    return apart({"kind": kind, "in_channels": WIDTH, **fields[kind]})


def apart(value: Json) -> Json:
    """Return a copy in which no record occurs twice, so that one can be edited alone."""
    copied: Json = json.loads(json.dumps(value))
    return copied


def manifest(*kinds: str) -> Json:
    """A valid manifest of these layers, with a node table and two degree buckets."""
    return {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "normalisation": "attention",
        "self_loops": True,
        "input": {"channels": WIDTH, "bits": 1, "signed": False, "row_normalised": True},
        "edge": None,
        "node_tables": [{"name": "degree", "rule": "degree", "bits": 8, "scale": 2.0**-8}],
        "layers": [layer(kind) for kind in kinds],
        "degree_splits": [4],
    }


def edited(head: Json, where: str, value: Any) -> Json:
    """Return a copy with one field changed (`...`: left out); `where` is a dotted path."""
    head = apart(head)
    target: Any = head
    *parents, last = [int(part) if part.isdigit() else part for part in where.split(".")]
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return head


def refused(head: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse_manifest(head)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_valid() -> None:
    """Otherwise a refusal below could have another reason."""
    assert set(KINDS) == set(LAYER_KINDS)
    for kind in KINDS:
        first = () if kind in ("gcn", "sage", "gin", "gat", "linear") else ("linear",)
        parse_manifest(manifest(*first, kind))
        parse_manifest(edited(manifest(*first, kind), "degree_splits", []))
    parse_manifest(manifest("gin", "readout", "linear", "linear"))
    windows = edited(manifest("gcn"), "layers.0.aggregate.output", TAQ)
    assert parse_manifest(windows).steps()[1].epilogue.output.windows[0].bits == 6
    parse_manifest(edited(manifest("gcn"), "layers.0.combine.multiplier", NODE))
    plain = edited(manifest("gat"), "layers.0.activation", "none")
    parse_manifest(edited(plain, "layers.0.aggregate.output", TAQ))
    parse_manifest(edited(plain, "layers.0.aggregate.output", UNSIGNED))


def test_every_kind_in_a_manifest_comes_back() -> None:
    for seed in range(30):
        drawn = random_layers(np.random.default_rng(seed)).network.manifest
        assert parse_manifest(msgspec.to_builtins(drawn)) == drawn


WRONG: list[tuple[tuple[str, ...], str, Any, str]] = [
    # Kinds
    (("gcn",), "layers.0.kind", "max", r"layers\[0\]\.kind: layer 'max' is not supported; .*gin"),
    (("gcn", "gat"), "layers.1.kind", None, r"layers\[1\]\.kind: layer 'None'"),
    (("gcn",), "layers.0.kind", ..., r"layers\[0\]\.kind: "),
    (("gcn",), "layers.0", "gcn", r"layers\[0\]\.kind: "),
    # Windows
    (("gcn",), "layers.0.combine.output", TAQ | {"windows": WINDOWS[:1]},
     r"layers\[0\]\.combine\.output\.windows: 1 for 2 buckets"),
    (("sage",), "layers.0.root.output", TAQ | {"windows": WINDOWS * 2},
     r"layers\[0\]\.root\.output\.windows: 4 for 2 buckets"),
    (("gcn",), "layers.0.aggregate.output",
     TAQ | {"windows": [WINDOWS[0], {"exponent": 0, "bits": 1}]},
     r"layers\[0\]\.aggregate\.output\.windows: signed windows have 2 to 16 bits"),
    (("gin",), "layers.0.mlp.output", TAQ | {"bits": 9},
     r"layers\[0\]\.mlp\.output\.bits: 9; its windows end at 8"),
    (("gin",), "layers.0.mlp.output", TAQ | {"bits": 7},
     r"layers\[0\]\.mlp\.output\.bits: 7; its windows end at 8"),
    (("gcn",), "layers.0.combine.output", TAQ | {"windows": [{"exponent": 16, "bits": 2}] * 2},
     r".*exponent"),
    (("gcn",), "layers.0.combine.output", TAQ | {"windows": [{"exponent": 0, "bits": 0}] * 2},
     r".*bits"),
    (("gcn",), "degree_splits", [4, 4], "degree_splits: do not ascend"),
    (("gcn",), "degree_splits", [8, 4], "degree_splits: do not ascend"),
    (("gcn",), "degree_splits", [0], ".*degree_splits"),
    # Multipliers
    (("gcn",), "layers.0.combine.multiplier.kind", "reciprocal",
     r"layers\[0\]\.combine\.multiplier\.kind: 'reciprocal' in combine"),
    (("gcn",), "layers.0.aggregate.multiplier.kind", "reciprocal",
     r"layers\[0\]\.aggregate\.multiplier\.kind: 'reciprocal' in aggregate"),
    (("gat",), "layers.0.aggregate.multiplier.kind", "layer",
     r"layers\[0\]\.aggregate\.multiplier\.kind: 'layer' in attend"),
    (("linear", "agnn"), "layers.1.aggregate.multiplier", NODE,
     r"layers\[1\]\.aggregate\.multiplier\.kind: 'node' in attend"),
    (("sage",), "layers.0.root.multiplier", NODE | {"table": "mean"},
     r"layers\[0\]\.root\.multiplier\.table: no table 'mean'"),
    (("gin",), "layers.0.mlp.multiplier", NODE | {"bits": 9},
     r"layers\[0\]\.mlp\.multiplier\.bits: "),
    # Attention
    (("gat",), "layers.0.aggregate.output", UNSIGNED, r"layers\[0\]\.aggregate\.output: ELU"),
    (("gat",), "layers.0.aggregate.output", TAQ, r"layers\[0\]\.aggregate\.output: ELU"),
    (("gat",), "layers.0.activation", "relu", ".*activation"),
    (("gat",), "layers.0.attention.heads", 4, r"layers\[0\]\.attention\.heads: do not divide"),
    (("gat",), "layers.0.attention.heads", 0, ".*attention.heads"),
    (("gat",), "layers.0.attention.slope_code", 65,
     r"layers\[0\]\.attention\.slope_code: a slope above 1"),
    (("gat",), "layers.0.attention.slope_shift", 3,
     r"layers\[0\]\.attention\.slope_code: a slope above 1"),
    (("gat",), "layers.0.attention.slope_shift", 9, ".*slope_shift"),
    (("gat",), "layers.0.attention.bound", "max", ".*attention.bound"),
    (("gat",), "layers.0.attention.bits", 17, ".*attention.bits"),
    (("gat",), "layers.0.attention", AGNN, ".*attention"),
    (("gat",), "layers.0.score.output", UNSIGNED,
     r"layers\[0\]\.score\.output\.signed: scores are signed"),
    (("linear", "agnn"), "layers.1.attention.beta", 32,
     r"layers\[1\]\.attention\.beta: wider than score_bits"),
    (("linear", "agnn"), "layers.1.attention.beta", -32,
     r"layers\[1\]\.attention\.beta: wider than score_bits"),
    (("linear", "agnn"), "layers.1.attention.score_bits", 1, ".*score_bits"),
    (("linear", "agnn"), "layers.1.attention.norm_bits", 1, ".*norm_bits"),
    (("linear", "agnn"), "layers.1.out_channels", WIDTH, ".*unknown field `out_channels`"),
    # Other fields of one kind
    (("sage",), "layers.0.root_factor", 0, ".*root_factor"),
    (("sage",), "layers.0.root_weight", WEIGHT | {"bits": 1},
     r"layers\[0\]\.root_weight: weights are signed"),
    (("gat",), "layers.0.score_weight", WEIGHT | {"signed": False},
     r"layers\[0\]\.score_weight: weights are signed"),
    (("gin",), "layers.0.mlp_weight.signed", False, r"layers\[0\]\.mlp_weight: "),
    (("gin",), "layers.0.mlp_weight", ..., ".*mlp_weight"),
    (("linear",), "layers.0.weight.bits", 1, r"layers\[0\]\.weight: "),
    (("gin",), "layers.0.hidden_channels", 0, ".*hidden_channels"),
    (("gin", "linear"), "layers.1.in_channels", 5, r"layers\[1\]\.in_channels: 5 instead of 6"),
    (("gin",), "layers.0.mlp.output.bits", 1, r"layers\[0\]\.mlp\.output\.bits: "),
    # Places
    (("linear", "readout", "linear"), "layers.2.combine.multiplier", NODE,
     r"layers\[2\]\.combine: has one row for each graph"),
    (("linear", "readout", "linear"), "layers.2.combine.output", TAQ,
     r"layers\[2\]\.combine: has one row for each graph"),
    (("linear", "readout"), "layers.1.readout.multiplier", NODE,
     r"layers\[1\]\.readout: has one row for each graph"),
    (("linear", "readout"), "layers.1.readout.output", TAQ,
     r"layers\[1\]\.readout: has one row for each graph"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "where", "value", "reason"), WRONG, ids=[f"{'-'.join(w[0])} {w[1]}" for w in WRONG]
)
def test_wrong_fields(kinds: tuple[str, ...], where: str, value: Any, reason: str) -> None:
    message = refused(edited(manifest(*kinds), where, value))
    assert re.match(reason, message), message


def test_windows_need_buckets() -> None:
    head = edited(manifest("gcn"), "layers.0.combine.output", TAQ)
    for splits, count in (([], 1), ([4, 8], 3)):
        message = refused(head | {"degree_splits": splits})
        assert message == f"layers[0].combine.output.windows: 2 for {count} buckets"
    one = edited(head, "layers.0.combine.output.windows", [{"exponent": 0, "bits": 8}])
    message = refused(one | {"degree_splits": []})
    assert message == "layers[0].combine.output.windows: 1 for 1 buckets"


@pytest.mark.parametrize("kind", ["agnn", "readout"])
def test_the_first_layer_multiplies(kind: str) -> None:
    assert refused(manifest(kind)) == "layers[0].kind: the first layer must multiply"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
def test_no_edges_after_a_readout(kind: str) -> None:
    message = refused(manifest("gin", "readout", kind))
    assert message == "layers[2].kind: no edges or nodes after a readout"


@pytest.mark.parametrize("head", [None, [], "x", 3, {}, {"layers": 3}, {"layers": {"a": 1}}])
def test_no_manifest_at_all(head: Any) -> None:
    refused(head)


# ---- arrays -------------------------------------------------------------------------------------


def drawn(*kinds: str, seed: int = 0) -> Bundle:
    """A bundle of these layers with windows allowed, and more than two nodes."""
    for attempt in range(seed, seed + 200):
        chosen: Any = kinds
        bundle = random_layers(np.random.default_rng(attempt), chosen, nodes=9)
        workload = bundle.workload
        complete = workload.buckets is not None
        if "readout" in kinds:
            complete &= workload.num_results > 2
        if "gat" in kinds:
            complete &= len(bundle.network.activations) > 0
        if complete:
            return bundle
    raise AssertionError("no draw is complete")


def file_refusal(folder: Path, bundle: Bundle) -> str:
    """Return what follows the file's name where a bundle that was written is refused."""
    path = folder / "bundle.npz"
    save_bundle(path, bundle)
    with pytest.raises(InputError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def with_array(bundle: Bundle, part: str, change: Callable[[Any], Any]) -> tuple[str, Bundle]:
    """Change the first array of a parameter; return the name in the file as well."""
    arrays = getattr(bundle.network, part)
    key = min(arrays)
    names = {"exponentials": "exponential", "activations": "activation", "weights": "weight"}
    other: dict[str, Any] = {part: arrays | {key: change(arrays[key].copy())}}
    name = f"layer{key[0]}/{key[1]}/{names[part]}: "
    return name, replace(bundle, network=replace(bundle.network, **other))


def first_set(value: int) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values.flat[0] = value
        return values

    return change


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("exponentials", lambda values: values[:0], "shape"),
        ("exponentials", first_set(1 << 16), "not all in 0"),
        ("exponentials", first_set(-1), "not all in 0"),
        ("exponentials", lambda values: values[None], "shape"),
        ("activations", first_set(1), "not all in"),
        ("activations", first_set(-(1 << 16)), "not all in"),
        ("activations", lambda values: values[1:], "shape"),
        ("weights", first_set(1 << 15), "not all in"),
    ],
)
def test_arrays_of_attention(tmp_path: Path, part: str, change: Any, reason: str) -> None:
    name, changed = with_array(drawn("gat", "gat"), part, change)
    message = file_refusal(tmp_path, changed)
    assert message.startswith(name)
    assert reason in message


def test_an_exponential_one_above_its_bits(tmp_path: Path) -> None:
    bundle = drawn("linear", "agnn")
    attention = bundle.network.manifest.steps()[-1].attention
    assert attention is not None
    _, changed = with_array(bundle, "exponentials", first_set((1 << attention.bits) - 1))
    save_bundle(tmp_path / "fits.npz", changed)
    load_bundle(tmp_path / "fits.npz")
    name, changed = with_array(bundle, "exponentials", first_set(1 << attention.bits))
    assert file_refusal(tmp_path, changed).startswith(name)


@pytest.mark.parametrize("change", [
    lambda graphs: graphs[::-1], lambda graphs: graphs + 1, lambda graphs: graphs * 2,
    lambda graphs: graphs - 1, lambda graphs: graphs[1:],
])  # fmt: skip
def test_graphs_in_order_without_gaps(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    bundle = drawn("gin", "readout", "linear")
    workload = replace(
        bundle.workload, graph_of_node=change(bundle.workload.graph_of_node), labels=None, masks={}
    )
    message = file_refusal(tmp_path, replace(bundle, workload=workload))
    assert message.startswith("workload/graph_of_node: ")


@pytest.mark.parametrize("place", ["low", "high", "short"])
def test_buckets_in_range(tmp_path: Path, place: str) -> None:
    bundle = drawn("gcn")
    assert bundle.workload.buckets is not None
    buckets = bundle.workload.buckets.copy()
    buckets[3] = -1 if place == "low" else len(bundle.network.manifest.degree_splits) + 1
    workload = replace(bundle.workload, buckets=buckets[1:] if place == "short" else buckets)
    message = file_refusal(tmp_path, replace(bundle, workload=workload))
    assert message.startswith("workload/buckets: ")


@pytest.mark.parametrize("name", ["buckets", "graph_of_node"])
def test_what_a_network_needs_and_what_it_does_not_know(tmp_path: Path, name: str) -> None:
    bundle = drawn("gin", "readout", "linear")
    less: dict[str, Any] = {name: None, "labels": None, "masks": {}}
    without = replace(bundle.workload, **less)
    message = file_refusal(tmp_path, replace(bundle, workload=without))
    assert message == f"workload/{name}: missing"
    plain = random_layers(np.random.default_rng(0), ("gcn",), nodes=9, windows=False)
    more: dict[str, Any] = {name: np.zeros(9, np.int64)}
    message = file_refusal(tmp_path, replace(plain, workload=replace(plain.workload, **more)))
    assert message == f"workload/{name}: unknown field"


def test_labels_and_masks_are_those_of_graphs(tmp_path: Path) -> None:
    bundle = drawn("gin", "readout", "linear")
    nodes = bundle.workload.num_nodes
    labels = replace(bundle.workload, labels=np.zeros(nodes, np.int64))
    assert file_refusal(tmp_path, replace(bundle, workload=labels)).startswith("workload/labels: ")
    masks = replace(bundle.workload, masks={"val": np.ones(nodes, np.bool_)})
    assert file_refusal(tmp_path, replace(bundle, workload=masks)).startswith("workload/mask/val")


# ---- what has no hardware yet -------------------------------------------------------------------


def lowered(found: Manifest) -> str:
    room = Capacity(nodes=99, edges=999, edge_words=999, row_edges=99, row_nonzeros=WIDTH)
    with pytest.raises(InputError) as caught:
        lower(found, 4, room)
    return str(caught.value)


@pytest.mark.parametrize("kinds", [kinds for kinds in NETWORKS if "readout" in kinds])
def test_generate_names_the_kind(kinds: Kinds) -> None:
    at = kinds.index("readout")
    built = "gcn, sage, gin, gat, agnn, linear"
    reason = f"no hardware for 'readout' layers yet, only for {built}"
    assert lowered(parse_manifest(manifest(*kinds))) == f"layers[{at}].kind: {reason}"


def test_generate_refuses_agnn_without_self_loops() -> None:
    head = edited(manifest("linear", "agnn", "linear"), "self_loops", False)
    reason = "layers[1].kind: hardware for 'agnn' needs a graph with self loops"
    assert lowered(parse_manifest(head)) == reason


def test_generate_refuses_a_global_bound() -> None:
    head = edited(manifest("gat", "gat"), "layers.1.attention.bound", "global")
    reason = "hardware has only the row's own maximum ('row')"
    assert lowered(parse_manifest(head)) == f"layers[1].attention.bound: {reason}"


def test_generate_refuses_two_slopes() -> None:
    head = edited(manifest("gat", "gat"), "layers.1.attention.slope_code", 7)
    assert lowered(parse_manifest(head)) == (
        "layers: hardware has one leaky slope for all 'gat' layers"
    )


def test_generate_refuses_windows_of_the_result() -> None:
    head = edited(manifest("gcn", "gcn"), "layers.1.aggregate.output", TAQ)
    message = lowered(parse_manifest(head))
    assert message.startswith("layers[1].aggregate.output.windows: the result of a network leaves")

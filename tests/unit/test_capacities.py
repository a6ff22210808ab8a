"""What a generated design accepts: graphs within capacity, networks of its formats."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from sgq_hw.bundle import Bundle
from sgq_hw.errors import InputError
from sgq_hw.generate import design_for
from sgq_hw.layers import AgnnLayer, GatLayer
from sgq_hw.packer import check_fits, load_packets
from tests.random_layers import Kind, Kinds, random_layers
from tests.random_networks import (
    finest,
    gcn_layers,
    other_parameters,
    random_bundle,
    random_workload,
)


@pytest.mark.parametrize("sparse_input", [True, False])
def test_graphs_beyond_capacity(sparse_input: bool) -> None:
    """The refusal names graph, limit and the largest that fits; what fits is accepted."""
    rng = np.random.default_rng(8)
    bundle = random_bundle(rng, nodes=9, graph="random", features=12)
    design = design_for(bundle, sparse_input=sparse_input, inputs_on_chip=True)
    capacity, manifest = design.capacity, bundle.network.manifest
    inside = random_workload(
        rng, manifest, 8, max_edges=capacity.edges, max_row_edges=capacity.row_edges,
        max_row_nonzeros=capacity.row_nonzeros,
    )  # fmt: skip
    check_fits(design, Bundle(bundle.network, inside))
    for name in ("nodes", "edges", "row_edges", "row_nonzeros", "input_words"):
        needed = getattr(capacity, name)
        tight = replace(design, capacity=replace(capacity, **{name: needed - 1}))
        with pytest.raises(InputError) as caught:
            load_packets(tight, bundle)
        assert str(caught.value) == (
            f"{bundle.workload.name}: {name}: {needed}; the largest that fits is {needed - 1}"
        )


@pytest.mark.parametrize("pes", [1, 4])
def test_buckets_beyond_capacity(pes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names the buckets and how many of their nodes fit; so many do, one more does not."""
    monkeypatch.setattr("sgq_hw.design.plan_region", finest)
    rng = np.random.default_rng(5)
    bundle = random_bundle(
        rng, nodes=60, layers=2, graph="random", features=5, buckets=3, windows=True
    )
    nodes = bundle.workload.num_nodes
    design = design_for(bundle, pes=pes, lanes=2, capacity={"edges": 9999, "edge_words": 9999})
    check_fits(design, bundle)
    limit = next(limit for limit in design.slice_limits if limit.first == 0)
    named = ", ".join(map(str, sorted(design.order[: limit.end])))
    most = limit.rows * design.banks

    def with_wide(count: int) -> Bundle:
        buckets = np.where(np.arange(nodes) < count, design.order[0], design.order[limit.end])
        return replace(bundle, workload=replace(bundle.workload, buckets=buckets))

    assert 0 < most < nodes
    check_fits(design, with_wide(most))
    with pytest.raises(InputError) as caught:
        load_packets(design, with_wide(most + 1))
    assert str(caught.value) == (
        f"{bundle.workload.name}: nodes of degree buckets {named}: {most + 1}; "
        f"the largest that fits is {most}"
    )


def test_other_networks() -> None:
    """New parameters of the same formats fit; other formats are refused by field."""
    rng = np.random.default_rng(3)
    bundle = random_bundle(
        rng, nodes=8, layers=2, normalisation="edge", multipliers=["layer"], bias=True,
        associations=["A(XW)"], max_bits=12, inputs="signed", self_loops=True,
    )  # fmt: skip
    design = design_for(bundle)
    check_fits(design, other_parameters(rng, bundle))
    manifest = bundle.network.manifest
    first = gcn_layers(manifest)[0]

    def changed(**fields: Any) -> Bundle:
        other = msgspec.structs.replace(manifest, **fields)
        return replace(bundle, network=replace(bundle.network, manifest=other))

    def layer(**fields: Any) -> Bundle:
        new = msgspec.structs.replace(first, **fields)
        return changed(layers=(new, manifest.layers[1]))

    def stage(**fields: Any) -> Bundle:
        return layer(combine=msgspec.structs.replace(first.combine, **fields))

    wide, output = 1 << design.shift_bits, first.combine.output
    factor = msgspec.structs.replace(first.combine.multiplier, bits=16)
    other_kind = msgspec.structs.replace(first.combine.multiplier, kind="channel")
    weight = msgspec.structs.replace(first.weight, bits=first.weight.bits + 1)
    assert manifest.edge is not None
    same_bits = msgspec.structs.replace(manifest.edge, scale=0.5)
    check_fits(design, changed(edge=same_bits))
    cases = {
        r"layers: 1; the design has 2": changed(layers=(first,)),
        r"normalisation: factored": changed(normalisation="factored"),
        r"self_loops: False": changed(self_loops=False),
        r"input: ": changed(input=msgspec.structs.replace(manifest.input, bits=13)),
        r"edge: ": changed(edge=msgspec.structs.replace(manifest.edge, bits=13)),
        r"layers\[0\]\.combine: .* channels; ": layer(out_channels=first.out_channels + 1),
        r"layers\[0\]\.combine: weights of .* bits; at most": layer(weight=weight),
        r"layers\[0\]\.combine\.output: ": stage(
            output=msgspec.structs.replace(output, bits=output.bits + 1)
        ),
        rf"layers\[0\]\.combine\.shift: {wide}; at most {wide - 1} fit": stage(shift=wide),
        r"layers\[0\]\.combine\.bias_bits: 56; at most": stage(bias_bits=56),
        r"layers\[0\]\.combine\.multiplier\.bits: 16; at most": stage(multiplier=factor),
        r"layers\[0\]\.combine\.multiplier: .*another kind": stage(multiplier=other_kind),
    }
    for message, other in cases.items():
        with pytest.raises(InputError, match=f"^{message}"):
            check_fits(design, other)


def attending(kinds: Kinds, **fields: Any) -> Bundle:
    """A network whose last layer's attention has other fields."""
    bundle = random_layers(np.random.default_rng(0), kinds, nodes=9, built=True, buckets=1)
    manifest = bundle.network.manifest
    last: Any = manifest.layers[-1]
    attention = msgspec.structs.replace(last.attention, **fields)
    layers = (*manifest.layers[:-1], msgspec.structs.replace(last, attention=attention))
    manifest = msgspec.structs.replace(manifest, layers=layers)
    return replace(bundle, network=replace(bundle.network, manifest=manifest))


@pytest.mark.parametrize("kinds", [("gat",), ("gat", "agnn"), ("linear", "agnn", "gat")])
def test_the_index_of_a_table_is_cut_from_a_logit(kinds: Kinds) -> None:
    bundle = attending(kinds)
    last = bundle.network.manifest.layers[-1]
    design = design_for(bundle, lanes=4)
    if isinstance(last, GatLayer):
        logit_bits = last.score.output.bits + 1 + last.attention.slope_shift
    else:
        assert isinstance(last, AgnnLayer)
        logit_bits = last.attention.score_bits
    check_fits(design, attending(kinds, index_shift=logit_bits))
    message = rf"layers\[{len(kinds) - 1}\]\.attention\.index_shift: {logit_bits + 1}; at most"
    with pytest.raises(InputError, match=f"^{message} {logit_bits} fit"):
        check_fits(design, attending(kinds, index_shift=logit_bits + 1))


def test_norms_have_one_width() -> None:
    kinds: Kinds = ("linear", "agnn", "agnn")
    layers: tuple[Any, ...] = attending(kinds).network.manifest.layers
    norm_bits = layers[1].attention.norm_bits
    design_for(attending(kinds, norm_bits=norm_bits))
    with pytest.raises(InputError, match=r"^layers: hardware has one width of norms"):
        design_for(attending(kinds, norm_bits=norm_bits - 1 if norm_bits > 2 else 3))


def test_networks_that_do_not_read_the_graph() -> None:
    def of_kinds(*kinds: Kind) -> Bundle:
        return random_layers(np.random.default_rng(1), kinds, nodes=9, built=True, buckets=1)

    with pytest.raises(InputError, match=r"^layers: a single 'linear' layer"):
        design_for(of_kinds("linear"))
    design_for(of_kinds("linear", "linear"))
    with pytest.raises(InputError, match=r"^--graph streamed: no layer of the network reads"):
        design_for(of_kinds("linear", "linear"), streamed=True)

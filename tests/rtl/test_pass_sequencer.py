"""The pass sequencer: order, timing and the settings of every pass, derived from the manifest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sgq_hw.design import Design
from sgq_hw.formats import Epilogue, Format, Multiplier
from sgq_hw.layers import (
    AgnnLayer,
    GatLayer,
    GcnLayer,
    GinLayer,
    Layer,
    LinearLayer,
    ReadoutLayer,
    SageLayer,
)
from sgq_hw.sim.bench import pack
from tests.attention_designs import NETWORKS, Shape, design_of
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "pass_sequencer"
DESIGNS: dict[str, dict[str, Any]] = {
    "one-layer": {"layers": 1, "lanes": 7},
    "two-layers": {"layers": 2, "lanes": 3, "multipliers": ("node",)},
    "three-layers": {"layers": 3, "lanes": 4, "multipliers": ("layer", "channel"), "bias": True},
    "mixed": {"layers": 3, "lanes": 2, "associations": ("(AX)W",)},
    "four-elements": {"pes": 4, "lanes": 4, "layers": 3, "associations": ("(AX)W",)},
    "many-banks": {"pes": 64, "lanes": 2, "layers": 2, "features": 24},
    "windows": {"pes": 2, "lanes": 3, "layers": 3, "buckets": 4, "max_bits": 9},
    "eight-windows": {"lanes": 5, "layers": 2, "buckets": 8, "windows": True},
}


COPY = ", copy"
"""Behind the name of a tensor: where it lies for the second time."""


@dataclass(frozen=True)
class Part:
    """A tensor that a walk writes.

    Attributes:
        name: Of its pass.
        width: Channels.
        epilogue: What ends it, None for a maximum of scores.
    """

    name: str
    width: int
    epilogue: Epilogue | None


@dataclass(frozen=True)
class Walk:
    """A walk over inputs, over a tensor or over the graph.

    Attributes:
        source: Name of the tensor that it reads, None for the inputs.
        inputs: Channels of it.
        parts: What it writes.
        settings: What it needs beyond that.
        layer: The layer, where it attends.
    """

    source: str | None
    inputs: int
    parts: list[Part]
    combines: bool
    settings: dict[str, int] = field(default_factory=dict)
    layer: GatLayer | AgnnLayer | None = None


def wide_walks_of(
    layer: GatLayer | SageLayer, name: str, source: str | None, region: dict[str, int], lanes: int
) -> list[Walk]:
    """Spell a layer out whose first walk writes several tensors."""
    inputs, outputs = layer.in_channels, layer.out_channels

    def part(stage: str, width: int, end: Epilogue | None) -> Part:
        return Part(f"{name}.{stage}", width, end)

    product = part("combine", outputs, layer.combine)
    total = part("aggregate", outputs, layer.aggregate)
    if isinstance(layer, SageLayer):
        root = part("root", outputs, layer.root)
        more = {
            "is_bypass": 1, "use_addend": 1, "row_a_use": 1, "row_a_region": region[root.name]
        }  # fmt: skip
        return [
            Walk(source, inputs, [product, root], True),
            Walk(product.name, outputs, [total], False, more),
        ]
    assert isinstance(layer, GatLayer)
    heads = layer.attention.heads
    if 2 * heads <= lanes:
        # Both halves of the scores in a word, which is written twice.
        scores = [part("score", 2 * heads, layer.score)]
        targets, sources = f"{name}.score", f"{name}.score{COPY}"
    else:
        scores = [part(f"score_{of}", heads, layer.score) for of in ("target", "source")]
        targets, sources = (each.name for each in scores)
    most = part("bound", scores[0].width, None)
    more = {
        "is_attend": 1, "has_scores": 1, "score_region": region[sources],
        "row_a_use": 1, "row_a_region": region[targets],
        "row_b_use": 1, "row_b_region": region[most.name],
    }  # fmt: skip
    return [
        Walk(source, inputs, [product, *scores], True),
        Walk(sources, most.width, [most], False, {"is_maximum": 1, "is_bypass": 1}),
        Walk(product.name, outputs, [total], False, more, layer),
    ]


def walks_of(
    layer: Layer, index: int, source: str | None, region: dict[str, int], lanes: int
) -> list[Walk]:
    """Spell a layer out: what walks, what it reads and writes."""
    name = f"layer{index}"
    if isinstance(layer, GatLayer | SageLayer):
        return wide_walks_of(layer, name, source, region, lanes)
    inputs, outputs = layer.in_channels, layer.out_channels
    assert not isinstance(layer, ReadoutLayer)
    if isinstance(layer, AgnnLayer):
        own = Part(f"{name}.aggregate", inputs, layer.aggregate)
        return [Walk(source, inputs, [own], False, {"is_attend": 1, "is_cosine": 1}, layer)]
    if isinstance(layer, LinearLayer):
        return [Walk(source, inputs, [Part(f"{name}.combine", outputs, layer.combine)], True)]
    if isinstance(layer, GcnLayer) and layer.association == "(AX)W":
        total = Part(f"{name}.aggregate", inputs, layer.aggregate)
        product = Part(f"{name}.combine", outputs, layer.combine)
        return [
            Walk(source, inputs, [total], False, {"is_bypass": 1}),
            Walk(total.name, inputs, [product], True),
        ]
    hidden = layer.hidden_channels if isinstance(layer, GinLayer) else outputs
    product = Part(f"{name}.combine", hidden, layer.combine)
    total = Part(f"{name}.aggregate", hidden, layer.aggregate)
    found = [
        Walk(source, inputs, [product], True),
        Walk(product.name, hidden, [total], False, {"is_bypass": 1}),
    ]
    if isinstance(layer, GinLayer):
        found.append(Walk(total.name, hidden, [Part(f"{name}.mlp", outputs, layer.mlp)], True))
    return found


def attention_settings(design: Design, walk: Walk, numbers: dict[str, int]) -> dict[str, int]:
    """Return what attention needs of its passes, and of those between them."""
    lanes, layer = design.lanes, walk.layer
    if layer is None:
        return {"operand_delay": 2, "result_delay": 2}
    heads = layer.attention.heads if isinstance(layer, GatLayer) else 1
    score_chunks = -(-heads // lanes) if isinstance(layer, GatLayer) else 0
    norm_bits = layer.attention.norm_bits if isinstance(layer, AgnnLayer) else None
    shape = Shape(heads, layer.out_channels, lanes, score_chunks, norm_bits)
    operand, result = shape.least_delays(design.timing.head_lanes)
    found = {
        "table_select": numbers["tables"], "operand_delay": operand, "result_delay": result,
        "last_group": -(-heads // design.timing.head_lanes) - 1,
    }  # fmt: skip
    numbers["tables"] += 1
    if score_chunks:
        found["last_score_chunk"] = score_chunks - 1
        if isinstance(layer, GatLayer) and layer.activation == "elu":
            found |= {"is_elu": 1, "elu_select": numbers["activations"]}
            numbers["activations"] += 1
    return found


def optional_settings(design: Design) -> dict[str, int]:
    """Return the settings that this design has beyond those of all, as they are where unused."""
    layers = design.manifest.layers
    gat, agnn, sage = (
        any(isinstance(layer, kind) for layer in layers)
        for kind in (GatLayer, AgnnLayer, SageLayer)
    )
    sums = any(isinstance(layer, SageLayer | GinLayer | GcnLayer) for layer in layers)
    elu = any(isinstance(layer, GatLayer) and layer.activation == "elu" for layer in layers)
    has = {
        "row_a_use": gat or sage,
        "row_b_use": gat,
        "use_addend": sage,
        "is_maximum": gat,
        "is_bypass": (gat or agnn) and (gat or (sums and design.manifest.edge is None)),
        "is_attend": gat or agnn,
        "has_scores": gat,
        "is_cosine": gat and agnn,
        "is_elu": elu,
    }
    return {name: 0 for name, there in has.items() if there}


MEANING = {
    "row_a_region": "row_a_use", "row_b_region": "row_b_use", "score_region": "has_scores",
    "last_score_chunk": "has_scores", "last_group": "has_scores", "table_select": "is_attend",
    "operand_delay": "is_attend", "result_delay": "is_attend", "elu_select": "is_elu",
}  # fmt: skip
"""Settings that are there only with another one."""


def limits_of(design: Design, output: Format) -> dict[str, int]:
    """Return the saturation limits of a format."""
    widths = [output.bits] * max(1, len(design.order))
    if output.windows:
        widths = [output.windows[bucket].bits for bucket in design.order]
    low = [-(2 ** (bits - 1)) if output.signed else 0 for bits in widths]
    high = [2 ** (bits - output.signed) - 1 for bits in widths]
    if not design.order:
        return {"limit_low": low[0], "limit_high": high[0]}
    return {
        "limits_low": pack(low, design.out_bits), "limits_high": pack(high, design.out_bits)
    }  # fmt: skip


def expected_passes(design: Design) -> list[dict[str, int]]:
    """Return the settings of each walk, worked out from the network alone.

    Only where tensors lie is taken from the design; `tests/unit/test_lowering.py` checks that.
    """
    manifest, lanes = design.manifest, design.lanes
    banks = 1 if design.pes == 1 else 2 * design.pes
    tables = [table.name for table in manifest.node_tables]
    region = {
        step.name + copy: at
        for step in design.passes
        for copy, at in (("", step.destination), (COPY, step.duplicate))
        if at is not None
    }
    walks: list[Walk] = []
    source = None
    for index, layer in enumerate(manifest.layers):
        walks += walks_of(layer, index, source, region, lanes)
        source = walks[-1].parts[-1].name
    optional = optional_settings(design)
    found = []
    weights = channels = passes = 0
    numbers = {"tables": 0, "activations": 0}
    for position, walk in enumerate(walks):
        chunks = [-(-part.width // lanes) for part in walk.parts]
        entry = {
            "pass_index": passes,
            "is_aggregate": int(not walk.combines),
            "from_buffer": int(walk.combines and position > 0),
            "to_output": int(position == len(walks) - 1),
            "last_chunk": sum(chunks) - 1,
        }
        passes += len(walk.parts)
        ends = [part.epilogue for part in walk.parts if part.epilogue is not None]
        entry["use_bias"] = int(any(end.bias_bits for end in ends))
        if walk.source is not None:
            entry["source_region"] = region[walk.source]
        if len(walk.parts) == 1:
            # Words of several parts are told apart elsewhere.
            part = walk.parts[0]
            entry["last_chunk_lanes"] = part.width - lanes * (chunks[0] - 1)
            output = part.epilogue.output if part.epilogue else Format(
                bits=score_bits(manifest.layers, part.name), signed=True, scale=1.0
            )  # fmt: skip
            entry |= limits_of(design, output)
            if position < len(walks) - 1:
                entry["destination_region"] = region[part.name]
            multiplier = part.epilogue.multiplier if part.epilogue else Multiplier(kind="layer")
            select = {"layer": 0, "channel": 1}.get(multiplier.kind)
            if multiplier.kind != "reciprocal":
                entry["multiplier_select"] = (
                    2 + tables.index(multiplier.table) if select is None else select
                )
        if walk.combines:
            stride = (walk.inputs + banks - 1) // banks
            entry |= {"last_input": walk.inputs - 1, "weight_base": weights}
            # With a single chunk nothing uses the stride.
            entry |= {"weight_stride": stride} if sum(chunks) > 1 else {}
            weights += stride * sum(chunks)
        if any(end.bias_bits or end.multiplier.kind == "channel" for end in ends):
            entry["channel_base"] = channels
            channels += sum(chunks)
        more = optional | walk.settings
        if "is_attend" in optional:
            more |= attention_settings(design, walk, numbers)
        there = {*optional, *(name for name, needs in MEANING.items() if needs in optional)}
        if "is_bypass" in more and manifest.edge is not None and not more.get("is_maximum"):
            more["is_bypass"] = 0  # sums are of products with the edges' values
        found.append(entry | {name: value for name, value in more.items() if name in there})
    return found


def score_bits(layers: Sequence[Layer], name: str) -> int:
    """Return the bits of the scores whose maximum a pass takes."""
    layer = layers[int(name.removeprefix("layer").split(".")[0])]
    assert isinstance(layer, GatLayer)
    return layer.score.output.bits


def job(name: str) -> UnitRun:
    if name in NETWORKS:
        design = design_of(name)
    else:
        design = random_design(len(name), nodes=9, **DESIGNS[name])
    return unit_run(UNIT, design, {"passes": expected_passes(design)})


@pytest.mark.parametrize("name", [*DESIGNS, *NETWORKS])
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["four-elements", "mixed"])
def test_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pass_done && pass_reg == LAST_PASS", "pass_done && pass_reg >= LAST_PASS - 1'b1"),
        ("(state_reg == STATE_IDLE || done)", "(state_reg == STATE_IDLE)"),
        ("last_chunk         <= ", "last_chunk         <= ~"),
        ("weight_stride      <= ", "weight_stride      <= ~"),
        ("state_reg == STATE_RUN && pass_end", "pass_end"),
        ("STATE_START && to_output && !output_free", "STATE_START && !output_free"),
        ("STATE_START && to_output && !output_free", "STATE_START && to_output && output_free"),
        ("STATE_START && !output_wait", "STATE_START"),
        ("if (start) begin", "if (1'b1) begin"),
        ("pass_reg + 1'b1", "pass_reg - 1'b1"),
        ("        state_reg <= STATE_IDLE;\n", ""),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("two-layers"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limits_low         <= ", "limits_low         <= ~"),
        ("limits_high        <= ", "limits_high        <= 1'b1 + "),
    ],
)
def test_a_planted_fault_of_windows_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("windows"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pass_next  = following", "pass_next  = pass_reg + 1'b1"),
        ("following = 5'd", "following = 5'd1 + 5'd"),
        *(
            (f"{name:<18} <= ", f"{name:<18} <= ~")
            for name in (
                "row_a_use", "row_a_region", "row_b_use", "row_b_region", "use_addend",
                "is_maximum", "is_bypass", "is_attend", "table_select", "operand_delay",
                "result_delay", "has_scores", "score_region", "last_score_chunk", "last_group",
                "is_cosine", "is_elu", "elu_select", "source_region", "last_chunk", "weight_base",
            )
        ),
    ],
)  # fmt: skip
def test_a_planted_fault_of_attention_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("mixed"), old, new), tmp_path)

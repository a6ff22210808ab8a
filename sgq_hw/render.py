"""Rendering: a design becomes Verilog modules, one template each."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined

from sgq_hw import __version__
from sgq_hw.attention_schedule import heads_of_lanes
from sgq_hw.attention_units import attention_units
from sgq_hw.design import (
    COUNTER_BITS,
    ERRORS,
    EXPONENT_BITS,
    PACKET_TYPES,
    Design,
    address_bits,
    count_bits,
)
from sgq_hw.lowering import Pass
from sgq_hw.registers import (
    CONTROL_ADDRESS,
    COUNTER_BASE,
    COUNTERS,
    IRQ_ENABLE_ADDRESS,
    IRQ_STATUS_ADDRESS,
    register_map,
)

UNITS = (
    "accelerator",
    "accelerator_axi",
    "aggregation_unit",
    "agnn_scores",
    "attention_epilogue",
    "attention_weights",
    "axil_registers",
    "bank_crossbar",
    "combination_unit",
    "degree_window",
    "delay_line",
    "elu",
    "exponential",
    "feature_buffer",
    "gat_scores",
    "input_reader",
    "input_unpacker",
    "inverse_norm",
    "lane_heads",
    "leaky_slope",
    "mac_array",
    "output_buffer",
    "output_stream",
    "pass_sequencer",
    "performance_counters",
    "reciprocal",
    "requantize",
    "row_tracker",
    "schedule_checker",
    "serial_expander",
    "stream_loader",
    "stream_register",
)
"""Templates that are rendered once each; memories are rendered once for each style in use."""

MEMORY_TEMPLATES = ("ram", "rom")

STAND_ALONE: dict[str, bool] = {
    "agnn_scores": True,
    "attention_epilogue": False,
    "attention_weights": False,
    "delay_line": True,
    "elu": True,
    "exponential": True,
    "gat_scores": False,
    "inverse_norm": False,
    "leaky_slope": False,
    "reciprocal": False,
}
"""Units that are rendered from their parameters alone (`render_unit`), and whether they have a
memory of their own. Designs have them as well."""


class RomGraph(NamedTuple):
    """The sizes of a baked-in graph.

    Attributes:
        nodes: Nodes.
        records: Edge words.
        inputs: Input words, where they are baked in too.
        bounds: First place of every position of the memory order but the first.
    """

    nodes: int = 0
    records: int = 0
    inputs: int = 0
    bounds: tuple[int, ...] = ()


def _load_template(name: str) -> str | None:
    resource = files("sgq_hw.templates").joinpath(name)
    return resource.read_text(encoding="utf-8") if resource.is_file() else None


def signed_hex(value: int, bits: int) -> str:
    """Return a sized signed Verilog literal for any value of a two's complement format."""
    return f"{bits}'sh{value & ((1 << bits) - 1):0{-(-bits // 4)}X}"


@cache
def environment() -> Environment:
    """Return the Jinja2 environment of the templates; an undefined name is an error."""
    env = Environment(
        loader=FunctionLoader(_load_template),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["signed_hex"] = signed_hex
    return env


def parameters(design: Design) -> dict[str, int]:
    """Return every number that a template may use, by its Verilog parameter name."""
    capacity = design.capacity
    final = design.passes[-1]
    channels = design.manifest.input.channels
    widest_input = max(step.in_channels for step in design.passes)
    # Only combinations read weights, a row for each input channel.
    weight_rows = max(step.in_channels for step in design.passes if step.front != "aggregate")
    regions = design.program.regions
    load_words = [
        memory.depth * memory.copies
        for memory in design.memories
        if memory.role not in ("feature", "output", "exponential", "activation", "delay")
    ] + [target.words for target in design.targets]
    load_word_bits = max([64, *(target.bits for target in design.targets)])
    beats = -(-load_word_bits // design.stream_bits)
    out_beats = -(-design.lanes * final.bits // design.stream_bits)
    # Slices have depths of their own: there, an address is {chunk, row}.
    chunks = design.chunks
    stride = design.bank_rows if design.buckets == 1 else 1 << address_bits(design.bank_rows)
    region_depth = max(region.chunks for region in regions) * stride
    input_step_bits = design.input_steps.bit_length() - 1
    input_addr_bits = address_bits(-(-capacity.input_words // design.input_steps))
    weight_addr_bits = max(address_bits(design.program.weight_words), 1)
    bucket_bits = address_bits(design.buckets)
    largest_room = max([0, *(limit.rows for limit in design.slice_limits)]) * design.banks
    return {
        "PES": design.pes,
        "PE_BITS": address_bits(design.pes),
        "BANKS": design.banks,
        "BANK_BITS": address_bits(design.banks),
        "SLOTS": design.slots,
        "LANES": design.lanes,
        "STREAM_BITS": design.stream_bits,
        "VALUE_BITS": design.value_bits,
        "WEIGHT_BITS": design.weight_bits,
        "FEATURE_BITS": design.feature_bits,
        "ACC_BITS": design.acc_bits,
        "MULTIPLIER_BITS": design.multiplier_bits,
        "BIAS_BITS": design.bias_bits,
        "TOTAL_BITS": design.total_bits,
        "SHIFT_BITS": design.shift_bits,
        "OUT_BITS": design.out_bits,
        "CODE_BITS": final.bits,
        "X_BITS": design.manifest.input.bits,
        "EDGE_BITS": 0 if design.manifest.edge is None else design.manifest.edge.bits,
        "BUCKETS": design.buckets,
        "BUCKET_BITS": bucket_bits,
        "EXPONENT_BITS": EXPONENT_BITS,
        "BOUND_BITS": count_bits(capacity.nodes),
        "SLICE_BITS": count_bits(max(capacity.nodes, largest_room)) + 1,
        "CHUNKS": chunks,
        "CHUNK_BITS": address_bits(chunks),
        "LANE_BITS": address_bits(design.lanes),
        "LANE_COUNT_BITS": count_bits(design.lanes),
        "NODE_BITS": count_bits(capacity.nodes),
        "NODE_ADDR_BITS": address_bits(capacity.nodes),
        "PLACE_BITS": address_bits(design.rows * design.pes),
        "ROWS": design.rows,
        "ROW_BITS": count_bits(design.rows),
        "TAG_BITS": design.tag_bits,
        "INPUT_BITS": count_bits(max(widest_input, design.lanes)),
        "INPUT_ADDRESS_BITS": address_bits(-(-channels // design.banks)),
        "INPUT_RECORD_BITS": design.input_record.bits,
        "INPUT_WORD_BITS": design.input_word_bits,
        "SERIAL_NODE_BITS": design.serial_bits["node"],
        "SERIAL_CHANNEL_BITS": design.serial_bits["channel"],
        "WORDS_PER_BEAT": design.words_per_beat,
        "BEATS_PER_WORD": design.beats_per_word,
        "ROW_LENGTH_BITS": count_bits(max(capacity.row_nonzeros, capacity.row_edges)),
        "RECORD_BITS": design.edge_record.bits,
        "EDGE_ADDRESS_BITS": address_bits(design.bank_rows),
        "EDGE_ADDR_BITS": address_bits(design.edge_word_limit),
        "EDGE_COUNT_BITS": count_bits(design.edge_word_limit),
        "INPUT_STEPS": design.input_steps,
        "INPUT_STEP_BITS": input_step_bits,
        "INPUT_ADDR_BITS": input_addr_bits,
        "INPUT_COUNT_BITS": max(
            count_bits(capacity.input_words), input_addr_bits + input_step_bits
        ),
        "WEIGHT_ADDR_BITS": weight_addr_bits,
        "OPERAND_BITS": design.operand_bits,
        "MULTIPLIED_BITS": design.multiplied_bits,
        "OPERAND_ROW_BITS": max(
            address_bits(-(-weight_rows // design.banks)), address_bits(design.bank_rows)
        ),
        "OPERAND_ADDR_BITS": max(weight_addr_bits, address_bits(region_depth)),
        "CHANNEL_ADDR_BITS": address_bits(design.program.channel_words),
        "FEATURE_ADDR_BITS": address_bits(region_depth),
        "FEATURE_STRIDE": stride,
        "OUTPUT_ADDR_BITS": address_bits(final.chunks * design.rows),
        "REGION_BITS": address_bits(len(regions)),
        "PASS_BITS": address_bits(len(design.passes)),
        "SELECT_BITS": address_bits(2 + len(design.manifest.node_tables)),
        "LOAD_WORD_BITS": load_word_bits,
        "LOAD_COUNT_BITS": count_bits(max(load_words)),
        "MAX_BEATS": beats,
        "BEAT_BITS": address_bits(beats),
        "TARGETS": max(1, len(design.targets)),
        "TARGET_BITS": address_bits(max(1, len(design.targets))),
        "OUT_BEATS": out_beats,
        "OUT_LAST_BEATS": -(-final.last_chunk_lanes * final.bits // design.stream_bits),
        "OUT_BEAT_BITS": address_bits(out_beats),
        "FIFO_ADDR_BITS": design.fifo_addr_bits,
        "OUT_RESERVE": design.output_reserve,
        "COUNTER_BITS": COUNTER_BITS,
        "COUNTER_INDEX_BITS": address_bits(len(COUNTERS)),
        **(
            {"ADDEND_BITS": design.addend_bits, "FACTOR_BITS": design.addend_factor_bits}
            if design.has_addend
            else {}
        ),
        **(_attention_parameters(design) if design.attention else {}),
        **(_activation_parameters(design) if design.activations else {}),
    }


def _attention_parameters(design: Design) -> dict[str, int]:
    timing = design.timing
    heads = design.head_groups * timing.head_lanes
    found = {
        "HEAD_LANES": timing.head_lanes,
        "HEADS": heads,
        "HEAD_BITS": address_bits(heads),
        "GROUP_BITS": address_bits(design.head_groups),
        "TABLES": len(design.attention),
        "TABLE_SELECT_BITS": address_bits(len(design.attention)),
        "TABLE_ADDR_BITS": address_bits(len(design.attention) << design.table_bits),
        "ATTENTION_BITS": design.attention_bits,
        "LOGIT_BITS": design.logit_bits,
        "INDEX_SHIFT_BITS": count_bits(design.logit_bits),
        "RECIPROCAL_EXPONENT_BITS": count_bits(design.denominator_bits),
        "NUMERATOR_BITS": design.numerator_bits,
        "OPERAND_DELAY_BITS": address_bits(timing.operand_depth),
        "RESULT_DELAY_BITS": address_bits(timing.result_depth),
        "OPERAND_DELAY_DEPTH": timing.operand_depth,
        "RESULT_DELAY_DEPTH": timing.result_depth,
    }
    if design.has_gat:
        found |= {
            "SCORE_BITS": design.score_bits,
            "SCORE_CHUNKS": max(step.score_chunks for step in design.passes),
            "GAT_LOGIT_BITS": design.gat_logit_bits,
        }
    if design.has_agnn:
        found |= {"BETA_BITS": design.beta_bits, "COSINE_BITS": design.cosine_bits}
    return found


def _activation_parameters(design: Design) -> dict[str, int]:
    return {
        "ACTIVATION_BITS": design.activation_bits,
        "ELU_TABLES": len(design.activations),
        "ELU_SELECT_BITS": address_bits(len(design.activations)),
        "ACTIVATION_ADDR_BITS": address_bits(
            len(design.activations) << (design.activation_bits - 1)
        ),
    }


TOP_PARAMETERS = (
    "PES", "BANKS", "BANK_BITS", "LANES", "STREAM_BITS", "VALUE_BITS", "WEIGHT_BITS",
    "FEATURE_BITS", "OPERAND_BITS", "ACC_BITS", "MULTIPLIER_BITS", "BIAS_BITS", "SHIFT_BITS",
    "OUT_BITS", "CHUNK_BITS", "LANE_COUNT_BITS", "NODE_BITS", "ROW_BITS", "INPUT_BITS",
    "INPUT_WORD_BITS", "WEIGHT_ADDR_BITS", "CHANNEL_ADDR_BITS", "FEATURE_ADDR_BITS",
    "OPERAND_ROW_BITS", "OPERAND_ADDR_BITS", "EDGE_COUNT_BITS", "REGION_BITS", "PASS_BITS",
    "SELECT_BITS", "COUNTER_BITS", "COUNTER_INDEX_BITS",
)  # fmt: skip
_WORDS_OF = {
    "edges": "num_records_reg",
    # Their own number, once there is a graph for them.
    "inputs": "num_nodes_reg == 32'd0 ? 32'd0 : header_count",
}
"""How many words a load packet must have, for targets that do not follow the nodes."""
LOAD_PARAMETERS = ("TARGETS", "LOAD_COUNT_BITS", "LOAD_WORD_BITS")
ATTENTION_PARAMETERS = (
    "HEADS", "TABLE_SELECT_BITS", "OPERAND_DELAY_BITS", "RESULT_DELAY_BITS", "INDEX_SHIFT_BITS"
)  # fmt: skip
WINDOW_PARAMETERS = ("BUCKETS", "BUCKET_BITS", "BOUND_BITS", "EXPONENT_BITS", "PLACE_BITS")


def _multiplier_select(design: Design, index: int) -> int:
    """Return the code of a pass's multiplier source: 0 layer, 1 channel, 2 + t node table t."""
    multiplier = design.passes[index].multiplier
    if multiplier.kind == "node":
        names = [table.name for table in design.manifest.node_tables]
        return 2 + names.index(multiplier.table)
    return 1 if multiplier.kind == "channel" else 0


def _multiplier_sources(design: Design) -> list[dict[str, object]]:
    sources: list[dict[str, object]] = []
    kinds = {step.multiplier.kind for step in design.passes}
    if "layer" in kinds:
        sources.append({"select": 0, "expression": "{LANES{layer_multiplier}}"})
    if "channel" in kinds:
        low = design.lanes * design.bias_bits if design.has_bias else 0
        high = low + design.lanes * design.multiplier_bits - 1
        sources.append({"select": 1, "expression": f"channel_memory_rdata[{high}:{low}]"})
    used = {step.multiplier.table for step in design.passes}
    for index, table in enumerate(design.manifest.node_tables):
        if table.name in used:
            pad = design.multiplier_bits - table.bits
            word = f"table{index}_memory_factor"
            word = f"{{ {{{pad}{{1'b0}}}}, {word} }}" if pad else word
            sources.append({"select": 2 + index, "expression": f"{{LANES{{{word}}}}}"})
    return sources


def _exponents(step: Pass, buckets: int) -> str:
    """Return the exponents of a pass's windows as a Verilog concatenation, position 0 lowest."""
    exponents = [window.exponent for window in step.windows] or [0] * buckets
    return "{" + ", ".join(f"{EXPONENT_BITS}'d{code}" for code in reversed(exponents)) + "}"


def _regions(design: Design) -> list[dict[str, Any]]:
    """Return what the feature buffer keeps: each region in one memory, or cut into slices."""
    memories = [memory for memory in design.memories if memory.role == "feature"]
    found: list[dict[str, Any]] = []
    for index, region in enumerate(design.program.regions):
        own = [
            {"depth": memory.depth, "addr_bits": memory.addr_bits, "module": memory.module,
             "name": memory.name}
            for memory in memories
            if memory.index == index
        ]  # fmt: skip
        shape = {
            "bits": region.bits, "signed": region.signed, "chunks": region.chunks,
            "widths": region.widths,
        }  # fmt: skip
        if design.buckets == 1:
            found.append(shape | own[0])
            continue
        slices = [
            {"low": part.low, "high": part.high, "bits": part.bits, "first": part.first,
             "end": part.end, "rows": part.rows, **memory}
            for part, memory in zip(design.region_plans[index].slices, own, strict=True)
        ]  # fmt: skip
        found.append(shape | {"slices": slices})
    return found


def _row_settings(design: Design, step: Pass) -> dict[str, Any]:
    """Return what a pass needs beside its sums: rows' own words, delays, numbers of tables."""
    rule, walk = step.attention, design.walk(step.leader)
    row_a = step.addend_region
    row_b = None
    if rule is not None and rule.score_chunks:
        row_a, row_b = rule.target_region, rule.bound_region
    found: dict[str, Any] = {
        "row_a": row_a,
        "row_b": row_b,
        "bypass": design.bypasses(step),
        "alone": len(walk) == 1,
        "walk_bias": any(one.has_bias for one in walk),
        "elu_number": design.activations.index(step) if step.elu else 0,
    }
    if design.attention:
        timing = design.timing
        found |= {
            "operand_delay": timing.operand_delays[step.index],
            "result_delay": timing.result_delays[step.index],
            "last_group": 0 if rule is None else timing.groups(rule) - 1,
        }
    return found


def _lane_heads(design: Design) -> list[dict[str, Any]]:
    """Return the heads of all lanes for every chunk of every pass with attention."""
    return [
        {"select": number, "chunk": chunk, "heads": heads}
        for number, step in enumerate(design.attention)
        for chunk, heads in enumerate(heads_of_lanes(step, design.lanes))
    ]


def _context(design: Design, rom_graph: RomGraph) -> dict[str, Any]:
    values = parameters(design)
    by_name = {memory.name: memory for memory in design.memories}
    targets = [
        {
            **{name: getattr(target, name) for name in target.__slots__},
            "type": target.type,
            "pass_index": target.index,
            "beats": -(-target.bits // design.stream_bits),
            "words_expression": (
                f"32'd{target.words}"
                if target.words
                else _WORDS_OF.get(target.kind, "num_nodes_reg")
            ),
        }
        for target in design.targets
    ]
    by_kind = {target.kind: target.number for target in design.targets}
    by_memory = {target.memory: target.number for target in design.targets if target.memory}
    memories = [
        {
            "name": memory.name, "role": memory.role, "width": memory.width,
            "depth": memory.depth, "addr_bits": memory.addr_bits, "module": memory.module,
            "copies": memory.copies, "copy_bits": (memory.copies - 1).bit_length(),
            "rom": memory.rom, "style": memory.style, "select": 2 + memory.index,
            "target": by_memory.get(memory.name, 0),
        }
        for memory in design.memories
        if memory.role in ("weight", "edge", "table", "channel", "order", "input")
    ]  # fmt: skip
    passes = [
        {
            **{name: getattr(step, name) for name in step.__slots__},
            "limit_low": step.limit_low, "limit_high": step.limit_high,
            "exponents": _exponents(step, design.buckets), "leads": step.leads,
            "multiplier_select": _multiplier_select(design, step.index),
            "score_chunks": step.score_chunks,
            **_row_settings(design, step),
        }
        for step in design.passes
    ]  # fmt: skip
    edge = design.edge_record
    heads = _lane_heads(design)
    return {
        "p": SimpleDict(values),
        "capacity": design.capacity,
        "edge_word_limit": design.edge_word_limit,
        "inputs_on_chip": design.inputs_on_chip,
        "has_payload": design.has_payload,
        "sparse_input": design.sparse_input,
        "edge_values": design.manifest.edge is not None,
        "streamed": design.streamed,
        "serial": design.serial,
        "aggregations": design.aggregations,
        "serial_type": PACKET_TYPES["serial"],
        # With several slots the chunk count is rounded up to a power of two.
        "sets": (
            values["CHUNKS"] if design.pes == 1
            else 2 << (values["CHUNK_BITS"] if values["CHUNKS"] > 1 else 0)
        ),
        "has_bubbles": edge.find("valid") is not None,
        "walk_buffer": any(step.front == "combine_buffer" for step in design.passes),
        "record_has_value": design.input_record.find("value") is not None,
        "x_signed": design.manifest.input.signed,
        "input_channels": design.manifest.input.channels,
        "has_channels": bool(design.channel_width),
        "has_bias": design.has_bias,
        "has_addend": design.has_addend,
        "has_copies": design.has_copies,
        "score_offsets": sorted({one.first_source for one in design.attending}),
        "parts": design.parts,
        "row_ports": design.row_ports,
        "attention": design.attention,
        "activations": design.activations,
        "has_gat": design.has_gat,
        "whole_records": design.whole_records,
        "has_agnn": design.has_agnn,
        "has_maximum": design.has_maximum,
        "has_bypass": design.has_bypass,
        "bypass_setting": design.has_bypass and bool(design.attention),
        "lane_values": bool(design.attention),
        "word_limits": design.buckets > 1 or design.parts,
        "walks": [passes[step.index] for step in design.walks],
        "constants": design.constants,
        "field_lows": {
            field.name: sum(other.bits for other in design.constants[:number])
            for number, field in enumerate(design.constants)
        },
        "first_heads": heads[0]["heads"] if heads else [],
        "head_cases": heads[1:],
        "errors": ERRORS,
        "infer_type": PACKET_TYPES["inference"],
        "header_beats": -(-64 // design.stream_bits),
        "targets": targets,
        "graph_target": by_kind.get("graph", 0),
        "slice_limits": design.slice_limits,
        "bank_shift": design.banks.bit_length() - 1,
        "inputs_target": by_kind.get("inputs", 0),
        "memories": memories,
        "regions": _regions(design),
        "windows": design.buckets > 1,
        "collects": design.collects,
        "direct": design.direct,
        "passes": passes,
        "multiplier_sources": _multiplier_sources(design),
        "fifo": by_name["output_fifo"],
        "output": by_name.get("output_memory"),
        "top_parameters": (
            tuple(
                name for name in TOP_PARAMETERS if design.has_payload or name != "INPUT_WORD_BITS"
            )
            + (WINDOW_PARAMETERS if design.buckets > 1 else ())
            + (ATTENTION_PARAMETERS if design.attention else ())
            + (("GROUP_BITS",) if design.has_gat else ())
            + (("BETA_BITS",) if design.has_agnn else ())
            + (("ELU_SELECT_BITS",) if design.activations else ())
            + (("INPUT_COUNT_BITS",) if design.inputs_on_chip else ())
            + (LOAD_PARAMETERS if targets else ())
        ),
        "rom_nodes": rom_graph.nodes,
        "rom_records": rom_graph.records,
        "rom_inputs": rom_graph.inputs,
        "rom_bounds": rom_graph.bounds,
        "counters": COUNTERS,
        "counter_base": COUNTER_BASE,
        "control_address": CONTROL_ADDRESS,
        "irq_enable_address": IRQ_ENABLE_ADDRESS,
        "irq_status_address": IRQ_STATUS_ADDRESS,
        "registers": register_map(design),
    }


def units_of(design: Design) -> list[str]:
    """Return the units that a design has, of `UNITS`."""
    optional = {
        "degree_window": design.buckets > 1,
        "output_buffer": design.collects,
        "serial_expander": design.serial,
        "input_reader": design.inputs_on_chip,
        "input_unpacker": design.has_payload,
        **dict.fromkeys(
            ("attention_epilogue", "attention_weights", "delay_line", "exponential", "lane_heads",
             "reciprocal", "row_tracker"),
            bool(design.attention),
        ),
        **dict.fromkeys(("gat_scores", "leaky_slope"), design.has_gat),
        **dict.fromkeys(("agnn_scores", "inverse_norm"), design.has_agnn),
        "elu": bool(design.activations),
    }
    return [name for name in UNITS if optional.get(name, True)]


class SimpleDict(SimpleNamespace):
    """Parameters reachable as attributes and by name, undefined names refused."""

    def __init__(self, values: dict[str, int]) -> None:
        super().__init__(**values)

    def __getitem__(self, name: str) -> int:
        value: int = getattr(self, name)
        return value


def addend_parameters(design: Design, factor_bits: int) -> dict[str, int]:
    """Return the parameters of an epilogue that adds a second tensor times a factor so wide."""
    addend = 1 << (factor_bits + design.feature_bits - 1)
    return {
        "ADDEND_BITS": design.feature_bits,
        "FACTOR_BITS": factor_bits,
        "TOTAL_BITS": ((1 << (design.total_bits - 1)) + addend).bit_length() + 1,
    }


def _text(template: str, module: str, bundle_hash: str, names: dict[str, Any]) -> str:
    """Render one module of one template."""
    unit = {
        "module": module,
        "template": f"{template}.v.j2",
        "version": __version__,
        "bundle_hash": bundle_hash,
    }
    return environment().get_template(f"{template}.v.j2").render(names, unit=unit)


def render(
    design: Design,
    bundle_hash: str,
    rom_graph: RomGraph = RomGraph(),  # noqa: B008 (immutable)
    unit: str | None = None,
    changes: Mapping[str, Any] = {},
) -> dict[str, str]:
    """Render a design.

    Args:
        design: What to render.
        bundle_hash: Short hash of the bundle, written into every header.
        rom_graph: The baked-in graph, for a ROM design.
        unit: Only this template (and the memories it may instantiate).
        changes: Flags of the templates and parameters (in capitals) that differ from the design's,
            for units that can do what no pass of the accelerator needs yet.

    Returns:
        File name to Verilog text.
    """
    context = _context(design, rom_graph)
    if changes:
        values = {name: value for name, value in changes.items() if name.isupper()}
        context |= {**changes, "p": SimpleDict({**parameters(design), **values})}
    result: dict[str, str] = {}
    jobs: list[tuple[str, str, dict[str, Any]]] = []
    alone = _parts_too(attention_units(design))
    for name, values in alone.items():
        if unit in (None, name):
            result |= render_unit(name, values, bundle_hash)
    for name in units_of(design) if unit is None else [unit]:
        if name in STAND_ALONE:
            continue
        jobs.append((name, f"sgq_{name}", dict(context)))
        if name == "aggregation_unit":
            jobs[-1][2]["record"] = design.edge_record.fields
        if name in ("combination_unit", "input_reader", "input_unpacker"):
            jobs[-1][2]["record"] = design.input_record.fields
    for module in sorted({memory.module for memory in design.memories}):
        _, kind, style = module.split("_")
        jobs.append((kind, module, {"style": style}))
    for template, module, names in jobs:
        result[f"{module}.v"] = _text(template, module, bundle_hash, names)
    return result


def _parts_too(units: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Return units and those that they instantiate, with the parameters of each."""
    found: dict[str, dict[str, int]] = {}
    for name, values in units.items():
        found[name] = values
        found |= _parts_too(unit_parts(name, values))
    return found


def unit_parts(name: str, values: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return the units that a stand-alone unit instantiates, with the parameters of each."""
    if name == "agnn_scores":
        return {"inverse_norm": values}
    if name == "gat_scores":
        leaky = {
            "LANES": 2 * values["HEAD_LANES"], "IN_BITS": values["SCORE_BITS"] + 1,
            "TAG_BITS": values["GROUP_BITS"] + values["TAG_BITS"],
        }  # fmt: skip
        return {"leaky_slope": values | leaky}
    if name == "attention_weights":
        tag_bits = values["GROUP_BITS"] + (4 if values["SLOTS"] > 1 else 3)
        return {
            "exponential": values | {"LANES": values["HEAD_LANES"], "TAG_BITS": tag_bits},
            "reciprocal": values | {"TAG_BITS": values["GROUP_BITS"]},
        }
    return {}


def render_unit(
    name: str, values: dict[str, int], bundle_hash: str = "unit", style: str = "auto"
) -> dict[str, str]:
    """Render a unit from its parameters, without a design that has it.

    Args:
        name: One of `STAND_ALONE`.
        values: Every parameter that its template uses, and those of its parts.
        bundle_hash: Written into the header.
        style: `ram_style` of its memory, if it has one.

    Returns:
        File name to Verilog text, the memory and the units that it instantiates included.
    """
    module, memory = f"sgq_{name}", f"sgq_ram_{style}"
    context = {"p": SimpleDict(values), "memory": memory}
    result = {f"{module}.v": _text(name, module, bundle_hash, context)}
    if STAND_ALONE[name]:
        result[f"{memory}.v"] = _text("ram", memory, bundle_hash, {"style": style})
    for part, part_values in unit_parts(name, values).items():
        result |= render_unit(part, part_values, bundle_hash, style)
    return result

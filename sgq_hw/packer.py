"""The packer: weights, graph and inputs as memory images and stream packets of one design."""

from dataclasses import replace

import msgspec
import numpy as np

from sgq_hw.bundle import Bundle, Workload
from sgq_hw.design import (
    EXPONENT_BITS,
    PACKET_TYPES,
    Design,
    LoadTarget,
    largest_index_shift,
)
from sgq_hw.errors import InputError
from sgq_hw.formats import Epilogue, Window
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.host import (
    Beats,
    Layout,
    RecordFormat,
    ScheduleTable,
    Words,
    dense_words,
    graph_tag,
    inference_packet,
    inputs_packet,
    join_beats,
    make_packet,
    memory_words,
    pack_results,
    pack_words,
    scheduled_records,
    sparse_words,
    start_packet,
    to_beats,
)
from sgq_hw.layers import AgnnAttention, GatAttention, Step
from sgq_hw.lowering import Pass
from sgq_hw.manifest import Manifest
from sgq_hw.mapping import Mapping, map_for, map_in_order, map_onto
from sgq_hw.pass_results import stage_of
from sgq_hw.words import join_words


def check_fits(design: Design, bundle: Bundle) -> None:
    """Refuse a network or graph that the design cannot hold.

    Raises:
        InputError: one line naming the limit and the largest value that fits.
    """
    manifest, other = design.manifest, bundle.network.manifest
    if len(other.layers) != len(manifest.layers):
        raise InputError(f"layers: {len(other.layers)}; the design has {len(manifest.layers)}")
    buckets, others = len(manifest.degree_splits) + 1, len(other.degree_splits) + 1
    if design.buckets > 1 and buckets != others:
        raise InputError(f"degree_splits: {others} buckets; the design has {buckets}")
    for what in ("normalisation", "self_loops", "input", "edge"):
        mine, theirs = getattr(manifest, what), getattr(other, what)
        if what == "edge" and mine is not None and theirs is not None:
            mine, theirs = mine.bits, theirs.bits
        if mine != theirs:
            raise InputError(f"{what}: {theirs}; the design was generated for {mine}")
    _check_node_tables(manifest, other)
    for mine, theirs in zip(manifest.steps(), other.steps(), strict=False):
        _check_step(design, mine, theirs)
    workload = bundle.workload
    sizes = {
        "nodes": workload.num_nodes,
        "edges": edge_record_count(workload),
        "row_edges": int(np.diff(workload.indptr).max(initial=0)),
        # Accumulators are sized for it, however the inputs come.
        "row_nonzeros": int(np.diff(workload.x_indptr).max(initial=0)),
    }
    if all(size <= getattr(design.capacity, name) for name, size in sizes.items()):
        # A graph that is too large need not be scheduled to say so.
        mapping = map_for(design, workload)
        sizes["edge_words"] = mapping.edges.steps
        if design.inputs_on_chip:
            sizes["input_words"] = input_word_count(design, mapping)
    for name, size in sizes.items():
        limit = getattr(design.capacity, name)
        if size > limit:
            raise InputError(f"{workload.name}: {name}: {size}; the largest that fits is {limit}")
    _check_buckets(design, workload)


def _check_buckets(design: Design, workload: Workload) -> None:
    """Refuse a graph that has more nodes of some buckets than a slice of memory holds."""
    if not design.slice_limits:
        return
    starts = (0, *map_for(design, workload).bounds, workload.num_nodes)
    for limit in design.slice_limits:
        first, end = starts[limit.first], starts[limit.end]
        largest = (first // design.banks + limit.rows) * design.banks - first
        if end - first > largest:
            buckets = ", ".join(map(str, sorted(design.order[limit.first : limit.end])))
            raise InputError(
                f"{workload.name}: nodes of degree buckets {buckets}: {end - first}; "
                f"the largest that fits is {largest}"
            )


def input_word_count(design: Design, mapping: Mapping) -> int:
    """Return the input words of an inference: steps of its schedule, or channels of all rows."""
    if design.sparse_input:
        return mapping.inputs.steps
    return mapping.placement.rows * design.manifest.input.channels


def _check_node_tables(manifest: Manifest, other: Manifest) -> None:
    tables = {table.name: table for table in other.node_tables}
    for table in manifest.node_tables:
        if table.name not in tables:
            raise InputError(f"node_tables: no '{table.name}', which the design loads")
        if tables[table.name].bits > table.bits:
            bits = tables[table.name].bits
            raise InputError(f"node_tables: {table.name}: {bits} bits; at most {table.bits} fit")


def _check_step(design: Design, mine: Step, theirs: Step) -> None:
    where = f"layers[{mine.key[0]}]"
    if mine.key != theirs.key:
        raise InputError(f"{where}: stage '{theirs.key[1]}' where the design has '{mine.key[1]}'")
    where += f".{mine.key[1]}"
    for what in ("inputs", "channels"):
        if getattr(mine, what) != getattr(theirs, what):
            raise InputError(
                f"{where}: {getattr(theirs, what)} {what}; the design has {getattr(mine, what)}"
            )
    if mine.weight and theirs.weight and theirs.weight.bits > mine.weight.bits:
        raise InputError(
            f"{where}: weights of {theirs.weight.bits} bits; at most {mine.weight.bits} fit"
        )
    if theirs.addend_factor >= 1 << design.addend_factor_bits:
        largest = (1 << design.addend_factor_bits) - 1
        raise InputError(f"{where}.factor: {theirs.addend_factor}; at most {largest} fit")
    if mine.attention is not None and theirs.attention is not None:
        _check_attention(design, f"layers[{mine.key[0]}].attention", mine.attention,
                         theirs.attention)  # fmt: skip
    _check_epilogue(design, where, mine.epilogue, theirs.epilogue)


Attention = GatAttention | AgnnAttention


def _check_attention(design: Design, where: str, mine: Attention, theirs: Attention) -> None:
    loaded = {"index_shift", "beta", "bits", "table_length"}
    built = msgspec.structs.asdict(mine)
    for name, value in msgspec.structs.asdict(theirs).items():
        if name not in loaded and built.get(name) != value:
            raise InputError(f"{where}.{name}: {value}; the design has {built.get(name)}")
    limits = {
        "index_shift": (theirs.index_shift, largest_index_shift(design, theirs)),
        "bits": (theirs.bits, mine.bits),
        "table_length": (theirs.table_length, 1 << design.table_bits),
    }
    for name, (value, limit) in limits.items():
        if value > limit:
            raise InputError(f"{where}.{name}: {value}; at most {limit} fit")


def _check_epilogue(design: Design, where: str, mine: Epilogue, theirs: Epilogue) -> None:
    wanted, given = mine.output, theirs.output
    same = wanted.signed == given.signed and [w.bits for w in wanted.windows] == [
        w.bits for w in given.windows
    ]
    # Windows may lie elsewhere in the word as long as that is no wider.
    fits = given.bits <= wanted.bits if wanted.windows else given.bits == wanted.bits
    if not (same and fits):
        raise InputError(f"{where}.output: {theirs.output}; the design has {mine.output}")
    if (mine.multiplier.kind, mine.multiplier.table) != (
        theirs.multiplier.kind,
        theirs.multiplier.table,
    ):
        raise InputError(f"{where}.multiplier: {theirs.multiplier}; the design has another kind")
    highest = max((window.exponent for window in given.windows), default=0)
    limits = {
        "shift": (theirs.shift + highest, design.largest_shift),
        "bias_bits": (theirs.bias_bits, design.bias_bits if mine.bias_bits else 0),
        "multiplier.bits": (theirs.multiplier.bits, mine.multiplier.bits),
    }
    for name, (value, limit) in limits.items():
        if value > limit:
            raise InputError(f"{where}.{name}: {value}; at most {limit} fit")


def edge_record_count(workload: Workload) -> int:
    """Return the edge records of a graph: its entries, and one for every empty row."""
    return int(np.maximum(np.diff(workload.indptr), 1).sum())


def _lane_words(design: Design, matrix: IntArray, rows: int | None = None) -> IntArray:
    """Lay a matrix [rows, channels] out as words, chunk by chunk, [chunks * rows, lanes]."""
    return feature_buffer(matrix, design.lanes, rows or len(matrix))


def _columns(step: Pass, matrix: IntArray) -> IntArray:
    """Return the columns of a stage's parameters [.., channels] that a pass works on."""
    return matrix[..., step.first_channel : step.first_channel + step.out_channels]


def _weight_codes(design: Design, bundle: Bundle) -> IntArray:
    """Return the weight words in the order in which they go round the banks."""
    return np.concatenate(
        [
            # Whole rounds of the banks: row k of a chunk lies in bank k % banks.
            _lane_words(
                design, _columns(step, bundle.network.weights[step.key]),
                step.weight_stride * design.banks,
            )
            for step in design.passes
            if step.front != "aggregate"
        ]
    )


def _channel_words(design: Design, bundle: Bundle) -> Words:
    network = bundle.network
    biases: list[IntArray] = []
    multipliers: list[IntArray] = []
    for step in design.passes:
        if not step.uses_channels:
            continue
        zeros = np.zeros(step.first_channel + step.out_channels, np.int64)
        for words, parameters in ((biases, network.biases), (multipliers, network.multipliers)):
            found = _columns(step, parameters.get(step.key, zeros))
            words.append(_lane_words(design, found[None, :]))
    parts = []
    if design.has_bias:
        parts.append((np.concatenate(biases), design.bias_bits))
    if design.has_channel_multipliers:
        parts.append((np.concatenate(multipliers), design.multiplier_bits))
    return join_words(parts)


def edge_words(design: Design, workload: Workload) -> Words:
    """Return the edge words of a graph: one a step, a record of every processing element."""
    mapping = map_for(design, workload)
    placement, columns = mapping.placement, workload.indices
    records = scheduled_records(
        mapping.edges, placement.bank[columns], placement.address[columns], workload.edge_codes,
        design.edge_record,
    )  # fmt: skip
    return pack_words(records, design.edge_record.bits)


def serial_records(
    schedule: ScheduleTable, columns: IntArray, codes: IntArray | None, index_bits: int,
    value_bits: int,
) -> Words:  # fmt: skip
    """Return unscheduled records, one a word: {value, index, valid, last}.

    Args:
        schedule: Of one PE: row by row, in the order of their places.
        columns: Place or channel of each entry.
        codes: Value of each entry, or None where all are one.
        index_bits: Bits of a place or channel.
        value_bits: Bits of a value, 0 where records have none.
    """
    record = RecordFormat.make(last=1, valid=1, address=index_bits, value=value_bits)
    records = scheduled_records(schedule, np.zeros_like(columns), columns, codes, record)
    return pack_words(records, record.bits)


def serial_edges(design: Design, workload: Workload) -> Words:
    """Return the unscheduled records of a graph."""
    edge = design.manifest.edge
    in_order = map_in_order(design, workload)
    return serial_records(
        in_order.edges, in_order.places[workload.indices], workload.edge_codes,
        design.serial_bits["node"], 0 if edge is None else edge.bits,
    )  # fmt: skip


def _constant_words(design: Design, manifest: Manifest, step: Pass) -> Words:
    """Return the constants of a pass, for this network."""
    stage = stage_of(manifest, step)
    values = {"shift": step.shift, "layer_multiplier": step.layer_multiplier}
    windows: tuple[Window, ...] = ()
    if stage is not None:
        multiplier = stage.epilogue.multiplier
        values["shift"] = stage.epilogue.shift
        values["layer_multiplier"] = multiplier.value if multiplier.kind == "layer" else 1
        values["addend_factor"] = stage.addend_factor
        windows = stage.epilogue.output.windows
        if stage.attention is not None:
            values["index_shift"] = stage.attention.index_shift
        if isinstance(stage.attention, AgnnAttention):
            values["beta"] = stage.attention.beta
    fields = []
    for field in design.constants:
        if field.name == "exponents":
            fields += [
                (windows[bucket].exponent if windows else 0, EXPONENT_BITS)
                for bucket in design.order
            ]
        else:
            fields.append((values.get(field.name, 0), field.bits))
    return join_words([(np.array([[code]]), bits) for code, bits in fields])


def _exponential_codes(design: Design, bundle: Bundle) -> IntArray:
    """Return the tables of exponentials one after the other, filled up with zeros."""
    tables = np.zeros((len(design.attention), 1 << design.table_bits), np.int64)
    for row, step in zip(tables, design.attention, strict=True):
        codes = bundle.network.exponentials[step.key]
        row[: len(codes)] = codes
    return tables.reshape(-1)


def _activation_codes(design: Design, bundle: Bundle) -> IntArray:
    """Return the tables of ELU one after the other, each entry at the low bits of its code."""
    size = 1 << (design.activation_bits - 1)
    tables = np.zeros((len(design.activations), size), np.int64)
    for row, step in zip(tables, design.activations, strict=True):
        codes = bundle.network.activations[step.key]
        negative = np.arange(-len(codes), 0)
        row[negative & (size - 1)] = codes[negative & (len(codes) - 1)]
    return tables.reshape(-1)


def target_words(
    design: Design, bundle: Bundle, target: LoadTarget, *, serial: bool = False
) -> Words:
    """Return the words of one load packet; `serial`: for a graph that comes unscheduled."""
    workload = bundle.workload
    if target.kind == "constants":
        return _constant_words(design, bundle.network.manifest, design.passes[target.index])
    if target.kind == "exponentials":
        return pack_words(_exponential_codes(design, bundle)[:, None], target.bits)
    if target.kind == "activations":
        return pack_words(_activation_codes(design, bundle)[:, None], target.bits)
    if target.kind == "weights":
        return pack_words(_weight_codes(design, bundle), design.weight_bits)
    if target.kind == "channels":
        return _channel_words(design, bundle)
    return _graph_words(design, workload, target, serial=serial)


def _graph_words(
    design: Design, workload: Workload, target: LoadTarget, *, serial: bool
) -> Words:
    """Return the words of a load packet that belongs to the graph."""
    if target.kind == "graph":
        mapping = map_in_order(design, workload) if serial else map_for(design, workload)
        size = [workload.num_nodes, mapping.edges.steps, *mapping.bounds]
        return pack_words(np.array([size]), 32)
    if target.kind == "edges":
        return edge_words(design, workload)
    mapping = map_for(design, workload, serial=serial)
    if target.kind == "inputs":
        return memory_words(layout_of(design), input_words(design, workload, mapping))
    if target.kind == "order":
        return pack_words(mapping.places[:, None], target.bits)
    name = design.manifest.node_tables[target.index].name
    return pack_words(workload.node_tables[name][mapping.in_place][:, None], target.bits)


def memory_images(design: Design, bundle: Bundle) -> dict[str, tuple[Words, int]]:
    """Return the contents of every memory that is filled before an inference: (words, bits)."""
    images: dict[str, tuple[Words, int]] = {}
    loadable = replace(design, rom=False)
    for target in loadable.targets:
        if target.memory:
            images[target.memory] = (target_words(loadable, bundle, target), target.bits)
    return images


def layout_of(design: Design) -> Layout:
    """Return how inputs and results of a design lie in its streams."""
    spec, final = design.manifest.input, design.passes[-1]
    return Layout(
        pes=design.pes,
        direct=design.direct,
        lanes=design.lanes,
        banks=design.banks,
        stream_bits=design.stream_bits,
        words_per_beat=design.words_per_beat,
        word_bits=design.input_word_bits,
        aggregations=design.aggregations if design.streamed else 0,
        inputs_on_chip=design.inputs_on_chip,
        input_capacity=design.capacity.input_words,
        input_steps=design.input_steps,
        sparse_input=design.sparse_input,
        input_record=design.input_record,
        input_channels=spec.channels,
        input_bits=spec.bits,
        input_signed=spec.signed,
        output_channels=final.out_channels,
        output_bits=final.bits,
        output_signed=final.signed,
        packet_types=PACKET_TYPES,
    )


def load_packets(design: Design, bundle: Bundle, *, serial: bool = False) -> Beats:
    """Return the packets that load a network and a graph.

    Args:
        design: The accelerator.
        bundle: Network and graph.
        serial: The graph and its inputs come unscheduled.

    Raises:
        InputError: something does not fit the design.
    """
    check_fits(design, bundle)
    if serial and not design.serial:
        needs = "--graph streamed and --pes 2 or more, and inputs that are streamed as well"
        raise InputError(f"--serial: only designs with {needs}")
    size = design.stream_bits // 8
    parts = []
    for target in design.targets:
        if target.kind == "inputs":
            parts.append(reload_packet(design, bundle.workload, bundle.workload))
            continue
        words = target_words(design, bundle, target, serial=serial)
        tag = 0
        if target.kind == "graph":
            mapping = map_for(design, bundle.workload, serial=serial)
            tag = graph_tag(mapping.places)
        beats = to_beats(words, size)
        parts.append(
            make_packet(design.stream_bits, target.type, target.index, len(words), beats, tag)
        )
    if not parts:
        return Beats(np.zeros((0, size), np.uint8), np.zeros(0, np.bool_))
    return join_beats(parts)


def input_words(
    design: Design, workload: Workload, mapping: Mapping, *, serial: bool = False
) -> Words:
    """Return the input words of one inference: one a step, a record of every PE."""
    layout = layout_of(design)
    columns = workload.x_indices
    if design.sparse_input and serial:
        value = design.input_record.find("value")
        return serial_records(
            map_in_order(design, workload).inputs, columns, workload.x_codes,
            design.serial_bits["channel"], value.bits if value else 0,
        )  # fmt: skip
    if design.sparse_input:
        return sparse_words(layout, mapping.inputs, columns, workload.x_codes)
    dense = np.zeros((workload.num_nodes, layout.input_channels), np.int64)
    rows = np.repeat(np.arange(workload.num_nodes), np.diff(workload.x_indptr))
    dense[rows, columns] = 1 if workload.x_codes is None else workload.x_codes
    return dense_words(layout, mapping.places, dense)


def input_packet(
    design: Design, workload: Workload, loaded: Workload | None = None, *, serial: bool = False
) -> Beats:
    """Return the packet of one inference; inputs that lie on chip are no part of it.

    Args:
        design: The accelerator.
        workload: Inputs.
        loaded: What `load_packets` loaded, if it had other inputs: its nodes keep their places.
        serial: Records are not scheduled.
    """
    if loaded is None or serial:
        mapping = map_for(design, workload, serial=serial)
    else:
        mapping = map_onto(design, workload, loaded)
    graph = None
    if design.streamed:
        of_graph = workload if loaded is None else loaded
        graph = (serial_edges if serial else edge_words)(design, of_graph)
    if design.inputs_on_chip:
        return start_packet(layout_of(design), mapping.places, graph)
    words = input_words(design, workload, mapping, serial=serial)
    return inference_packet(layout_of(design), mapping.places, words, graph, serial=serial)


def reload_packet(design: Design, workload: Workload, loaded: Workload) -> Beats:
    """Return the packet that loads other inputs for the loaded graph.

    Args:
        design: The accelerator, with inputs on chip.
        workload: Inputs.
        loaded: What `load_packets` loaded: its nodes keep their places.

    Raises:
        InputError: the inputs do not fit.
    """
    mapping = map_onto(design, workload, loaded)
    words, limit = input_word_count(design, mapping), design.capacity.input_words
    if words > limit:
        raise InputError(
            f"{workload.name}: input_words: {words}; the largest that fits is {limit}"
        )
    layout = layout_of(design)
    return inputs_packet(layout, mapping.places, input_words(design, workload, mapping))


def output_beats(design: Design, logits: IntArray) -> Beats:
    """Return the beats in which the results of one inference leave, int64 [nodes, channels]."""
    return pack_results(layout_of(design), logits)

"""Records, packets and memory images, taken apart by a decoder of this file.

The decoder knows the formats from `docs/architecture.md` and slices Python integers.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgq_hw.bundle import Bundle
from sgq_hw.design import Design
from sgq_hw.formats import Epilogue
from sgq_hw.generate import design_for
from sgq_hw.golden.network import run
from sgq_hw.host import Beats, RecordFormat, scheduled_records
from sgq_hw.packer import (
    edge_record_count,
    input_packet,
    load_packets,
    memory_images,
    output_beats,
)
from sgq_hw.schedule import Schedule
from sgq_hw.words import hex_lines
from tests.random_networks import gcn_layers, random_bundle
from tests.windowed import windowed_bundle

Rows = list[list[tuple[int, int]]]


@dataclass
class Packet:
    """A header and the payload's beats, each a Python integer."""

    type: int
    index: int
    count: int
    beats: list[int]
    tag: int

    def words(self, bits: int, stream_bits: int) -> list[int]:
        """Put beats together, low beat first; nothing may be set beyond the word's bits."""
        size = -(-bits // stream_bits)
        assert len(self.beats) % size == 0
        found = []
        for at in range(0, len(self.beats), size):
            parts = self.beats[at : at + size]
            word = sum(beat << (stream_bits * place) for place, beat in enumerate(parts))
            assert word >> bits == 0
            found.append(word)
        return found


def tag_of(places: list[int]) -> int:
    """The tag of a graph: 16 bits of a checksum over its places."""
    return zlib.crc32(b"".join(place.to_bytes(4, "little") for place in places)) & 0xFFFF


def beat_values(beats: Beats) -> list[tuple[bool, int]]:
    """TLAST and data of each beat, from the lines that memory images hold."""
    return [(line[0] == "1", int(line[1:], 16)) for line in beats.lines()]


def packets_of(beats: Beats, stream_bits: int) -> list[Packet]:
    """Cut a stream at TLAST."""
    assert all(len(line) == 1 + stream_bits // 4 for line in beats.lines())
    found: list[Packet] = []
    pending: list[int] = []
    header_beats = max(1, 64 // stream_bits)
    for last, value in beat_values(beats):
        pending.append(value)
        if last:
            head = sum(v << (stream_bits * i) for i, v in enumerate(pending[:header_beats]))
            assert head >> 64 == 0
            kind, tag = head & 0xFF, (head >> 16) & 0xFFFF
            assert tag == 0 or kind in (5, 16, 17)
            payload = pending[header_beats:]
            found.append(Packet(kind, (head >> 8) & 0xFF, head >> 32, payload, tag))
            pending = []
    assert not pending
    return found


def piece(word: int, low: int, bits: int, signed: bool = False) -> int:
    value = (word >> low) & ((1 << bits) - 1)
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def lanes_of(word: int, bits: int, lanes: int, signed: bool) -> list[int]:
    return [piece(word, lane * bits, bits, signed) for lane in range(lanes)]


@dataclass
class Layout:
    """Widths of a record {value, address, bank, slot, valid, last}, and the PEs of a word."""

    pes: int
    valid: int
    address: int
    value: int
    signed: bool = False

    @property
    def banks(self) -> int:
        return 2 * self.pes if self.pes > 1 else 1

    @property
    def bits(self) -> int:
        several = self.pes > 1
        return 1 + self.valid + several + (self.banks - 1).bit_length() + self.address + self.value

    def fields(self, record: int) -> tuple[int, int, int, tuple[int, int], int]:
        """Return last, valid, slot, (bank, address), value."""
        found, low = [], 0
        bank_bits = (self.banks - 1).bit_length()
        for bits in (1, self.valid, int(self.pes > 1), bank_bits, self.address):
            found.append(piece(record, low, bits))
            low += bits
        value = piece(record, low, self.value, self.signed) if self.value else 1
        last, valid, slot, bank, address = found
        return last, valid if self.valid else 1, slot, (bank, address), value


Operands = list[tuple[tuple[int, int], int]]


def rows_of(words: list[int], layout: Layout) -> dict[tuple[int, int], Operands]:
    """Undo the schedule: operands and values of each (row, PE), by the documented rules."""
    rows: dict[tuple[int, int], Operands] = {}
    opened: list[list[Operands]] = [[[], []] for _ in range(layout.pes)]
    closed = [0] * layout.pes
    for word in words:
        assert word >> (layout.pes * layout.bits) == 0
        delivered: dict[int, int] = {}
        for pe in range(layout.pes):
            record = piece(word, pe * layout.bits, layout.bits)
            last, valid, slot, (bank, address), value = layout.fields(record)
            if valid:
                assert delivered.setdefault(bank, address) == address
                opened[pe][slot].append(((bank, address), value))
            if last:
                assert slot == (closed[pe] & 1 if layout.pes > 1 else 0)
                rows[closed[pe], pe] = sorted(opened[pe][slot])
                opened[pe][slot] = []
                closed[pe] += 1
    assert not any(operands for slots in opened for operands in slots)
    return rows


def operand_rows(rows: Rows, operands: list[tuple[int, int]]) -> list[Operands]:
    """Replace columns by the operand rows where they lie."""
    return [sorted((operands[column], value) for column, value in row) for row in rows]


def csr_rows(indptr: Any, indices: Any, values: Any) -> Rows:
    codes = np.ones(len(indices), np.int64) if values is None else values
    return [
        [(int(indices[e]), int(codes[e])) for e in range(indptr[row], indptr[row + 1])]
        for row in range(len(indptr) - 1)
    ]


def clog2(count: int) -> int:
    return max(1, (count - 1).bit_length())


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_records_pack_and_unpack(widths: list[int], seed: int) -> None:
    names = [f"field_{index}" for index in range(len(widths))]
    record = RecordFormat.make(**dict(zip(names, widths, strict=True)))
    assert record.bits == sum(widths)
    rng = np.random.default_rng(seed)
    used = {name: bits for name, bits in zip(names, widths, strict=True) if bits}
    if not used:
        return
    columns = {name: rng.integers(-(1 << (bits - 1)), 1 << bits, 6) for name, bits in used.items()}
    packed = record.pack(**columns).tolist()
    low = 0
    for name, bits in used.items():
        assert [piece(p, low, bits) for p in packed] == (columns[name] % (1 << bits)).tolist()
        low += bits
    with pytest.raises(ValueError, match="columns"):
        record.pack(**columns, other=np.zeros(6, np.int64))
    with pytest.raises(ValueError, match="columns"):
        record.pack(**dict(list(columns.items())[1:]))


@pytest.mark.parametrize("valid_bit", [True, False])
@pytest.mark.parametrize("value_bits", [0, 5])
def test_schedules_become_records_and_back(valid_bit: bool, value_bits: int) -> None:
    entry = np.array([[0], [1], [2], [-1] if valid_bit else [3]])
    last = np.array([[False], [True], [False], [True]])
    schedule = Schedule(entry, last, np.zeros_like(entry))
    columns, values = np.array([1, 4, 0, 2]), np.array([-16, 15, 0, -1])
    record = RecordFormat.make(last=1, valid=int(valid_bit), address=3, value=value_bits)
    layout = Layout(1, int(valid_bit), 3, value_bits, signed=True)
    given_values = values if value_bits else None
    packed = scheduled_records(schedule, columns * 0, columns, given_values, record)
    codes = values if value_bits else np.ones(4, np.int64)
    second = [((0, 0), codes[2])] + ([] if valid_bit else [((0, 2), codes[3])])
    wanted = {(0, 0): [((0, 1), codes[0]), ((0, 4), codes[1])], (1, 0): second}
    assert rows_of([row[0] for row in packed.tolist()], layout) == wanted
    if not valid_bit:
        entry[3] = -1
        with pytest.raises(ValueError, match="empty row"):
            scheduled_records(schedule, columns * 0, columns, given_values, record)


CASES: list[dict[str, Any]] = [
    {"lanes": 1, "stream_bits": 32, "normalisation": "edge", "inputs": "signed"},
    {"lanes": 3, "stream_bits": 64, "normalisation": "factored", "inputs": "binary"},
    {"lanes": 5, "stream_bits": 32, "normalisation": "edge", "inputs": "multi-bit"},
    {"lanes": 16, "stream_bits": 128, "normalisation": "factored", "inputs": "signed"},
    {"lanes": 64, "stream_bits": 1024, "normalisation": "edge", "inputs": "binary"},
    {"lanes": 7, "stream_bits": 64, "self_loops": True, "layers": 1},
    {"lanes": 4, "stream_bits": 32, "self_loops": False, "graph": "empty rows"},
    {"lanes": 2, "stream_bits": 256, "graph": "one node", "multipliers": ["layer"], "bias": False},
    {"lanes": 6, "stream_bits": 32, "multipliers": ["channel"], "bias": False},
    {"lanes": 6, "stream_bits": 32, "multipliers": ["channel"], "bias": True, "layers": 2},
    {"pes": 2, "lanes": 3, "stream_bits": 32, "normalisation": "edge", "inputs": "signed"},
    {"pes": 8, "lanes": 4, "stream_bits": 256, "normalisation": "factored", "inputs": "binary"},
    {"pes": 4, "lanes": 5, "stream_bits": 64, "graph": "empty rows", "self_loops": False},
    {"pes": 16, "lanes": 2, "stream_bits": 64, "graph": "one node"},
    {"pes": 1, "lanes": 3, "stream_bits": 32, "buckets": 4, "nodes": 25},
    {"pes": 4, "lanes": 2, "stream_bits": 64, "buckets": 8, "nodes": 30, "layers": 2},
    {"pes": 8, "lanes": 4, "stream_bits": 128, "buckets": 2, "graph": "empty rows"},
    {"pes": 1, "lanes": 4, "stream_bits": 256, "buckets": 3, "graph": "one node", "layers": 2},
]


def case(index: int, **more: Any) -> tuple[Bundle, Design]:
    choices = {**CASES[index], **more}
    options = {key: choices.pop(key) for key in ("pes", "lanes", "stream_bits") if key in choices}
    draw = windowed_bundle if "buckets" in choices else random_bundle
    bundle = draw(np.random.default_rng(index), **choices)
    sparse_input = choices.get("inputs") != "multi-bit"
    return bundle, design_for(bundle, sparse_input=sparse_input, **options)


@dataclass
class Loading:
    """The load packets of a case, and what it takes to read them."""

    bundle: Bundle
    pes: int
    lanes: int
    stream_bits: int
    packets: list[Packet]
    order: tuple[int, ...]
    direct: bool

    @property
    def banks(self) -> int:
        return 2 * self.pes if self.pes > 1 else 1

    @property
    def stages(self) -> list[Epilogue]:
        found = []
        for layer in gcn_layers(self.bundle.network.manifest):
            pair = [layer.combine, layer.aggregate]
            found += pair if layer.association == "A(XW)" else pair[::-1]
        return found

    @property
    def shift_bits(self) -> int:
        shifts = [e.shift for e in self.stages]
        shifts += [e.shift + w.exponent for e in self.stages for w in e.output.windows]
        return max(1, max(shifts).bit_length())

    @property
    def multiplier_bits(self) -> int:
        return max(e.multiplier.bits for e in self.stages)

    def words(self, kind: int, index: int, bits: int) -> list[int]:
        """Take the next packet, which must be of this type, and return its words."""
        packet = self.packets.pop(0)
        words = packet.words(bits, self.stream_bits)
        assert (packet.type, packet.index, packet.count) == (kind, index, len(words))
        return words


def check_constants(loading: Loading) -> None:
    shift_bits, factor_bits = loading.shift_bits, loading.multiplier_bits
    for number, epilogue in enumerate(loading.stages):
        windows = epilogue.output.windows
        exponents = [windows[bucket].exponent if windows else 0 for bucket in loading.order]
        (word,) = loading.words(1, number, shift_bits + factor_bits + 4 * len(exponents))
        assert piece(word, 0, shift_bits) == epilogue.shift
        if epilogue.multiplier.kind == "layer":
            assert piece(word, shift_bits, factor_bits) == epilogue.multiplier.value
        high = word >> (shift_bits + factor_bits)
        assert lanes_of(high, 4, len(exponents), signed=False) == exponents


def check_weights(loading: Loading) -> None:
    network, lanes = loading.bundle.network, loading.lanes
    bits = max(layer.weight.bits for layer in gcn_layers(network.manifest))
    words = iter(loading.words(2, 0, lanes * bits))
    for matrix in network.weights.values():
        for first in range(0, matrix.shape[1], lanes):
            chunk = matrix[:, first : first + lanes].tolist()
            # Every bank holds as many rows.
            chunk += [[]] * (-len(chunk) % loading.banks)
            for row in chunk:
                padded = row + [0] * (lanes - len(row))
                assert lanes_of(next(words), bits, lanes, signed=True) == padded
    assert next(words, None) is None


def check_channels(loading: Loading) -> None:
    network, lanes = loading.bundle.network, loading.lanes
    bias_bits = max(e.bias_bits for e in loading.stages)
    factor_bits = loading.multiplier_bits if network.multipliers else 0
    if not bias_bits and not factor_bits:
        return
    words = iter(loading.words(3, 0, lanes * (bias_bits + factor_bits)))
    for step, epilogue in zip(network.manifest.steps(), loading.stages, strict=True):
        (index, stage), channels = step.key, step.channels
        if not epilogue.bias_bits and epilogue.multiplier.kind != "channel":
            continue
        zeros = np.zeros(channels, np.int64)
        for first in range(0, channels, lanes):
            word, real = next(words), min(lanes, channels - first)
            if bias_bits:
                bias = network.biases.get((index, stage), zeros)[first : first + lanes]
                assert lanes_of(word, bias_bits, real, signed=True) == bias.tolist()
            if epilogue.multiplier.kind == "channel":
                factors = network.multipliers[index, stage][first : first + lanes]
                high = word >> (lanes * bias_bits)
                assert lanes_of(high, factor_bits, real, signed=False) == factors.tolist()
    assert next(words, None) is None


def check_graph(loading: Loading) -> None:
    manifest, workload, pes = loading.bundle.network.manifest, loading.bundle.workload, loading.pes
    nodes = workload.num_nodes
    tag = loading.packets[0].tag
    buckets = max(1, len(loading.order))
    (size,) = loading.words(5, 0, 32 * (buckets + 1))
    count, edge_words, *bounds = lanes_of(size, 32, buckets + 1, signed=False)
    assert count == nodes
    rows = -(-nodes // pes)
    places = [(node, 0) for node in range(nodes)]
    operands = [(0, node) for node in range(nodes)]
    if pes > 1 or buckets > 1:
        order = loading.words(7, 0, clog2(rows * pes))
        assert sorted(order) == list(range(nodes))
        places = [divmod(place, pes) for place in order]
        operands = [(2 * pe + row % 2, row // 2) if pes > 1 else (0, row) for row, pe in places]
    if workload.buckets is not None:
        # What the hardware finds out about a node: the bounds that its place has reached.
        reached = [sum(row * pes + pe >= bound for bound in bounds) for row, pe in places]
        assert [loading.order[position] for position in reached] == workload.buckets.tolist()
    assert tag == tag_of([row * pes + pe for row, pe in places])
    valid_bit = 1 if pes > 1 or not manifest.self_loops else 0
    edge_bits = 0 if manifest.edge is None else manifest.edge.bits
    layout = Layout(pes, valid_bit, clog2(-(-rows // (2 if pes > 1 else 1))), edge_bits)
    words = loading.words(6, 0, pes * layout.bits)
    assert len(words) == edge_words
    assert len(words) * pes >= edge_record_count(workload)
    found = rows_of(words, layout)
    wanted = operand_rows(
        csr_rows(workload.indptr, workload.indices, workload.edge_codes), operands
    )
    # One processing element takes records in the user's order, wherever their nodes lie.
    row_places = [(node, 0) for node in range(nodes)] if loading.direct else places
    assert found == {place: wanted[node] for node, place in enumerate(row_places)}
    for number, table in enumerate(manifest.node_tables):
        factors = workload.node_tables[table.name].tolist()
        loaded = loading.words(4, number, table.bits)
        assert [loaded[row * pes + pe] for row, pe in places] == factors


@pytest.mark.parametrize("index", range(len(CASES)))
def test_load_packets(index: int) -> None:
    """Constants, weights, channels, graph, edges and tables, in this order and nothing else."""
    bundle, design = case(index)
    packets = packets_of(load_packets(design, bundle), design.stream_bits)
    loading = Loading(
        bundle, design.pes, design.lanes, design.stream_bits, packets, design.order, design.direct
    )
    for check in (check_constants, check_weights, check_channels, check_graph):
        check(loading)
    assert not loading.packets


@pytest.mark.parametrize("sparse_input", [True, False])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_input_packet(index: int, sparse_input: bool) -> None:
    bundle, design = case(index)
    pes, stream_bits = design.pes, design.stream_bits
    design = design_for(
        bundle, pes=pes, lanes=design.lanes, stream_bits=stream_bits, sparse_input=sparse_input
    )
    workload, spec = bundle.workload, bundle.network.manifest.input
    loads = packets_of(load_packets(design, bundle), stream_bits)
    order = [word for packet in loads if packet.type == 7 for word in packet.beats]
    order = order or list(range(workload.num_nodes))
    # One processing element takes records in the user's order, wherever their nodes lie.
    places = [divmod(place, pes) for place in (range(len(order)) if design.direct else order)]
    (packet,) = packets_of(input_packet(design, workload), stream_bits)
    assert (packet.type, packet.index, packet.tag) == (16, 0, tag_of(order))
    value_bits = 0 if spec.bits == 1 else spec.bits
    banks = 2 * pes if pes > 1 else 1
    layout = Layout(pes, 1, clog2(-(-spec.channels // banks)), value_bits, spec.signed)
    width = pes * (layout.bits if sparse_input else spec.bits)
    if width > stream_bits:
        words = packet.words(width, stream_bits)
    else:
        per_beat = stream_bits // width
        words = [piece(b, i * width, width) for b in packet.beats for i in range(per_beat)]
        assert all(beat >> (per_beat * width) == 0 for beat in packet.beats)
        assert len(packet.beats) == -(-packet.count // per_beat)
        assert not any(words[packet.count :])
        words = words[: packet.count]
    assert len(words) == packet.count
    rows = csr_rows(workload.x_indptr, workload.x_indices, workload.x_codes)
    if sparse_input:
        operands = [(k % banks, k // banks) for k in range(spec.channels)]
        wanted = operand_rows(rows, operands)
        assert rows_of(words, layout) == {place: wanted[node] for node, place in enumerate(places)}
        return
    assert len(words) == -(-workload.num_nodes // pes) * spec.channels
    for node, (row, pe) in enumerate(places):
        own = words[row * spec.channels : (row + 1) * spec.channels]
        codes = [piece(word, pe * spec.bits, spec.bits, spec.signed) for word in own]
        assert codes == [dict(rows[node]).get(k, 0) for k in range(spec.channels)]


@pytest.mark.parametrize("sparse_input", [True, False])
@pytest.mark.parametrize("index", [index for index, c in enumerate(CASES) if c.get("pes", 1) > 1])
def test_unscheduled_packets(index: int, sparse_input: bool) -> None:
    """Records row by row in the order of places, whose columns are places or channels."""
    bundle, design = case(index)
    pes, stream_bits = design.pes, design.stream_bits
    design = design_for(
        bundle, pes=pes, lanes=design.lanes, stream_bits=stream_bits, sparse_input=sparse_input,
        streamed=True,
    )  # fmt: skip
    manifest, workload = bundle.network.manifest, bundle.workload
    nodes, spec = workload.num_nodes, manifest.input
    loads = packets_of(load_packets(design, bundle, serial=True), stream_bits)
    (order,) = [packet.beats for packet in loads if packet.type == 7]
    assert sorted(order) == list(range(nodes))
    # Bucket after bucket, and in a bucket as the user has the nodes.
    numbers = np.zeros(nodes, np.int64)
    if workload.buckets is not None:
        numbers = np.array([design.order.index(bucket) for bucket in workload.buckets.tolist()])
    in_place = np.argsort(order)
    assert in_place.tolist() == sorted(range(nodes), key=lambda node: numbers[node])
    (packet,) = packets_of(input_packet(design, workload, serial=True), stream_bits)
    assert (packet.type, packet.index, packet.tag) == (17, 0, tag_of(order))
    width = design.input_word_bits
    if width > stream_bits:
        words = packet.words(width, stream_bits)
    else:
        beats = [
            piece(b, i * width, width) for b in packet.beats for i in range(stream_bits // width)
        ]
        words = beats[: packet.count]
    rows = -(-nodes // pes)
    banks = 2 * pes

    def taken(count: int, index_bits: int, value_bits: int, signed: bool) -> list[Operands]:
        own, words[:] = words[:count], words[count:]
        layout = Layout(1, 1, index_bits, value_bits, signed)
        found = rows_of(own, layout)
        return [found[row, 0] for row in range(nodes)]

    def wanted(rows: Rows, places: list[int]) -> list[Operands]:
        found = operand_rows(rows, [(0, place) for place in places])
        return [found[node] for node in in_place.tolist()]

    bank_bits = clog2(banks)
    if sparse_input:
        inputs = csr_rows(workload.x_indptr, workload.x_indices, workload.x_codes)
        index_bits = bank_bits + clog2(-(-spec.channels // banks))
        value_bits = 0 if spec.bits == 1 else spec.bits
        count = int(np.maximum(np.diff(workload.x_indptr), 1).sum())
        found = taken(count, index_bits, value_bits, spec.signed)
        assert found == wanted(inputs, list(range(spec.channels)))
    else:
        del words[: rows * spec.channels]
    edges = csr_rows(workload.indptr, workload.indices, workload.edge_codes)
    edge_bits = 0 if manifest.edge is None else manifest.edge.bits
    index_bits = bank_bits + clog2(-(-rows // 2))
    for _ in range(len(manifest.layers)):
        found = taken(edge_record_count(workload), index_bits, edge_bits, signed=False)
        assert found == wanted(edges, order)
    assert not words


@pytest.mark.parametrize("index", range(len(CASES)))
def test_output_beats(index: int) -> None:
    """Rows in node order; each chunk starts a beat; TLAST on the very last one."""
    bundle, design = case(index)
    logits = list(run(bundle.network, bundle.workload).values())[-1]
    output = bundle.network.manifest.steps()[-1].epilogue.output
    values = beat_values(output_beats(design, logits))
    assert [flag for flag, _ in values] == [False] * (len(values) - 1) + [True]
    stream = iter(value for _, value in values)
    for row in logits.tolist():
        for first in range(0, len(row), design.lanes):
            chunk = row[first : first + design.lanes]
            beats = -(-len(chunk) * output.bits // design.stream_bits)
            word = sum(next(stream) << (design.stream_bits * place) for place in range(beats))
            assert word >> (len(chunk) * output.bits) == 0
            assert lanes_of(word, output.bits, len(chunk), output.signed) == chunk
    assert next(stream, None) is None


@pytest.mark.parametrize("index", range(len(CASES)))
def test_memory_images_hold_what_packets_load(index: int) -> None:
    bundle, design = case(index)
    packets = packets_of(load_packets(design, bundle), design.stream_bits)
    images = memory_images(design, bundle)
    written = ("feature", "fifo", "output")
    assert {memory.name for memory in design.memories if memory.role not in written} == set(images)
    filled = [target for target in design.targets if target.memory]
    for target in filled:
        packet = next(p for p in packets if (p.type, p.index) == (target.type, target.index))
        words, bits = images[target.memory]
        lines = [int(line, 16) for line in hex_lines(words, bits)]
        assert lines == packet.words(bits, design.stream_bits)
        memory = design.memory(target.memory)
        assert memory.width == bits
        assert len(lines) <= memory.depth * memory.copies

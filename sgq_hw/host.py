"""Host side of a generated accelerator: packs inputs, loads, runs, unpacks results.

Needs NumPy and nothing else. `sgq-hw generate` copies this file into the folder as
`host/sgq_host.py`; `sgq_hw.packer`, and with it the cosimulation, packs with these very functions.

    accelerator = Accelerator(Path("folder"), MyTransport())
    accelerator.load()                       # images/load.hex: weights and graph, inputs on chip
    logits = accelerator.run(codes)          # int64 [nodes, channels] in and out
    classes = logits.argmax(axis=1)          # the lowest index wins a tie

Inputs are integer codes (see the bundle's format), as a matrix or as CSR rows. Limits: weights and
graphs are packed by `sgq-hw generate` and `sgq-hw pack`, not here; on several processing elements
sparse inputs are scheduled in row order, which is right but takes more cycles than the schedules
of sgq_hw. `pack_sparse` takes one of those instead.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint8]
"""Little-endian bytes of words, uint8 [words, ceil(bits / 8)]."""

IDENTITY = 0x53475148  # "SGQH", the ID register
HEADER_BITS = 64


# ---------------------------------------------------------------- words


def pack_words(codes: IntArray, bits: int) -> Words:
    """Pack codes side by side into words, the first code lowest; negative codes wrap to their bits.

    Args:
        codes: int64 [words, codes a word].
        bits: Width of each code, at most 63.
    """
    count, lanes = codes.shape
    shifts = np.arange(bits, dtype=np.int64)
    # Packing row block by row block bounds the memory for the bits.
    block = max(1, (1 << 22) // max(1, lanes * bits))
    parts = [
        np.packbits(
            ((codes[start : start + block, :, None] >> shifts) & 1)
            .astype(np.uint8)
            .reshape(-1, lanes * bits),
            axis=1,
            bitorder="little",
        )
        for start in range(0, count, block)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, -(-lanes * bits // 8)), np.uint8)


def unpack_words(words: Words, lanes: int, bits: int, signed: bool) -> IntArray:
    """Return the codes of words, int64 [words, lanes]; the inverse of `pack_words`."""
    flags = np.unpackbits(words, axis=1, count=lanes * bits, bitorder="little")
    weights = 1 << np.arange(bits, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    found: IntArray = flags.reshape(len(words), lanes, bits).astype(np.int64) @ weights
    return found


# ---------------------------------------------------------------- records


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: `bits` wide, its lowest bit at `low`."""

    name: str
    bits: int
    low: int


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """Layout of a schedule record, least significant field first.

    A record tells one processing element what to do next: read the operand word at (`bank`,
    `address`), multiply by `value`, add to the open row `slot`, and close the row after the `last`
    one. A record with `valid` 0 adds nothing: an idle slot, or the end of an empty row. Fields
    whose width is zero are left out (no `bank` with one bank, no `slot` with one open row, no
    `value` where all values are one). The records of all processing elements of one cycle lie side
    by side, PE 0 lowest. A record is repeated by the hardware for every chunk of the row, so
    `chunk` is not stored.
    """

    fields: tuple[Field, ...]

    @classmethod
    def make(cls, **bits: int) -> "RecordFormat":
        """Lay fields out in the order given; fields of zero bits are left out."""
        fields: list[Field] = []
        low = 0
        for name, width in bits.items():
            if width:
                fields.append(Field(name, width, low))
                low += width
        return cls(tuple(fields))

    @property
    def bits(self) -> int:
        """Width of a record."""
        return sum(field.bits for field in self.fields)

    def find(self, name: str) -> Field | None:
        """Return a field, or None where it has no bits."""
        return next((field for field in self.fields if field.name == name), None)

    def pack(self, **values: IntArray) -> IntArray:
        """Pack columns of codes into records, int64 [records]; negative codes wrap to their bits.

        Raises:
            ValueError: a column for a field that the format does not have, or one missing.
        """
        names = {field.name for field in self.fields}
        if names != set(values):
            raise ValueError(f"record fields {sorted(names)}, columns {sorted(values)}")
        packed = np.zeros(len(next(iter(values.values()))), np.int64)
        for field in self.fields:
            mask = (1 << field.bits) - 1
            packed |= (values[field.name] & mask) << field.low
        return packed


class ScheduleTable(Protocol):
    """What every processing element does in every step; `sgq_hw.schedule.Schedule` is one.

    Attributes:
        entry: int64 [steps, pes], the CSR entry that is read, -1 for none.
        last: bool [steps, pes], whether the record closes its row.
        slot: int64 [steps, pes], the open row that it belongs to.
    """

    @property
    def entry(self) -> IntArray: ...  # noqa: D102 (described above)
    @property
    def last(self) -> BoolArray: ...  # noqa: D102
    @property
    def slot(self) -> IntArray: ...  # noqa: D102


def scheduled_records(
    schedule: ScheduleTable,
    banks: IntArray,
    addresses: IntArray,
    values: IntArray | None,
    record: RecordFormat,
) -> IntArray:
    """Code a schedule: int64 [steps, processing elements].

    Args:
        schedule: What every PE does in every step.
        banks: Bank of each CSR entry's operand row, int64 [entries].
        addresses: Its address there, int64 [entries].
        values: Code of each entry, or None where the record has no value.
        record: Format; without a `valid` field empty rows cannot be coded.

    Raises:
        ValueError: a record without an entry in a format without `valid`.
    """
    filled = schedule.entry >= 0
    entries = schedule.entry[filled]

    def of_entries(codes: IntArray) -> IntArray:
        column = np.zeros(filled.shape, np.int64)
        column[filled] = codes[entries]
        return column.reshape(-1)

    columns = {
        "last": schedule.last.astype(np.int64).reshape(-1),
        "address": of_entries(addresses),
    }
    if record.find("valid"):
        columns["valid"] = filled.astype(np.int64).reshape(-1)
    elif not filled.all():
        raise ValueError("an empty row needs a record format with a valid bit")
    if record.find("slot"):
        columns["slot"] = schedule.slot.reshape(-1)
    if record.find("bank"):
        columns["bank"] = of_entries(banks)
    if record.find("value"):
        columns["value"] = of_entries(np.ones(len(banks), np.int64) if values is None else values)
    return record.pack(**columns).reshape(filled.shape)


# ---------------------------------------------------------------- beats and packets


@dataclass(frozen=True, slots=True)
class Beats:
    """A stretch of an AXI4-Stream.

    Attributes:
        data: Little-endian bytes, uint8 [beats, stream bits / 8].
        last: TLAST of each beat, bool [beats].
    """

    data: Words
    last: BoolArray

    def lines(self) -> list[str]:
        """Return one hexadecimal line a beat: TLAST digit, then data; see `read_beats`."""
        digits = 2 * self.data.shape[1]
        text = self.data[:, ::-1].tobytes().hex()
        return [
            f"{int(last)}{text[at * digits : (at + 1) * digits]}"
            for at, last in enumerate(self.last)
        ]

    def packets(self) -> Iterator[Words]:
        """Yield the beats of each packet, up to its TLAST."""
        yield from np.split(self.data, np.flatnonzero(self.last) + 1)[: int(self.last.sum())]


def join_beats(parts: Sequence[Beats]) -> Beats:
    """Put stretches one after the other."""
    return Beats(
        np.concatenate([part.data for part in parts]), np.concatenate([part.last for part in parts])
    )


def one_packet(data: Words) -> Beats:
    """Return beats with TLAST on the last one."""
    last = np.zeros(len(data), np.bool_)
    last[-1] = True
    return Beats(data, last)


def to_beats(words: Words, size: int) -> Words:
    """Cut words into beats of `size` bytes, low beat first; each word starts a beat."""
    beats = -(-words.shape[1] // size)
    padded = np.zeros((len(words), beats * size), np.uint8)
    padded[:, : words.shape[1]] = words
    return padded.reshape(-1, size)


def graph_tag(places: IntArray) -> int:
    """Return 16 bits by which the hardware knows whether inputs were packed for its graph.

    Args:
        places: Place of each node, int64 [nodes].
    """
    return crc32(places.astype("<i4").tobytes()) & 0xFFFF


def make_packet(
    stream_bits: int, kind: int, index: int, count: int, payload: Words, tag: int = 0
) -> Beats:
    """Put a header before a payload.

    Args:
        stream_bits: Bits of a beat.
        kind: Type field of the header.
        index: Index field: pass or table.
        count: Words of the payload.
        payload: uint8 [beats, stream_bits / 8].
        tag: Of the graph, in packets that belong to one; see `graph_tag`.
    """
    fields = np.array([[kind | index << 8 | tag << 16, count]], np.int64)
    header = pack_words(fields, 32).reshape(1, -1)
    return one_packet(np.concatenate([to_beats(header, stream_bits // 8), payload]))


def read_beats(path: Path, stream_bits: int) -> Beats:
    """Read beats as they lie in `images/` and as `sgq-hw pack` writes them.

    A line is a digit whose lowest bit is TLAST, then the data, most significant digit first.

    Raises:
        ValueError: a line of another length, or one that is not hexadecimal.
    """
    digits = stream_bits // 4
    lines = path.read_text(encoding="ascii").split()
    if any(len(line) != digits + 1 for line in lines):
        raise ValueError(f"{path}: not beats of {stream_bits} bits")
    data = bytes.fromhex("".join(line[1:] for line in lines))
    return Beats(
        np.frombuffer(data, np.uint8).reshape(-1, stream_bits // 8)[:, ::-1],
        np.array([int(line[0], 16) & 1 for line in lines], np.bool_),
    )


# ---------------------------------------------------------------- the accelerator's formats


@dataclass(frozen=True, slots=True)
class Layout:
    """How inputs and results of one accelerator lie in its streams.

    Attributes:
        pes, lanes: Processing elements and lanes of each.
        direct: Whether input rows come in the user's order, wherever their nodes lie.
        banks: Banks of the weight memory.
        stream_bits: Bits of a beat.
        words_per_beat: Input words side by side in a beat.
        word_bits: Bits of an input word: those of PES records, or of a graph's if it is streamed.
        aggregations: How often the graph's words follow the inputs: 0 where it lies on chip.
        inputs_on_chip: Whether inputs are loaded instead of coming with every inference.
        input_capacity: Input words that fit on chip, 0 where they come with every inference.
        input_steps: Input words side by side in a word of their memory.
        sparse_input: Whether inputs come as records of what is stored.
        input_record: One input of one PE.
        input_channels, input_bits, input_signed: Input codes.
        output_channels, output_bits, output_signed: Result codes.
        packet_types: Name of a packet to the type field of its header.
    """

    pes: int
    direct: bool
    lanes: int
    banks: int
    stream_bits: int
    words_per_beat: int
    word_bits: int
    aggregations: int
    inputs_on_chip: bool
    input_capacity: int
    input_steps: int
    sparse_input: bool
    input_record: RecordFormat
    input_channels: int
    input_bits: int
    input_signed: bool
    output_channels: int
    output_bits: int
    output_signed: bool
    packet_types: dict[str, int]

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> "Layout":
        """Take the layout out of a decoded `design.json`."""
        options, parameters, final = data["options"], data["parameters"], data["passes"][-1]
        return cls(
            pes=options["pes"],
            direct=data["direct"],
            lanes=options["lanes"],
            banks=parameters["BANKS"],
            stream_bits=options["stream_bits"],
            words_per_beat=parameters["WORDS_PER_BEAT"],
            word_bits=parameters["INPUT_WORD_BITS"],
            aggregations=(
                sum(step["front"] == "aggregate" for step in data["passes"])
                if options["streamed"]
                else 0
            ),
            inputs_on_chip=options["inputs_on_chip"],
            input_capacity=options["capacity"]["input_words"],
            input_steps=parameters["INPUT_STEPS"],
            sparse_input=options["sparse_input"],
            input_record=RecordFormat(tuple(Field(**f) for f in data["records"]["input"])),
            input_channels=data["input"]["channels"],
            input_bits=data["input"]["bits"],
            input_signed=data["input"]["signed"],
            output_channels=final["channels"],
            output_bits=final["bits"],
            output_signed=final["signed"],
            packet_types=data["packet_types"],
        )

    def row_places(self, places: IntArray) -> IntArray:
        """Return the place `row * PES + PE` of every node's input row, given those of the nodes."""
        return np.arange(len(places)) if self.direct else places

    @property
    def beat_bytes(self) -> int:
        """Bytes of a beat."""
        return self.stream_bits // 8

    @property
    def header_beats(self) -> int:
        """Beats of a packet's header."""
        return -(-HEADER_BITS // self.stream_bits)

    @property
    def output_chunks(self) -> list[int]:
        """Channels of each chunk of a row of results; a chunk starts a beat."""
        full, rest = divmod(self.output_channels, self.lanes)
        return [self.lanes] * full + ([rest] if rest else [])

    @property
    def row_beats(self) -> int:
        """Beats of a row of results."""
        return sum(-(-lanes * self.output_bits // self.stream_bits) for lanes in self.output_chunks)


def _payloads(layout: Layout, load: Beats) -> dict[str | None, Words]:
    """Return the payload of the last packet of each type, by its name; None: unknown types."""
    kinds = {code: name for name, code in layout.packet_types.items()}
    return {kinds.get(int(beats[0, 0])): beats[layout.header_beats :] for beats in load.packets()}


def _graph_size(payload: Words) -> tuple[int, int]:
    """Return nodes and edge words out of a graph packet; the bounds of buckets lie above them."""
    nodes, edge_words = unpack_words(payload.reshape(1, -1), 2, 32, signed=False)[0].tolist()
    return nodes, edge_words


def graph_places(layout: Layout, load: Beats) -> IntArray:
    """Return the place of every node of a graph, from the packets that load it.

    A place is `row * PES + PE`. Without an order among the packets the nodes lie in the user's.

    Returns:
        int64 [nodes].

    Raises:
        ValueError: no graph is among the packets.
    """
    payloads = _payloads(layout, load)
    if "graph" not in payloads:
        raise ValueError("no graph among the packets")
    if "order" in payloads:  # one place a beat
        return unpack_words(payloads["order"], 1, 32, signed=False)[:, 0]
    return np.arange(_graph_size(payloads["graph"])[0])


# ---------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class InOrder:
    """A schedule that reads the rows of every PE one after the other; see `ScheduleTable`."""

    entry: IntArray
    last: BoolArray
    slot: IntArray


def in_order_schedule(
    layout: Layout, places: IntArray, indptr: IntArray, columns: IntArray
) -> InOrder:
    """Schedule sparse inputs in row order; a PE whose bank is taken waits a step.

    With one PE no schedule is shorter.

    Args:
        layout: Of the accelerator.
        places: Place of each node, int64 [nodes].
        indptr: Row starts of the inputs, int64 [nodes + 1].
        columns: Input channel of each stored input, int64 [stored].
    """
    pes = layout.pes
    places = layout.row_places(places)
    queues: list[list[tuple[int, bool, int]]] = [[] for _ in range(pes)]
    for node in np.argsort(places).tolist():
        row, pe = divmod(int(places[node]), pes)
        first, end = int(indptr[node]), int(indptr[node + 1])
        slot = row & 1
        queues[pe] += [(entry, entry == end - 1, slot) for entry in range(first, end)]
        if first == end:
            queues[pe].append((-1, True, slot))
    at = [0] * pes
    steps: list[list[tuple[int, bool, int]]] = []
    wanted = columns.tolist()
    while any(at[pe] < len(queues[pe]) for pe in range(pes)):
        read: dict[int, int] = {}
        step = [(-1, False, 0)] * pes
        for pe in range(pes):
            if at[pe] == len(queues[pe]):
                continue
            record = queues[pe][at[pe]]
            # Several PEs may read one word; another word of its bank has to wait.
            column = wanted[record[0]]
            if record[0] < 0 or read.setdefault(column % layout.banks, column) == column:
                step[pe] = record
                at[pe] += 1
        steps.append(step)
    table = np.array(steps, np.int64).reshape(-1, pes, 3)
    return InOrder(table[..., 0], table[..., 1].astype(np.bool_), table[..., 2])


def sparse_words(
    layout: Layout, schedule: ScheduleTable, columns: IntArray, codes: IntArray | None
) -> Words:
    """Return the input words of sparse inputs: one a step, a record of every PE.

    Args:
        layout: Of an accelerator that takes records.
        schedule: Of the CSR rows.
        columns: Input channel of each stored input, int64 [stored].
        codes: Its code, or None where all are 1.
    """
    records = scheduled_records(
        schedule, columns % layout.banks, columns // layout.banks, codes, layout.input_record
    )
    return pack_words(records, layout.input_record.bits)


def dense_words(layout: Layout, places: IntArray, codes: IntArray) -> Words:
    """Return the input words of complete rows: one a channel, a value of every PE.

    Args:
        layout: Of an accelerator that takes complete rows.
        places: Place of each node, int64 [nodes].
        codes: int64 [nodes, channels].
    """
    rows = -(-len(places) // layout.pes)
    in_place = np.zeros((rows * layout.pes, layout.input_channels), np.int64)
    in_place[layout.row_places(places)] = codes
    by_step = in_place.reshape(rows, layout.pes, -1).transpose(0, 2, 1)
    packed = layout.input_record.pack(value=by_step.reshape(-1))
    return pack_words(packed.reshape(-1, layout.pes), layout.input_record.bits)


def side_by_side(words: Words, bits: int, count: int) -> Words:
    """Put so many words beside one another, the first lowest; zeros fill the last ones up."""
    if count == 1:
        return words
    padded = np.zeros((-(-len(words) // count) * count, words.shape[1]), np.uint8)
    padded[: len(words)] = words
    flags = np.unpackbits(padded, axis=1, count=bits, bitorder="little")
    return np.packbits(flags.reshape(-1, count * bits), axis=1, bitorder="little")


def memory_words(layout: Layout, words: Words) -> Words:
    """Return input words as they lie in their memory."""
    return side_by_side(words, layout.pes * layout.input_record.bits, layout.input_steps)


def inference_packet(
    layout: Layout,
    places: IntArray,
    words: Words,
    graph: Words | None = None,
    *,
    serial: bool = False,
) -> Beats:
    """Return the packet of one inference; words lie side by side where several fit into a beat.

    Args:
        layout: Of the accelerator.
        places: Place of each node, int64 [nodes].
        words: Input words; none where inputs lie on chip.
        graph: Words of the graph, for accelerators to which it is streamed.
        serial: Whether each word holds one unscheduled record.

    Raises:
        ValueError: the graph is missing, or there is no place for it or for inputs.
    """
    if layout.inputs_on_chip and len(words):
        raise ValueError("inputs: on chip, they are loaded and do not go with an inference")
    if (graph is None) != (layout.aggregations == 0):
        raise ValueError("graph: goes with every inference if, and only if, it is streamed")
    count, bits = layout.words_per_beat, layout.word_bits
    parts = [words, *([] if graph is None else [graph] * layout.aggregations)]
    payload = np.zeros((sum(map(len, parts)), -(-bits // 8)), np.uint8)
    at = 0
    for part in parts:
        payload[at : at + len(part), : part.shape[1]] = part
        at += len(part)
    words = payload
    payload = side_by_side(words, bits, count)
    kind = layout.packet_types["serial" if serial else "inference"]
    beats = to_beats(payload, layout.beat_bytes)
    return make_packet(layout.stream_bits, kind, 0, len(words), beats, graph_tag(places))


def start_packet(layout: Layout, places: IntArray, graph: Words | None = None) -> Beats:
    """Return the packet of one inference on inputs that lie on chip: a header, and no more.

    Args:
        layout: Of the accelerator.
        places: Place of each node, int64 [nodes].
        graph: Words of the graph, which follow the header if it is streamed.

    Raises:
        ValueError: the graph is missing, or there is no place for it.
    """
    return inference_packet(layout, places, np.zeros((0, 1), np.uint8), graph)


def inputs_packet(layout: Layout, places: IntArray, words: Words) -> Beats:
    """Return the packet that loads inputs; every word of the memory starts a beat.

    Args:
        layout: Of an accelerator with inputs on chip.
        places: Place of each node, int64 [nodes].
        words: Input words.

    Raises:
        ValueError: they do not fit.
    """
    if len(words) > layout.input_capacity:
        raise ValueError(
            f"input_words: {len(words)}; the largest that fits is {layout.input_capacity}"
        )
    kind = layout.packet_types["inputs"]
    beats = to_beats(memory_words(layout, words), layout.beat_bytes)
    return make_packet(layout.stream_bits, kind, 0, len(words), beats, graph_tag(places))


def _packet_of(
    layout: Layout, places: IntArray, words: Words, graph: Words | None
) -> Beats:
    """Return the packet that brings inputs: one that loads them, or that of an inference."""
    if layout.inputs_on_chip:
        return inputs_packet(layout, places, words)
    return inference_packet(layout, places, words, graph)


def graph_words(layout: Layout, load: Beats, inference: Beats) -> Words:
    """Return the words of a streamed graph, out of the packets that sgq_hw made for it.

    Args:
        layout: Of an accelerator to which the graph is streamed.
        load: Packets that load it.
        inference: Packet of one inference on it.
    """
    header_beats = layout.header_beats
    payloads = _payloads(layout, load)
    _, count = _graph_size(payloads["graph"])
    beats = next(iter(inference.packets()))
    header = beats[:header_beats].reshape(1, -1)
    total = int(unpack_words(header, 2, 32, signed=False)[0, 1])
    payload = beats[header_beats:]
    if layout.words_per_beat > 1:
        flags = np.unpackbits(
            payload, axis=1, count=layout.words_per_beat * layout.word_bits, bitorder="little"
        )
        words = np.packbits(flags.reshape(-1, layout.word_bits), axis=1, bitorder="little")
    else:
        words = payload.reshape(total, -1)
    return words[total - count : total, : -(-layout.word_bits // 8)]


def pack_dense(
    layout: Layout, places: IntArray, codes: IntArray, graph: Words | None = None
) -> Beats:
    """Return the packet that brings a matrix of inputs, whatever form the hardware takes.

    It is the packet of one inference; where inputs lie on chip, the one that loads them.

    Args:
        layout: Of the accelerator.
        places: Place of each node, int64 [nodes].
        codes: int64 [nodes, channels].
        graph: Words of the graph, if it is streamed.

    Raises:
        ValueError: another shape, or a code outside the input format.
    """
    if codes.shape != (len(places), layout.input_channels):
        shape = (len(places), layout.input_channels)
        raise ValueError(f"inputs: shape {codes.shape}; the accelerator takes {shape}")
    if layout.sparse_input:
        rows, columns = np.nonzero(codes)
        indptr = np.searchsorted(rows, np.arange(len(places) + 1))
        return pack_sparse(layout, places, indptr, columns, codes[rows, columns], graph=graph)
    _check_codes(layout, codes)
    return _packet_of(layout, places, dense_words(layout, places, codes), graph)


def pack_sparse(
    layout: Layout,
    places: IntArray,
    indptr: IntArray,
    columns: IntArray,
    codes: IntArray | None = None,
    schedule: ScheduleTable | None = None,
    graph: Words | None = None,
) -> Beats:
    """Return the packet that brings CSR rows of inputs, whatever form the hardware takes.

    It is the packet of one inference; where inputs lie on chip, the one that loads them.

    Args:
        layout: Of the accelerator.
        places: Place of each node, int64 [nodes].
        indptr: Row starts, int64 [nodes + 1].
        columns: Input channel of each stored input, int64 [stored].
        codes: Its code, int64 [stored], or None where all are 1.
        schedule: Of the rows on the loaded placement; by default `in_order_schedule`.
        graph: Words of the graph, if it is streamed.

    Raises:
        ValueError: rows, columns or codes that the accelerator does not have.
    """
    if len(indptr) != len(places) + 1 or indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        raise ValueError(f"indptr: not the starts of {len(places)} rows")
    stored = np.ones(len(columns), np.int64) if codes is None else codes
    if len(columns) != indptr[-1] or stored.shape != columns.shape:
        raise ValueError(f"columns and codes: not {indptr[-1]} stored inputs")
    if np.any((columns < 0) | (columns >= layout.input_channels)):
        raise ValueError(f"columns: not all in [0, {layout.input_channels})")
    _check_codes(layout, stored)
    if not layout.sparse_input:
        dense = np.zeros((len(places), layout.input_channels), np.int64)
        dense[np.repeat(np.arange(len(places)), np.diff(indptr)), columns] = stored
        return _packet_of(layout, places, dense_words(layout, places, dense), graph)
    if layout.input_record.find("value") is None and np.any(stored != 1):
        # A record without a value is a one; a stored zero would become one.
        raise ValueError("codes: the accelerator takes ones only; leave zeros out")
    if schedule is None:
        schedule = in_order_schedule(layout, places, indptr, columns)
    words = sparse_words(layout, schedule, columns, stored)
    return _packet_of(layout, places, words, graph)


def _check_codes(layout: Layout, codes: IntArray) -> None:
    bits = layout.input_bits
    low = -(1 << bits - 1) if layout.input_signed else 0
    high = low + (1 << bits) - 1
    if codes.size and not low <= codes.min() <= codes.max() <= high:
        raise ValueError(f"inputs: codes outside {low} to {high}")


# ---------------------------------------------------------------- results


def pack_results(layout: Layout, codes: IntArray) -> Beats:
    """Return the beats in which results leave: int64 [nodes, channels], row after row."""
    parts = []
    first = 0
    for lanes in layout.output_chunks:
        chunk = pack_words(codes[:, first : first + lanes], layout.output_bits)
        parts.append(to_beats(chunk, layout.beat_bytes).reshape(len(codes), -1))
        first += lanes
    return one_packet(np.concatenate(parts, axis=1).reshape(-1, layout.beat_bytes))


def unpack_results(layout: Layout, data: bytes) -> IntArray:
    """Return the codes of one inference's output beats, int64 [nodes, channels].

    Raises:
        ValueError: not a whole number of rows.
    """
    row_bytes = layout.row_beats * layout.beat_bytes
    if len(data) % row_bytes:
        raise ValueError(f"results: {len(data)} bytes are not rows of {row_bytes}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, row_bytes)
    parts = []
    first = 0
    for lanes in layout.output_chunks:
        size = -(-lanes * layout.output_bits // layout.stream_bits) * layout.beat_bytes
        chunk = np.ascontiguousarray(rows[:, first : first + size])
        parts.append(unpack_words(chunk, lanes, layout.output_bits, layout.output_signed))
        first += size
    return np.concatenate(parts, axis=1)


# ---------------------------------------------------------------- driver


class Transport(ABC):
    """How bytes reach the accelerator; to be written for the system at hand.

    On Linux, for example, the registers are a `mmap` of the UIO device of the AXI4-Lite slave, and
    the streams two channels of a DMA engine with a buffer each. An inference takes all of its
    input before its first result leaves, so one thread can write and then read.
    """

    @abstractmethod
    def write_stream(self, data: bytes) -> None:
        """Send whole beats as one packet, TLAST with the last; returns when all were taken."""

    @abstractmethod
    def read_stream(self, size: int) -> bytes:
        """Return the next `size` bytes of results.

        Raises:
            TimeoutError: they do not come.
        """

    @abstractmethod
    def read_register(self, address: int) -> int:
        """Return the 32-bit register at a byte address."""

    @abstractmethod
    def write_register(self, address: int, value: int) -> None:
        """Write the 32-bit register at a byte address."""


class AcceleratorError(Exception):
    """The accelerator is another one, or reports an error."""


class Accelerator:
    """A generated accelerator behind a transport.

    Args:
        folder: The generated folder; `design.json` and `images/load.hex` are read.
        transport: Connects to the hardware.

    Raises:
        AcceleratorError: the hardware is not the one that the folder describes.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self._transport = transport
        data = json.loads((folder / "design.json").read_text(encoding="utf-8"))
        self.layout = Layout.from_description(data)
        self._addresses = {entry["name"]: entry["address"] for entry in data["registers"]}
        self._counters = {entry["name"]: entry["address"] for entry in data["counters"]}
        self._errors = {code: name for name, code in data["errors"].items()}
        self._baked_in: bool = data["options"]["rom"]
        # Until another one is loaded the graph is the folder's own: it may be there already.
        self._own_load = folder / "images" / "load.hex"
        self._graph: Words | None = None
        if self._baked_in:
            self._places = np.arange(data["graph"]["nodes"])
            order = folder / "images" / "order_memory.hex"
            if order.exists():  # else the nodes lie in the user's order
                lines = order.read_text(encoding="ascii").split()
                self._places = np.array([int(line, 16) for line in lines])
        else:
            load = self._beats(self._own_load)
            self._places = graph_places(self.layout, load)
            if self.layout.aggregations:
                own_inference = self._beats(folder / "images" / "input.hex")
                self._graph = graph_words(self.layout, load, own_inference)
        expected = {
            "ID": IDENTITY, "VERSION": data["map_version"], "PES": self.layout.pes,
            "LANES": self.layout.lanes, "STREAM_BITS": self.layout.stream_bits,
        }  # fmt: skip
        for name, value in expected.items():
            found = self.read(name)
            if found != value:
                raise AcceleratorError(f"{name}: 0x{found:X}; the folder's has 0x{value:X}")

    def read(self, name: str) -> int:
        """Return a register by its name in the register map."""
        return self._transport.read_register(self._addresses[name])

    def write(self, name: str, value: int) -> None:
        """Write a register by its name in the register map."""
        self._transport.write_register(self._addresses[name], value)

    def counters(self) -> dict[str, int]:
        """Return all performance counters."""
        read = self._transport.read_register
        # The low word first: reading it freezes the high one.
        return {name: read(at) | read(at + 4) << 32 for name, at in self._counters.items()}

    def check(self) -> None:
        """Raise the sticky error, if there is one, and clear it.

        Raises:
            AcceleratorError: with the name of the error.
        """
        code = self.read("ERROR")
        if code:
            self.write("CONTROL", 1)
            raise AcceleratorError(self._errors.get(code, f"error {code}"))

    def load(self, path: Path | None = None) -> None:
        """Load weights, a graph, and inputs that lie on chip: the folder's, or of `sgq-hw pack`.

        Raises:
            AcceleratorError: the hardware refused a packet.
            ValueError: a file for another stream width, without a graph, or unscheduled.
        """
        if self._baked_in:
            raise ValueError("this accelerator has its graph baked in")
        beats = self._beats(path or self._own_load)
        if any(packet[0, 0] == self.layout.packet_types["serial"] for packet in beats.packets()):
            # Inputs are packed here, and with a schedule.
            raise ValueError(f"{path}: packed with --serial; the driver takes scheduled graphs")
        places = graph_places(self.layout, beats)
        inference = self.layout.packet_types["inference"]
        for packet in beats.packets():
            if packet[0, 0] != inference:
                self._transport.write_stream(packet.tobytes())
        self.check()
        self._places = places
        if path is not None and self.layout.aggregations:
            own = [packet for packet in beats.packets() if packet[0, 0] == inference]
            self._graph = graph_words(self.layout, beats, one_packet(own[0]))

    def load_inputs(self, codes: IntArray) -> None:
        """Load inputs that lie on chip, int64 [nodes, channels]; the graph stays.

        Raises:
            AcceleratorError: the hardware refused them.
            ValueError: inputs of another shape, outside their format, or too many.
        """
        self._check_loadable()
        self._load_packet(pack_dense(self.layout, self._places, codes))

    def load_inputs_sparse(
        self,
        indptr: IntArray,
        columns: IntArray,
        codes: IntArray | None = None,
        schedule: ScheduleTable | None = None,
    ) -> None:
        """Load inputs that lie on chip as CSR rows; see `pack_sparse` and `load_inputs`."""
        self._check_loadable()
        self._load_packet(
            pack_sparse(self.layout, self._places, indptr, columns, codes, schedule)
        )

    def run(self, codes: IntArray | None = None) -> IntArray:
        """Run one inference: input codes int64 [nodes, channels] to results of the same form.

        Args:
            codes: Inputs; none where they lie on chip already, see `load_inputs`.

        Raises:
            AcceleratorError: the hardware reports an error.
            ValueError: inputs of another shape, or outside their format; or inputs that are
                missing, or that lie on chip.
        """
        layout = self.layout
        if (codes is None) != layout.inputs_on_chip:
            takes = "load_inputs" if layout.inputs_on_chip else "run"
            raise ValueError(f"inputs: {takes}(codes) takes them")
        if codes is None:
            return self._exchange(start_packet(layout, self._places, self._graph))
        return self._exchange(pack_dense(layout, self._places, codes, self._graph))

    def run_sparse(
        self, indptr: IntArray, columns: IntArray, codes: IntArray | None = None
    ) -> IntArray:
        """Run one inference with inputs as CSR rows; see `pack_sparse` and `run`."""
        if self.layout.inputs_on_chip:
            raise ValueError("inputs: load_inputs_sparse takes them")
        return self._exchange(
            pack_sparse(self.layout, self._places, indptr, columns, codes, graph=self._graph)
        )

    def _beats(self, path: Path) -> Beats:
        return read_beats(path, self.layout.stream_bits)

    @property
    def places(self) -> IntArray:
        """Place of every node of the graph, int64 [nodes]; see `graph_places`."""
        return self._places

    def _check_loadable(self) -> None:
        if self._baked_in or not self.layout.inputs_on_chip:
            raise ValueError("inputs: none are loaded into this accelerator")

    def _load_packet(self, packet: Beats) -> None:
        self._transport.write_stream(packet.data.tobytes())
        self.check()

    def _exchange(self, packet: Beats) -> IntArray:
        layout = self.layout
        self._transport.write_stream(packet.data.tobytes())
        try:
            data = self._transport.read_stream(
                len(self._places) * layout.row_beats * layout.beat_bytes
            )
        except TimeoutError:
            self.check()
            raise
        self.check()
        return unpack_results(layout, data)

"""Good packets of a design, and ways to break them: single beats, headers, and records."""

from collections.abc import Callable
from dataclasses import dataclass

from sgq_hw.design import PACKET_TYPES, Design
from sgq_hw.host import RecordFormat

Lines = list[str]
Record = dict[str, int]
Steps = list[list[Record]]
"""Records of every PE in every step."""


class Packets:
    """The packets of a good job, by kind; each a list of beat lines."""

    def __init__(self, design: Design, lines: Lines) -> None:
        self.design = design
        self.header = -(-64 // design.stream_bits)
        self.all: list[Lines] = [[]]
        for line in lines:
            self.all[-1].append(line)
            if line[0] in "13":
                self.all.append([])
        self.all.pop()

    def of(self, kind: str) -> Lines:
        """Return a copy of the first packet of a kind."""
        code = f"{PACKET_TYPES[kind]:02x}"
        return list(next(packet for packet in self.all if packet[0].endswith(code)))

    def count(self, packet: Lines) -> int:
        """Return the number of words in a header."""
        return word(packet[0]) >> 32 if self.header == 1 else word(packet[1])

    def with_count(self, packet: Lines, count: int) -> Lines:
        """Return a packet with another number of words in its header."""
        if self.header == 1:
            return [set_word(packet[0], word(packet[0]) & 0xFFFFFFFF | count << 32), *packet[1:]]
        return [packet[0], set_word(packet[1], count), *packet[2:]]

    def _shape(self, kind: str) -> tuple[RecordFormat, int, int]:
        """Return the format of a kind's records, words of a beat and beats of a word."""
        design = self.design
        if kind == "inference":
            return design.input_record, design.words_per_beat, design.beats_per_word
        record = design.edge_record
        return record, 1, -(-design.pes * record.bits // design.stream_bits)

    def steps(self, kind: str) -> Steps:
        """Return the records of the packet of edges or of an inference."""
        record, per_beat, beats = self._shape(kind)
        packet, bits = self.of(kind), self.design.stream_bits
        found: Steps = []
        for index in range(self.count(packet)):
            first = self.header + index // per_beat * beats
            value = sum(word(line) << at * bits for at, line in
                        enumerate(packet[first : first + beats]))  # fmt: skip
            value >>= index % per_beat * self.design.pes * record.bits
            parts = [value >> pe * record.bits for pe in range(self.design.pes)]
            found.append(
                [
                    {field.name: part >> field.low & (1 << field.bits) - 1
                     for field in record.fields}
                    for part in parts
                ]
            )  # fmt: skip
        return found

    def with_steps(self, kind: str, steps: Steps) -> Lines:
        """Return the packet with other records, as many as it had."""
        record, per_beat, beats = self._shape(kind)
        packet, bits = self.of(kind), self.design.stream_bits
        for first in range(0, len(steps), per_beat):
            value = 0
            for at, step in enumerate(steps[first : first + per_beat]):
                for pe, fields in enumerate(step):
                    low = (at * self.design.pes + pe) * record.bits
                    for field in record.fields:
                        code = fields[field.name] & (1 << field.bits) - 1
                        value |= code << low + field.low
            for at in range(beats):
                place = self.header + first // per_beat * beats + at
                part = value >> at * bits & (1 << bits) - 1
                packet[place] = set_word(packet[place], part)
        return packet


def set_last(line: str, last: bool) -> str:
    """Return a line with another TLAST."""
    return f"{(int(line[0]) & 2) | int(last)}{line[1:]}"


def set_word(line: str, value: int) -> str:
    """Return a line with other data."""
    return f"{line[0]}{value:0{len(line) - 1}x}"


def word(line: str) -> int:
    """Return the data of a line."""
    return int(line[1:], 16)


def _unknown_type(packets: Packets) -> Lines:
    packet = packets.of("weights")
    return [set_word(packet[0], word(packet[0]) | 0xF0), *packet[1:]]


def _unknown_index(packets: Packets) -> Lines:
    packet = packets.of("constants")
    return [set_word(packet[0], word(packet[0]) | 0x0900), *packet[1:]]


def _graph_too_large(packets: Packets) -> Lines:
    packet, at = packets.of("graph"), packets.header
    return [*packet[:at], set_word(packet[at], word(packet[at]) + (1 << 20)), *packet[at + 1 :]]


def _no_nodes(packets: Packets) -> Lines:
    packet, at = packets.of("graph"), packets.header
    return [*packet[:at], set_word(packet[at], word(packet[at]) >> 32 << 32), *packet[at + 1 :]]


def _falling_bounds(packets: Packets) -> Lines:
    """Let the bound of position 1, the word's third part, lie behind all nodes."""
    packet, bits = packets.of("graph"), packets.design.stream_bits
    beat, low = divmod(64, bits)
    at = packets.header + beat
    return [
        *packet[:at], set_word(packet[at], word(packet[at]) | 1 << low + 20), *packet[at + 1 :]
    ]  # fmt: skip


def _early_end(packets: Packets) -> Lines:
    packet = packets.of("weights")[:5]
    return [*packet[:4], set_last(packet[4], True)]


def _late_end(packets: Packets) -> Lines:
    packet = packets.of("weights")
    return [*packet[:-1], set_last(packet[-1], False), *["0" + packet[-2][1:]] * 3, packet[-1]]


def _end_in_header(packets: Packets) -> Lines:
    return [set_last(packets.of("weights")[0], True)]


def _wrong_count(packets: Packets) -> Lines:
    packet = packets.of("weights")
    return packets.with_count(packet, packets.count(packet) + 1)


def _infer_no_words(packets: Packets) -> Lines:
    return packets.with_count(packets.of("inference"), 0)


def _infer_too_few(packets: Packets) -> Lines:
    # Fewer by more than a beat holds.
    packet = packets.of("inference")
    fewer = packets.design.words_per_beat + 1
    return packets.with_count(packet, packets.count(packet) - fewer)


def _infer_too_many(packets: Packets) -> Lines:
    packet = packets.of("inference")
    return packets.with_count(packet, packets.count(packet) + 100)


def _infer_early_end(packets: Packets) -> Lines:
    # Where a word takes several beats, the first word is not whole.
    end = packets.header
    packet = packets.of("inference")
    return [*packet[:end], set_last(packet[end], True)]


def _infer_late_end(packets: Packets) -> Lines:
    packet = packets.of("inference")
    return [*packet[:-1], set_last(packet[-1], False), *[packet[-2]] * 5, packet[-1]]


def _infer_end_in_header(packets: Packets) -> Lines:
    return [set_last(packets.of("inference")[0], True)]


Break = Callable[[Packets], Lines]
LOAD_BREAKS: dict[str, tuple[Break, str]] = {
    "unknown type": (_unknown_type, "ERR_HEADER"),
    "unknown index": (_unknown_index, "ERR_HEADER"),
    "graph too large": (_graph_too_large, "ERR_CAPACITY"),
    "no nodes": (_no_nodes, "ERR_CAPACITY"),
    "early end": (_early_end, "ERR_EARLY_TLAST"),
    "late end": (_late_end, "ERR_LATE_TLAST"),
    "end in header": (_end_in_header, "ERR_EARLY_TLAST"),
    "wrong count": (_wrong_count, "ERR_WORD_COUNT"),
}
WINDOWS_BREAKS: dict[str, tuple[Break, str]] = {
    "bounds fall": (_falling_bounds, "ERR_CAPACITY"),
}
INFERENCE_BREAKS: dict[str, tuple[Break, str]] = {
    "no words": (_infer_no_words, "ERR_WORD_COUNT"),
    "too few words": (_infer_too_few, "ERR_LATE_TLAST"),
    "too many words": (_infer_too_many, "ERR_EARLY_TLAST"),
    "inference ends early": (_infer_early_end, "ERR_EARLY_TLAST"),
    "inference ends late": (_infer_late_end, "ERR_LATE_TLAST"),
    "inference ends in header": (_infer_end_in_header, "ERR_EARLY_TLAST"),
}


@dataclass(frozen=True)
class Operands:
    """The operand rows that records of a kind read.

    Attributes:
        rows: How many there are.
        nodes: Whether they are nodes, else input channels.
    """

    rows: int
    nodes: bool

    def number(self, record: Record, banks: int) -> int:
        """Return the row that a record reads."""
        bank = record["bank"]
        return record["address"] * banks + (
            (bank & 1) * (banks // 2) + (bank >> 1) if self.nodes else bank
        )


def index(steps: Steps, operands: Operands, at: int) -> None:
    """Read an operand row that does not exist, in the first step from `at` that reads."""
    step = next(step for step in steps[at:] if any(record["valid"] for record in step))
    place = next(place for place, record in enumerate(step) if record["valid"])
    for pe, record in enumerate(step):
        if pe == place:
            record.update({name: -1 for name in ("address", "bank") if name in record})  # all ones
        else:
            record.update(dict.fromkeys(record, 0))  # else it may read another word of the bank


def too_long(steps: Steps, operands: Operands, at: int) -> None:
    """Let rows go on for ever; all PEs read the same word."""
    for step in steps[at:]:
        for record in step:
            record.update(dict.fromkeys(record, 0) | {"valid": 1})


def unclosed(steps: Steps, operands: Operands, at: int) -> None:
    """Leave rows open at the end."""
    for record in steps[-1]:
        record["last"] = 0


def one_more_row(steps: Steps, operands: Operands, at: int) -> None:
    """Close a row before its last record: one PE has then a row too many."""
    record = next(record for step in steps[at:] for record in step if not record["last"])
    record["last"] = 1


def wrong_slot(steps: Steps, operands: Operands, at: int) -> None:
    """Close a row in the slot of the row after it."""
    record = next(record for step in steps[at:] for record in step if record["last"])
    record["slot"] ^= 1


def one_bank(steps: Steps, operands: Operands, at: int) -> None:
    """Let two PEs read different words of one bank, both of which exist."""
    for step in steps[at:]:
        reading = [record for record in step if record["valid"]]
        for first in reading:
            for second in reading:
                moved = second | {"bank": first["bank"]}
                if (
                    first["address"] != second["address"]
                    and operands.number(moved, 2 * len(step)) < operands.rows
                ):
                    second["bank"] = first["bank"]
                    return
    raise ValueError("no step reads two different addresses")


Spoil = Callable[[Steps, Operands, int], None]
ONE_PE_SPOILS: dict[str, tuple[Spoil, str]] = {
    "index": (index, "ERR_INDEX"),
    "too long": (too_long, "ERR_ROW_LENGTH"),
    "unclosed": (unclosed, "ERR_ROW_COUNT"),
    "one more row": (one_more_row, "ERR_ROW_COUNT"),
}
SEVERAL_PES_SPOILS: dict[str, tuple[Spoil, str]] = {
    "index": (index, "ERR_INDEX"),
    "too long": (too_long, "ERR_ROW_LENGTH"),
    "unclosed": (unclosed, "ERR_ROW_COUNT"),
    "wrong slot": (wrong_slot, "ERR_SLOT"),
    "one bank": (one_bank, "ERR_BANK"),
}

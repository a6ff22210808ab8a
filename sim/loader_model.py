"""What stream_loader should do with packets, worked out from their bits, one packet at a time."""

from dataclasses import dataclass, field
from typing import Any

ERR_NONE, ERR_HEADER, ERR_CAPACITY, ERR_EARLY_TLAST, ERR_LATE_TLAST = range(5)
ERR_NOT_LOADED, ERR_WORD_COUNT = 8, 9
ERR_KEEP, ERR_GRAPH = 12, 13
INFERENCE = 16

Beat = tuple[int, int]
"""Data and TLAST."""


@dataclass
class Packet:
    """A packet, and what will be said to it if it is an inference.

    Attributes:
        beats: Header and payload.
        take: Payload beats that are taken, None for all.
        code: Error that is reported after them, 0 for done.
        partial: Number of the beat of which a byte is missing, None for none.
    """

    beats: list[Beat]
    take: int | None = None
    code: int = ERR_NONE
    partial: int | None = None


@dataclass
class Payload:
    """What is handed on of an inference packet.

    Attributes:
        beats: Payload beats that are taken.
        words: Number of words after the header.
        code: Error that is reported after them, 0 for done.
        partial: Whether the beat after them is partial.
    """

    beats: list[Beat]
    words: int
    code: int
    partial: bool = False


@dataclass
class Outcome:
    """What packets should cause.

    Attributes:
        writes: Target, address, data and number of the beat that completes each loaded word.
        payloads: Of each inference.
        beats: Number of beats.
    """

    writes: list[tuple[int, int, int, int]] = field(default_factory=list)
    payloads: list[Payload] = field(default_factory=list)
    beats: int = 0


class LoaderModel:
    """State of the loader between packets.

    Attributes:
        error: Sticky code.
        loaded: For each target whether it holds data.
        nodes, records: Size of the graph.
        bounds: Nodes before each position but the first, of graphs with degree buckets.
        tag: Of the graph: inferences must have the same.
        inputs: Words of the inputs on chip.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        self.targets: list[dict[str, Any]] = info["targets"]
        self.header_beats = max(1, 64 // info["stream_bits"])
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.error = ERR_NONE
        self.loaded = [False] * len(self.targets)
        rom = self.info["rom"]
        self.nodes: int = rom[0] if rom else 0
        self.records: int = rom[1] if rom else 0
        self.bounds: list[int] | None = list(rom[3]) if rom else None
        self.tag = 0
        self.inputs = 0

    def run(self, packets: list[Packet]) -> Outcome:
        """Follow packets that come one after the other."""
        outcome = Outcome()
        for packet in packets:
            if self.error == ERR_NONE:
                self.error = self._packet(packet, outcome)
            outcome.beats += len(packet.beats)
        return outcome

    def _packet(self, packet: Packet, outcome: Outcome) -> int:
        bits = self.info["stream_bits"]
        head = packet.beats[: self.header_beats]
        header = sum((data & (1 << 64) - 1) << at * bits for at, (data, _) in enumerate(head))
        kind, index, count = header & 0xFF, header >> 8 & 0xFF, header >> 32
        tag = header >> 16 & 0xFFFF
        payload = packet.beats[self.header_beats :]
        partial = None if packet.partial is None else packet.partial - self.header_beats
        if partial is not None and partial < 0:
            return ERR_KEEP
        if (kind, index) == (INFERENCE, 0):
            if not self.info["payload"]:
                return self._header_alone(packet, (count, tag), outcome)
            return self._inference(packet, payload, (count, tag), outcome)
        for number, target in enumerate(self.targets):
            if (target["type"], target["index"]) == (kind, index):
                return self._load(number, payload, (count, tag), partial, outcome)
        return ERR_HEADER

    def _inference(
        self, packet: Packet, payload: list[Beat], header: tuple[int, int], outcome: Outcome
    ) -> int:
        count, tag = header
        if not all(self.loaded):
            return ERR_NOT_LOADED
        if not payload:
            return ERR_EARLY_TLAST
        if self.targets and tag != self.tag:
            return ERR_GRAPH
        if count == 0:
            return ERR_WORD_COUNT
        if packet.partial is not None:
            taken = payload[: packet.partial - self.header_beats]
            outcome.payloads.append(Payload(taken, count, ERR_KEEP, partial=True))
            return ERR_KEEP
        taken = payload if packet.take is None else payload[: packet.take]
        outcome.payloads.append(Payload(taken, count, packet.code))
        return packet.code

    def _header_alone(self, packet: Packet, header: tuple[int, int], outcome: Outcome) -> int:
        """Start an inference on inputs and a graph that lie on chip."""
        count, tag = header
        if not all(self.loaded):
            return ERR_NOT_LOADED
        if len(packet.beats) < self.header_beats:
            return ERR_EARLY_TLAST
        if self.targets and tag != self.tag:
            return ERR_GRAPH
        if count:
            return ERR_WORD_COUNT
        if len(packet.beats) > self.header_beats:
            return ERR_LATE_TLAST
        outcome.payloads.append(Payload([], 0, ERR_NONE))
        return ERR_NONE

    def _load(
        self,
        number: int,
        payload: list[Beat],
        header: tuple[int, int],
        partial: int | None,
        outcome: Outcome,
    ) -> int:
        count, tag = header
        target = self.targets[number]
        expected = {
            "edges": self.records, "nodes": self.nodes, "inputs": count if self.nodes else 0,
        }.get(str(target["counts"]), target["words"])  # fmt: skip
        if not payload:
            return ERR_EARLY_TLAST
        refused = ERR_WORD_COUNT if count != expected or not count else ERR_NONE
        if target["kind"] == "inputs":
            refused = refused or self._inputs(count, tag)
        if refused != ERR_NONE:
            return refused
        self.loaded[number] = False
        if target["kind"] == "graph":
            self.loaded = [
                kept and not other["counts"]
                for kept, other in zip(self.loaded, self.targets, strict=True)
            ]
        beats = -(-target["bits"] // self.info["stream_bits"])
        if target["kind"] == "inputs":
            count = -(-count // self.info["INPUT_STEPS"])  # words of the memory
        for address in range(count):
            parts = payload[address * beats : (address + 1) * beats]
            early = [at for at, (_, tlast) in enumerate(parts) if tlast]
            holed = partial is not None and partial // beats == address
            if holed or (early and early[0] < beats - 1):
                return ERR_KEEP if holed else ERR_EARLY_TLAST
            word = 0
            for at, (data, _) in enumerate(parts):
                word |= data << at * self.info["stream_bits"]
            word &= (1 << target["bits"]) - 1
            tlast, last = bool(early), address == count - 1
            code = self._graph(word, tag) if target["kind"] == "graph" else ERR_NONE
            if code == ERR_NONE:
                beat = outcome.beats + self.header_beats + (address + 1) * beats - 1
                outcome.writes.append((number, address, word, beat))
            # The end of the packet is seen a cycle before the word is checked.
            if tlast != last:
                return ERR_EARLY_TLAST if tlast else ERR_LATE_TLAST
            if code != ERR_NONE:
                return code
        self.loaded[number] = True
        return ERR_NONE

    def _inputs(self, count: int, tag: int) -> int:
        """Take the number of input words, or return what is wrong with it."""
        if count > self.info["capacity"]["input_words"]:
            return ERR_CAPACITY
        if tag != self.tag:
            return ERR_GRAPH
        self.inputs = count
        return ERR_NONE

    def _graph(self, word: int, tag: int) -> int:
        """Take the size of a graph, or return what is wrong with it."""
        nodes, records = word & 0xFFFFFFFF, word >> 32 & 0xFFFFFFFF
        bounds = [word >> low & 0xFFFFFFFF for low in range(64, 32 + 32 * self.info["BUCKETS"], 32)]
        limits = self.info["capacity"]
        if not (0 < nodes <= limits["nodes"] and 0 < records <= limits["edge_words"]):
            return ERR_CAPACITY
        ends = [0, *bounds, nodes]
        if ends != sorted(ends) or not all(self._fits(ends, *part) for part in self.info["slices"]):
            return ERR_CAPACITY
        self.nodes, self.records, self.tag, self.bounds = nodes, records, tag, bounds
        return ERR_NONE

    def _fits(self, ends: list[int], first: int, end: int, rows: int) -> bool:
        """Whether a slice has room for its positions: rows of a bank, whole rounds of the banks."""
        banks = self.info["BANKS"]
        places = range(ends[first], ends[end])
        return not places or places[-1] // banks - places[0] // banks < rows

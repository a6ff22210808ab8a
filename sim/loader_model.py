"""What stream_loader should do with packets, worked out from their bits, one packet at a time."""

from dataclasses import dataclass, field
from typing import Any

ERR_NONE, ERR_HEADER, ERR_CAPACITY, ERR_EARLY_TLAST, ERR_LATE_TLAST = range(5)
ERR_INDEX, ERR_ROW_COUNT, ERR_ROW_LENGTH, ERR_NOT_LOADED, ERR_WORD_COUNT = range(5, 10)
INFERENCE = 16

Beat = tuple[int, int]
"""Data and TLAST."""


@dataclass
class Packet:
    """A packet, and what the unpacker will say to it if it is an inference.

    Attributes:
        beats: Header and payload.
        take: Payload beats that the unpacker takes, None for all.
        code: Error that it reports after them, 0 for done.
    """

    beats: list[Beat]
    take: int | None = None
    code: int = ERR_NONE


@dataclass
class Outcome:
    """What packets should cause.

    Attributes:
        writes: Target, address, data and number of the beat that completes each loaded word.
        payloads: For each inference its payload beats that are taken, and its code.
        beats: Number of beats.
    """

    writes: list[tuple[int, int, int, int]] = field(default_factory=list)
    payloads: list[tuple[list[Beat], int]] = field(default_factory=list)
    beats: int = 0


class LoaderModel:
    """State of the loader between packets.

    Attributes:
        error: Sticky code.
        loaded: For each target whether it holds data.
        nodes, records: Size of the graph.
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
        payload = packet.beats[self.header_beats :]
        if (kind, index) == (INFERENCE, 0):
            return self._inference(packet, payload, count, outcome)
        for number, target in enumerate(self.targets):
            if (target["type"], target["index"]) == (kind, index):
                return self._load(number, payload, count, outcome)
        return ERR_HEADER

    def _inference(
        self, packet: Packet, payload: list[Beat], count: int, outcome: Outcome
    ) -> int:
        if not all(self.loaded):
            return ERR_NOT_LOADED
        if not payload:
            return ERR_EARLY_TLAST
        if count != self.nodes:
            return ERR_ROW_COUNT
        taken = payload if packet.take is None else payload[: packet.take]
        outcome.payloads.append((taken, packet.code))
        return packet.code

    def _load(self, number: int, payload: list[Beat], count: int, outcome: Outcome) -> int:
        target = self.targets[number]
        expected = {"edges": self.records, "nodes": self.nodes}.get(
            str(target["counts"]), target["words"]
        )
        if not payload:
            return ERR_EARLY_TLAST
        if count != expected or not count:
            return ERR_WORD_COUNT
        self.loaded[number] = False
        if target["kind"] == "graph":
            self.loaded = [
                kept and not other["counts"]
                for kept, other in zip(self.loaded, self.targets, strict=True)
            ]
        beats = -(-target["bits"] // self.info["stream_bits"])
        self.rows = self.length = 0
        for address in range(count):
            parts = payload[address * beats : (address + 1) * beats]
            early = [at for at, (_, tlast) in enumerate(parts) if tlast]
            if early and early[0] < beats - 1:
                return ERR_EARLY_TLAST
            word = 0
            for at, (data, _) in enumerate(parts):
                word |= data << at * self.info["stream_bits"]
            word &= (1 << target["bits"]) - 1
            tlast, last = bool(early), address == count - 1
            code = self._check(target["kind"], word, last and tlast)
            if code == ERR_NONE:
                self._accept(target["kind"], word)
                beat = outcome.beats + self.header_beats + (address + 1) * beats - 1
                outcome.writes.append((number, address, word, beat))
            # The end of the packet is seen a cycle before the word is checked.
            if tlast != last:
                return ERR_EARLY_TLAST if tlast else ERR_LATE_TLAST
            if code != ERR_NONE:
                return code
        self.loaded[number] = True
        return ERR_NONE

    def _field(self, name: str, word: int) -> int:
        low, bits = self.info["edge_fields"].get(name, (0, 0))
        return word >> low & (1 << bits) - 1 if bits else 1

    def _check(self, kind: int | str, word: int, packet_end: bool) -> int:
        """Return what is wrong with a word."""
        if kind == "graph":
            nodes, records = word & 0xFFFFFFFF, word >> 32
            limits = self.info["capacity"]
            fits = 0 < nodes <= limits["nodes"] and 0 < records <= limits["edges"]
            return ERR_NONE if fits else ERR_CAPACITY
        if kind != "edges":
            return ERR_NONE
        if self._field("valid", word):
            if self._field("address", word) >= self.nodes:
                return ERR_INDEX
            if self.length == self.info["capacity"]["row_edges"]:
                return ERR_ROW_LENGTH
        complete = self._field("last", word) and self.rows + 1 == self.nodes
        return ERR_ROW_COUNT if packet_end and not complete else ERR_NONE

    def _accept(self, kind: int | str, word: int) -> None:
        """Follow a written word."""
        if kind == "graph":
            self.nodes, self.records = word & 0xFFFFFFFF, word >> 32
        elif kind == "edges":
            last = self._field("last", word)
            self.length = 0 if last else self.length + self._field("valid", word)
            self.rows += last

"""Bench of serial_expander: random words, scheduled and not; the word of every cycle."""

from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, pack, settings


class Expander:
    """Plays unpacker and front ends, and says what the word must be."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.rng = generator()
        self.info = settings()
        self.row = 0

    def record(self, word: int, aggregate: bool) -> int:
        """Return the scheduled record of an unscheduled one, of the present row."""
        info, pes = self.info, self.info["PES"]
        fields = info["edge_fields"] if aggregate else info["input_fields"]
        bits = info["SERIAL_NODE_BITS"] if aggregate else info["SERIAL_CHANNEL_BITS"]
        index = word >> 2 & (1 << bits) - 1
        if aggregate:
            row, pe = divmod(index, pes)
            bank, address = 2 * pe + row % 2, row // 2
        else:
            address, bank = divmod(index, 2 * pes)
        values = {
            "last": word & 1, "valid": word >> 1 & 1, "slot": self.row // pes % 2, "bank": bank,
            "address": address, "value": word >> (2 + bits),
        }  # fmt: skip
        return sum((values[name] & (1 << width) - 1) << low for name, width, low in fields)

    def expected(self, word: int, serial: bool, aggregate: bool) -> int:
        """Return what must come out."""
        info = self.info
        if not serial or not (aggregate or info["sparse"]):
            return word
        width = info["RECORD_BITS"] if aggregate else info["INPUT_RECORD_BITS"]
        records = [0] * info["PES"]
        records[self.row % info["PES"]] = self.record(word, aggregate)
        return pack(records, width)

    async def run(self, cycles: int, serial: bool, aggregate: bool) -> None:
        """Run a pass."""
        kind = {"serial": int(serial), "is_aggregate": int(aggregate)}
        junk = draw_bits(self.rng, self.info["INPUT_WORD_BITS"])
        await self.bench.cycle(start=1, taken=0, in_word=junk, **kind)
        self.row = 0
        for _ in range(cycles):
            word = draw_bits(self.rng, self.info["INPUT_WORD_BITS"])
            taken = draw_bits(self.rng, 1)
            await self.bench.cycle(start=0, taken=taken, in_word=word, **kind)
            assert self.bench.read("out_word") == self.expected(word, serial, aggregate)
            self.row += taken and word & 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def every_kind_of_pass(dut: Any) -> None:
    """Serial and scheduled passes over inputs and edges, in any order, each from row 0."""
    unit = Expander(dut)
    await unit.bench.start(serial=0, start=0, is_aggregate=0, taken=0, in_word=0)
    for _ in range(unit.info["passes"]):
        serial, aggregate = (bool(draw_bits(unit.rng, 1)) for _ in range(2))
        await unit.run(int(unit.rng.integers(1, 12 * unit.info["PES"])), serial, aggregate)

"""Bench of input_reader: every read and every word of a pass, in its very cycle."""

from collections import Counter
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, pack, settings
from sgq_hw.sim.rows import ReadPort

RATES = (0.0, 0.3, 0.9)
"""Shares of cycles in which no word is taken."""


class Reader:
    """The unit between its memory and a front end, with a model of each cycle."""

    def __init__(self, dut: Any) -> None:
        self.info = settings()
        self.rng = generator()
        self.bench = Bench(dut)
        self.events: Counter[str] = Counter()
        self.bits: int = self.info["PES"] * self.info["INPUT_RECORD_BITS"]
        count: int = self.info["input_words"]
        self.words = [draw_bits(self.rng, self.bits) for _ in range(count)]
        self.steps: int = self.info["INPUT_STEPS"]
        self.memory = [
            pack(self.words[first : first + self.steps], self.bits)
            for first in range(0, count, self.steps)
        ]

    async def begin(self) -> None:
        """Start the clock with idle inputs; nothing is read."""
        await self.bench.start(start=0, num_words=1, word_ready=0)
        assert not self.bench.read("memory_re")

    async def run_pass(self, count: int, stall: float, abort_at: int = -1) -> int:
        """Read words to the last one, or until so many were taken; returns the cycles.

        Args:
            count: Words of the inputs.
            stall: Share of cycles in which no word is taken.
            abort_at: Words after which the pass is given up.
        """
        bench, rng, read = self.bench, self.rng, self.bench.read
        port = ReadPort(self.memory, draw_bits(rng, self.steps * self.bits))
        # The count is that of the loaded inputs: it stays while the pass runs.
        await bench.cycle(start=1, num_words=count, word_ready=0, memory_data=port.data)
        assert read("memory_re") == 1
        assert read("memory_addr") == 0
        port.read(0)
        first = bench.cycles
        taken = 0
        while taken < count:
            if taken == abort_at:
                self.events["aborted"] += 1
                return 0
            ready = int(rng.random() >= stall)
            await bench.cycle(start=0, word_ready=ready, memory_data=port.data)
            where = f"word {taken} of {count}"
            assert read("word_valid") == 1, where
            assert read("word_data") == self.words[taken], where
            assert read("word_final") == (taken == count - 1), where
            fetch = ready and taken < count - 1 and (taken + 1) % self.steps == 0
            assert read("memory_re") == fetch, where
            self.events["held"] += not ready
            if fetch:
                assert read("memory_addr") == (taken + 1) // self.steps, where
                port.read((taken + 1) // self.steps)
            taken += ready
        last = bench.cycles
        for _ in range(3):
            await bench.cycle(word_ready=1, memory_data=port.data)
            assert not read("word_valid")
            assert not read("memory_re")
        return last - first

    def counts(self) -> list[int]:
        """Return numbers of words: the fewest, the most, powers of two, and any."""
        most = len(self.words)
        found = {1, 2, 3, most - 1, most, *(1 << bit for bit in range(most.bit_length()))}
        found |= set(self.rng.integers(1, most + 1, 4).tolist())
        return sorted(count for count in found if 1 <= count <= most)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def words_in_their_order(dut: Any) -> None:
    """Every number of words at every pace; without pauses one word a cycle from the first on."""
    reader = Reader(dut)
    await reader.begin()
    for count in reader.counts():
        for stall in RATES:
            spent = await reader.run_pass(count, stall)
            if stall == 0:
                assert spent == count
    # Stalls that never happened would prove nothing.
    assert reader.events["held"] > 20


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_pass_can_be_aborted(dut: Any) -> None:
    """A pass is given up at any word; the next one begins with the first word again."""
    reader = Reader(dut)
    await reader.begin()
    most = len(reader.words)
    for count in (2, 3, most):
        for abort_at in sorted({0, 1, count - 1, int(reader.rng.integers(count))}):
            await reader.run_pass(count, 0.3, abort_at)
            for _ in range(int(reader.rng.integers(3))):
                await reader.bench.cycle(start=0, word_ready=0)
                assert not reader.bench.read("memory_re")
            await reader.run_pass(int(reader.rng.integers(1, most + 1)), 0.3)
    assert reader.events["aborted"] > 6

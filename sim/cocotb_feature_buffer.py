"""Bench of `feature_buffer`: words come back as the golden layout has them, sign and all.

As in a network, each tensor is written to one region while the one before it is read from another.
"""

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings, unpack


@dataclass(frozen=True)
class Write:
    """One written word: the chunks of a row follow each other."""

    row: int
    first_chunk: bool
    codes: list[int]


class Buffer:
    """The unit and what its regions hold: words by address."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.values = settings()
        self.rng = generator()
        count = len(self.values["regions"])
        self.words: list[dict[int, list[int]]] = [{} for _ in range(count)]
        self.held: list[list[int] | None] = [None] * count
        self.region = 0
        self.held_reads = 0

    def draw_tensor(self, region: int) -> tuple[IntArray, list[Write]]:
        """Draw a tensor that fits a region; return it with its words in writing order."""
        rng, lanes = self.rng, self.values["LANES"]
        bits, signed, most = self.values["regions"][region]
        chunks = int(rng.choice([1, most, rng.integers(1, most + 1)]))
        nodes = int(rng.choice([1, self.values["nodes"]]))
        codes = draw_codes(rng, *code_range(bits, signed), (nodes, chunks * lanes))
        words = codes.reshape(nodes, chunks, lanes)
        order = rng.permutation(nodes) if rng.random() < 0.3 else np.arange(nodes)
        return codes, [
            Write(row, chunk == 0, words[row, chunk].tolist())
            for row in order.tolist()
            for chunk in range(chunks)
        ]

    async def cycle(
        self, address: int | None = None, write: Write | None = None, region: int = 0
    ) -> None:
        """Read and write, or not, and check the data of this cycle."""
        rng, values = self.rng, self.values
        inputs = {
            "read_region": self.region,
            "read_re": int(address is not None),
            "read_addr": (
                draw_bits(rng, values["FEATURE_ADDR_BITS"]) if address is None else address
            ),
            "write_valid": int(write is not None),
            "write_region": region,
        }
        if write is None:
            inputs |= {
                "write_first_chunk": draw_bits(rng, 1),
                "write_row": draw_bits(rng, values["ROW_BITS"]),
                "write_data": draw_bits(rng, values["LANES"] * values["OUT_BITS"]),
            }
        else:
            inputs |= {
                "write_first_chunk": int(write.first_chunk), "write_row": write.row,
                "write_data": pack(write.codes, values["OUT_BITS"]),
            }  # fmt: skip
        await self.bench.cycle(**inputs)
        held = self.held[self.region]
        if held is not None:
            got = unpack(self.bench.read("read_data"), values["FEATURE_BITS"], values["LANES"])
            assert got == held, f"cycle {self.bench.cycles}, region {self.region}: {held}, {got}"
            self.held_reads += address is None
        if address is not None:
            self.held[self.region] = self.words[self.region][address]

    async def write_tensor(self, region: int, gaps: float) -> None:
        """Write a tensor while another region is read at random, then read it back."""
        rng, stride = self.rng, self.values["FEATURE_STRIDE"]
        codes, writes = self.draw_tensor(region)
        for write in writes:
            while rng.random() < gaps:
                await self.cycle(self.any_address(region))
            await self.cycle(self.any_address(region), write, region)
        stored = feature_buffer(codes, self.values["LANES"], stride)
        for address, word in enumerate(stored.tolist()):
            if address % stride < len(codes):
                self.words[region][address] = word
        # What was written last, in the very next cycle; then every word.
        self.region = region
        await self.cycle(len(stored) - stride + writes[-1].row)
        for address in rng.permutation(list(self.words[region])).tolist():
            while rng.random() < 0.2:
                await self.cycle()
            await self.cycle(address)
        await self.cycle()

    def any_address(self, written: int) -> int | None:
        """Draw an address to read, or none; never of the region being written."""
        known = list(self.words[self.region])
        if self.region == written or not known or self.rng.random() < 0.3:
            return None
        return int(self.rng.choice(known))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def words_follow_the_golden_layout(dut: Any) -> None:
    """Tensor after tensor, from region to region."""
    buffer = Buffer(dut)
    await buffer.bench.start(read_region=0, read_re=0, write_valid=0)
    regions = len(buffer.words)
    for number in range(buffer.values["draws"]):
        await buffer.write_tensor(number % regions, float(buffer.rng.choice([0, 0.3, 0.8])))
    assert buffer.held_reads, "no cycle in which data had to stay"

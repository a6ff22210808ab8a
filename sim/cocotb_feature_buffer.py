"""Bench of `feature_buffer`: words come back as the golden layout has them, sign and all.

As in a network, each tensor is written to one region while the one before it is read from another.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cocotb

from sgq_hw.golden.fixed_point import code_range
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings
from sgq_hw.sim.rows import bank_words, draw_placement

Address = tuple[int, int]
"""Bank, and word in it."""


@dataclass(frozen=True)
class Write:
    """One step: the chunks of a row follow each other.

    Attributes:
        first_chunk: Whether it is a row's first one.
        words: Row and codes of each PE that writes.
    """

    first_chunk: bool
    words: dict[int, tuple[int, list[int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """A drawn tensor: its words in writing order, those of the last step, and where all lie."""

    writes: list[Write]
    last: list[Address]
    words: dict[Address, int]


class Buffer:
    """The unit and what its regions hold: packed words by address."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.values = settings()
        self.rng = generator()
        count = len(self.values["regions"])
        self.words: list[dict[Address, int]] = [{} for _ in range(count)]
        self.held: list[dict[int, int]] = [{} for _ in range(count)]  # of each bank
        self.region = 0
        self.events: Counter[str] = Counter()

    def draw_tensor(self, region: int) -> Tensor:
        """Draw a tensor that fits a region."""
        rng, values = self.rng, self.values
        lanes, pes, stride = values["LANES"], values["PES"], values["FEATURE_STRIDE"]
        bits, signed, most = values["regions"][region]
        chunks = int(rng.choice([1, most, rng.integers(1, most + 1)]))
        nodes = int(rng.choice([1, values["nodes"], rng.integers(1, values["nodes"] + 1)]))
        codes = draw_codes(rng, *code_range(bits, signed), (nodes, chunks * lanes))
        placement = draw_placement(rng, nodes, pes)
        banks = placement.bank.tolist()
        addresses = placement.address.tolist()
        stored = bank_words(
            codes, placement.bank, placement.address, placement.banks, lanes, stride
        )
        words = {
            (bank, word): pack(stored[bank][word].tolist(), values["FEATURE_BITS"])
            for bank, address in zip(banks, addresses, strict=True)
            for word in range(address, chunks * stride, stride)
        }
        left = [[node for node in column if node >= 0] for column in placement.nodes.T.tolist()]
        for rows in left if rng.random() < 0.3 else []:
            rng.shuffle(rows)
        busy = float(rng.choice([0.2, 0.7, 1]))
        writes = []
        ends: list[int] = []
        while any(left):
            # In most steps some PEs close a row, in some all or none.
            ends = [rows.pop(0) for rows in left if rows and rng.random() < busy]
            self.events["together"] += len(ends) > 1
            writes += [
                Write(chunk == 0, {
                    int(placement.pe[node]): (
                        int(placement.local[node]),
                        codes[node, chunk * lanes : (chunk + 1) * lanes].tolist(),
                    )
                    for node in ends
                })
                for chunk in range(chunks)
            ]  # fmt: skip
        last = [(banks[node], (chunks - 1) * stride + addresses[node]) for node in ends]
        return Tensor(writes, last, words)

    async def cycle(
        self, reads: list[Address] | None = None, write: Write | None = None, region: int = 0
    ) -> None:
        """Read from banks and write, or not, and check the data of this cycle."""
        values = self.values
        addresses = dict(reads or [])
        inputs = {
            "read_region": self.region,
            "read_re": sum(1 << bank for bank in addresses),
            "read_addr": pack(
                [
                    addresses.get(bank, draw_bits(self.rng, values["FEATURE_ADDR_BITS"]))
                    for bank in range(values["BANKS"])
                ],
                values["FEATURE_ADDR_BITS"],
            ),
            **self.write_inputs(write, region),
        }
        await self.bench.cycle(**inputs)
        held = self.held[self.region]
        words = self.bench.parts("read_data", values["LANES"] * values["FEATURE_BITS"])
        for bank, word in held.items():
            where = f"cycle {self.bench.cycles}, region {self.region}, bank {bank}"
            assert words[bank] == word, f"{where}: {words[bank]} instead of {word}"
        self.events["held"] += len(held.keys() - addresses.keys())
        for address in addresses.items():
            held[address[0]] = self.words[self.region][address]

    def write_inputs(self, write: Write | None, region: int) -> dict[str, int]:
        """Return the inputs of a step, or of none; what it does not need is junk."""
        rng, values = self.rng, self.values
        word_bits = values["LANES"] * values["OUT_BITS"]
        words = write.words if write else {}
        rows, data = [], []
        for pe in range(values["PES"]):
            row, codes = words.get(pe, (draw_bits(rng, values["ROW_BITS"]), None))
            rows.append(row)
            data.append(
                draw_bits(rng, word_bits) if codes is None else pack(codes, values["OUT_BITS"])
            )
        return {
            "write_step": int(write is not None),
            "write_first_chunk": int(write.first_chunk) if write else draw_bits(rng, 1),
            "write_region": region if words else draw_bits(rng, values["REGION_BITS"]),
            "write_valid": sum(1 << pe for pe in words),
            "write_row": pack(rows, values["ROW_BITS"]),
            "write_data": pack(data, word_bits),
        }

    async def write_tensor(self, region: int, gaps: float) -> None:
        """Write a tensor while another region is read at random, then read it back."""
        rng = self.rng
        tensor = self.draw_tensor(region)
        for write in tensor.writes:
            while rng.random() < gaps:
                await self.cycle(self.any_reads(region))
            await self.cycle(self.any_reads(region), write, region)
        self.words[region] |= tensor.words
        # What was written last, in the very next cycle; then every word, all banks on their own.
        self.region = region
        await self.cycle(tensor.last)
        left = list(self.words[region])
        rng.shuffle(left)
        while left:
            reads = {bank: (bank, word) for bank, word in left if rng.random() < 0.8}
            await self.cycle(list(reads.values()))
            left = [address for address in left if address not in reads.values()]
        await self.cycle()

    def any_reads(self, written: int) -> list[Address]:
        """Draw addresses to read, in some banks; never of the region being written."""
        known = list(self.words[self.region])
        if self.region == written or not known:
            return []
        count = int(self.rng.integers(self.values["BANKS"] + 1))
        return [known[at] for at in self.rng.integers(len(known), size=count)]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def words_follow_the_golden_layout(dut: Any) -> None:
    """Tensor after tensor, from region to region."""
    buffer = Buffer(dut)
    await buffer.bench.start(read_region=0, read_re=0, write_step=0, write_valid=0)
    regions = len(buffer.words)
    for number in range(buffer.values["draws"]):
        await buffer.write_tensor(number % regions, float(buffer.rng.choice([0, 0.3, 0.8])))
    assert buffer.events["held"], "no cycle in which data had to stay"
    many_rows = buffer.values["nodes"] > buffer.values["PES"] > 1
    assert not many_rows or buffer.events["together"], "no rows that end together"

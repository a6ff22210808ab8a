"""Bench of bank_crossbar: random requests, banks of random words; every output in every cycle."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, pack, settings

LATENCY = 3


@dataclass
class Request:
    """What the inputs of a cycle mean.

    Attributes:
        reads: Address that each bank reads; banks without a request are missing.
        sources: Bank of each PE that reads.
        conflict: Whether a bank is asked for different words.
        tag: The tag, or None where it is not valid.
        delivered: Word of each bank, once it was delivered.
    """

    reads: dict[int, int] = field(default_factory=dict)
    sources: dict[int, int] = field(default_factory=dict)
    conflict: bool = False
    tag: int | None = None
    delivered: list[int] = field(default_factory=list)


class Crossbar:
    """Plays front end and banks, and compares what the unit does."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["bank_re", "out_tag_valid", "conflict"])
        self.rng = generator()
        info = settings()
        self.pes, self.banks = info["PES"], info["BANKS"]
        self.bank_bits, self.row_bits = info["BANK_BITS"], info["OPERAND_ROW_BITS"]
        self.addr_bits, self.tag_bits = info["OPERAND_ADDR_BITS"], info["TAG_BITS"]
        self.word_bits = info["LANES"] * info["OPERAND_BITS"]
        self.in_flight: deque[Request] = deque(Request() for _ in range(LATENCY))
        self.seen: Counter[str] = Counter()
        self.routes: set[tuple[int, int]] = set()

    async def start(self) -> None:
        """Reset with idle inputs."""
        await self.bench.start(
            in_valid=0, in_bank=0, in_row=0, in_base=0, in_tag_valid=0, in_tag=0, bank_data=0
        )

    def draw(self, load: float, clash: float) -> tuple[dict[str, int], Request]:
        """Draw the inputs of a cycle.

        Args:
            load: Share of PEs that read.
            clash: Share of those that ask for a word of their own.
        """
        rng, row_limit = self.rng, 1 << self.row_bits
        spread = int(rng.integers(1, self.banks, endpoint=True))
        banks = (rng.integers(spread, size=self.pes) + rng.integers(self.banks)) % self.banks
        common = rng.integers(row_limit, size=self.banks)
        own = rng.integers(row_limit, size=self.pes)
        rows = [
            int(own[pe] if rng.random() < clash else common[bank]) for pe, bank in enumerate(banks)
        ]
        valid = [int(draw < load) for draw in rng.random(self.pes)]
        base, tag = draw_bits(rng, self.addr_bits), draw_bits(rng, self.tag_bits)
        tag_valid = draw_bits(rng, 1)
        request = Request(tag=tag if tag_valid else None)
        asked: dict[int, set[int]] = {}
        for pe in range(self.pes):
            if valid[pe]:
                request.sources[pe] = int(banks[pe])
                asked.setdefault(int(banks[pe]), set()).add(rows[pe])
        for bank, wanted in asked.items():
            joined = 0
            for row in wanted:
                joined |= row
            request.reads[bank] = (base + joined) % (1 << self.addr_bits)
            request.conflict |= len(wanted) > 1
        self.seen["conflict"] += request.conflict
        self.seen["broadcast"] += not request.conflict and len(asked) < sum(valid)
        self.routes |= set(request.sources.items())
        # With one bank its number is not looked at.
        numbers = banks if self.banks > 1 else [draw_bits(rng, self.bank_bits)]
        inputs = {
            "in_valid": pack(valid, 1), "in_bank": pack(numbers, self.bank_bits),
            "in_row": pack(rows, self.row_bits), "in_base": base, "in_tag_valid": tag_valid,
            "in_tag": tag,
        }  # fmt: skip
        return inputs, request

    async def cycle(self, load: float, clash: float, rst: int = 0) -> None:
        """Spend a cycle and compare every output in it."""
        inputs, request = self.draw(load, clash)
        last, middle, first = self.in_flight
        middle.delivered = [draw_bits(self.rng, self.word_bits) for _ in range(self.banks)]
        bank_data = pack(middle.delivered, self.word_bits)
        await self.bench.cycle(rst=rst, bank_data=bank_data, **inputs)
        self.check(first, middle, last)
        self.in_flight = deque([middle, first, request])
        if rst:
            self.in_flight = deque(Request() for _ in range(LATENCY))

    def check(self, first: Request, middle: Request, last: Request) -> None:
        """Compare outputs with the requests of one, two and three cycles ago."""
        read, where = self.bench.read, f"cycle {self.bench.cycles}"
        assert read("bank_re") == sum(1 << bank for bank in first.reads), where
        assert read("conflict") == middle.conflict, where
        assert read("out_tag_valid") == (last.tag is not None), where
        if last.tag is not None:
            assert read("out_tag") == last.tag, where
        for bank, address in first.reads.items():
            assert self.part("bank_addr", bank, self.addr_bits) == address, f"{where} bank {bank}"
        for pe, bank in last.sources.items():
            have = self.part("out_data", pe, self.word_bits)
            assert have == last.delivered[bank], f"{where} PE {pe} bank {bank}"

    def part(self, name: str, index: int, bits: int) -> int:
        """Return one part of a vector, whatever the others are."""
        value = getattr(self.bench.dut, name).value
        return int(value[(index + 1) * bits - 1 : index * bits])


@cocotb.test()
async def words_reach_the_elements(dut: Any) -> None:
    """Few and many requests, without and with conflicts, until every PE has used every bank."""
    crossbar = Crossbar(dut)
    await crossbar.start()
    for _ in range(settings()["phases"]):
        load = float(crossbar.rng.choice([0.2, 0.7, 1.0]))
        clash = float(crossbar.rng.choice([0.0, 0.1, 1.0]))
        for _ in range(25):
            await crossbar.cycle(load, clash)
    assert len(crossbar.routes) == crossbar.pes * crossbar.banks
    if crossbar.banks > 1:
        assert min(crossbar.seen[name] for name in ("conflict", "broadcast")) > 20


@cocotb.test()
async def a_reset_drops_requests(dut: Any) -> None:
    """Nothing of the requests in flight remains: no read, no conflict, no tag."""
    crossbar = Crossbar(dut)
    await crossbar.start()
    for _ in range(20):
        for _ in range(int(crossbar.rng.integers(1, 6))):
            await crossbar.cycle(0.8, 0.5)
        for _ in range(int(crossbar.rng.integers(1, 3))):
            await crossbar.cycle(0.8, 0.5, rst=1)

"""Bench of `gat_scores`: every group of every record equals the golden logits, in its cycle."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

from sgq_hw.attention_timing import GAT_LATENCY
from sgq_hw.golden.attention_unit import gat_bounds, gat_logits
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings

RECORDS = 30
MOST_EDGES = 4


@dataclass(frozen=True)
class Record:
    """Words of one edge, and the groups that follow from them.

    Attributes:
        tag: Its tag.
        words: Score inputs of each word.
        groups: Packed logits and bounds of each group.
    """

    tag: int
    words: list[dict[str, int]]
    groups: list[tuple[int, int]]


@dataclass(frozen=True)
class Cycle:
    """One cycle of a plan.

    Attributes:
        word: Inputs of the word that comes, if one does.
        leaving: Outputs of its groups, by the cycles from now.
    """

    word: Mapping[str, int] | None = None
    leaving: Mapping[int, dict[str, int]] = field(default_factory=dict)


class Scores:
    """The unit: sends records, checks the outputs in each cycle."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["out_valid"])
        self.rng = generator()
        self.values: dict[str, Any] = settings()
        values = self.values
        word_bits = values["LANES"] * values["SCORE_BITS"]
        self.widths = {
            "in_chunk": values["CHUNK_BITS"], "in_tag": values["TAG_BITS"],
            "in_source": word_bits, "in_target": word_bits, "in_bound": word_bits,
        }  # fmt: skip
        self.logit_bits = values["SCORE_BITS"] + 1 + values["SLOPE_SHIFT"]
        self.constants: dict[str, int] = {"last_group": 0, "index_shift": 0}
        self.heads = 0
        self.expected: dict[int, dict[str, int]] = {}
        self.events: Counter[str] = Counter()

    async def start(self) -> None:
        """Start the clock and reset."""
        await self.bench.start(in_valid=0, **self._junk(), **self.constants)

    def _junk(self) -> dict[str, int]:
        return {name: draw_bits(self.rng, bits) for name, bits in self.widths.items()}

    async def cycle(self, word: Mapping[str, int] | None = None, rst: int = 0) -> None:
        """Offer a word, or none, and check what leaves."""
        inputs = self._junk() if word is None else word
        await self.bench.cycle(rst=rst, in_valid=int(word is not None), **inputs, **self.constants)
        expected = self.expected.pop(self.bench.cycles, None)
        if rst:
            self.expected.clear()
            return
        where = f"cycle {self.bench.cycles}, {self.constants}"
        assert self.bench.read("out_valid") == (expected is not None), where
        if expected is not None:
            got = {name: self.bench.read(name) for name in expected}
            assert got == expected, f"{where}: {expected}, got {got}"

    def begin_pass(self) -> None:
        """Draw a number of heads, first the most, then 1, and a shift; no group is in flight."""
        assert not self.expected
        lanes, group = self.values["LANES"], self.values["HEAD_LANES"]
        most = self.values["heads"]
        draws = [most, 1, int(self.rng.integers(1, most + 1))]
        self.heads = draws[min(self.events["passes"], 2)]
        self.constants = {
            "last_group": -(-self.heads // group) - 1,
            "index_shift": int(self.rng.choice([0, 1, self.rng.integers(self.logit_bits + 1)])),
        }
        if self.rng.random() < 0.2:
            self.constants["index_shift"] = self.logit_bits
        self.events["passes"] += 1
        self.events["few heads"] += self.heads < group
        self.events["words"] += self.heads > lanes

    def records(self, count: int) -> list[Record]:
        """Draw rows of edges, the scores of all lanes, and return at least so many records."""
        rng, values = self.rng, self.values
        lanes, group, bits = values["LANES"], values["HEAD_LANES"], values["SCORE_BITS"]
        chunks = -(-self.heads // lanes)
        shape = (count, chunks * lanes)  # lanes beyond the heads have scores too
        target, source = (draw_codes(rng, *code_range(bits, True), shape) for _ in range(2))
        degrees = rng.integers(1, MOST_EDGES + 1, count)
        indptr = np.concatenate([[0], np.cumsum(degrees)])
        indices = rng.integers(0, count, indptr[-1])
        slope = {"slope_code": values["SLOPE_CODE"], "slope_shift": values["SLOPE_SHIFT"]}
        logits = gat_logits(indptr, indices, target, source, bits, **slope)
        bounds = gat_bounds(indptr, indices, target, source, "row", bits, **slope)
        bounds += 1 << self.constants["index_shift"] >> 1
        found = []
        for row in range(count):
            columns = indices[indptr[row] : indptr[row + 1]]
            largest = source[columns].max(axis=0)
            for edge, column in enumerate(columns.tolist(), int(indptr[row])):
                scores = {
                    "in_target": target[row], "in_source": source[column], "in_bound": largest
                }  # fmt: skip
                tag = draw_bits(rng, values["TAG_BITS"])
                words = [
                    {"in_chunk": chunk, "in_tag": tag} | self._word(scores, chunk)
                    for chunk in range(chunks)
                ]
                heads = [slice(first, first + group) for first in range(0, self.heads, group)]
                groups = [
                    (
                        pack(logits[edge, part], self.logit_bits),
                        pack(bounds[row, part], self.logit_bits + 1),
                    )
                    for part in heads
                ]
                found.append(Record(tag, words, groups))
        return found

    def _word(self, scores: Mapping[str, IntArray], chunk: int) -> dict[str, int]:
        lanes = self.values["LANES"]
        part = slice(chunk * lanes, (chunk + 1) * lanes)
        return {name: pack(row[part], self.values["SCORE_BITS"]) for name, row in scores.items()}

    def plan(self, records: list[Record], gaps: float, pauses: float) -> list[Cycle]:
        """Place records as early as may be, with gaps between words and pauses after records."""
        parts = self.values["LANES"] // self.values["HEAD_LANES"]
        plan: list[Cycle] = []
        for record in records:
            first, left, lost = len(plan), -1, 0
            for chunk, word in enumerate(record.words):
                while chunk and self.rng.random() < gaps:
                    lost += 1
                    plan.append(Cycle())
                # Groups of this word leave on their own time or after those before them.
                own = range(len(record.groups))[chunk * parts : (chunk + 1) * parts]
                leaving = {}
                for group in own:
                    left = max(left + 1, len(plan) + GAT_LATENCY)
                    assert left <= first + GAT_LATENCY + group + lost
                    assert lost or left == first + GAT_LATENCY + group
                    logit, bound = record.groups[group]
                    leaving[left - len(plan)] = {
                        "out_group": group, "out_tag": record.tag, "out_logit": logit,
                        "out_bound": bound,
                    }  # fmt: skip
                plan.append(Cycle(word, leaving))
            self.events["gaps"] += lost > 0
            # A record has a cycle for each group, and those of its gaps.
            idle = first + len(record.groups) + lost - len(plan)
            while self.rng.random() < pauses:
                idle += 1
            plan += [Cycle()] * idle
        return plan

    async def run(self, plan: Sequence[Cycle]) -> None:
        """Spend the cycles of a plan."""
        for each in plan:
            now = self.bench.cycles + 1
            self.expected |= {now + delay: outputs for delay, outputs in each.leaving.items()}
            await self.cycle(each.word)

    async def drain(self) -> None:
        """Wait until all groups have left."""
        while self.expected:
            await self.cycle()
        for _ in range(GAT_LATENCY + 1):
            await self.cycle()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def records_back_to_back(dut: Any) -> None:
    """Passes with different numbers of heads, every record as early as may be."""
    unit = Scores(dut)
    await unit.start()
    for _ in range(unit.values["passes"]):
        unit.begin_pass()
        await unit.run(unit.plan(unit.records(RECORDS), gaps=0.0, pauses=0.0))
        await unit.drain()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def gaps(dut: Any) -> None:
    """Gaps between words and pauses between records, few and many."""
    unit = Scores(dut)
    await unit.start()
    for number in range(unit.values["passes"]):
        unit.begin_pass()
        often = (0.1, 0.5, 0.8)[number % 3]
        await unit.run(unit.plan(unit.records(RECORDS), gaps=often, pauses=often / 3))
        await unit.drain()
    seen = {name for name, count in unit.events.items() if count}
    assert seen >= set(unit.values["events"]), unit.events


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def resets(dut: Any) -> None:
    """Nothing of before a reset leaves: resets at any place in a record, and twice on end."""
    unit = Scores(dut)
    await unit.start()
    for _ in range(20):
        unit.begin_pass()
        plan = unit.plan(unit.records(3), gaps=0.3, pauses=0.1)
        await unit.run(plan[: int(unit.rng.integers(len(plan) + 1))])
        for _ in range(int(unit.rng.integers(1, 3))):
            await unit.cycle(rst=1)
        for _ in range(int(unit.rng.integers(2))):
            await unit.cycle()
        await unit.run(unit.plan(unit.records(2), gaps=0.0, pauses=0.0))
        await unit.drain()

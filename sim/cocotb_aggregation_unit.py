"""Bench of `aggregation_unit`: every address and step of a pass, in its very cycle.

What is expected follows from the rows of a graph alone, and adds up to the golden function's sums.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.schedule import Placement
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings
from sgq_hw.sim.rows import (
    Issue,
    Matrix,
    ReadPort,
    Step,
    accumulate,
    bank_words,
    check_issue,
    draw_matrix,
    draw_pauses,
    draw_placement,
    issues,
    loosened,
    record_word,
    scheduled,
)

FETCH_CYCLES = 1
"""Cycles of a pass before the first step can be issued: its word is being read."""


@dataclass(frozen=True)
class Pass:
    """A drawn pass: settings on the ports, what it issues, words of the edge memory."""

    ports: dict[str, int]
    issues: list[Issue]
    memory: list[int]
    holds: Iterator[bool]


class FrontEnd:
    """The unit: draws passes and runs them, with a model of each cycle."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        self.rng = generator()
        self.bench = Bench(dut)
        self.events: Counter[str] = Counter()

    def draw_pass(self) -> Pass:
        """Draw a graph and settings."""
        rng, values = self.rng, self.values
        most, bubbles = values["nodes"], values["has_bubbles"]
        nodes = int(rng.choice([1, most, rng.integers(1, most + 1)]))
        chunks = int(rng.choice([1, values["CHUNKS"], rng.integers(1, values["CHUNKS"] + 1)]))
        codes = (0, (1 << values["EDGE_BITS"]) - 1) if values["EDGE_BITS"] else (1, 1)
        matrix = draw_matrix(rng, nodes, nodes, codes, empty=bubbles)
        placement = draw_placement(rng, nodes, values["PES"])
        steps = scheduled(matrix, placement, placement.bank, placement.address)
        if bubbles:
            steps = loosened(rng, steps)
        bases = [chunk * values["FEATURE_STRIDE"] for chunk in range(chunks)]
        self.check_against_golden(matrix, steps, placement, bases)
        ports = {"num_words": len(steps), "last_chunk": chunks - 1}
        score_chunks = 0
        if values["has_gat"]:
            most = values["SCORE_CHUNKS"]
            score_chunks = int(rng.choice([1, most, rng.integers(1, most + 1)]))
            if self.events["scores"] and rng.random() < 0.5:
                score_chunks = 0
            ports["has_scores"] = int(score_chunks > 0)
            ports["last_score_chunk"] = (
                score_chunks - 1 if score_chunks else draw_bits(rng, values["CHUNK_BITS"])
            )
            self.events["scores"] += score_chunks > 0
            self.events["no scores"] += not score_chunks
        score_bases = [chunk * values["FEATURE_STRIDE"] for chunk in range(score_chunks)]
        issued = issues(steps, bases, score_bases)
        memory = [
            pack(
                [record_word(rng, values["record"], record) for record in step],
                values["RECORD_BITS"],
            )
            for step in steps
        ]
        return Pass(ports, issued, memory, draw_pauses(rng, len(issued))[0])

    def check_against_golden(
        self, matrix: Matrix, steps: Sequence[Step], placement: Placement, bases: Sequence[int]
    ) -> None:
        """Prove the expectation: with any features, it adds up to what the golden function says."""
        features = draw_codes(self.rng, -128, 127, (placement.num_nodes, len(bases)))
        words = bank_words(
            features, placement.bank, placement.address, placement.banks, 1,
            self.values["FEATURE_STRIDE"],
        )  # fmt: skip
        golden = aggregation_unit(
            matrix.indptr, matrix.indices, matrix.values if self.values["EDGE_BITS"] else None,
            features,
        )  # fmt: skip
        sums = accumulate(steps, placement, [word[:, 0] for word in words], bases)
        assert np.array_equal(sums, golden)

    async def run_pass(self, drawn: Pass, abort_at: int = -1) -> None:
        """Run a pass to its end, or until it becomes inactive in its cycle `abort_at`."""
        if self.values["streamed"]:
            await self.run_streamed(drawn, abort_at)
        else:
            await self.run_fetched(drawn, abort_at)

    async def run_streamed(self, drawn: Pass, abort_at: int) -> None:
        """Run a pass over words of the input stream, which pauses at times."""
        rng, read = self.rng, self.bench.read
        word_bits = self.values["PES"] * self.values["RECORD_BITS"]
        pause = float(rng.choice([0.0, 0.3, 0.8]))
        tail = int(rng.integers(2, 6))
        position = taken_words = number = 0
        await self.idle(start=1, **drawn.ports)
        while tail:
            done = position == len(drawn.issues)
            tail -= done
            hold, offered = next(drawn.holds), bool(rng.random() >= pause)
            goes_on = self.goes_on(drawn, position)
            offered, stop = offered or goes_on, hold and not goes_on
            issue = offered and not stop and not done
            issued = drawn.issues[position] if issue else None
            active = number != abort_at
            word = drawn.memory[taken_words] if offered and not done else draw_bits(rng, word_bits)
            await self.bench.cycle(
                start=0, active=int(active), hold=int(hold), word_valid=int(offered),
                edge_data=word,
            )  # fmt: skip
            if not active:
                self.check_idle()
                return
            check_issue(self.bench, self.values, issued)
            taken = issued is not None and issued.last_chunk
            assert read("word_ready") == taken, f"cycle {self.bench.cycles}, {issued}"
            assert read("starved") == (not offered and not stop and not done)
            taken_words += taken
            self.events["held"] += hold and not done
            position += issue
            number += 1
        assert taken_words == len(drawn.memory)

    async def run_fetched(self, drawn: Pass, abort_at: int) -> None:
        """Run a pass over words of the edge memory."""
        rng, read = self.rng, self.bench.read
        word_bits = self.values["PES"] * self.values["RECORD_BITS"]
        port = ReadPort(drawn.memory, draw_bits(rng, word_bits))
        tail = int(rng.integers(2, 6))
        position = fetched = number = 0
        await self.idle(start=1, **drawn.ports)
        while tail:
            done = position == len(drawn.issues)
            tail -= done
            hold = next(drawn.holds)
            stop = hold and not self.goes_on(drawn, position)
            issue = number >= FETCH_CYCLES and not stop and not done
            issued = drawn.issues[position] if issue else None
            active = number != abort_at
            await self.bench.cycle(start=0, active=int(active), hold=int(hold), edge_data=port.data)
            if not active:
                self.check_idle()
                return
            check_issue(self.bench, self.values, issued)
            where = f"cycle {self.bench.cycles}, {issued}, {drawn.ports}"
            taken = issued is not None and issued.last_chunk
            fetch = (number == 0 or taken) and fetched < len(drawn.memory)
            assert read("edge_re") == fetch, where
            if fetch:
                assert read("edge_addr") == fetched, where
                port.read(fetched)
                fetched += 1
            self.events["held"] += number >= FETCH_CYCLES and hold and not done
            position += issue
            number += 1
        assert fetched == len(drawn.memory)

    def goes_on(self, drawn: Pass, position: int) -> bool:
        """Whether the next step does not wait: another word of a record that has begun."""
        begun = position < len(drawn.issues) and drawn.issues[position].chunk > 0
        return begun and self.values["whole_records"]

    def check_idle(self) -> None:
        """Check that nothing is issued or fetched."""
        check_issue(self.bench, self.values, None)
        for name in ("word_ready", "starved") if self.values["streamed"] else ("edge_re",):
            assert not self.bench.read(name), name

    async def idle(self, start: int = 0, **ports: int) -> None:
        """Spend a cycle outside of a pass."""
        if self.values["streamed"]:
            ports["word_valid"] = draw_bits(self.rng, 1)
        await self.bench.cycle(start=start, active=0, hold=draw_bits(self.rng, 1), **ports)
        self.check_idle()

    async def started(self) -> None:
        """Begin with an inactive unit."""
        more = {"word_valid": 0} if self.values["streamed"] else {}
        if self.values["has_gat"]:
            more |= {"has_scores": 0, "last_score_chunk": 0}
        await self.bench.start(start=0, active=0, hold=0, num_words=1, last_chunk=0, **more)
        self.check_idle()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def passes_issue_the_exact_steps(dut: Any) -> None:
    """Passes over one graph after the other, with stalls."""
    unit = FrontEnd(dut)
    await unit.started()
    for _ in range(unit.values["draws"]):
        await unit.run_pass(unit.draw_pass())
        for _ in range(int(unit.rng.integers(3))):
            await unit.idle()
    # Stalls that never happened would prove nothing.
    wanted = ["held", *(["scores", "no scores"] if unit.values["has_gat"] else [])]
    assert all(unit.events[name] for name in wanted), unit.events


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_pass_can_be_aborted(dut: Any) -> None:
    """A pass becomes inactive at any place; the next one is clean."""
    unit = FrontEnd(dut)
    await unit.started()
    for _ in range(unit.values["draws"]):
        drawn = unit.draw_pass()
        await unit.run_pass(drawn, int(unit.rng.integers(len(drawn.issues) + 2)))
        await unit.run_pass(unit.draw_pass())

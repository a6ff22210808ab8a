"""Bench of `combination_unit`: every address and step of a pass, in its very cycle.

A pass takes words of the stream, scheduled or of complete rows, or walks rows of the feature
buffer. What is expected follows from the rows alone, and adds up to the golden function's sums.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from scipy import sparse

from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.fixed_point import IntArray, code_range
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
    lockstep,
    loosened,
    record_word,
    scheduled,
)

BOUND = 1 << 61


@dataclass(frozen=True)
class Walk:
    """What a pass reads from the feature buffer.

    Attributes:
        words: Parity of the banks and address, in order.
        ends: For each cycle of the pass, whether the word has been walked with it.
        memories: Words of each bank.
    """

    words: list[tuple[int, int]]
    ends: list[bool]
    memories: list[list[int]]


@dataclass(frozen=True)
class Pass:
    """A drawn pass.

    Attributes:
        ports: Settings.
        issues: What it issues, cycle by cycle.
        words: Of the stream, one a step.
        final: Which of them is marked as the last one.
        walk: What is read instead of them, if from the buffer.
        gaps, holds: When the stream pauses, and when the unit is held.
    """

    ports: dict[str, int]
    issues: list[Issue]
    words: list[int]
    final: int
    walk: Walk | None
    gaps: Iterator[bool]
    holds: Iterator[bool]


class FrontEnd:
    """The unit: draws passes and runs them, with a model of each cycle."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        self.rng = generator()
        self.bench = Bench(dut)
        self.sparse = bool(self.values["sparse"])
        self.walks = bool(self.values["walk_inputs"])
        self.events: Counter[str] = Counter()

    def draw_pass(self, from_buffer: bool) -> Pass:
        """Draw rows, weights and settings of a pass."""
        rng, values = self.rng, self.values
        lanes, banks = values["LANES"], values["BANKS"]
        widest = values["walk_inputs" if from_buffer else "stream_inputs"]
        shapes = [1, lanes, lanes + 1, banks, widest, int(rng.integers(1, widest + 1))]
        inputs = int(rng.choice([shape for shape in shapes if shape <= widest]))
        most = values["nodes"]
        nodes = int(rng.choice([1, most, rng.integers(1, most + 1)]))
        placement = draw_placement(rng, nodes, values["PES"])
        ports, bases = self.draw_weights(-(-inputs // banks))
        columns = np.arange(inputs)
        bank, address = columns % banks, columns // banks
        walk = None
        if self.sparse and not from_buffer:
            matrix = draw_matrix(rng, nodes, inputs, tuple(values["x_range"]), empty=True)
            steps = loosened(rng, scheduled(matrix, placement, bank, address))
        else:
            bits = min(values["VALUE_BITS"], values["FEATURE_BITS"])
            low, high = code_range(bits, True) if from_buffer else values["x_range"]
            codes = draw_codes(rng, low, high, (nodes, inputs))
            matrix = Matrix.make([list(enumerate(row)) for row in codes.tolist()])
            steps = lockstep(codes, placement)
        issued = issues(steps, bases)
        weights = draw_codes(rng, -128, 127, (inputs, len(bases)))
        self.check_against_golden(matrix, steps, placement, weights)
        if from_buffer:
            walk = self.draw_walk(codes, placement, len(bases))
        if self.walks or not self.sparse:
            ports |= {"num_nodes": nodes, "last_input": inputs - 1}
        if self.walks:
            ports["from_buffer"] = int(from_buffer)
        final = len(steps) - 1
        if not self.sparse and not from_buffer and rng.random() < 0.5:
            # One word too few, any number too few, or more than there should be.
            wrong = np.array([max(0, final - 1), rng.integers(final + 1), final + 1])
            final = int(rng.choice(wrong))
        words = [] if from_buffer else [self.word(step) for step in steps]
        return Pass(ports, issued, words, final, walk, *draw_pauses(rng, len(issued)))

    def draw_weights(self, rows: int) -> tuple[dict[str, int], list[int]]:
        """Draw where the weights of so many rows a bank lie: settings, first word of each chunk."""
        rng, values = self.rng, self.values
        room = 1 << values["WEIGHT_ADDR_BITS"]
        chunks = min(int(rng.integers(1, values["CHUNKS"] + 1)), room // rows)
        stride = int(rng.choice([rows, rng.integers(rows, room // chunks + 1)]))
        # With one chunk the stride does not matter, nor need it fit.
        stride %= room
        free = room - (chunks - 1) * stride - rows
        base = int(rng.choice([0, free, rng.integers(free + 1)]))
        ports = {"weight_base": base, "weight_stride": stride, "last_chunk": chunks - 1}
        return ports, [base + chunk * stride for chunk in range(chunks)]

    def draw_walk(self, codes: IntArray, placement: Placement, chunks: int) -> Walk:
        """Lay the walked rows out in the feature buffer; where there is none lies junk."""
        values = self.values
        lanes, stride, bits = values["LANES"], values["FEATURE_STRIDE"], values["FEATURE_BITS"]
        slots, inputs = values["SLOTS"], codes.shape[1]
        memories = []
        stored = bank_words(
            codes, placement.bank, placement.address, placement.banks, lanes, stride
        )
        for bank, words in enumerate(stored):
            there = set(placement.address[placement.bank == bank].tolist())
            memories.append([
                pack(word, bits) if at % stride in there else draw_bits(self.rng, lanes * bits)
                for at, word in enumerate(words.tolist())
            ])  # fmt: skip
        ends = [
            chunk == chunks - 1 and (channel == inputs - 1 or channel % lanes == lanes - 1)
            for _ in range(placement.rows)
            for channel in range(inputs)
            for chunk in range(chunks)
        ]
        fetched = [
            (row % slots, word * stride + row // slots)
            for row in range(placement.rows)
            for word in range(-(-inputs // lanes))
        ]
        return Walk(fetched, ends, memories)

    def check_against_golden(
        self, matrix: Matrix, steps: Sequence[Step], placement: Placement, weights: IntArray
    ) -> None:
        """Prove the expectation: with any weights, it adds up to what the golden function says."""
        inputs, chunks = weights.shape
        columns = np.arange(inputs)
        banks = placement.banks
        stride = -(-inputs // banks)
        words = bank_words(weights, columns % banks, columns // banks, banks, 1, stride)
        bases = [chunk * stride for chunk in range(chunks)]
        walked = sparse.csr_array(
            (matrix.values, matrix.indices, matrix.indptr), shape=(placement.num_nodes, inputs)
        )
        golden = combination_unit(walked, weights, BOUND)
        sums = accumulate(steps, placement, [word[:, 0] for word in words], bases)
        assert np.array_equal(sums, golden)

    def word(self, step: Step) -> int:
        """Return the word of the stream that brings a step."""
        rng, bits = self.rng, self.values["INPUT_RECORD_BITS"]
        if self.sparse:
            return pack([record_word(rng, self.values["record"], record) for record in step], bits)
        return pack([record.value if record.mac else draw_bits(rng, bits) for record in step], bits)

    def junk(self) -> dict[str, int]:
        """Draw a word that nobody means."""
        bits = self.values["PES"] * self.values["INPUT_RECORD_BITS"]
        return {"word_data": draw_bits(self.rng, bits), "word_final": draw_bits(self.rng, 1)}

    async def run_pass(self, drawn: Pass, abort_at: int = -1) -> None:
        """Run a pass to its end, or until it becomes inactive in its cycle `abort_at`.

        A payload of the wrong length ends its pass where it is found out.
        """
        rng, read = self.rng, self.bench.read
        walk, planned = drawn.walk, drawn.issues
        chunks = drawn.ports["last_chunk"] + 1
        stream = Stream(drawn, self.junk)
        banks = BufferBanks(walk, self.values, rng) if walk else None
        tail = int(rng.integers(2, 6))
        position = number = 0
        await self.idle(start=1, **drawn.ports)
        while tail:
            done = position == len(planned)
            tail -= done
            hold = next(drawn.holds)
            # What comes in a walk and after the last word belongs to others.
            offered = stream.offer(position // chunks, others=done or walk is not None)
            source = number > 0 if walk else offered
            issued = planned[position] if source and not hold and not done else None
            active = number != abort_at
            await self.bench.cycle(
                start=0, active=int(active), hold=int(hold), word_valid=int(offered),
                **stream.inputs, **(banks.inputs() if banks else self.foreign_features()),
            )  # fmt: skip
            if not active:
                self.check_idle()
                return
            where = f"cycle {self.bench.cycles}, {drawn.ports}"
            word = position // chunks
            if issued and not walk:
                ends = word == drawn.final and issued.last_chunk
                issued = Issue(issued.step, issued.chunk, issued.last_chunk, ends, issued.base)
            check_issue(self.bench, self.values, issued)
            taken = issued is not None and issued.last_chunk
            assert read("word_ready") == (taken and not walk), where
            bad = False
            if not walk:
                starved = not offered and not hold and not done
                assert read("starved") == starved, where
                self.events["starved"] += starved
                bad = taken and (word == drawn.final) != (position == len(planned) - 1)
            if not self.sparse:
                assert read("bad_count") == bad, where
                self.events["bad"] += bad
            if bad:
                return
            if walk and banks:
                fetch = number == 0 or (issued is not None and walk.ends[position])
                banks.check(self.bench, fetch, where)
            elif self.walks:
                assert not read("walk_re"), where
            if taken and not walk:
                stream.taken()
            self.events["held"] += source and hold
            position += issued is not None
            number += 1
        assert banks is None or banks.complete

    def foreign_features(self) -> dict[str, int]:
        """Draw what the buffer's registers hold while nobody walks them."""
        values = self.values
        bits = values["BANKS"] * values["LANES"] * values["FEATURE_BITS"]
        return {"feature_data": draw_bits(self.rng, bits)} if self.walks else {}

    def check_idle(self) -> None:
        """Check that nothing is issued, fetched or taken."""
        check_issue(self.bench, self.values, None)
        optional = ["walk_re"] * self.walks + ["bad_count"] * (not self.sparse)
        for name in ["word_ready", "starved", *optional]:
            assert not self.bench.read(name), name

    async def idle(self, start: int = 0, **ports: int) -> None:
        """Spend a cycle outside of a pass, with whatever waits at the stream."""
        await self.bench.cycle(
            start=start, active=0, hold=draw_bits(self.rng, 1), word_valid=draw_bits(self.rng, 1),
            **self.junk(), **self.foreign_features(), **ports,
        )  # fmt: skip
        self.check_idle()

    async def started(self) -> None:
        """Begin with an inactive unit."""
        ports = {"num_nodes": 1, "last_input": 0} if self.walks or not self.sparse else {}
        await self.bench.start(
            start=0, active=0, hold=0, word_valid=0, weight_base=0, weight_stride=0, last_chunk=0,
            **self.junk(), **ports, **({"from_buffer": 0} if self.walks else {}),
        )  # fmt: skip
        self.check_idle()


class Stream:
    """The source of words: a word that is offered stays until it is taken."""

    def __init__(self, drawn: Pass, junk: Any) -> None:
        self.drawn, self.junk = drawn, junk
        self.offered = False
        self.inputs: dict[str, int] = junk()

    def offer(self, number: int, others: bool) -> bool:
        """Offer word `number`, or one of another inference; return whether one is there."""
        if not self.offered:
            self.offered = not next(self.drawn.gaps)
            self.inputs = self.junk()
            if self.offered and not others:
                final = int(number == self.drawn.final)
                self.inputs = {"word_data": self.drawn.words[number], "word_final": final}
        return self.offered

    def taken(self) -> None:
        """End a cycle in which the word was taken."""
        self.offered = False


class BufferBanks:
    """The reading side of the feature buffer: half of its banks answer at once."""

    def __init__(self, walk: Walk, values: dict[str, Any], rng: np.random.Generator) -> None:
        self.walk = walk
        self.slots: int = values["SLOTS"]
        self.word_bits: int = values["LANES"] * values["FEATURE_BITS"]
        self.ports = [ReadPort(words, draw_bits(rng, self.word_bits)) for words in walk.memories]
        self.fetched = 0

    @property
    def complete(self) -> bool:
        """Whether all words were fetched."""
        return self.fetched == len(self.walk.words)

    def inputs(self) -> dict[str, int]:
        """Return what the output registers hold."""
        return {"feature_data": pack([port.data for port in self.ports], self.word_bits)}

    def check(self, bench: Bench, fetch: bool, where: str) -> None:
        """Check that the next word is fetched if one is due; fetch it."""
        fetch = fetch and not self.complete
        assert bench.read("walk_re") == fetch, where
        if not fetch:
            return
        parity, address = self.walk.words[self.fetched]
        assert bench.read("walk_addr") == address, where
        if self.slots > 1:
            assert bench.read("walk_parity") == parity, where
        for port in self.ports[parity :: self.slots]:
            port.read(address)
        self.fetched += 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def passes_issue_the_exact_steps(dut: Any) -> None:
    """Passes of both kinds follow each other, with stalls on both sides."""
    unit = FrontEnd(dut)
    await unit.started()
    for number in range(unit.values["draws"]):
        await unit.run_pass(unit.draw_pass(from_buffer=unit.walks and number % 2 == 1))
        for _ in range(int(unit.rng.integers(3))):
            await unit.idle()
    # Stalls and faults that never happened would prove nothing.
    assert unit.events["starved"], unit.events
    assert unit.events["held"], unit.events
    assert unit.sparse or unit.events["bad"], unit.events


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_pass_can_be_aborted(dut: Any) -> None:
    """A pass becomes inactive at any place; the next one is clean, whatever its kind."""
    unit = FrontEnd(dut)
    await unit.started()
    for number in range(unit.values["draws"]):
        drawn = unit.draw_pass(from_buffer=unit.walks and number % 3 > 0)
        await unit.run_pass(drawn, int(unit.rng.integers(len(drawn.issues) + 2)))
        await unit.run_pass(unit.draw_pass(from_buffer=unit.walks and number % 2 > 0))

"""Bench of output_buffer: rows come in as the schedule ends them and leave in the user's order.

It runs on the unit alone, where the bench draws `hold`, and on the unit joined to the real
output_stream (setting `joined`), where the queue raises `hold` and the beats are compared as well.
"""

import itertools
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings
from sgq_hw.sim.cocotb_output_stream import beats_of
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import PATTERNS, StreamSink, axi_stream, pause_pattern

WORD_LATENCY = 4
"""Cycles from a claim to its word."""
FREE_LATENCY = 3
"""Cycles from the last claim to `free`."""
KNOWN = ("free", "order_re", "claim", "word_valid")


@dataclass(frozen=True)
class Word:
    """A word that has to leave.

    Attributes:
        node: Its node.
        codes: Its channels.
        last_chunk, last: Whether it ends the row, the inference.
    """

    node: int
    codes: list[int]
    last_chunk: int
    last: int


@dataclass(frozen=True)
class Inference:
    """What one inference delivers.

    Attributes:
        places: (row, processing element) of each node.
        rows: Codes [chunks][lanes] of each place; lanes without a channel are 0.
    """

    places: list[tuple[int, int]]
    rows: dict[tuple[int, int], list[list[int]]]


class World:
    """Plays the epilogue, order_memory and the output stream, and follows the unit cycle by cycle.

    Attributes:
        events: What happened, for benches that want to have seen it.
    """

    def __init__(self, dut: Any) -> None:
        self.info = settings()
        self.rng = generator()
        self.joined: bool = self.info["joined"]
        self.bench = Bench(dut, known=[*KNOWN, *(["hold"] if self.joined else [])])
        self.pause: Iterator[bool] = itertools.repeat(False)
        self.events: Counter[str] = Counter()
        self.board = Scoreboard()
        self.beats = 0
        if self.joined:
            self.sink = StreamSink(axi_stream(dut, "m_axis"), on_word=self.board.observe)
        self.forget()

    def forget(self) -> None:
        """Take the state after a reset."""
        self.free = 1
        self.places: list[tuple[int, int]] = []
        self.todo: deque[Word] = deque()
        self.claimed: Word | None = None
        self.flying: deque[Word | None] = deque([None] * WORD_LATENCY)
        self.order_data: int | None = None

    async def start(self) -> None:
        """Reset with idle inputs."""
        hold = {} if self.joined else {"hold": 0}
        await self.bench.start(complete=0, in_valid=0, **hold)

    def receive(self, pattern: str) -> None:
        """Let the receiver pause in a pattern: hold where the unit is alone, else the stream."""
        if self.joined:
            self.sink.pause = pause_pattern(pattern)
        else:
            self.pause = pause_pattern(pattern)

    def draw(self, nodes: int) -> Inference:
        """Draw the rows of an inference and where each node lies."""
        info, rng = self.info, self.rng
        places = [divmod(int(index), info["PES"]) for index in rng.permutation(nodes)]
        half = 1 << info["CODE_BITS"] - 1
        low, high = (-half, half - 1) if info["signed"] else (0, 2 * half - 1)
        rows = {}
        for place in places:
            row = draw_codes(rng, low, high, (info["chunks"], info["LANES"]))
            row[-1, info["last_lanes"] :] = 0
            rows[place] = row.tolist()
        return Inference(places, rows)

    def expected(self, inference: Inference) -> list[Word]:
        """Return the words of an inference in the order in which they have to leave."""
        last_chunk = self.info["chunks"] - 1
        last_node = len(inference.places) - 1
        return [
            Word(node, codes, int(chunk == last_chunk),
                 int(chunk == last_chunk and node == last_node))
            for node, place in enumerate(inference.places)
            for chunk, codes in enumerate(inference.rows[place])
        ]  # fmt: skip

    async def cycle(
        self, writes: dict[int, tuple[int, list[int]]], first_chunk: int,
        complete: Inference | None = None,
    ) -> None:  # fmt: skip
        """Spend a cycle and compare every output; `writes` has (row, codes) of PEs that deliver."""
        info, bench, rng = self.info, self.bench, self.rng
        row_bits, width = info["ROW_BITS"], info["LANES"] * info["OUT_BITS"]
        row = draw_bits(rng, info["PES"] * row_bits)
        data = draw_bits(rng, info["PES"] * width)
        for pe, (number, codes) in writes.items():
            row = row & ~(((1 << row_bits) - 1) << pe * row_bits) | number << pe * row_bits
            word = pack(codes, info["OUT_BITS"])
            data = data & ~(((1 << width) - 1) << pe * width) | word << pe * width
        # Nobody may rely on the node count but in the cycle of `complete`, nor on a place but in
        # the cycle after it was asked for.
        junk = draw_bits(rng, info["NODE_BITS"])
        place = self.order_data
        inputs = {
            "in_valid": sum(1 << pe for pe in writes),
            "in_row": row,
            "in_data": data,
            "in_first_chunk": first_chunk if writes else draw_bits(rng, 1),
            "complete": int(complete is not None),
            "num_nodes": junk if complete is None else len(complete.places),
            "order_data": draw_bits(rng, info["PLACE_BITS"]) if place is None else place,
        }
        if not self.joined:
            inputs["hold"] = int(next(self.pause))
        await bench.cycle(**inputs)
        hold = bench.read("hold")
        self.compare()
        self.events.update(held=hold and bool(self.todo), words=self.flying[0] is not None)
        self.advance(hold)
        if complete is not None:
            self.free = 0
            self.places = complete.places
            self.todo.extend(self.expected(complete))
            if self.joined:
                self.expect_beats()

    def expect_beats(self) -> None:
        """Tell the scoreboard the beats of the words that have to leave."""
        for word in self.todo:
            used = self.info["last_lanes"] if word.last_chunk else self.info["LANES"]
            for beat in beats_of(word.codes[:used], bool(word.last), self.info):
                self.board.expect(beat, f"node {word.node}")
                self.beats += 1

    def compare(self) -> None:
        """Compare every output of this cycle with what was to be."""
        bench, claimed, word = self.bench, self.claimed, self.flying[0]
        expected = {
            "free": self.free,
            "claim": int(claimed is not None),
            "order_re": int(claimed is not None),
            "word_valid": int(word is not None),
        }
        if claimed is not None:
            expected["order_addr"] = claimed.node
        if word is not None:
            expected |= {
                "word_last_chunk": word.last_chunk,
                "word_last": word.last,
                "word_data": pack(word.codes, self.info["OUT_BITS"]),
            }
        have = {name: bench.read(name) for name in expected}
        assert have == expected, f"cycle {bench.cycles}: {have}, not {expected}"

    def advance(self, hold: int) -> None:
        """Follow the unit to the next cycle."""
        claimed = self.claimed
        self.flying.popleft()
        self.flying.append(claimed)
        self.order_data = None
        if claimed is not None:
            row, pe = self.places[claimed.node]
            self.order_data = row * self.info["PES"] + pe
        read = self.flying[-FREE_LATENCY]
        if read is not None and read.last:
            self.free = 1
        self.claimed = self.todo.popleft() if self.todo and not hold else None

    async def idle(self, cycles: int = 1) -> None:
        """Spend cycles in which nothing comes."""
        for _ in range(cycles):
            await self.cycle({}, 0)

    async def deliver(self, inference: Inference, rate: float, complete: bool = True) -> None:
        """Bring all rows, each processing element its own in order, then complete.

        Args:
            inference: What to bring.
            rate: Probability that a processing element ends a row in a step, that a step follows
                at once, and that a chunk follows at once.
            complete: Otherwise leave out the last step and `complete`.
        """
        info, rng = self.info, self.rng
        left = [deque[int]() for _ in range(info["PES"])]
        for row, pe in sorted(inference.places):
            left[pe].append(row)
        while any(left):
            ending = {pe: rows.popleft() for pe, rows in enumerate(left)
                      if rows and rng.random() < rate}  # fmt: skip
            final = bool(ending) and not any(left)
            if final and not complete:
                return
            self.events["together"] += len(ending) > 1
            # `complete` comes with the last word or some cycles later.
            at_once = final and rng.random() < 0.5
            for chunk in range(info["chunks"] if ending else 0):
                while rng.random() > rate:
                    await self.idle()
                writes = {pe: (row, inference.rows[row, pe][chunk]) for pe, row in ending.items()}
                now = inference if at_once and chunk == info["chunks"] - 1 else None
                await self.cycle(writes, int(chunk == 0), now)
            if final and not at_once:
                await self.idle(int(rng.integers(0, 4)))
                await self.cycle({}, 0, inference)
            if not ending:
                await self.idle()

    async def until_free(self) -> None:
        """Wait until the next rows may come."""
        patience = self.bench.cycles + 8000
        while not self.free:
            await self.idle()
            assert self.bench.cycles < patience

    async def finish(self) -> None:
        """Let everything out and see that nothing follows."""
        await self.until_free()
        if self.joined:
            patience = self.bench.cycles + 8000
            while self.board.compared < self.beats:
                await self.idle()
                assert self.bench.cycles < patience
        await self.idle(10)
        if self.joined:
            self.board.finish()


@cocotb.test()
@cocotb.parametrize(rate=[0.4, 1.0])
async def rows_leave_in_the_users_order(dut: Any, rate: float) -> None:
    """Inferences of every size against each pattern of the receiver, with no cycle in between."""
    world = World(dut)
    await world.start()
    capacity = world.info["nodes"]
    for pattern in PATTERNS:
        world.receive(pattern)
        some = int(world.rng.integers(1, capacity, endpoint=True))
        for nodes in (capacity, 1, some):
            await world.until_free()
            await world.deliver(world.draw(nodes), rate)
    world.receive("p10")
    await world.finish()
    assert world.events["held"] > 20 or world.joined
    assert world.events["together"] > 10 or capacity < 4 or world.info["PES"] == 1


@cocotb.test()
async def a_word_a_cycle(dut: Any) -> None:
    """Unless it is held, the unit sends a word in every cycle; the latencies are the header's."""
    world = World(dut)
    await world.start()
    info = world.info
    for nodes in (1, info["nodes"]):
        await world.deliver(world.draw(nodes), 1.0)
        words = nodes * info["chunks"]
        # After the cycle of `complete`: one to start, the claims, then until free.
        expected = 1 + words + FREE_LATENCY
        before = world.bench.cycles
        await world.until_free()
        if not world.joined or info["OUT_BEATS"] == 1:
            assert world.bench.cycles - before == expected - 1
    await world.finish()


@cocotb.test()
async def a_queue_that_fills_up_holds_it(dut: Any) -> None:
    """Nobody receives for a long time, then all words come, none lost, none twice."""
    world = World(dut)
    await world.start()
    for pattern in ("one_shot", "sparse", "bursts"):
        for _ in range(3):
            world.receive(pattern)
            await world.until_free()
            await world.deliver(world.draw(world.info["nodes"]), 1.0)
            await world.idle(80)
    world.receive("p10")
    await world.finish()
    assert world.events["held"] > 20


@cocotb.test()
async def a_reset_forgets_all_rows(dut: Any) -> None:
    """Reset while rows come in or leave: free at once, and the next inference is untouched."""
    world = World(dut)
    await world.start()
    rng, capacity = world.rng, world.info["nodes"]
    for when in (None, 0, 1, 2, 3, 4, 5, 7, 11, 20, 33):
        world.receive("p10")
        await world.deliver(world.draw(capacity), 0.7, complete=when is not None)
        if when is not None:
            await world.idle(when)
        await world.bench.reset(int(rng.integers(1, 3)), complete=0, in_valid=0)
        world.forget()
        world.board.clear()
        world.beats = 0
        # The reset ends with one cycle of its own, without inputs.
        world.compare()
        await world.deliver(world.draw(int(rng.integers(1, capacity, endpoint=True))), 0.7)
        await world.finish()

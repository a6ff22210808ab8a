"""Bench of output_stream: claimed words come out as beats, and the queue never overflows."""

import itertools
from collections import deque
from typing import Any

import cocotb
from cocotb.utils import get_sim_time

from sgq_hw.sim.bench import PERIOD_NS, Bench, draw_bits, draw_codes, generator, pack, settings
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import PATTERNS, StreamSink, axi_stream, pause_pattern

LATENCY = 3
PIPELINE = 12
"""Cycles from a claim to its word in the accelerator, at most."""


def beats_of(codes: list[int], final: bool, info: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the beats of one row's word: its channels side by side, cut from the low end."""
    bits = info["STREAM_BITS"]
    word = pack(codes, info["CODE_BITS"])
    count = -(-len(codes) * info["CODE_BITS"] // bits)
    data = [word >> at * bits & (1 << bits) - 1 for at in range(count)]
    return [(part, int(final and at == count - 1)) for at, part in enumerate(data)]


class Epilogue:
    """Plays front end and epilogue: claims while it is not held, words some cycles later.

    Attributes:
        claims: Claims so far.
        held: Cycles in which it wanted to issue and was held.
        beats: Beats of the words so far, and of what ends aborted packets.
        cuts: Packets that were ended by an abort.
    """

    def __init__(self, dut: Any) -> None:
        self.info = settings()
        self.rng = generator()
        self.bench = Bench(dut, known=["hold", "m_axis_tvalid"])
        self.board = Scoreboard()
        self.sink = StreamSink(axi_stream(dut, "m_axis"), on_word=self.take)
        self.beat_times: list[int] = []
        self.word_times: list[int] = []
        self.claims = self.held = self.beats = self.cuts = 0
        self.todo: deque[tuple[list[int], int, int]] = deque()
        self.quiet = {"claim": 0, "word_valid": 0}
        if not self.info["collects"]:
            self.quiet["drop"] = 0
        self.drop()

    def drop(self) -> None:
        """Give up what is on its way."""
        self.todo.clear()
        self.flying: deque[tuple[int, tuple[list[int], int, int]]] = deque()
        self.issued = 0
        self.begun = False  # words of a row were claimed, not its last one
        self.open = False  # words of a packet were written, not its last one

    def take(self, word: tuple[int, ...]) -> None:
        """Compare a beat."""
        self.beat_times.append(int(get_sim_time("ns")))
        self.board.observe(word)

    async def start(self) -> None:
        """Reset with idle inputs."""
        await self.bench.start(**self.quiet)

    def add_inference(self, rows: int) -> int:
        """Queue the words of an inference; returns its number of beats."""
        info, beats = self.info, 0
        half = 1 << info["CODE_BITS"] - 1
        low, high = (-half, half - 1) if info["signed"] else (0, 2 * half - 1)
        for row in range(rows):
            for chunk in range(info["chunks"]):
                last = int(chunk == info["chunks"] - 1)
                lanes = info["last_lanes"] if last else info["LANES"]
                codes = [int(code) for code in draw_codes(self.rng, low, high, lanes)]
                final = int(last and row == rows - 1)
                self.todo.append((codes, last, final))
                beats += len(beats_of(codes, bool(final), info))
        return beats

    def expect(self, codes: list[int], final: bool) -> None:
        """Expect the beats of a word."""
        for beat in beats_of(codes, final, self.info):
            self.board.expect(beat)
            self.beats += 1
        self.open = not final

    async def step(self, rate: float, latency: int, abort: int = 0) -> None:
        """Spend a cycle; issue a word with a probability if it is allowed, and claim it."""
        bench, info = self.bench, self.info
        claim = self.issued
        if claim:
            word = self.todo.popleft()
            self.begun = not word[1]
            self.flying.append((bench.cycles + 1 + latency, word))
            self.claims += 1
        width = info["LANES"] * info["OUT_BITS"]
        inputs = {
            "word_valid": 0,
            "word_data": draw_bits(self.rng, width),
            "word_last_chunk": draw_bits(self.rng, 1),
            "word_last": draw_bits(self.rng, 1),
        }
        if self.flying and self.flying[0][0] <= bench.cycles + 1:
            _, (codes, last, final) = self.flying.popleft()
            # Lanes without a channel come as 0, and are sent as such.
            inputs = {
                "word_valid": 1,
                "word_data": pack(codes, info["OUT_BITS"]),
                "word_last_chunk": last,
                "word_last": final,
            }
            self.expect(codes, bool(final))
        if abort:
            inputs["drop"] = 1
        await bench.cycle(**self.quiet | {"claim": claim} | inputs)
        if inputs["word_valid"]:
            self.word_times.append(int(get_sim_time("ns")))
        wants = bool(self.todo) and self.rng.random() < rate
        hold = bench.read("hold")
        if self.begun and info["OUT_RESERVE"] > 1:
            # All words of a row, one after the other.
            wants, hold = bool(self.todo), 0
        self.held += wants and hold
        self.issued = int(wants and not hold)

    async def abort(self) -> None:
        """Give up the running inference; a packet that has begun ends with a word of zeros."""
        await self.step(0, PIPELINE, abort=1)
        if self.open:
            self.expect([0] * self.info["last_lanes"], True)
            self.cuts += 1
        self.drop()

    async def run(self, rate: float = 1.0, latency: int = PIPELINE) -> None:
        """Let everything out."""
        patience = self.bench.cycles + 20_000
        while self.todo or self.flying or self.issued or len(self.sink.received) < self.beats:
            await self.step(rate, latency)
            assert self.bench.cycles < patience
        for _ in range(5):
            await self.step(0, latency)
        assert len(self.sink.received) == self.beats
        self.board.finish(minimum=0)


@cocotb.test()
@cocotb.parametrize(rate=[0.3, 1.0])
async def every_pause(dut: Any, rate: float) -> None:
    """Words at some rate against each pattern of the receiver."""
    world = Epilogue(dut)
    await world.start()
    for pattern in PATTERNS:
        world.sink.pause = pause_pattern(pattern)
        latency = int(world.rng.integers(1, PIPELINE, endpoint=True))
        # More words than the queue holds.
        more = (1 << world.info["FIFO_ADDR_BITS"]) + 13
        for rows in (1, -(-more // world.info["chunks"])):
            world.add_inference(rows)
        await world.run(rate, latency)
    assert world.sink.stalls > 0
    assert world.held > 0 or rate < 0.5


@cocotb.test()
async def no_cycle_is_lost(dut: Any) -> None:
    """A beat comes 3 cycles after its word; a busy queue gives one in every cycle."""
    world = Epilogue(dut)
    await world.start()
    for rows in (1, 30):
        world.beat_times, world.word_times = [], []
        more = world.add_inference(rows)
        await world.run()
        assert world.beat_times[0] == world.word_times[0] + LATENCY * PERIOD_NS
        assert world.beat_times[-1] - world.beat_times[0] == (more - 1) * PERIOD_NS


@cocotb.test()
async def the_queue_fills_up_and_no_further(dut: Any) -> None:
    """With nobody receiving, the whole queue is claimed and then every operation is held."""
    world = Epilogue(dut)
    await world.start()
    capacity = 1 << world.info["FIFO_ADDR_BITS"]
    for latency in (1, PIPELINE):
        world.claims = world.held = 0
        world.sink.pause = itertools.repeat(True)
        world.add_inference(3 * capacity)
        codes, _, final = world.todo[0]
        single = len(beats_of(codes, bool(final), world.info)) == 1
        for _ in range(3 * capacity):
            await world.step(1.0, latency)
        reserve = world.info["OUT_RESERVE"]
        # Behind the queue wait the word of which a beat is offered, and the next if that is all.
        most = capacity + (2 if single else 1)
        # Where rows are claimed as a whole, the room for one may stay.
        least = most - (reserve if reserve > 1 else 0)
        assert least <= world.claims <= most
        assert world.held > capacity
        world.sink.pause = pause_pattern("p10")
        await world.run(1.0, latency)


@cocotb.test()
async def a_reset_empties_it(dut: Any) -> None:
    """Reset with words in the queue and on their way: only new ones come out, all fit again."""
    world = Epilogue(dut)
    await world.start()
    rng = world.rng
    for cycles in (1, 2, 1, 2, 1, 1):
        world.sink.pause = pause_pattern("p90")
        world.add_inference(40)
        for _ in range(int(rng.integers(5, 90))):
            await world.step(1.0, PIPELINE)
        world.drop()
        await world.bench.reset(cycles, **world.quiet)
        assert not world.bench.read("m_axis_tvalid")
        world.board = Scoreboard()
        world.sink.received.clear()
        world.beats = 0
        world.sink.pause = pause_pattern("p10")
        world.add_inference(40)
        await world.run()


@cocotb.test()
async def an_abort_at_any_moment(dut: Any) -> None:
    """What was begun ends with TLAST, nothing else comes, and the next inferences are whole."""
    world = Epilogue(dut)
    await world.start()
    if "drop" not in world.quiet:
        return
    rng, rows = world.rng, max(2, -(-40 // world.info["chunks"]))
    nobody = itertools.repeat(True)
    moments = [*itertools.product(range(0, 66, 5), ("none", "p50", "p90", "nobody"))]
    # The queue is full: the end of the first packet waits when the second inference is dropped.
    moments += [(moment, "nobody") for moment in range(67, 91, 2)]
    for moment, pattern in moments:
        world.sink.pause = nobody if pattern == "nobody" else pause_pattern(pattern)
        latency = int(rng.integers(1, PIPELINE, endpoint=True))
        # The queue may hold the words of an inference before.
        for size in (int(rng.integers(0, 3)), int(rng.integers(1, rows))):
            world.add_inference(size)
        for _ in range(moment + int(rng.integers(3))):
            await world.step(1.0, latency)
        await world.abort()
        for _ in range(int(rng.integers(3, 12))):
            await world.step(0, latency)
        # Once more, perhaps while the first packet's end still waits for room.
        world.add_inference(rows)
        for _ in range(moment):
            await world.step(1.0, latency)
        if moment % 2:
            await world.abort()
            for _ in range(3):
                await world.step(0, latency)
        world.sink.pause = pause_pattern("none" if pattern == "nobody" else pattern)
        world.add_inference(rows)
        await world.run(1.0, latency)
    assert world.cuts > 10
    # All room is free again.
    world.claims = 0
    world.sink.pause = nobody
    capacity = 1 << world.info["FIFO_ADDR_BITS"]
    world.add_inference(2 * capacity)
    for _ in range(2 * capacity):
        await world.step(1.0, 1)
    assert capacity - world.info["OUT_RESERVE"] <= world.claims <= capacity + 2
    world.sink.pause = pause_pattern("none")
    await world.run()

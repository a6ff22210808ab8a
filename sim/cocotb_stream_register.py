"""Bench of stream_register: every beat passes once, in order, at full rate, through registers."""

import itertools
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from sgq_hw.sim.bench import assert_cut, read, reset, start
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import PATTERNS, StreamSink, StreamSource, axi_stream, pause_pattern

BEATS = 20
LATENCY = 1


class Stream:
    """The register between a source and a sink, with a scoreboard from one to the other."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.board = Scoreboard()
        self.source = StreamSource(axi_stream(dut, "s_axis"), on_word=self.board.expect)
        self.sink = StreamSink(axi_stream(dut, "m_axis"), on_word=self.board.observe)

    def send(self, beats: int) -> None:
        """Queue random beats."""
        for _ in range(beats):
            self.source.send(random.getrandbits(len(self.dut.s_axis_tdata)), random.getrandbits(1))

    async def finish(self, beats: int) -> None:
        """Wait for so many beats since the start; then nothing more may come."""
        await self.sink.receive(beats)
        await self.sink.stays_quiet(5)
        self.board.finish()


@cocotb.test()
@cocotb.parametrize(sink_pattern=PATTERNS)
async def every_pause(dut: Any, sink_pattern: str) -> None:
    """Each pattern of the source against one of the sink."""
    stream = Stream(dut)
    await start(dut)
    for round_number, source_pattern in enumerate(PATTERNS, 1):
        stream.source.pause = pause_pattern(source_pattern)
        stream.sink.pause = pause_pattern(sink_pattern)
        stream.send(BEATS)
        await stream.finish(round_number * BEATS)
    # Only a receiver that pauses ever stalls the source, through a full spare register.
    assert bool(stream.sink.stalls) == bool(stream.source.stalls) == (sink_pattern != "none")


@cocotb.test()
async def no_cycle_is_lost(dut: Any) -> None:
    """Without pauses N beats take N cycles on both sides, one cycle apart, also after a stall."""
    stream = Stream(dut)
    await start(dut)
    stream.source.pause = itertools.chain([True, True], itertools.repeat(False))
    stream.send(BEATS)
    await stream.finish(BEATS)
    source, sink = stream.source, stream.sink
    assert source.last_cycle - source.first_cycle == BEATS - 1
    assert sink.first_cycle == source.first_cycle + LATENCY
    assert sink.last_cycle == source.last_cycle + LATENCY
    # After a stall the spare register gives its beat without a gap.
    stall = [False] * 5 + [True] * 7
    sink.pause = itertools.chain(stall, itertools.repeat(False))
    before = sink.cycles
    stream.send(BEATS)
    await stream.finish(2 * BEATS)
    assert sink.last_cycle - before <= BEATS + LATENCY + sum(stall) + 1


@cocotb.test()
async def a_reset_empties_it(dut: Any) -> None:
    """Reset with no, one and two beats inside; afterwards only new beats come out."""
    stream = Stream(dut)
    await start(dut)
    for held in range(4):
        stream.sink.pause = itertools.repeat(True)
        stream.source.pause = pause_pattern("none")
        stream.send(held)
        for _ in range(held + 4):
            await FallingEdge(dut.clk)
        await reset(dut, 1 + held % 2)
        stream.source.clear()
        stream.board.clear()
        stream.sink.pause = pause_pattern("p50")
        stream.sink.received.clear()
        await stream.sink.stays_quiet(5)
        stream.send(BEATS)
        await stream.finish(BEATS)


@cocotb.test()
async def every_path_is_cut(dut: Any) -> None:
    """No output follows an input within a cycle."""
    stream = Stream(dut)
    await start(dut)
    stream.sink.pause, stream.source.pause = pause_pattern("p50"), pause_pattern("p10")
    stream.send(200)
    for _ in range(200):
        await FallingEdge(dut.clk)
        await assert_cut(
            (dut.s_axis_tvalid, dut.s_axis_tlast, dut.m_axis_tready),
            (dut.s_axis_tready, dut.m_axis_tvalid, dut.m_axis_tlast)
            if read(dut.m_axis_tvalid)
            else (dut.s_axis_tready, dut.m_axis_tvalid),
        )
    assert len(stream.sink.received) > 50

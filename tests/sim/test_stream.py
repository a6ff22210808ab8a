"""Streams and scoreboard: all pairs of pause patterns on a FIFO, and faults that must be caught."""

import random
from itertools import islice
from pathlib import Path

import pytest

from sgq_hw.sim.runner import RunResult, Simulator, build, run
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import PATTERNS, pause_pattern
from tests.sim.designs import write

FIFO = """\
`timescale 1ns / 1ps
`default_nettype none
module fifo #(parameter FAULT = 0) (
    input  wire       clk,
    input  wire       rst,
    input  wire [7:0] s_axis_tdata,
    input  wire       s_axis_tlast,
    input  wire       s_axis_tvalid,
    output wire       s_axis_tready,
    output wire [7:0] m_axis_tdata,
    output wire       m_axis_tlast,
    output wire       m_axis_tvalid,
    input  wire       m_axis_tready,
    output reg        seen,
    output reg  [7:0] seen_data
);
reg [8:0] words [0:3];
reg [2:0] level;
reg [1:0] first;
reg [5:0] taken;
reg       stalled, unset;
wire      full = level == 3'd4;
wire      push = s_axis_tready && (s_axis_tvalid || (FAULT == 5 && s_axis_tlast));
wire      pop  = m_axis_tvalid && m_axis_tready;
wire      drop = FAULT == 1 && taken == 6'd20;
wire      late = taken > 6'd10 && stalled;
wire [1:0] last = first + level[1:0];
assign s_axis_tready = !full;
assign m_axis_tvalid = (level != 3'd0 && !(FAULT == 3 && late)) || (FAULT == 4 && unset);
assign m_axis_tdata = (FAULT == 2 && late ? ~words[first][7:0] : words[first][7:0])
                    ^ {8{FAULT == 6 && unset}};
assign m_axis_tlast = words[first][8] && !(FAULT == 7 && taken > 6'd10);
always @(posedge clk) begin
    seen      <= push;
    seen_data <= s_axis_tdata;
    stalled   <= m_axis_tvalid && !m_axis_tready;
    if (push && !drop) begin
        words[last] <= {s_axis_tlast, s_axis_tdata};
    end
    level <= level + {2'b0, push && !drop} - {2'b0, pop && !(FAULT == 8 && taken == 6'd20)};
    first <= first + {1'b0, pop && !(FAULT == 8 && taken == 6'd20)};
    taken <= taken + {5'b0, push};
    if (taken == 6'd63) begin
        unset <= 1'b0;
    end
    if (rst) begin
        level <= 3'd0;
        first <= 2'd0;
        taken <= 6'd0;
        seen  <= 1'b0;
    end
end
endmodule
`resetall
"""

BENCH = """\
import random
import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import (
    PATTERNS, StreamSink, StreamSource, axi_stream, handshake, pause_pattern,
)

async def start(dut, source_pattern="none", sink_pattern="none"):
    board = Scoreboard("fifo")
    dut.rst.value = 1
    source = StreamSource(axi_stream(dut, "s_axis"), pause_pattern(source_pattern), board.expect)
    sink = StreamSink(axi_stream(dut, "m_axis"), pause_pattern(sink_pattern), board.observe)
    Clock(dut.clk, 10, unit="ns").start()
    await ClockCycles(dut.clk, 3)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    return source, sink, board

@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(source_pattern=list(PATTERNS), sink_pattern=list(PATTERNS))
async def streams(dut, source_pattern, sink_pattern):
    source, sink, board = await start(dut, source_pattern, sink_pattern)
    for _ in range(20):
        source.send_packet([random.getrandbits(8) for _ in range(random.randint(1, 9))])
    count = len(source._queue)
    assert len(await sink.receive(count)) == count
    await sink.stays_quiet(20)
    board.finish(count)
    assert source.words == sink.words == count
    if sink_pattern in ("p50", "p90", "bursts", "sparse"):
        assert sink.stalls > 0
    if source_pattern == "none" and sink_pattern == "one_shot":
        assert sink.stalls == 200 and source.stalls > 190
    if sink_pattern in ("p90", "sparse") and source_pattern in ("none", "p10"):
        assert source.stalls > 0
    if source_pattern in ("p50", "p90", "bursts", "sparse", "one_shot"):
        assert sink.waits > 0 or sink_pattern == "p90"
    if source_pattern == sink_pattern == "none":
        assert source.stalls == sink.stalls == 0
        assert source.last_cycle - source.first_cycle == count - 1
        assert sink.last_cycle == source.last_cycle + 1

@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_mid_stream(dut):
    source, sink, board = await start(dut, "p10", "p50")
    for value in range(100):
        source.send(value, value & 1)
    await sink.receive(30)
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    assert not source.signals.valid.value and not sink.signals.ready.value
    source.clear()
    sent, taken = source.words, sink.words
    assert 0 <= sent - taken <= 4
    dut.rst.value = 0
    source.on_word = sink.on_word = None
    for value in range(50):
        source.send(value, 0)
    assert (await sink.receive(taken + 50))[taken:] == [(value, 0) for value in range(50)]
    await source.drained()
    await sink.stays_quiet(20)

@cocotb.test(timeout_time=1, timeout_unit="ms")
async def without_ready(dut):
    source, sink, board = await start(dut, "p50", "p50")
    seen = StreamSink(handshake(dut, valid="seen", ready=None, data=["seen_data"]))
    for value in range(50):
        source.send(255 - value, 1)
    await sink.receive(50)
    assert seen.received == [(255 - value,) for value in range(50)]
"""


def run_fifo(
    folder: Path, simulator: Simulator, fault: int = 0, testcase: str | None = None
) -> RunResult:
    write(folder / "fifo_bench.py", BENCH)
    source = write(folder / "fifo.v", FIFO)
    built = build([source], "fifo", simulator=simulator, parameters={"FAULT": fault})
    return run(
        built, module="fifo_bench", test_dir=folder / "run", timeout_seconds=300, seed=7,
        testcase=testcase, python_path=[folder], random_init=True,
    )  # fmt: skip


def test_a_good_fifo_passes(simulator: Simulator, tmp_path: Path) -> None:
    result = run_fifo(tmp_path, simulator)
    assert (result.passed, result.messages) == (len(PATTERNS) ** 2 + 2, [])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (1, "expected"),
        (2, "and then changed to"),
        (3, "and then withdrawn"),
        (5, "expected|unexpected"),
        (7, "expected"),
        (8, "expected|unexpected"),
    ],
    ids=["drops", "changes", "withdraws", "takes junk", "loses tlast", "repeats"],
)
def test_a_planted_fault_is_caught(
    simulator: Simulator, tmp_path: Path, fault: int, said: str
) -> None:
    case = "streams/source_pattern=p50/sink_pattern=p50"
    result = run_fifo(tmp_path, simulator, fault, case)
    assert (result.passed, result.failed) == (0, 1)
    assert any(word in result.messages[0] for word in said.split("|"))


@pytest.mark.parametrize(
    ("fault", "said"), [(4, "valid is X"), (6, "while valid")], ids=["valid", "data"]
)
def test_x_is_caught(tmp_path: Path, fault: int, said: str) -> None:
    case = "streams/source_pattern=none/sink_pattern=none"
    result = run_fifo(tmp_path, "icarus", fault, case)
    assert result.failed == 1
    assert said in result.messages[0]


def test_scoreboard() -> None:
    board = Scoreboard("board")
    board.expect((1, 2), "node 0")
    board.observe((1, 2))
    board.observe((3, 4))
    with pytest.raises(
        AssertionError, match=r"board: word 1 \(node 1\): expected \(5, 6\), got \(3, 4\)"
    ):
        board.expect((5, 6), "node 1")


@pytest.mark.parametrize(("side", "said"), [("expect", "expected"), ("observe", "unexpected")])
def test_scoreboard_with_words_left(side: str, said: str) -> None:
    board = Scoreboard()
    getattr(board, side)((1,))
    with pytest.raises(AssertionError, match=f"1 {said} ones are left"):
        board.finish(0)


def test_an_idle_scoreboard_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="0 words were compared, at least 1"):
        Scoreboard().finish()


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    cycles = list(islice(pause_pattern(name, random.Random(1)), 4000))
    share = {"none": 0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "bursts": 0.67, "sparse": 0.875}
    assert sum(cycles) / 4000 == pytest.approx(share.get(name, 0.05), abs=0.04)
    assert cycles == list(islice(pause_pattern(name, random.Random(1)), 4000))


def test_unknown_pattern() -> None:
    with pytest.raises(ValueError, match="no pause pattern 'p20'; known: none, p10"):
        pause_pattern("p20", random.Random(1))

"""The output buffer: rows of many processing elements leave in the user's order, none is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgq_hw.design import Design
from sgq_hw.render import parameters, render
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "output_buffer"
JOINED_TOP = "joined_output_buffer"
DESIGNS: dict[str, dict[str, Any]] = {
    "one-chunk": {"pes": 4, "lanes": 4, "classes": 4, "nodes": 24, "stream_bits": 128},
    "chunks": {"pes": 4, "lanes": 8, "classes": 20, "nodes": 21, "stream_bits": 32},
    "two": {"pes": 2, "lanes": 2, "classes": 5, "nodes": 17, "stream_bits": 32},
    "one-row": {"pes": 16, "lanes": 4, "classes": 9, "nodes": 13},
    "many": {"pes": 64, "lanes": 1, "classes": 2, "nodes": 70},
    "unsigned": {"pes": 8, "lanes": 2, "classes": 3, "nodes": 20},
    # One processing element collects where the rows of a degree bucket lie side by side.
    "alone": {"pes": 1, "lanes": 3, "classes": 7, "nodes": 19, "buckets": 3, "windows": True},
    "alone-one-chunk": {"pes": 1, "lanes": 4, "classes": 4, "nodes": 16, "buckets": 2,
                        "windows": True, "stream_bits": 32},
}

JOINED = """
`timescale 1ns / 1ps
module joined_output_buffer (
    input  wire clk,
    input  wire rst,
    input  wire [{NODE_BITS}-1:0] num_nodes,
    output wire free,
    input  wire complete,
    input  wire [{PES}-1:0] in_valid,
    input  wire [{PES}*{ROW_BITS}-1:0] in_row,
    input  wire in_first_chunk,
    input  wire [{PES}*{LANES}*{OUT_BITS}-1:0] in_data,
    output wire order_re,
    output wire [{NODE_ADDR_BITS}-1:0] order_addr,
    input  wire [{PLACE_BITS}-1:0] order_data,
    output wire hold,
    output wire claim,
    output wire word_valid,
    output wire word_last_chunk,
    output wire word_last,
    output wire [{LANES}*{OUT_BITS}-1:0] word_data,
    output wire [{STREAM_BITS}-1:0] m_axis_tdata,
    output wire m_axis_tlast,
    output wire m_axis_tvalid,
    input  wire m_axis_tready
);
sgq_output_buffer collect (
    .clk(clk), .rst(rst), .num_nodes(num_nodes), .free(free), .complete(complete),
    .in_valid(in_valid), .in_row(in_row), .in_first_chunk(in_first_chunk), .in_data(in_data),
    .order_re(order_re), .order_addr(order_addr), .order_data(order_data), .hold(hold),
    .claim(claim), .word_valid(word_valid), .word_last_chunk(word_last_chunk),
    .word_last(word_last), .word_data(word_data)
);
sgq_output_stream result_stream (
    .clk(clk), .rst(rst), .claim(claim), .hold(hold), .word_valid(word_valid),
    .word_last_chunk(word_last_chunk), .word_last(word_last), .word_data(word_data),
    .m_axis_tdata(m_axis_tdata), .m_axis_tlast(m_axis_tlast), .m_axis_tvalid(m_axis_tvalid),
    .m_axis_tready(m_axis_tready)
);
endmodule
"""


def design_of(name: str) -> Design:
    design = random_design(len(name), layers=2, graph="random", **DESIGNS[name])
    if name == "unsigned":
        # The random networks end in signed codes.
        *others, last = design.passes
        program = replace(design.program, passes=(*others, replace(last, signed=False)))
        design = replace(design, program=program)
    return design


def job(name: str, joined: bool = False) -> UnitRun:
    design = design_of(name)
    last = design.passes[-1]
    alone = unit_run(
        UNIT,
        design,
        {
            "chunks": last.chunks,
            "last_lanes": last.last_chunk_lanes,
            "signed": last.signed,
            "nodes": design.capacity.nodes,
            "joined": joined,
        },
    )
    if not joined:
        return alone
    texts = {
        **alone.texts,
        **render(design, "unit", unit="output_stream"),
        f"{JOINED_TOP}.v": JOINED.format(**parameters(design)),
    }
    return replace(alone, texts=texts, top=JOINED_TOP)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["one-chunk", "two", "unsigned", "alone"])
def test_with_the_output_stream(name: str, tmp_path: Path) -> None:
    run_unit(job(name, joined=True), "icarus", tmp_path)


@pytest.mark.parametrize("joined", [False, True])
def test_on_verilator(joined: bool, tmp_path: Path) -> None:
    run_unit(job("chunks", joined), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("in_first_chunk ? {ADDR_BITS", "!in_first_chunk ? {ADDR_BITS"),
        ("write_base + row_addr", "write_base ^ row_addr"),
        ("drain_reg && !hold && ", "drain_reg && "),
        (" && !(claim_reg && last)", ""),
        ("assign claim           = claim_reg", "assign claim           = valid_s2_reg"),
        ("left_reg  <= num_nodes", "left_reg  <= num_nodes - 1'b1"),
        ("base_s2_reg + place_addr", "base_reg + place_addr"),
        ("FIRST_PE << place_pe", "FIRST_PE << pe_s3_reg"),
        ("pe_s4_reg         <= pe_s3_reg", "pe_s4_reg         <= place_pe"),
        ("if (valid_s3_reg && last_s3_reg)", "if (valid_s2_reg && last_s2_reg)"),
        ("word_reg[lane*CODE_BITS+CODE_BITS-1]", "word_reg[lane*CODE_BITS]"),
        ("        drain_reg    <= 1'b0;\n", ""),
        ("        valid_s4_reg <= 1'b0;\n", ""),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("two"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A held unit that claims on, and a queue that does not count what is on its way.
        ("drain_reg && !hold && ", "drain_reg && "),
        (".claim(claim), .hold(hold), .word_valid", ".claim(1'b0), .hold(hold), .word_valid"),
        # TLAST in every row.
        (
            ".word_last(word_last), .word_data(word_data),",
            ".word_last(word_last_chunk), .word_data(word_data),",
        ),
    ],
)
def test_a_fault_between_buffer_and_stream_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("two", joined=True), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("read_re_reg       <= valid_s2_reg", "read_re_reg       <= valid_s3_reg"),
        ("base_s2_reg + place_addr", "base_s2_reg ^ place_addr"),
    ],
)
def test_a_planted_fault_of_one_element_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("alone"), old, new), tmp_path)

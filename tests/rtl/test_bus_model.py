"""The wrapper between bus models that are not ours, with every rule of the bus watched."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.bundle import Workload
from sgq_hw.design import Design
from sgq_hw.generate import design_for
from sgq_hw.golden.network import run as run_golden
from sgq_hw.host import Beats
from sgq_hw.packer import input_packet, load_packets, output_beats
from sgq_hw.render import render
from tests.random_networks import random_bundle
from tests.rtl.test_accelerator import different_results, lines, other_inputs, slots
from tests.rtl.unit_runs import (
    ONE_SEED_AND_THE_OTHERS,
    SEEDS,
    UnitRun,
    expect_failure_of,
    mutated,
    run_unit,
)

UNIT = "bus_model"
OPTIONS: dict[str, dict[str, Any]] = {
    "one-dense-64": {"pes": 1, "stream_bits": 64, "sparse_input": False},
    "four-sparse-32": {"pes": 4, "stream_bits": 32, "sparse_input": True},
}
VARIANTS = 3
SEED = 1
"""One that draws networks with different results in all designs below."""
ICARUS_ROW, VERILATOR_ROW = 12, 100
"""Inferences back to back; the thousand are run once, at one processing element."""
TRAFFIC, PAUSED = "traffic_at_any_pace", "results_at_any_pace"
RESETS, LITE = "a_reset_in_mid_flight", "addresses_and_strobes"
TLAST = "tlast_comes_early_or_late"
FAST = "back_to_back"


def packets(beats: Beats) -> list[str]:
    """Return the bytes of each packet."""
    return [packet.tobytes().hex() for packet in beats.packets()]


def inference(design: Design, workload: Workload, results: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {
        "input": packets(input_packet(design, workload))[0],
        "output": packets(output_beats(design, results))[0],
        "slots": slots(design, workload),
    }


@cache
def job(options: str, nodes: int = 8, row: int = ICARUS_ROW) -> UnitRun:
    rng = np.random.default_rng(SEED)
    bundle = random_bundle(
        rng, nodes=nodes, features=9, hidden=3, classes=2, layers=2, inputs="multi-bit",
        input_bits=3, graph="random" if nodes > 1 else "one node", self_loops=True, max_bits=5,
    )  # fmt: skip
    design = design_for(bundle, lanes=2, **OPTIONS[options])
    final = design.passes[-1]
    inferences = []
    for variant in range(VARIANTS):
        workload = bundle.workload
        if variant:
            workload = other_inputs(rng, design, workload)
        results = run_golden(bundle.network, workload)[final.layer, final.stage]
        inferences.append(inference(design, workload, results))
        assert different_results(lines(output_beats(design, results))) > nodes // 4
    assert len({each["input"] for each in inferences}) == VARIANTS
    assert len({each["output"] for each in inferences}) > 1
    data = {"load": packets(load_packets(design, bundle)), "inferences": inferences}
    settings = {
        "data": "data.json", "row": row, "pes": design.pes, "lanes": design.lanes,
        "bytes": design.stream_bits // 8, "nodes": nodes,
    }  # fmt: skip
    return UnitRun(
        UNIT, render(design, "bus"), settings, top="sgq_accelerator_axi",
        files={"data.json": json.dumps(data)},
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", ["one-dense-64", pytest.param("four-sparse-32", marks=pytest.mark.full)]
)
def test_on_icarus(options: str, tmp_path: Path) -> None:
    run_unit(job(options), "icarus", tmp_path)


@ONE_SEED_AND_THE_OTHERS
@pytest.mark.parametrize("options", list(OPTIONS))
def test_on_verilator(options: str, seeds: tuple[int, ...], tmp_path: Path) -> None:
    run_unit(job(options, row=VERILATOR_ROW), "verilator", tmp_path, seeds)


def test_a_thousand_inferences(tmp_path: Path) -> None:
    """Shares the build of the tests above."""
    run_once = replace(job("one-dense-64", row=1000), testcase=FAST)
    run_unit(run_once, "verilator", tmp_path, SEEDS[:1])


def test_a_result_of_one_beat(tmp_path: Path) -> None:
    single = job("one-dense-64", nodes=1)
    data = json.loads(single.files["data.json"])
    assert {len(each["output"]) for each in data["inferences"]} == {16}
    run_unit(replace(single, testcase=FAST), "icarus", tmp_path)


HELD_WRITE = "if (bvalid_reg && s_axil_bready) begin"
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "m-falls": (
        PAUSED, "    if (push) begin\n        write_reg",
        "    if (valid_reg && !m_axis_tready) valid_reg <= 1'b0;\n"
        "    if (push) begin\n        write_reg",
        "m_axis: valid fell before ready",
    ),
    "m-changes": (
        PAUSED, "assign m_axis_tdata  = data_reg;",
        "reg flip_reg; always @(posedge clk) flip_reg <= !rst && !flip_reg;\n"
        "assign m_axis_tdata = data_reg ^ flip_reg;",
        "m_axis: payload changed before ready",
    ),
    "m-last-changes": (
        PAUSED, "assign m_axis_tlast  = last_reg;",
        "reg flip_reg; always @(posedge clk) flip_reg <= !rst && !flip_reg;\n"
        "assign m_axis_tlast = last_reg ^ flip_reg;",
        "m_axis: payload changed before ready",
    ),
    "m-keep": (PAUSED, "{8{1'b1}}", "{8{1'b0}}", "m_axis: tkeep is 00000000"),
    "m-x": (
        PAUSED, "assign m_axis_tdata  = data_reg;",
        "assign m_axis_tdata = {data_reg[STREAM_BITS-1:1], 1'bx};", "m_axis: tdata is",
    ),
    "m-valid-x": (
        PAUSED, "assign m_axis_tvalid = valid_reg;",
        "assign m_axis_tvalid = rst ? 1'b0 : head_valid_reg ? 1'bx : valid_reg;",
        "m_axis: valid is X",
    ),
    "m-in-reset": (
        RESETS, "        valid_reg      <= 1'b0;\n", "        valid_reg <= valid_reg === 1'b1;\n",
        "m_axis: valid is 1 in reset",
    ),
    "s-in-reset": (
        RESETS, "        ready_reg       <= 1'b0;\n    end\nend",
        "        ready_reg       <= 1'b1;\n    end\nend", "s_axis: ready is 1 in reset",
    ),
    "s-ready-x": (
        PAUSED, "ready_reg       <= 1'b0;\n    end\n    if",
        "ready_reg       <= 1'bx;\n    end\n    if", "s_axis: ready is X",
    ),
    "b-falls": (TRAFFIC, HELD_WRITE, "if (bvalid_reg) begin", "b: valid fell before ready"),
    "b-changes": (
        TRAFFIC, "assign s_axil_bresp   = 2'b00;",
        "assign s_axil_bresp = {1'b0, s_axil_arvalid && !s_axil_bready};",
        "b: payload changed before ready",
    ),
    "b-x": (
        TRAFFIC, "assign s_axil_bresp   = 2'b00;", "assign s_axil_bresp = 2'b0x;", "b: bresp is 0X",
    ),
    "b-unasked": (
        TRAFFIC, "have_address && have_data && !", "(have_address || have_data) && !",
        "b: a response without a request",
    ),
    "b-missing": (
        TRAFFIC, "bvalid_reg <= 1'b1;", "bvalid_reg <= awaddr_reg[6];",
        "b: no response to a request",
    ),
    "b-in-reset": (
        RESETS, "        bvalid_reg     <= 1'b0;", "        bvalid_reg <= bvalid_reg === 1'b1;",
        "b: valid is 1 in reset",
    ),
    "aw-in-reset": (
        RESETS, "        awready_reg    <= 1'b0;", "        awready_reg <= 1'b1;",
        "aw: ready is 1 in reset",
    ),
    "w-in-reset": (
        RESETS, "        wready_reg     <= 1'b0;", "        wready_reg <= 1'b1;",
        "w: ready is 1 in reset",
    ),
    "aw-x": (
        TRAFFIC, "        awready_reg <= 1'b0;\n        awaddr_reg",
        "        awready_reg <= 1'bx;\n        awaddr_reg", "aw: ready is X",
    ),
    "w-x": (
        TRAFFIC, "        wready_reg <= 1'b0;\n        wdata_reg",
        "        wready_reg <= 1'bx;\n        wdata_reg", "w: ready is X",
    ),
    "r-falls": (
        TRAFFIC, "            if (s_axil_rready) begin", "            if (1'b1) begin",
        "r: valid fell before ready",
    ),
    "r-changes": (
        TRAFFIC, "assign s_axil_rdata   = rdata_reg;",
        "assign s_axil_rdata = rdata_reg ^ {31'd0, s_axil_awvalid};",
        "r: payload changed before ready",
    ),
    "r-x": (
        TRAFFIC, "assign s_axil_rresp   = 2'b00;", "assign s_axil_rresp = 2'b0x;", "r: rresp is 0X",
    ),
    "r-unasked": (
        TRAFFIC, "if (s_axil_arvalid && arready_reg) begin", "if (arready_reg) begin",
        "r: a response without a request",
    ),
    "r-missing": (
        TRAFFIC, "            rvalid_reg <= 1'b1;", "            rvalid_reg <= !araddr_reg[2];",
        "r: no response to a request",
    ),
    "r-in-reset": (
        RESETS, "        rvalid_reg  <= 1'b0;\n    end\nend",
        "        rvalid_reg <= rvalid_reg === 1'b1;\n    end\nend", "r: valid is 1 in reset",
    ),
    "ar-in-reset": (
        RESETS, "        arready_reg <= 1'b0;\n        rvalid", "        arready_reg <= 1'b1;\n"
        "        rvalid", "ar: ready is 1 in reset",
    ),
    "ar-x": (
        TRAFFIC, "                arready_reg <= 1'b0;", "                arready_reg <= 1'bx;",
        "ar: ready is X",
    ),
    "b-valid-x": (
        TRAFFIC, "assign s_axil_bvalid  = bvalid_reg;",
        "assign s_axil_bvalid = rst ? 1'b0 : have_data ? 1'bx : bvalid_reg;", "b: valid is X",
    ),
    "r-valid-x": (
        TRAFFIC, "            rvalid_reg <= 1'b1;", "            rvalid_reg <= 1'bx;",
        "r: valid is X",
    ),
    "irq-in-reset": (
        RESETS, "        irq_reg        <= 1'b0;", "        irq_reg <= 1'b1;", "irq is 1 in reset",
    ),
    "irq-x": (
        PAUSED, "result_sent ? IRQ_RESULT", "result_sent ? 2'b0x", "irq is X",
    ),
}  # fmt: skip


SMALL = ("m-changes", "b-unasked", "r-falls", "m-in-reset", "aw-x")
"""A rule of each kind in the small matrix."""


@pytest.mark.parametrize(
    "fault",
    [name if name in SMALL else pytest.param(name, marks=pytest.mark.full) for name in FAULTS],
)
def test_a_planted_fault_breaks_a_rule(fault: str, tmp_path: Path) -> None:
    testcase, old, new, rule = FAULTS[fault]
    faulty = mutated(replace(job("one-dense-64"), testcase=testcase), old, new)
    assert f"protocol: {rule}" in expect_failure_of(faulty, tmp_path)


@pytest.mark.parametrize(
    ("testcase", "old", "new"),
    [
        # Faults that may keep to the protocol and break what it carries.
        (LITE, "&& wstrb_reg) begin\n            irq_enable", ") begin\n            irq_enable"),
        (LITE, "awaddr_reg == 6'h0D", "awaddr_reg[5:2] == 4'hD"),
        (LITE, "case (araddr_reg[6:2])", "case (araddr_reg[6:2] | {5{s_axil_araddr[0]}})"),
        (TLAST, "if (!s_axis_tlast) begin\n                        error_reg ",
         "if (1'b0) begin\n                        error_reg "),
        ("a_byte_is_missing", "!(&s_axis_tkeep)", "!s_axis_tkeep[0]"),
        (FAST, "head_last && last_beat", "head_last_chunk && last_beat"),
        (RESETS, "or negedge aresetn", ""),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(testcase: str, old: str, new: str, tmp_path: Path) -> None:
    faulty = mutated(replace(job("one-dense-64"), testcase=testcase), old, new)
    expect_failure_of(faulty, tmp_path)

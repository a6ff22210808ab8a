"""The feature buffer: layout, widths and signs of one and of two regions, in one bank and many.

With degree windows also: slices of bits, rows for some positions only, exponents. With row ports
also: rows of each processing element from further regions, all at once.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sgq_hw.design import Design, make_design
from sgq_hw.formats import Format, Window
from sgq_hw.lowering import Region
from sgq_hw.render import render
from sgq_hw.sim.runner import find_icarus, find_verilator
from sgq_hw.slices import candidates
from tests.random_networks import gcn_layers
from tests.random_workloads import Rng, between
from tests.rtl.test_lint import output, yosys
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

DESIGNS: dict[str, dict[str, object]] = {
    "pe1-one-region": {"lanes": 4, "layers": 1, "classes": 7, "nodes": 10},
    "pe1-lanes1": {"lanes": 1, "layers": 2, "hidden": 5, "nodes": 12, "max_bits": 3},
    "pe1-lanes16-blocks": {"lanes": 16, "layers": 2, "hidden": 20, "nodes": 36},
    "pe1-one-node": {"lanes": 2, "layers": 2, "hidden": 6, "nodes": 1},
    "pe2-lanes3": {"pes": 2, "lanes": 3, "layers": 3, "nodes": 17, "max_bits": 16},
    "pe2-one-region": {"pes": 2, "lanes": 4, "layers": 1, "classes": 7, "nodes": 10},
    "pe2-one-node": {"pes": 2, "lanes": 2, "layers": 2, "hidden": 6, "nodes": 1},
    "pe8-lanes2": {"pes": 8, "lanes": 2, "layers": 2, "hidden": 7, "nodes": 43},
    "pe8-few-nodes": {"pes": 8, "lanes": 4, "layers": 2, "hidden": 7, "nodes": 3},
}


CHECKS_END = "`endif\n"
DEPTH_CHECK = """
wire [31:0] write_at = { {(32-ADDR_BITS){1'b0}}, waddr };
wire [31:0] read_at  = { {(32-ADDR_BITS){1'b0}}, raddr };
always @(posedge clk) begin
    if (age_reg == 2'd3 && ((we && write_at >= DEPTH) || (re && read_at >= DEPTH))) begin
        $display("SGQ_CHECK %m: outside the memory");
        $finish;
    end
end
"""
"""No word is asked of a memory that it does not have, whether or not its data are used."""


def checked_run(
    design: Design, settings: dict[str, Any], row_ports: int = 0, junk: bool = False
) -> UnitRun:
    """Return the run of a buffer; with junk row ports may ask for words that are not there."""
    run = unit_run("feature_buffer", design, {**settings, "row_ports": row_ports, "junk": junk})
    texts = render(design, "unit", unit="feature_buffer", changes={"row_ports": row_ports})
    for name, text in texts.items():
        if name.startswith("sgq_ram_") and not junk:
            assert CHECKS_END in text
            texts[name] = text.replace(CHECKS_END, DEPTH_CHECK + CHECKS_END)
    return replace(run, texts=texts)


def job(name: str, draws: int = 6) -> UnitRun:
    design = random_design(51, **DESIGNS[name])
    assert (len(design.program.regions) == 1) == name.endswith("one-region")
    return checked_run(design, plain_settings(design, draws))


def plain_settings(design: Design, draws: int) -> dict[str, Any]:
    regions = [(region.bits, region.signed, region.chunks) for region in design.program.regions]
    return {"draws": draws, "regions": regions, "nodes": design.capacity.nodes}


def with_regions(design: Design, count: int, seed: int) -> Design:
    """Return a design with so many regions, those beyond its own at random widths."""
    rng = np.random.default_rng(seed)
    regions = list(design.program.regions)[:count]
    most = max(region.chunks for region in regions)
    while len(regions) < count:
        signed = bool(rng.random() < 0.5)
        widest = min(design.feature_bits, design.out_bits) - (not signed)
        widths = tuple(between(rng, min(1 + signed, widest), widest) for _ in range(design.buckets))
        regions.append(Region(widths, signed, between(rng, 1, most)))
    rng.shuffle(regions)
    return replace(design, program=replace(design.program, regions=tuple(regions)))


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pe2-lanes3"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("chunk_base_reg + CHUNK_STEP", "chunk_base_reg - CHUNK_STEP"),
        ("write_first_chunk ? {ADDR", "!write_first_chunk ? {ADDR"),
        ("if (write_step)", "if (1'b1)"),
        ("read_region == 1'd0 ?", "read_region != 1'd0 ?"),
        ("region0_rdata[lane*", "region0_rdata[(LANES-1-lane)*"),
        ("we && write_region ==", "we || write_region =="),
        ("read_re[bank] &&", ""),
        # Banks.
        ("row[0] == PARITY[0]", "row[0] != PARITY[0]"),
        (" && row[0] == PARITY[0]", ""),
        ("row[ROW_BITS-1:1]", "row[ROW_BITS-2:0]"),
        ("PE = bank / 2", "PE = bank % PES"),
        ("write_valid[PE]", "write_valid[0]"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe2-lanes3"), old, new), tmp_path)


WINDOWS: dict[str, dict[str, Any]] = {
    "pe1-2-positions": {"buckets": 2, "lanes": 3, "layers": 2, "hidden": 7, "nodes": 21},
    "pe1-8-positions": {"buckets": 8, "lanes": 1, "layers": 3, "hidden": 3, "nodes": 40},
    "pe1-one-region": {"buckets": 3, "lanes": 4, "layers": 1, "classes": 9, "nodes": 64},
    "pe1-one-node-a-position": {"buckets": 5, "lanes": 2, "room": [1] * 5, "nodes": 5},
    "pe2-4-positions": {"buckets": 4, "pes": 2, "lanes": 3, "layers": 3, "nodes": 37},
    "pe2-one-bit": {"buckets": 4, "pes": 2, "lanes": 5, "layers": 2, "nodes": 30, "max_bits": 2},
    "pe2-one-chunk": {"buckets": 3, "pes": 2, "lanes": 8, "hidden": 5, "classes": 6, "nodes": 33},
    "pe4-5-positions": {"buckets": 5, "pes": 4, "lanes": 2, "layers": 3, "hidden": 5, "nodes": 90},
    "pe4-few-nodes": {"buckets": 3, "pes": 4, "lanes": 2, "layers": 2, "hidden": 5, "nodes": 3},
    "pe8-6-positions": {"buckets": 6, "pes": 8, "lanes": 1, "hidden": 3, "nodes": 50},
    "pe4-16-nodes": {"buckets": 8, "pes": 4, "lanes": 1, "layers": 2, "nodes": 16},
    # Slices of positions 0 .. 2 and 2, of 0 .. 1 and 1, all with rows for no more than these.
    "pe2-faults": {
        "seed": 43, "buckets": 4, "pes": 2, "lanes": 3, "layers": 3, "hidden": 7, "classes": 4,
        "nodes": 40, "room": [14, 9, 10, 12],
    },
}  # fmt: skip


def windowed(rng: Rng, output: Format, buckets: int, max_bits: int) -> Format:
    """Draw windows for a format."""
    low = 2 if output.signed else 1
    bits = [between(rng, low, max_bits) for _ in range(buckets)]
    windows = tuple(Window(exponent=between(rng, 0, 16 - wide), bits=wide) for wide in bits)
    top = max(window.exponent + window.bits for window in windows)
    return msgspec.structs.replace(output, bits=top, windows=windows)


def window_design(
    *, buckets: int, seed: int = 1, room: list[int] | None = None, max_bits: int = 16,
    regions: int = 0, **options: Any,
) -> Design:  # fmt: skip
    """Return a design whose stored tensors have windows, cut into slices in a random way."""
    rng = np.random.default_rng(seed)
    design = random_design(51, max_bits=min(max_bits, 8), features=5, **options)
    layers = gcn_layers(design.manifest)
    for step in design.manifest.steps()[:-1]:
        if step.key[0] and rng.random() < 0.2:
            continue  # a tensor without windows in a region of others
        index, stage = step.key
        output = windowed(rng, step.epilogue.output, buckets, max_bits)
        epilogue = msgspec.structs.replace(step.epilogue, output=output)
        layers[index] = msgspec.structs.replace(layers[index], **{stage: epilogue})
    manifest = msgspec.structs.replace(
        design.manifest, layers=tuple(layers), degree_splits=tuple(range(1, buckets))
    )
    nodes = design.capacity.nodes
    bucket_nodes = room or [between(rng, 0, nodes) for _ in range(buckets)]
    if not room:
        bucket_nodes[between(rng, 0, buckets - 1)] = nodes
    found = make_design(
        manifest, lanes=design.lanes, pes=design.pes, stream_bits=design.stream_bits,
        capacity=replace(design.capacity, bucket_nodes=tuple(bucket_nodes)),
    )  # fmt: skip
    if regions:
        found = with_regions(found, regions, seed)
    plans = []
    for region in found.program.regions:
        choice = candidates(
            region.widths, region.chunks, found.lanes, tuple(bucket_nodes), nodes, found.banks
        )
        # All cuts, or some of them: the best plan of so small a memory has few slices.
        most = max(choice, key=lambda plan: len(plan.slices))
        plans.append(most if rng.random() < 0.5 else choice[between(rng, 0, len(choice) - 1)])
    # In place of the planner's own choice.
    vars(found)["region_plans"] = tuple(plans)
    return found


def window_settings(design: Design, draws: int, peek: bool = False) -> dict[str, Any]:
    return {
        **plain_settings(design, draws),
        "peek": peek,
        "bucket_nodes": design.capacity.bucket_nodes,
        "widths": [region.widths for region in design.program.regions],
        "slices": [
            [(part.low, part.high, part.first, part.end, part.rows) for part in plan.slices]
            for plan in design.region_plans
        ],
    }


def window_job(name: str, draws: int = 8, peek: bool = False) -> UnitRun:
    design = window_design(**WINDOWS[name])
    return checked_run(design, window_settings(design, draws, peek))


@pytest.mark.parametrize("name", list(WINDOWS))
def test_windows_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(window_job(name, peek=True), "icarus", tmp_path)


def assert_no_complaint(texts: Mapping[str, str], folder: Path, synthesise: bool) -> None:
    """Let Verilator, Icarus and, where wanted, Yosys read a buffer."""
    for file, text in texts.items():
        (folder / file).write_text(text)
    verilator, icarus = find_verilator(), find_icarus()
    complaints = output(
        [str(verilator.executable), "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--quiet",
         "--top-module", "sgq_feature_buffer", *texts],
        folder,
        verilator.environment(),
    )  # fmt: skip
    assert "%Warning" not in complaints
    top = ["-t", "null", "-s", "sgq_feature_buffer"]
    assert not output([str(icarus.executable), "-g2005", "-Wall", *top, *texts], folder).strip()
    if synthesise:
        script = "read_verilog sgq_*.v; hierarchy -check -top sgq_feature_buffer; proc"
        assert "Warning" not in yosys(f"{script}; check -assert", folder)


@pytest.mark.parametrize("name", list(WINDOWS))
def test_windows_have_no_complaint(name: str, tmp_path: Path) -> None:
    texts = unit_run("feature_buffer", window_design(**WINDOWS[name])).texts
    assert_no_complaint(texts, tmp_path, name == "pe2-faults")


@pytest.mark.parametrize("name", ["pe1-8-positions", "pe2-faults"])
def test_windows_from_power_up_states_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(window_job(name), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Where the rows of a slice begin.
        ("4'd0 - region0_slice2_offset", "4'd0"),
        ("- region0_slice2_offset", "+ region0_slice2_offset"),
        ("region0_slice2_offset = bounds[1*", "region0_slice2_offset = bounds[0*"),
        ("bounds[1*BOUND_BITS+2 +: 4]", "bounds[1*BOUND_BITS+1 +: 4]"),
        ("4'd4 - region0_slice2_offset", "4'd5 - region0_slice2_offset"),
        ("write_base_reg + 5'd9", "write_base_reg + 5'd8"),
        ("2'd2: region0_slice1_read_base = 5'd18", "2'd3: region0_slice1_read_base = 5'd18"),
        ("case (addr[5:4])", "case (addr[4:3])"),
        # Which positions have rows there.
        (" && bucket < 2'd3", ""),
        (" && bucket >= 2'd2", ""),
        ("bucket < 2'd2", "bucket <= 2'd2"),
        ("write_bucket[PE*BUCKET_BITS", "write_bucket[0*BUCKET_BITS"),
        ("== 1'd0 && !reached[2]", "== 1'd0"),
        ("&& reached[1] && !reached[2]", "&& !reached[2]"),
        # The position of the place that is read.
        ("place >= bound2", "place > bound2"),
        ("PARITY * PES + PE", "PE * 2 + PARITY"),
        ("if (read_re[bank])", "if (1'b1)"),
        ("& ~{1'b0, reached_reg}", ""),
        ("reached_reg, 1'b1}", "1'b1, reached_reg}"),
        ("read_exponents[number*4 +: 4]", "read_exponents[(number^1)*4 +: 4]"),
        ("code << exponent", "code << exponent[2:0]"),
        # Bits above a narrow code, and which bits a slice holds.
        ("region0_slice2_held ? region0_slice2_bits : {5{region0_sign}}", "region0_slice2_bits"),
        ("{5{region0_sign}}", "{5{1'b0}}"),
        ("region0_slice1_held ? region0_slice1_bits[0] :", ""),
        ("!reached_reg[1];", "!reached_reg[0];"),
        ("data[lane*OUT_BITS+10 +: 1]", "data[lane*OUT_BITS+9 +: 1]"),
    ],
)
def test_a_planted_fault_with_windows_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(window_job("pe2-faults", peek=True), old, new), tmp_path)


ROWS: dict[str, tuple[int, int, bool, dict[str, Any]]] = {
    "pe1-one-region": (1, 1, False, DESIGNS["pe1-one-region"]),
    "pe1-4-regions": (2, 4, False, DESIGNS["pe1-lanes16-blocks"]),
    "pe1-lanes1": (2, 3, True, DESIGNS["pe1-lanes1"]),
    "pe1-one-node": (1, 3, False, DESIGNS["pe1-one-node"]),
    "pe2-4-regions": (2, 4, False, DESIGNS["pe2-lanes3"]),
    "pe2-one-chunk": (2, 4, False, {"pes": 2, "lanes": 8, "hidden": 5, "classes": 6, "nodes": 33}),
    "pe2-one-node": (2, 4, True, DESIGNS["pe2-one-node"]),
    "pe8-5-regions": (2, 5, True, DESIGNS["pe8-lanes2"]),
    "pe8-few-nodes": (1, 3, False, DESIGNS["pe8-few-nodes"]),
    "windows-pe1-8-positions": (2, 4, False, WINDOWS["pe1-8-positions"]),
    "windows-pe1-one-node-a-position": (1, 3, True, WINDOWS["pe1-one-node-a-position"]),
    "windows-pe2-one-bit": (2, 4, False, WINDOWS["pe2-one-bit"]),
    "windows-pe2-one-chunk": (2, 3, True, WINDOWS["pe2-one-chunk"]),
    "windows-pe2-faults": (2, 4, False, WINDOWS["pe2-faults"]),
    "windows-pe4-5-positions": (2, 4, True, WINDOWS["pe4-5-positions"]),
    "windows-pe4-few-nodes": (1, 4, False, WINDOWS["pe4-few-nodes"]),
    "windows-pe8-6-positions": (2, 4, False, WINDOWS["pe8-6-positions"]),
}
"""Name to row ports, regions, whether words may be asked for that are not there, and options."""


def row_job(name: str, draws: int = 10, collide: bool = False) -> UnitRun:
    ports, regions, junk, options = ROWS[name]
    settings: dict[str, Any] = {"collide": collide}
    if "buckets" in options:
        design = window_design(**options, regions=regions)
        settings |= window_settings(design, draws)
    else:
        design = with_regions(random_design(51, **options), regions, 5)
        settings |= plain_settings(design, draws)
    return checked_run(design, settings, ports, junk)


@pytest.mark.parametrize("name", list(ROWS))
def test_row_ports_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(row_job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", list(ROWS))
def test_row_ports_have_no_complaint(name: str, tmp_path: Path) -> None:
    assert_no_complaint(row_job(name).texts, tmp_path, name.endswith(("4-regions", "faults")))


@pytest.mark.parametrize("name", ["pe2-4-regions", "windows-pe2-faults"])
def test_row_ports_from_power_up_states_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(row_job(name), "verilator", tmp_path)


@pytest.mark.parametrize("name", ["pe1-4-regions", "windows-pe2-faults"])
def test_a_region_of_two_kinds_of_ports_is_caught(name: str, tmp_path: Path) -> None:
    log = expect_failure_of(row_job(name, draws=2, collide=True), tmp_path)
    assert "SGQ_CHECK" in log
    assert "of a row port is read by the read port" in log


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Which words of a memory are asked for, and by whom.
        ("3'd2: row_base = 5'd10", "3'd2: row_base = 5'd11"),
        ("case (row_chunk)", "case (row_chunk ^ 3'd1)"),
        ("row_base + {", "{"),
        ("own[ROW_BITS-1:1]", "own[ROW_BITS-2:0]"),
        ("row_re && own[0] == PARITY[0]", "own[0] == PARITY[0]"),
        ("row_re && own[0] == PARITY[0]", "row_re && own[0] != PARITY[0]"),
        ("own    = row_index[PE*ROW_BITS", "own    = row_index[0*ROW_BITS"),
        ("region1_by_row ? own_re : ", ""),
        ("region1_by_row ? own_re : ", "own_re || "),
        ("region2_by_row ? own_addr", "!region2_by_row ? own_addr"),
        ("region0_by_row = (row_a_use && ", "region0_by_row = ("),
        (" || (row_b_use && row_b_region == 2'd3)", ""),
        ("(row_a_use && row_a_region == 2'd2) || ", ""),
        # Which data come out.
        ("odd_reg\n", "!odd_reg\n"),
        ("odd_reg <= row_index[pe*ROW_BITS]", "odd_reg <= row_index[0]"),
        ("if (row_re) begin", "if (1'b1) begin"),
        ("row_a_region == 2'd1 ? region1_wide : ", ""),
        ("row_b_region == 2'd0 ?", "row_a_region == 2'd0 ?"),
        ("? row_b_banks[(2*pe+1)", "? row_a_banks[(2*pe+1)"),
        (": row_a_banks[2*pe*", ": row_a_banks[0*"),
    ],
)
def test_a_planted_fault_of_row_ports_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(row_job("pe2-4-regions"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("orow = own[4:1]", "orow = own[3:0]"),
        ("row[4:0], PE[0:0]", "row[4:0], 1'b0"),
        ("orow + region2_slice3_row_base", "rrow + region2_slice3_row_base"),
        ("case (row_chunk)", "case (addr[5:4])"),
        ("2'd1: region1_slice1_row_base = 5'd6", "2'd1: region1_slice1_row_base = 5'd7"),
        ("row_base = region2_slice3_base1_reg", "row_base = region2_slice3_base0_reg"),
        # Positions of rows.
        ("region2_by_row ? row_reached[PE*(BUCKETS-1) +: BUCKETS-1] :", ""),
        ("region2_by_row ? row_reached_s1[PE*", "region2_by_row ? row_reached_s1[0*"),
        ("region1_slice2_held = region1_reached_s1[0]", "region1_slice2_held = reached_reg[0]"),
        ("= reached_reg;", "= reached;"),
        # Exponents.
        ("row_exponents[number*4", "read_exponents[number*4"),
        ("a_code << exponent", "a_code"),
        ("                b_code;", "                b_code << exponent;"),
        ("odd_reg     <= row[0]", "odd_reg     <= row[1]"),
        ("if (row_re)", "if (1'b1)"),
    ],
)
def test_a_planted_fault_of_row_ports_with_windows_is_found(
    old: str, new: str, tmp_path: Path
) -> None:
    expect_failure_of(mutated(row_job("windows-pe2-faults", draws=16), old, new), tmp_path)

"""The array adds up rows exactly, for all kinds of passes, with and without edge values."""

from dataclasses import replace
from pathlib import Path

import pytest

from sgq_hw.render import parameters, render
from tests.rtl.unit_runs import (
    ONE_SEED_AND_THE_OTHERS,
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

NODES = 20
DESIGNS: dict[str, dict[str, object]] = {
    "pe1-lanes1-binary": {
        "lanes": 1, "inputs": "binary", "normalisation": "factored", "layers": 2,
    },
    "pe1-lanes8-edge-one-chunk": {
        "lanes": 8, "layers": 1, "classes": 8, "normalisation": "edge",
    },
    "pe2-lanes5-edge": {
        "pes": 2, "lanes": 5, "normalisation": "edge", "max_bits": 16, "hidden": 12,
    },
    "pe2-row-each": {
        "pes": 2, "lanes": 3, "hidden": 5, "normalisation": "factored", "nodes": 2,
    },
    "pe8-lanes3": {"pes": 8, "lanes": 3, "hidden": 7, "normalisation": "factored"},
    "pe8-lanes16-one-chunk": {
        "pes": 8, "lanes": 16, "hidden": 7, "normalisation": "factored", "max_bits": 8,
    },
}  # fmt: skip
SEVERAL_CHUNKS = {"pe1-lanes1-binary", "pe2-lanes5-edge", "pe2-row-each", "pe8-lanes3"}
EXTENDED: dict[str, tuple[str, dict[str, bool]]] = {
    # All that a network of several layer kinds asks for.
    "pe2-all": (
        "pe2-lanes5-edge", {"lane_values": True, "has_bypass": True, "has_maximum": True},
    ),
    "pe1-all": ("pe1-lanes1-binary", {"lane_values": True, "has_maximum": True}),
    "pe8-lane-values": ("pe8-lanes3", {"lane_values": True}),
    # All is multiplied, but some operands (scores) are wider than what the multiplier takes.
    "pe2-lane-values-only": ("pe2-lanes5-edge", {"lane_values": True}),
    "pe1-edge-maximum": ("pe1-lanes8-edge-one-chunk", {"has_maximum": True}),
    "pe8-maximum": ("pe8-lanes16-one-chunk", {"has_maximum": True}),
}  # fmt: skip
"""Designs and what their array can do beyond them."""
WIDER = 3
"""Bits that the widest operand has beyond what is multiplied, where lanes have values."""


def job(name: str, draws: int = 12) -> UnitRun:
    base, extension = EXTENDED.get(name, (name, {}))
    design = random_design(21, **{"nodes": NODES, **DESIGNS[base]})
    assert (max(step.chunks for step in design.passes) > 1) == (base in SEVERAL_CHUNKS)
    values = parameters(design)
    changes: dict[str, int] = dict(extension)
    if extension.get("lane_values"):
        multiplied = values["OPERAND_BITS"]
        changes |= {
            "MULTIPLIED_BITS": multiplied,
            "OPERAND_BITS": multiplied + WIDER,
            "ACC_BITS": max(values["ACC_BITS"], values["VALUE_BITS"] + multiplied + WIDER),
        }
    edge_values = design.manifest.edge is not None
    settings = {
        "edge_values": edge_values, "has_bypass": not edge_values, "has_maximum": False,
        "lane_values": False, "nodes": design.capacity.nodes, "draws": draws, **changes,
    }  # fmt: skip
    plain = unit_run("mac_array", design, settings)
    return replace(plain, texts=render(design, "unit", unit="mac_array", changes=changes))


@pytest.mark.parametrize("name", [*DESIGNS, *EXTENDED])
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pe2-lanes5-edge"), "verilator", tmp_path)


@ONE_SEED_AND_THE_OTHERS
@pytest.mark.parametrize("name", ["pe2-all", "pe2-lane-values-only"])
def test_extended_arrays_on_verilator(name: str, seeds: tuple[int, ...], tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path, seeds)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base + term", "base - term"),
        ("multiplied_product * value_product", "multiplied_product + value_product"),
        ("last_s3_reg & {PES", "~last_s3_reg & {PES"),
        ("first_s2_reg[pe] ?", "!first_s2_reg[pe] ?"),
        ("mac_s2_reg[pe]\n", "1'b1\n"),
        ("row_reg + 1'b1", "row_reg + 2'd2"),
        ("last_s3_reg[pe] && last_chunk", "last_chunk"),
        ("last_s3_reg[pe] && last_chunk_s3_reg", "last_s3_reg[pe]"),
        ("row_reg <= {ROW_BITS{1'b0}}", "row_reg <= row_reg"),
        ("valid_s3_reg && end_s3_reg", "valid_s3_reg"),
        ("valid_s3_reg <= 1'b0", "valid_s3_reg <= valid_s2_reg"),
        # Slots and open rows.
        ("{slot_s2_reg[pe], chunk", "{1'b0, chunk"),
        ("{slot_s2_reg[pe], chunk_s2_reg}", "{slot_s2_reg[pe], {CHUNK_BITS{1'b0}}}"),
        ("(~op_slot & open0_reg)", "(op_slot & open0_reg)"),
        ("op_valid && op_last_chunk", "op_valid"),
        ("op_valid && op_last_chunk", "op_last_chunk"),
        ("(op_mac & op_slot)) & ~(op_last", "(op_mac & op_slot)) & (op_last"),
        ("(open0_reg | (op_mac & ~op_slot))", "(open0_reg | ~op_slot)"),
        ("open0_reg <= {PES{1'b0}}", "open0_reg <= open0_reg"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe2-lanes5-edge", 4), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(open_reg | op_mac) & ~op_last", "(open_reg | op_mac)"),
        ("open_reg  <= {PES{1'b0}}", "open_reg  <= open_reg"),
        ("bypass_s1_reg ?", "!bypass_s1_reg ?"),
    ],
)
def test_a_planted_fault_with_one_element_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe1-lanes1-binary", 4), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("candidate > largest", "candidate < largest"),
        ("first_s2_reg[pe] || candidate", "candidate"),
        ("mac_s2_reg[pe] && (first", "(first"),
        ("wire signed [OPERAND_BITS-1:0] candidate", "wire [OPERAND_BITS-1:0] candidate"),
        ("larger ? term : base", "larger ? term : {ACC_BITS{1'b0}}"),
        ("op_maximum ? maximum : sum", "maximum"),
        ("op_maximum ? maximum : sum", "sum"),
        ("op_bypass || op_maximum", "op_bypass"),
        ("op_bypass || op_maximum", "op_maximum"),
        ("op_value[SLOT*VALUE_BITS", "op_value[pe*LANES*VALUE_BITS"),
        ("{multiplied[MULTIPLIED_BITS-1]}", "{1'b0}"),
        ("{(PRODUCT_BITS-OPERAND_BITS){operand_reg[OPERAND_BITS-1]}}",
         "{(PRODUCT_BITS-OPERAND_BITS){1'b0}}"),
    ],
)  # fmt: skip
def test_a_planted_fault_of_lane_values_and_maximum_is_found(
    old: str, new: str, tmp_path: Path
) -> None:
    expect_failure_of(mutated(job("pe2-all"), old, new), tmp_path)

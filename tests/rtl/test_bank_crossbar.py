"""The bank crossbar: addresses, words, broadcasts and conflicts, for one bank and for many."""

from pathlib import Path

import pytest

from tests.rtl.unit_runs import (
    ONE_SEED_AND_THE_OTHERS,
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "bank_crossbar"


def job(pes: int, lanes: int = 3, phases: int = 12) -> UnitRun:
    # Several chunks and rows in a bank, so that addresses are sums of two parts.
    design = random_design(
        pes, pes=pes, lanes=lanes, nodes=20, layers=2, hidden=9, features=24,
        capacity={"nodes": 20 * pes},
    )  # fmt: skip
    return unit_run(UNIT, design, {"phases": phases})


@pytest.mark.parametrize("pes", [1, 2, 8])
def test_on_icarus(pes: int, tmp_path: Path) -> None:
    run_unit(job(pes), "icarus", tmp_path)


@pytest.mark.parametrize("pes", [1, 4])
def test_on_verilator(pes: int, tmp_path: Path) -> None:
    run_unit(job(pes, lanes=2, phases=30), "verilator", tmp_path)


@ONE_SEED_AND_THE_OTHERS
def test_many_on_verilator(seeds: tuple[int, ...], tmp_path: Path) -> None:
    run_unit(job(16, lanes=2, phases=20), "verilator", tmp_path, seeds)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("joined | request", "joined ^ request"),
        ("|(ones & zeros)", "&(ones & zeros)"),
        ("in_valid[pe] ? {", "!rst ? {"),
        ("bank_data[source*WORD_BITS", "bank_data[(source ^ 1'b1)*WORD_BITS"),
        ("bank_s2_reg  <= bank_s1_reg", "bank_s2_reg  <= in_bank"),
        ("valid_s2_reg     <= valid_s1_reg", "valid_s2_reg     <= in_valid"),
        ("in_base + {", "{"),
        ("tag_s3_reg       <= tag_s2_reg", "tag_s3_reg       <= tag_s1_reg"),
        ("conflict_reg <= |clash_reg;", "conflict_reg <= |bank_clash;"),
        ("clash_reg    <= {BANKS{1'b0}}", "clash_reg    <= bank_clash"),
        ("tag_valid_s2_reg <= 1'b0", "tag_valid_s2_reg <= tag_valid_s1_reg"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(4), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("in_base + {", "in_base - {"),
        ("if (in_valid[0])", "if (!in_valid[0])"),
        ("bank_re_reg <= 1'b0;", "bank_re_reg <= in_valid;"),
    ],
)
def test_a_planted_fault_with_one_bank_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(1), old, new), tmp_path)

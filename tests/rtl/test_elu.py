"""ELU of every code, alone and behind a wider container, with one table and several."""

from pathlib import Path

import pytest

from tests.rtl.attention_units import elu, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

CASES = {
    # lanes, bits of a code, bits of the container, tables
    "typical": (4, 8, 8, 1),
    "several tables": (2, 4, 9, 3),
    "smallest": (1, 2, 3, 2),
    "largest": (16, 12, 17, 1),
}


def job(name: str) -> UnitRun:
    return unit_job("elu", elu(*CASES[name]))


@pytest.mark.parametrize("name", list(CASES))
def test_every_code_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("several tables"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("enable && code_reg", "code_reg"),
        ("code_reg[DATA_BITS-1] ?", "!code_reg[DATA_BITS-1] ?"),
        ("{DATA_BITS{entry[CODE_BITS-1]}}", "{DATA_BITS{1'b1}}"),
        ("{table_select, code", "{ {TABLE_BITS{1'b0}}, code"),
        ("entry_wide : code_reg", "entry_wide : code"),
        ("valid_s2_reg <= 1'b0", "valid_s2_reg <= valid_s1_reg"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("several tables"), old, new), tmp_path)

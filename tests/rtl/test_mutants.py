"""The list of mutants holds, a few of them are killed, and what is no mutant is not counted."""

from pathlib import Path

import pytest

from sgq_hw.render import MEMORY_TEMPLATES, STAND_ALONE, UNITS
from tests.mutation import BENCHES, Mutant, read_mutants, try_mutant
from tests.rtl.test_random_networks import BUILDS, LAYER_BUILDS, TAQ_BUILDS

MUTANTS = read_mutants()
QUICK = [mutant for mutant in MUTANTS if mutant.quick]


def test_every_template_has_mutants(repository_root: Path) -> None:
    assert len(MUTANTS) >= 30
    templates = {mutant.template for mutant in MUTANTS}
    assert templates >= {*UNITS, *MEMORY_TEMPLATES}
    assert templates <= {*UNITS, *MEMORY_TEMPLATES, *STAND_ALONE}
    assert len({(mutant.template, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        text = (repository_root / "templates" / f"{mutant.template}.v.j2").read_text()
        assert text.count(mutant.old) == 1, (mutant.template, mutant.old)
        assert mutant.old != mutant.new
        assert mutant.why
        assert mutant.benches
        builds = {*BUILDS, *TAQ_BUILDS, *LAYER_BUILDS}
        assert all(bench in {*BENCHES, *builds} for bench in mutant.benches)


@pytest.mark.parametrize("mutant", QUICK, ids=lambda mutant: mutant.template)
def test_quick_mutants_are_killed(mutant: Mutant) -> None:
    assert try_mutant(mutant).killed_by


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("one clock, registered read", "one clock, reads with a register", "survived"),
        ("if (re) begin", "if re) begin", "no mutant"),
        ("if (re_is_gone) begin", "if (re) begin", "no mutant"),
    ],
    ids=["equivalent", "illegal", "stale"],
)
def test_what_is_no_fault_is_not_killed(old: str, new: str, reason: str) -> None:
    verdict = try_mutant(Mutant("ram", old, new, "", ("ram",)))
    assert not verdict.killed_by
    assert verdict.reason.startswith(reason)
    # The templates are whole again.
    assert try_mutant(Mutant("ram", "simple dual port", "dual port", "", ("ram",))).reason == (
        "survived"
    )

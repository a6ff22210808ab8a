from pathlib import Path

from sgq_hw.design import ERRORS
from sgq_hw.registers import COUNTER_BASE, COUNTERS, ERROR_TEXTS, REGISTERS, markdown


def test_the_reference_is_the_map(repository_root: Path) -> None:
    assert (repository_root / "docs" / "registers.md").read_text(encoding="utf-8") == markdown()


def test_addresses_are_distinct_words_that_fit_the_bus() -> None:
    addresses = [entry[0] for entry in REGISTERS]
    addresses += [COUNTER_BASE + 4 * half for half in range(2 * len(COUNTERS))]
    assert len(set(addresses)) == len(addresses)
    assert all(address % 4 == 0 and 0 <= address < 256 for address in addresses)


def test_every_error_is_explained_and_fits_four_bits() -> None:
    assert set(ERRORS) == set(ERROR_TEXTS)
    assert sorted(ERRORS.values()) == list(range(len(ERRORS)))
    assert max(ERRORS.values()) < 16

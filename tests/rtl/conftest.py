"""Which of the many planted faults the small matrix runs."""

from collections import Counter

import pytest

KEPT = 3
"""Of so many faults of a test the small matrix runs one; `make test-full` runs all."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the other planted faults as a part of the full matrix."""
    seen: Counter[str] = Counter()
    for item in items:
        name = getattr(item, "originalname", item.name)
        if name.startswith("test_a_planted_fault") and item.path.parent.name == "rtl":
            test = f"{item.path}::{name}"
            if seen[test] % KEPT and "fault" not in getattr(item, "fixturenames", []):
                item.add_marker(pytest.mark.full)
            seen[test] += 1

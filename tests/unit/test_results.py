"""The results table: its rows and its counts."""

from pathlib import Path
from typing import Any

from benchmarks.sgquant_results import Pair, pairs, published_rows, report, rows_of
from sgq_hw.quantize.config import uniform_config


def measured(value: float, lost: float) -> dict[str, Any]:
    return {
        "float": {"test": value}, "integer": {"test": value - lost}, "average_feature_bits": 1.0,
        "compression_features": 32.0, "compression_hidden": 8.0, "compression_stored": 20.0,
        "compression_total": 60.0,
    }  # fmt: skip


def test_rows_and_report() -> None:
    """Mean and sample deviation over seeds; chosen rows are counted against the targets."""
    results = [
        {method: measured(value, lost) for method in ("chosen", "uniform8", "uniform4", "released")}
        for value, lost in ((80.0, 1.0), (82.0, 0.5))
    ]
    rows = rows_of(Pair("gcn", "cora", Path()), results, uniform_config(4, 2))
    chosen = rows[0]
    assert [row["method"] for row in rows] == ["chosen", "uniform8", "uniform4", "released"]
    assert (chosen["accuracy_float_mean"], chosen["seeds"]) == (81.0, 2)
    assert chosen["accuracy_float_std"] == 2**0.5
    assert chosen["accuracy_integer_mean"] == 80.25
    text = report(rows + published_rows())
    line = "| gcn | cora | chosen | 81.00 +- 1.41 | 80.25 +- 1.77 | 0.75 | 32.00 | 8.00 | 20.00 |"
    assert line in text
    assert "1 `chosen` rows of 22: mean drop 0.75 points" in text
    assert "at least 31.8x on 1, hidden at least 8x on 1" in text
    assert set(rows[0]) <= set(published_rows()[0])


def test_all_pairs_are_there() -> None:
    names = [pair.name for pair in pairs(Path())]
    assert len(names) == len(set(names)) == 22

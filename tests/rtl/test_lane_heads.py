"""The heads of all lanes, for passes of any heads, channels and lanes, one pass and several."""

from dataclasses import replace
from pathlib import Path

import pytest

from sgq_hw.layers import AgnnLayer, GatLayer, Layer
from tests.attention_designs import SIGNED, agnn, gat, linear, network, sized
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit, unit_run

UNIT = "lane_heads"
CASES: dict[str, tuple[tuple[Layer, ...], int]] = {
    # layers, lanes
    "one-word": ((linear(3, 4), agnn(4, SIGNED)), 4),
    "one-head": ((linear(3, 11), agnn(11, SIGNED)), 4),
    "one-lane": ((gat(3, 6, 3),), 1),
    # Heads that end within a word, and a word of several heads.
    "odd": ((gat(3, 15, 5),), 4),
    "many": ((gat(3, 24, 12),), 8),
    "channel-each": ((gat(3, 9, 9),), 16),
    "several": ((gat(3, 14, 7), gat(14, 6, 2), agnn(6), gat(6, 5, 5)), 4),
    "wide": ((gat(3, 64, 8), gat(64, 7, 1)), 16),
}
DRAWS = 20


def job(name: str, bits: int = 5) -> UnitRun:
    layers, lanes = CASES[name]
    passes = [
        (layer.attention.heads if isinstance(layer, GatLayer) else 1, layer.out_channels)
        for layer in layers
        if isinstance(layer, GatLayer | AgnnLayer)
    ]
    design = sized(network(layers), lanes=lanes)
    run = unit_run(UNIT, design, {"passes": passes, "draws": DRAWS})
    return replace(run, parameters={"BITS": bits})


@pytest.mark.parametrize("name", list(CASES))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize(("name", "bits"), [("one-word", 1), ("several", 16)])
def test_on_verilator(name: str, bits: int, tmp_path: Path) -> None:
    run_unit(job(name, bits), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("case ({select, chunk})", "case ({2'd0, chunk})"),
        ("{2'd0, 3'd1}: begin", "{2'd0, 3'd7}: begin"),
        ("in_data[head1*BITS", "in_data[head0*BITS"),
        ("out_data[2*BITS +: BITS]", "out_data[2*BITS +: BITS-1]"),
        ("head3 = 3'd3", "head3 = 3'd2"),
        ("head0 = 3'd2", "head0 = 3'd3"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("several"), old, new), tmp_path)

"""The pass sequencer: order, timing and the settings of every pass, derived from the manifest."""

from pathlib import Path
from typing import Any

import pytest

from sgq_hw.design import Design
from sgq_hw.formats import Epilogue
from sgq_hw.sim.bench import pack
from tests.random_networks import gcn_layers
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "pass_sequencer"
DESIGNS: dict[str, dict[str, Any]] = {
    "one-layer": {"layers": 1, "lanes": 7},
    "two-layers": {"layers": 2, "lanes": 3, "multipliers": ("node",)},
    "three-layers": {"layers": 3, "lanes": 4, "multipliers": ("layer", "channel"), "bias": True},
    "mixed": {"layers": 3, "lanes": 2, "associations": ("(AX)W",)},
    "four-elements": {"pes": 4, "lanes": 4, "layers": 3, "associations": ("(AX)W",)},
    "many-banks": {"pes": 64, "lanes": 2, "layers": 2, "features": 24},
    "windows": {"pes": 2, "lanes": 3, "layers": 3, "buckets": 4, "max_bits": 9},
    "eight-windows": {"lanes": 5, "layers": 2, "buckets": 8, "windows": True},
}


def expected_passes(design: Design) -> list[dict[str, int]]:
    """Return the settings of each pass, worked out from the network alone."""
    manifest, lanes = design.manifest, design.lanes
    banks = 1 if design.pes == 1 else 2 * design.pes
    tables = [table.name for table in manifest.node_tables]
    stages: list[tuple[int, str, Epilogue]] = []
    layers = gcn_layers(manifest)
    for number, layer in enumerate(layers):
        names = ["combine", "aggregate"]
        if layer.association == "(AX)W":
            names.reverse()
        stages += [(number, name, getattr(layer, name)) for name in names]
    found = []
    weights = channels = 0
    for position, (number, stage, epilogue) in enumerate(stages):
        layer = layers[number]
        aggregate = stage == "aggregate"
        gathers_inputs = aggregate and layer.association == "(AX)W"
        width = layer.in_channels if gathers_inputs else layer.out_channels
        chunks = (width + lanes - 1) // lanes
        multiplier = epilogue.multiplier
        select = {"layer": 0, "channel": 1}.get(multiplier.kind)
        output = epilogue.output
        widths = [output.bits] * max(1, len(design.order))
        if output.windows:
            widths = [output.windows[bucket].bits for bucket in design.order]
        low = [-(2 ** (bits - 1)) if output.signed else 0 for bits in widths]
        high = [2 ** (bits - output.signed) - 1 for bits in widths]
        entry = {
            "is_aggregate": int(aggregate),
            "from_buffer": int(not aggregate and position > 0),
            "to_output": int(position == len(stages) - 1),
            "multiplier_select": 2 + tables.index(multiplier.table) if select is None else select,
            "use_bias": int(epilogue.bias_bits > 0),
            "last_chunk": chunks - 1,
            "last_chunk_lanes": width - lanes * (chunks - 1),
        }
        if design.order:
            entry["limits_low"] = pack(low, design.out_bits)
            entry["limits_high"] = pack(high, design.out_bits)
        else:
            entry |= {"limit_low": low[0], "limit_high": high[0]}
        if position:
            entry["source_region"] = (position - 1) % 2
        if position < len(stages) - 1:
            entry["destination_region"] = position % 2
        if not aggregate:
            stride = (layer.in_channels + banks - 1) // banks
            entry |= {"last_input": layer.in_channels - 1, "weight_base": weights}
            # With a single chunk nothing uses the stride.
            entry |= {"weight_stride": stride} if chunks > 1 else {}
            weights += stride * chunks
        if epilogue.bias_bits or multiplier.kind == "channel":
            entry["channel_base"] = channels
            channels += chunks
        found.append(entry)
    return found


def job(name: str) -> UnitRun:
    design = random_design(len(name), nodes=9, **DESIGNS[name])
    return unit_run(UNIT, design, {"passes": expected_passes(design)})


@pytest.mark.parametrize("name", list(DESIGNS))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job("four-elements"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pass_done && pass_reg == LAST_PASS", "pass_done && pass_reg >= LAST_PASS - 1'b1"),
        ("(state_reg == STATE_IDLE || done)", "(state_reg == STATE_IDLE)"),
        ("last_chunk         <= ", "last_chunk         <= ~"),
        ("weight_stride      <= ", "weight_stride      <= ~"),
        ("state_reg == STATE_RUN && pass_end", "pass_end"),
        ("STATE_START && to_output && !output_free", "STATE_START && !output_free"),
        ("STATE_START && to_output && !output_free", "STATE_START && to_output && output_free"),
        ("STATE_START && !output_wait", "STATE_START"),
        ("if (start) begin", "if (1'b1) begin"),
        ("pass_reg + 1'b1", "pass_reg - 1'b1"),
        ("        state_reg <= STATE_IDLE;\n", ""),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("two-layers"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limits_low         <= ", "limits_low         <= ~"),
        ("limits_high        <= ", "limits_high        <= 1'b1 + "),
    ],
)
def test_a_planted_fault_of_windows_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("windows"), old, new), tmp_path)

"""The stream loader: packets of the packer, broken packets, every pace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.generate import design_for, rom_graph
from sgq_hw.packer import input_packet, load_packets
from sgq_hw.render import parameters, render
from tests.random_networks import random_bundle
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

UNIT = "stream_loader"
NODES = 4
WINDOWS: dict[str, Any] = {"windows": True, "nodes": 40, "max_bits": 7}
DESIGNS: dict[str, dict[str, Any]] = {
    "64": {"stream_bits": 64, "lanes": 2, "multipliers": ("node",)},
    "32-edge-values": {"stream_bits": 32, "lanes": 3, "normalisation": "edge", "bias": True},
    "32-node-tables": {"stream_bits": 32, "lanes": 5, "multipliers": ("node",), "bias": True},
    "256": {"stream_bits": 256, "lanes": 4, "multipliers": ("layer", "node")},
    "4-pes": {"stream_bits": 64, "lanes": 2, "pes": 4, "multipliers": ("node",), "bias": True},
    "8-pes-edge-values": {"stream_bits": 32, "lanes": 3, "pes": 8, "normalisation": "edge"},
    "rom": {"stream_bits": 64, "rom": True, "lanes": 2},
    "windows": {"stream_bits": 64, "lanes": 2, "buckets": 4, **WINDOWS},
    "windows-3-pes-32": {"stream_bits": 32, "lanes": 3, "pes": 2, "buckets": 3, **WINDOWS},
    "windows-256": {"stream_bits": 256, "lanes": 1, "pes": 8, "buckets": 8, **WINDOWS},
    "windows-rom": {"stream_bits": 64, "rom": True, "lanes": 2, "buckets": 2, "windows": True},
    "on-chip-inputs": {"stream_bits": 64, "lanes": 2, "inputs_on_chip": True},
    "2-pes-on-chip-inputs-32": {"stream_bits": 32, "lanes": 3, "pes": 2, "inputs_on_chip": True,
                                "inputs": "signed", "input_bits": 16, "features": 4},
    "rom-on-chip-inputs": {"stream_bits": 32, "rom": True, "lanes": 2, "inputs_on_chip": True},
}
COMMON: dict[str, Any] = {
    "layers": 1, "features": 3, "classes": 4, "self_loops": False, "graph": "random",
}  # fmt: skip
SIZES = ("stream_bits", "lanes", "pes", "rom", "inputs_on_chip")


def job(name: str) -> UnitRun:
    options = COMMON | DESIGNS[name]
    drawing = {key: value for key, value in options.items() if key not in SIZES}
    sizes = {key: value for key, value in options.items() if key in SIZES}
    nodes = drawing.setdefault("nodes", NODES)
    bundle = random_bundle(np.random.default_rng(len(name)), **drawing)
    capacity = None if sizes.get("rom") else {"edges": 10 * nodes, "nodes": nodes + 1}
    design = design_for(bundle, sparse_input=False, capacity=capacity, **sizes)
    packets: dict[str, list[tuple[str, int]]] = {}
    names = {(target.type, target.index): f"{target.kind} {target.index}"
             for target in design.targets}  # fmt: skip
    beats: list[tuple[str, int]] = []
    for part in (load_packets(design, bundle), input_packet(design, bundle.workload)):
        for data, last in zip(part.data, part.last, strict=True):
            beats.append((bytes(data[::-1]).hex(), int(last)))
            if last:
                word = int(beats[0][0], 16)
                packets[names.get((word & 0xFF, word >> 8 & 0xFF), "inference")] = beats
                beats = []
    counts = {"edges": "edges", "table": "nodes", "order": "nodes", "inputs": "inputs"}
    targets = [
        {"type": target.type, "index": target.index, "kind": target.kind, "bits": target.bits,
         "words": target.words, "counts": counts.get(target.kind, "")}
        for target in design.targets
    ]  # fmt: skip
    limits = design.capacity
    graph = rom_graph(design, bundle)
    settings = {
        **parameters(design), "stream_bits": design.stream_bits, "packets": packets,
        "targets": targets, "rom": graph if design.rom else None,
        "payload": design.has_payload,
        "capacity": {
            "nodes": limits.nodes, "edge_words": limits.edge_words,
            "input_words": limits.input_words, "bucket_nodes": limits.bucket_nodes,
        },
        "windows": design.buckets > 1,
        "slices": [
            (part.first, part.end, part.rows)
            for plan in design.region_plans
            for part in plan.slices
        ],
    }  # fmt: skip
    return UnitRun(UNIT, render(design, "unit", graph, unit=UNIT), settings)


ON_VERILATOR = ("32-node-tables", "4-pes", "2-pes-on-chip-inputs-32", "windows-256")


@pytest.mark.parametrize("name", [name for name in DESIGNS if name not in ON_VERILATOR])
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ON_VERILATOR)
def test_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("word_reg[63:32] > 32'd", "word_reg[63:32] >= 32'd"),
        ("!loaded || header_last_reg || header_count == 32'd0", "!loaded || header_last_reg"),
        ("if (!error_reg || error_clear) begin", "if (!error_reg) begin"),
        ("payload_last_reg || (accept && s_axis_tlast) ?", "payload_last_reg ?"),
        ("state_reg <= STATE_CHECK;  // the error", "state_reg <= STATE_INFER;  // the error"),
        ("!busy && !infer_pending_reg", "!busy || !infer_pending_reg"),
        ("word_count_reg + 1'b1", "word_count_reg - 1'b1"),
        (" || header_tag != graph_tag_reg) begin", ") begin"),
        ("graph_tag_reg   <= header_tag;", ""),
        ("if (accept && s_axis_tlast)", "if (accept || s_axis_tlast)"),
        # A byte is missing.
        ("s_axis_partial && state_reg != STATE_DRAIN", "s_axis_partial && state_reg == STATE_LOAD"),
        ("s_axis_partial && state_reg != STATE_DRAIN", "s_axis_partial"),
        ("(!error_reg || error_clear) && !bad_graph", "!error_reg && !bad_graph"),
        ("(!error_reg || error_clear) && !bad_graph", "!error_reg || error_clear"),
        ("payload_ready && !s_axis_partial", "payload_ready"),
        ("    && !payload_last_reg && !infer_pending_reg", "    && !payload_last_reg"),
        ("state_reg      <= s_axis_tlast ? STATE_HEADER : STATE_DRAIN", "state_reg <= STATE_DRAIN"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("64"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("end3 < end2", "end3 < end1"),
        ("end4 < end3", "1'b0"),
        ("|| bad_bounds", ""),
        (" > room0", " >= room0"),
        ("end1[BOUND_BITS-1:0]}", "end2[BOUND_BITS-1:0]}"),
    ],
)
def test_a_planted_fault_of_bounds_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("windows"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("on-chip-inputs", "header_count > 32'd15 || ", ""),
        ("on-chip-inputs", "header_count > 32'd15 || ", "header_count >= 32'd15 || "),
        ("on-chip-inputs", " || header_tag != graph_tag_reg);", ");"),
        ("on-chip-inputs", "!loaded || !header_last_reg || ", "!loaded || "),
        ("on-chip-inputs", " || header_count != 32'd0 || header_tag", " || header_tag"),
        ("on-chip-inputs", "num_inputs_reg <= header_count", "num_inputs_reg <= ~header_count"),
        ("on-chip-inputs", "(header_count + 32'd7) >> 3", "header_count >> 3"),
        ("2-pes-on-chip-inputs-32", "s_axis_tlast && !header_beat_reg;", "1'b0;"),
    ],
)
def test_a_planted_fault_with_inputs_on_chip_is_found(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    expect_failure_of(mutated(job(name), old, new), tmp_path)

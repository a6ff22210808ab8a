"""The input unpacker: payloads of the packer, broken payloads, every pace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.packer import input_packet
from tests.random_workloads import random_workload
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "input_unpacker"
NODES = 4
DESIGNS: dict[str, dict[str, Any]] = {
    "binary": {"inputs": "binary", "features": 19, "stream_bits": 64},
    "signed-32": {"inputs": "signed", "features": 11, "input_bits": 5, "stream_bits": 32},
    "one-a-beat": {"inputs": "multi-bit", "features": 9, "input_bits": 16, "stream_bits": 32},
    "dense": {"inputs": "multi-bit", "features": 7, "input_bits": 9, "sparse_input": False},
    "dense-one-channel": {"inputs": "signed", "features": 1, "input_bits": 12,
                          "sparse_input": False, "stream_bits": 32},
}  # fmt: skip


def job(name: str, draws: int = 15) -> UnitRun:
    options = {"layers": 1, "nodes": NODES, "lanes": 4} | DESIGNS[name]
    channels = options["features"]
    design = random_design(len(name), **options)
    rng = np.random.default_rng(len(name))
    payloads = []
    for nodes in (1, NODES):
        workload = random_workload(rng, design.manifest, nodes)
        packet = input_packet(design, workload)
        header = max(1, 64 // design.stream_bits)
        beats = [
            (bytes(data[::-1]).hex(), int(last))
            for data, last in zip(packet.data[header:], packet.last[header:], strict=True)
        ]
        payloads.append((beats, nodes))
    spec = design.manifest.input
    fields = {field.name: (field.low, field.bits) for field in design.input_record.fields}
    settings = {
        "fields": fields, "record_bits": design.input_record.bits, "value_bits": spec.bits,
        "stream_bits": design.stream_bits, "channels": channels, "signed": spec.signed,
        "sparse": design.sparse_input, "row_nonzeros": design.capacity.row_nonzeros,
        "payloads": payloads, "draws": draws,
    }  # fmt: skip
    return unit_run(UNIT, design, settings)


@pytest.mark.parametrize("name", [name for name in DESIGNS if name != "signed-32"])
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job("signed-32"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("finish && !last_reg", "finish && last_reg"),
        ("beat_reg >> RECORD_BITS", "beat_reg >> (RECORD_BITS - 1)"),
        ("length_reg + 1'b1", "length_reg - 1'b1"),
        ("beat_used && last_reg && !finish", "beat_used && last_reg || !finish"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("binary"), old, new), tmp_path)

"""The whole accelerator at its ports: every pace, twenty inferences in a row, resets, loads."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.bundle import Bundle, Workload, save_bundle
from sgq_hw.cosim import judge, simulate
from sgq_hw.design import Design
from sgq_hw.generate import design_for, generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.host import Beats
from sgq_hw.jobs import inference_job
from sgq_hw.packer import input_packet, load_packets, output_beats
from sgq_hw.render import parameters, render
from tests.quantised import quantised
from tests.random_networks import other_parameters, random_bundle
from tests.random_workloads import random_workload
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

UNIT = "accelerator_ports"
NODES = 34
VARIANTS = 3


def lines(beats: Beats) -> list[tuple[str, int]]:
    return [
        (bytes(data[::-1]).hex(), int(last))
        for data, last in zip(beats.data, beats.last, strict=True)
    ]


def slots(design: Design, workload: Workload) -> dict[str, int]:
    """Return what an inference puts into the counters, counted pass by pass."""
    found = dict.fromkeys(("busy_slots", "lost_lane_padding", "lost_row_imbalance"), 0)
    lanes = design.lanes
    for step in design.passes:
        if step.front == "combine_buffer" or (step.index == 0 and not design.sparse_input):
            rows = np.full(workload.num_nodes, step.in_channels)
        else:
            rows = np.diff(workload.indptr if step.front == "aggregate" else workload.x_indptr)
        chunks = -(-step.out_channels // lanes)
        found["busy_slots"] += int(rows.sum()) * step.out_channels
        found["lost_lane_padding"] += int(rows.sum()) * (chunks * lanes - step.out_channels)
        found["lost_row_imbalance"] += int((rows == 0).sum()) * chunks * lanes
    return found | {"lost_bank_conflict": 0}


def network(rng: np.random.Generator, design: Design, bundle: Bundle) -> dict[str, Any]:
    """Return packets and results of one network and graph with several inputs."""
    inferences = []
    final = design.passes[-1]
    for variant in range(VARIANTS):
        workload = bundle.workload
        if variant:
            other = random_workload(rng, design.manifest, workload.num_nodes)
            workload = replace(
                workload, x_indptr=other.x_indptr, x_indices=other.x_indices, x_codes=other.x_codes
            )
        trace = run_golden(bundle.network, workload)
        inferences.append(
            {
                "input": lines(input_packet(design, workload)),
                "output": lines(output_beats(design, trace[final.layer, final.stage])),
                "slots": slots(design, workload),
            }
        )
    return {"load": lines(load_packets(design, bundle)), "inferences": inferences}


@cache
def job() -> UnitRun:
    rng = np.random.default_rng(34)
    bundle = random_bundle(
        rng, nodes=NODES, features=9, hidden=6, classes=3, layers=2, inputs="multi-bit",
        input_bits=4, graph="empty rows", self_loops=False, max_bits=6,
    )  # fmt: skip
    capacity = {"nodes": NODES, "edges": 400, "row_edges": NODES, "row_nonzeros": 9}
    design = design_for(bundle, lanes=4, sparse_input=True, capacity=capacity)
    other = other_parameters(rng, bundle)
    smaller = random_workload(rng, design.manifest, NODES // 2)
    data = [
        network(rng, design, bundle), network(rng, design, Bundle(other.network, smaller)),
    ]  # fmt: skip
    settings = {**parameters(design), "data": "data.json", "passes": len(design.passes)}
    return UnitRun(
        UNIT, render(design, "ports"), settings, top="sgq_accelerator",
        files={"data.json": json.dumps(data)},
    )  # fmt: skip


def test_on_icarus(tmp_path: Path) -> None:
    run_unit(replace(job(), testcase="a_load_waits_for_the_end"), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job(), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("assign row_done = out_valid && out_last_chunk", "assign row_done = out_valid"),
        ("rst || payload_error", "rst && payload_error"),
        (".busy          (busy)", ".busy          (1'b0)"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(replace(job(), testcase="a_load_waits_for_the_end"), old, new),
                      tmp_path)  # fmt: skip


def test_karate_on_icarus_from_x(tmp_path: Path) -> None:
    save_bundle(tmp_path / "q.npz", quantised("karate"))
    generated = generate(tmp_path / "q.npz", tmp_path / "rtl", lanes=16)
    trace = run_golden(generated.bundle.network, generated.bundle.workload)
    jobs = [inference_job(generated.design, generated.bundle, trace, inferences=2)]
    result = judge(generated, jobs, simulate(generated, jobs, simulator="icarus"))
    assert result.equal, result.message or result.details[:5]
    assert result.words_compared == jobs[0].real_words

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
from sgq_hw.mapping import map_workload
from sgq_hw.packer import input_packet, load_packets, output_beats
from sgq_hw.render import parameters, render
from tests.quantised import quantised
from tests.random_networks import other_parameters, random_bundle
from tests.random_workloads import random_workload
from tests.rtl.unit_runs import (
    ONE_SEED_AND_THE_OTHERS,
    UnitRun,
    expect_failure_of,
    mutated,
    run_unit,
)

UNIT = "accelerator_ports"
NODES = 34
VARIANTS = 3
SEED = 6


def lines(beats: Beats) -> list[tuple[str, int]]:
    return [
        (bytes(data[::-1]).hex(), int(last))
        for data, last in zip(beats.data, beats.last, strict=True)
    ]


def different_results(output: list[tuple[str, int]]) -> int:
    """Return how many results differ; a network that gives the same to all nodes proves little."""
    return len({data for data, _ in output})


def slots(design: Design, workload: Workload) -> dict[str, int]:
    """Return what an inference puts into the counters, counted pass by pass."""
    names = ("busy_slots", "lost_lane_padding", "lost_row_imbalance", "lost_bank_conflict")
    found = dict.fromkeys(names, 0)
    mapping, nodes = map_workload(workload, design.pes), workload.num_nodes
    for step in design.passes:
        if step.front == "combine_buffer" or (step.index == 0 and not design.sparse_input):
            reads = nodes * step.in_channels
            idle, conflicts = (-nodes % design.pes) * step.in_channels, 0
        else:
            schedule = mapping.edges if step.front == "aggregate" else mapping.inputs
            reads = int((schedule.entry >= 0).sum())
            empty_rows = int((schedule.last & (schedule.entry < 0)).sum())
            idle, conflicts = schedule.lost_imbalance + empty_rows, schedule.lost_conflict
        slots_a_step = step.chunks * design.lanes
        found["busy_slots"] += reads * step.out_channels
        found["lost_lane_padding"] += reads * (slots_a_step - step.out_channels)
        found["lost_row_imbalance"] += idle * slots_a_step
        found["lost_bank_conflict"] += conflicts * slots_a_step
    return found


def other_inputs(rng: np.random.Generator, design: Design, workload: Workload) -> Workload:
    """Return the graph with other inputs; rows keep their lengths, and so nodes their places."""
    channels, lengths = design.manifest.input.channels, np.diff(workload.x_indptr)
    columns = [np.sort(rng.choice(channels, count, replace=False)) for count in lengths]
    highest = (1 << design.manifest.input.bits) - 1
    codes = rng.integers(1, highest, len(workload.x_indices), endpoint=True)
    return replace(workload, x_indices=np.concatenate(columns), x_codes=codes)


def network(rng: np.random.Generator, design: Design, bundle: Bundle) -> dict[str, Any]:
    """Return packets and results of one network and graph with several inputs."""
    inferences = []
    final = design.passes[-1]
    for variant in range(VARIANTS):
        workload = bundle.workload
        if variant:
            workload = other_inputs(rng, design, workload)
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
def job(pes: int) -> UnitRun:
    rng = np.random.default_rng(SEED)
    bundle = random_bundle(
        rng, nodes=NODES, features=9, hidden=6, classes=3, layers=2, inputs="multi-bit",
        input_bits=4, graph="random", self_loops=False, max_bits=6,
    )  # fmt: skip
    capacity = {"nodes": NODES, "edges": 400, "row_edges": NODES, "row_nonzeros": 9}
    design = design_for(bundle, pes=pes, lanes=4, sparse_input=True, capacity=capacity)
    other = other_parameters(rng, bundle)
    smaller = random_workload(rng, design.manifest, NODES // 2)
    data = [
        network(rng, design, bundle), network(rng, design, Bundle(other.network, smaller)),
    ]  # fmt: skip
    assert all(different_results(inference["output"]) > NODES // 4 for part in data
               for inference in part["inferences"])  # fmt: skip
    settings = {**parameters(design), "data": "data.json", "passes": len(design.passes)}
    return UnitRun(
        UNIT, render(design, "ports"), settings, top="sgq_accelerator",
        files={"data.json": json.dumps(data)},
    )  # fmt: skip


LOADS = "a_load_waits_for_the_end"


def test_on_icarus(tmp_path: Path) -> None:
    run_unit(replace(job(1), testcase=LOADS), "icarus", tmp_path)


@ONE_SEED_AND_THE_OTHERS
@pytest.mark.parametrize("pes", [1, 4])
def test_on_verilator(pes: int, seeds: tuple[int, ...], tmp_path: Path) -> None:
    run_unit(job(pes), "verilator", tmp_path, seeds)


@pytest.mark.parametrize(
    ("pes", "old", "new"),
    [
        (1, "assign pass_end        = out_end", "assign pass_end        = out_step"),
        (1, "rst || run_error_reg", "rst && run_error_reg"),
        (1, "busy || !output_free", "1'b0"),
        (4, "busy || !output_free", "busy"),
    ],
)
def test_a_planted_fault_is_found(pes: int, old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(replace(job(pes), testcase=LOADS), old, new), tmp_path)


def test_karate_on_icarus_from_x(tmp_path: Path) -> None:
    save_bundle(tmp_path / "q.npz", quantised("karate"))
    generated = generate(tmp_path / "q.npz", tmp_path / "rtl", lanes=16)
    trace = run_golden(generated.bundle.network, generated.bundle.workload)
    jobs = [inference_job(generated.design, generated.bundle, trace, inferences=2)]
    result = judge(generated, jobs, simulate(generated, jobs, simulator="icarus"))
    assert result.equal, result.message or result.details[:5]
    assert result.words_compared == jobs[0].real_words

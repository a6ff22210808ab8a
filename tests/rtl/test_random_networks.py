"""Random networks, graphs, weights and stalls: golden model and Verilog agree on every word.

One build runs many draws: graphs, inputs, parameters and stalls are data.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cosim import CosimResult, judge, simulate
from sgq_hw.cycles import inference_cycles
from sgq_hw.design import Design
from sgq_hw.generate import GeneratedDesign, generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.jobs import Job, Stalls, inference_job, marked, result_lines
from sgq_hw.lowering import memory_order
from sgq_hw.mapping import map_onto
from sgq_hw.packer import input_packet, output_beats, reload_packet
from sgq_hw.registers import COUNTERS
from tests.random_layers import NORMALISATIONS, Kinds, random_kinds, random_layers
from tests.random_networks import INPUTS, finest, other_parameters, random_bundle
from tests.random_workloads import between, choose, random_workload

NODES = 24
DRAWS = 7
STEADY_EVERY = 3
"""Of so many draws one has no stalls: its interval is the predicted one."""
OUTPUT_STALL = [counter.name for counter in COUNTERS].index("lost_output_stall")

BUILDS: dict[str, dict[str, object]] = {
    "lanes1": {"lanes": 1, "inputs": "binary", "normalisation": "factored"},
    "lanes3-edge": {"lanes": 3, "normalisation": "edge", "stream_bits": 32, "layers": 2},
    "lanes5-signed": {"lanes": 5, "inputs": "signed", "layers": 3},
    "lanes8-empty-rows": {"lanes": 8, "self_loops": False, "inputs": "multi-bit"},
    "lanes16-dense": {"lanes": 16, "sparse_input": False, "stream_bits": 128},
    "lanes64": {"lanes": 64, "hidden": 19, "max_bits": 8},
    "rom": {"lanes": 4, "rom": True, "layers": 2},
    "one-layer": {"lanes": 7, "layers": 1, "normalisation": "edge", "stream_bits": 1024},
    "pes2": {"pes": 2, "lanes": 3, "inputs": "signed", "normalisation": "edge", "layers": 3},
    "pes4-empty-rows": {"pes": 4, "lanes": 5, "self_loops": False, "layers": 2},
    "pes8-dense": {"pes": 8, "lanes": 2, "sparse_input": False, "layers": 2, "stream_bits": 64},
    "pes4-streamed": {"pes": 4, "lanes": 3, "streamed": True, "layers": 2, "stream_bits": 64},
    "pes2-streamed-edge": {"pes": 2, "lanes": 4, "streamed": True, "normalisation": "edge",
                           "inputs": "signed", "self_loops": False},
    "streamed": {"lanes": 6, "streamed": True, "layers": 2},
    "pes16-few-rows": {"pes": 16, "lanes": 1, "layers": 2, "max_bits": 4},
    "inputs-on-chip": {"lanes": 3, "layers": 2, "inputs": "signed", "inputs_on_chip": True,
                       "sparse_input": True},
    "pes4-inputs-on-chip": {"pes": 4, "lanes": 3, "layers": 2, "inputs_on_chip": True,
                            "sparse_input": True, "stream_bits": 64, "inputs": "multi-bit"},
    "pes8-inputs-on-chip-dense": {"pes": 8, "lanes": 2, "layers": 2, "inputs_on_chip": True,
                                  "sparse_input": False},
    "pes2-inputs-on-chip-streamed": {"pes": 2, "lanes": 4, "inputs_on_chip": True,
                                     "streamed": True, "stream_bits": 64, "normalisation": "edge",
                                     "sparse_input": True},
    "streamed-inputs-on-chip-dense": {"lanes": 4, "inputs_on_chip": True, "streamed": True,
                                      "sparse_input": False, "layers": 2},
    "rom-inputs-on-chip": {"lanes": 5, "inputs_on_chip": True, "rom": True, "layers": 2},
}
TAQ_BUILDS: dict[str, dict[str, object]] = {
    # `roomy`: any node may be in any bucket; else every bucket has room for some nodes only.
    # `sliced`: regions are cut wherever the bits of a bucket end; memories of this size are not.
    "taq-1": {"lanes": 3, "buckets": 3, "layers": 3, "normalisation": "factored",
              "sliced": True},
    "taq-1-edge-eight": {"lanes": 16, "buckets": 8, "layers": 2, "normalisation": "edge",
                         "windows": True, "stream_bits": 32, "sliced": True},
    "taq-1-streamed": {"lanes": 5, "buckets": 4, "layers": 2, "streamed": True, "roomy": True},
    "taq-1-dense": {"lanes": 2, "buckets": 3, "layers": 2, "sparse_input": False, "windows": True,
                    "self_loops": False, "inputs_on_chip": True},
    "taq-1-rom": {"lanes": 4, "buckets": 4, "layers": 2, "rom": True, "windows": True,
                  "sliced": True},
    "taq-2": {"pes": 2, "lanes": 4, "buckets": 4, "layers": 3, "inputs": "signed",
              "normalisation": "edge", "windows": True, "sliced": True, "inputs_on_chip": True,
              "sparse_input": True},
    "taq-4-serial": {"pes": 4, "lanes": 2, "buckets": 5, "layers": 2, "streamed": True,
                     "windows": True, "self_loops": False, "normalisation": "factored"},
    "taq-8-dense": {"pes": 8, "lanes": 3, "buckets": 8, "layers": 2, "sparse_input": False,
                    "windows": True, "stream_bits": 64, "max_bits": 6, "sliced": True},
    "taq-4-two": {"pes": 4, "lanes": 7, "buckets": 2, "layers": 2, "roomy": True},
    # Degree buckets that no tensor has windows for, and a single bucket: hardware as without.
    "taq-no-windows": {"pes": 2, "lanes": 2, "buckets": 3, "windows": False},
}
TAQ_NODES, TAQ_DRAWS = 40, 5
LAYER_BUILDS: dict[str, dict[str, object]] = {
    # Layers of every kind: `kinds` of `tests.random_layers`.
    "sage-rom": {"lanes": 5, "kinds": ("sage", "gin", "linear"), "rom": True,
                 "buckets": 1},
    "sage-1-windows": {"lanes": 2, "kinds": ("sage", "sage"), "buckets": 3, "windows": True,
                       "sliced": True},
    "sage-2": {"pes": 2, "lanes": 3, "kinds": ("sage", "gin", "sage"), "buckets": 4,
               "windows": True, "streamed": True, "sliced": True},
    "gat-1": {"lanes": 1, "kinds": ("gat", "gat"), "buckets": 3, "windows": True, "max_bits": 8,
              "self_loops": False, "sliced": True},
    "gat-4-streamed": {"pes": 4, "lanes": 5, "kinds": ("gat", "gat"), "streamed": True,
                       "stream_bits": 64, "normalisation": "edge", "buckets": 1},
    "gat-8-inputs-on-chip": {"pes": 8, "lanes": 2, "kinds": ("gat", "gat"), "buckets": 4,
                             "windows": True, "inputs_on_chip": True, "sparse_input": True,
                             "sliced": True},
    "agnn-2": {"pes": 2, "lanes": 2, "kinds": ("linear", "agnn", "agnn", "linear"),
               "buckets": 1},
    "agnn-4-streamed": {"pes": 4, "lanes": 3, "kinds": ("linear", "agnn", "agnn"), "buckets": 4,
                        "windows": True, "streamed": True, "sliced": True},
    "mixed-1": {"lanes": 8, "kinds": ("sage", "gat", "gin", "agnn"), "streamed": True,
                "buckets": 1},
    "mixed-2": {"pes": 2, "lanes": 16, "kinds": ("gat", "sage", "agnn", "gat"), "buckets": 3,
                "sparse_input": False},
    "agnn-1": {"lanes": 2, "kinds": ("linear", "agnn"), "buckets": 1},
}
LAYER_DRAWS = 5

GENERATE_OPTIONS = ("pes", "lanes", "sparse_input", "stream_bits", "rom", "streamed",
                    "inputs_on_chip")  # fmt: skip


def build(
    rng: np.random.Generator, options: dict[str, object], folder: Path, nodes: int = NODES
) -> GeneratedDesign:
    drawing = {key: value for key, value in options.items() if key not in GENERATE_OPTIONS}
    roomy = bool(drawing.pop("roomy", False))
    bundle = (
        random_layers(rng, nodes=nodes, built=True, **drawing)  # type: ignore[arg-type]
        if "kinds" in drawing
        else random_bundle(rng, nodes=nodes, **drawing)  # type: ignore[arg-type]
    )
    save_bundle(folder / "q.npz", bundle)
    chosen: dict[str, Any] = {
        key: value for key, value in options.items() if key in GENERATE_OPTIONS
    }
    if not chosen.get("rom"):
        capacity = {
            "nodes": nodes,
            "edges": nodes * nodes,
            "edge_words": nodes * nodes,
            "row_edges": nodes,
            "row_nonzeros": bundle.network.manifest.input.channels,
        }
        if chosen.get("inputs_on_chip"):
            # No schedule is longer than one record a step.
            capacity["input_words"] = nodes * bundle.network.manifest.input.channels
        order, buckets = memory_order(bundle.network.manifest), bundle.workload.buckets
        if order:
            assert buckets is not None
            for bucket, size in enumerate(np.bincount(buckets, minlength=len(order)).tolist()):
                room = nodes if roomy else between(rng, size, min(nodes, 2 * size + 3))
                capacity[f"bucket{bucket}"] = room
        chosen["capacity"] = capacity
    return generate(folder / "q.npz", folder / "rtl", **chosen)


def draw(rng: np.random.Generator, generated: GeneratedDesign) -> Bundle:
    base, design = generated.bundle, generated.design
    if design.rom:
        return base
    bundle = other_parameters(rng, base)
    rooms = None
    if design.order:
        rooms = [design.capacity.bucket_nodes[design.order.index(b)] for b in range(design.buckets)]
    workload = random_workload(
        rng, bundle.network.manifest, between(rng, 1, design.capacity.nodes),
        max_bucket_nodes=rooms,
    )  # fmt: skip
    return Bundle(bundle.network, workload)


def then_other_inputs(
    rng: np.random.Generator, design: Design, bundle: Bundle, job: Job
) -> Job:
    """Return a job that goes on with other inputs on the same graph: they alone are loaded."""
    loaded, manifest = bundle.workload, bundle.network.manifest
    drawn = random_workload(rng, manifest, loaded.num_nodes)
    other = replace(
        loaded, x_indptr=drawn.x_indptr, x_indices=drawn.x_indices, x_codes=drawn.x_codes
    )
    trace = run_golden(bundle.network, other)
    mapping = map_onto(design, other, loaded)
    final = design.passes[-1]
    stream = reload_packet(design, other, loaded).lines()
    stream += marked(input_packet(design, other, loaded))
    results = zip(job.results, result_lines(design, manifest, trace, mapping), strict=True)
    return Job(
        stream=job.stream + stream,
        results=[first + second for first, second in results],
        output=job.output + output_beats(design, trace[final.layer, final.stage]).lines(),
        real_words=job.real_words + sum(codes.size for codes in trace.values()),
        stalls=job.stalls,
    )


def run_draws(rng: np.random.Generator, generated: GeneratedDesign, draws: int) -> CosimResult:
    design, rom = generated.design, generated.design.rom
    jobs: list[Job] = []
    predicted: dict[int, int] = {}
    for number in range(draws):
        bundle = draw(rng, generated)
        serial = design.serial and bool(rng.integers(2))
        steady = number % STEADY_EVERY == 0
        stalls = Stalls()
        if steady:
            predicted[number] = inference_cycles(design, bundle.workload, serial=serial)
        else:
            stalls = Stalls(
                choose(rng, (0, 0, 30, 128, 230)), choose(rng, (0, 0, 30, 128, 230)),
                between(rng, 1, 1 << 30),
            )  # fmt: skip
        trace = run_golden(bundle.network, bundle.workload)
        jobs.append(
            inference_job(
                generated.design,
                bundle,
                trace,
                load=not rom,
                stalls=stalls,
                inferences=3 if steady else between(rng, 1, 3),
                serial=serial,
            )
        )
        if design.inputs_on_chip and not rom and not steady:
            jobs[-1] = then_other_inputs(rng, design, bundle, jobs[-1])
    outcome = simulate(
        generated, jobs, random_init=True, seed=between(rng, 1, 1 << 20), timeout_seconds=300
    )
    result = judge(generated, jobs, outcome)
    assert result.equal, (result.message, result.details[:5])
    assert result.words_compared == sum(job.real_words for job in jobs)
    for number, cycles in predicted.items():
        report = result.jobs[number]
        # One processing element may wait for its queue of results, which is not modelled.
        if design.collects or report.steady[OUTPUT_STALL] == 0:
            assert report.interval == cycles, f"draw {number}"
    stalled = [index for index, job in enumerate(jobs) if job.stalls.output_stall > 100]
    # Stalls that never happened would prove nothing.
    assert all(
        result.jobs[i].stalled_outputs for i in stalled if result.jobs[i].beats > 16
    )
    return result


def named_build(name: str, folder: Path) -> tuple[np.random.Generator, GeneratedDesign]:
    """Return one of the builds, and what draws for it."""
    if name in BUILDS:
        rng = np.random.default_rng([2026, list(BUILDS).index(name)])
        return rng, build(rng, BUILDS[name], folder)
    builds, nodes, part = TAQ_BUILDS, TAQ_NODES, 2027
    if name in LAYER_BUILDS:
        builds, nodes, part = LAYER_BUILDS, NODES, 2028
    rng = np.random.default_rng([part, list(builds).index(name)])
    options = dict(builds[name])
    if not options.pop("sliced", False):
        return rng, build(rng, options, folder, nodes)
    with patch("sgq_hw.design.plan_region", finest):
        generated = build(rng, options, folder, nodes)
        assert generated.design.region_plans
    return rng, generated


def are_sliced(design: Design) -> bool:
    """Return whether a region is cut into slices for some of the buckets only."""
    slices = [part for plan in design.region_plans for part in plan.slices]
    return any(part.end - part.first < design.buckets for part in slices)


@pytest.mark.parametrize("name", list(BUILDS))
def test_draws_on_one_build(name: str, tmp_path: Path) -> None:
    run_draws(*named_build(name, tmp_path), DRAWS)


@pytest.mark.parametrize("name", list(LAYER_BUILDS))
def test_layers_of_every_kind(name: str, tmp_path: Path) -> None:
    rng, generated = named_build(name, tmp_path)
    assert are_sliced(generated.design) or not LAYER_BUILDS[name].get("sliced")
    run_draws(rng, generated, LAYER_DRAWS)


@pytest.mark.parametrize("name", list(TAQ_BUILDS))
def test_degree_windows_on_one_build(name: str, tmp_path: Path) -> None:
    rng, generated = named_build(name, tmp_path)
    design, options = generated.design, TAQ_BUILDS[name]
    assert design.buckets == (1 if name == "taq-no-windows" else options["buckets"])
    assert are_sliced(design) or not options.get("sliced")
    run_draws(rng, generated, TAQ_DRAWS)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(40))
def test_a_thousand_draws(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([7, seed])
    options: dict[str, object] = {
        "pes": choose(rng, (1, 1, 2, 4, 8, 16)),
        "lanes": choose(rng, (1, 2, 3, 4, 5, 7, 8, 12, 16)),
        "stream_bits": choose(rng, (64, 128, 256)),
        "sparse_input": bool(rng.integers(2)),
        "streamed": bool(rng.integers(2)),
        "inputs_on_chip": seed % 3 == 2,
    }
    run_draws(rng, build(rng, options, tmp_path), 25)


def kinds_with(rng: np.random.Generator, kind: str) -> Kinds:
    """Draw one to four layers, one of the given kind among them."""
    while True:
        kinds = random_kinds(rng, built=True)
        if kind in kinds:
            return kinds


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["sage", "gin", "gat", "agnn"])
def test_layers_in_many_draws(kind: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([8, len(kind), ord(kind[1]), seed])
    buckets = choose(rng, (1, 1, 3, 5))
    options: dict[str, object] = {
        "kinds": kinds_with(rng, kind),
        "pes": choose(rng, (1, 2, 4, 8)),
        "lanes": choose(rng, (1, 2, 3, 5, 8, 16)),
        "stream_bits": choose(rng, (64, 128, 256)),
        "sparse_input": bool(rng.integers(2)),
        "streamed": bool(rng.integers(2)),
        "inputs_on_chip": seed % 3 == 2,
        "inputs": choose(rng, INPUTS),
        "normalisation": choose(rng, NORMALISATIONS),
        "buckets": buckets,
    }
    run_draws(rng, build(rng, options, tmp_path, TAQ_NODES), 12)

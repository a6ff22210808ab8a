"""Cosimulation: the generated Verilog against the golden model, equal on every word or not."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from sgq_hw.bundle import Bundle, Network, Workload
from sgq_hw.cycles import inference_cycles
from sgq_hw.design import ERRORS, Design
from sgq_hw.errors import InputError, SourceError
from sgq_hw.fields import Fields
from sgq_hw.generate import GeneratedDesign
from sgq_hw.golden.network import run as run_golden
from sgq_hw.golden.network import score_macs, useful_macs
from sgq_hw.graphs import Graph
from sgq_hw.jobs import Job, JobReport, Stalls, inference_job, read_report, write_jobs
from sgq_hw.mapping import map_for
from sgq_hw.node_sets import read_features
from sgq_hw.npz import read_npz
from sgq_hw.packer import memory_images
from sgq_hw.quantize.workload import bind
from sgq_hw.registers import COUNTERS
from sgq_hw.render import parameters
from sgq_hw.sim import runner
from sgq_hw.sim.runner import SimulationError, build, run
from sgq_hw.words import hex_lines, read_lines, write_lines

HARNESS = "harness.v"
COCOTB_MODULE = "sgq_hw.sim.cocotb_accelerator"
HARNESS_PARAMETERS = ("PES", "STREAM_BITS", "LANES", "OUT_BITS", "PASS_BITS", "ROW_BITS")
MAX_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One word that differs.

    Attributes:
        where: Pass, memory image or `output`.
        node, channel: Position in the tensor; for an image, word and 0; -1 where it has none.
        expected, got: The two values, as text.
        cycle: Clock cycle, or -1.
    """

    where: str
    node: int
    channel: int
    expected: str
    got: str
    cycle: int = -1


@dataclass(frozen=True, slots=True)
class CosimResult:
    """What a cosimulation found; see `as_json`.

    Attributes:
        design: The simulated accelerator.
        bundle: Network and graph that ran on it.
        jobs: One report for each job.
        words_compared: Channel codes compared at pass boundaries, padding excluded.
        image_words_compared: Words of images and vectors compared with the golden model's.
        mismatches: Words that differ or are missing.
        details: The first of them.
        cycles_predicted: From the cycle model, for the first job.
        useful_macs: Of one inference of the first job.
        score_macs: Those of them that have multipliers of their own, beside the slots.
        build_seconds, run_seconds: Wall time.
        total_cycles: From reset release to the end of the last job; None if the run ended early.
        message: Why the simulation ended early, else "".
    """

    design: Design
    bundle: Bundle
    jobs: list[JobReport]
    words_compared: int
    image_words_compared: int
    mismatches: int
    details: list[Mismatch]
    cycles_predicted: int
    useful_macs: int
    score_macs: int
    build_seconds: float
    run_seconds: float
    total_cycles: int | None
    message: str = ""

    @property
    def equal(self) -> bool:
        """Whether every word was compared and is equal."""
        return self.mismatches == 0 and self.words_compared > 0 and not self.message

    def as_json(self) -> dict[str, Any]:
        """Return the keys that other tools rely on; cycles are those of the first job."""
        first = self.jobs[0] if self.jobs else None
        cycles = first.interval if first else 0
        slots = self.design.pes * self.design.lanes * cycles
        steady = dict(
            zip((counter.name for counter in COUNTERS), first.steady if first else [], strict=False)
        )
        lost = {
            name.removeprefix("lost_"): value
            for name, value in steady.items()
            if name.startswith("lost_")
        }
        # Scores of AGNN have multipliers of their own: what fills the slots is the rest.
        filled = self.useful_macs - self.score_macs
        lost["computed_zeros"] = steady.get("busy_slots", 0) - filled if slots else 0
        return {
            "equal": self.equal,
            "words_compared": self.words_compared,
            "image_words_compared": self.image_words_compared,
            "mismatches": self.mismatches,
            "cycles": cycles,
            "cycles_predicted": self.cycles_predicted,
            "latency_cycles": first.latency if first else 0,
            "load_cycles": first.load_cycles if first else 0,
            "useful_macs": self.useful_macs,
            "score_macs": self.score_macs,
            "mac_slots": slots,
            "utilisation": filled / slots if slots else 0.0,
            "lost_slots": lost,
            "build_seconds": self.build_seconds,
            "run_seconds": self.run_seconds,
            "cycles_per_second": (self.total_cycles or 0) / max(self.run_seconds, 1e-9),
            "message": self.message,
            "details": [
                {
                    "where": m.where, "node": m.node, "channel": m.channel,
                    "expected": m.expected, "got": m.got, "cycle": m.cycle,
                }
                for m in self.details
            ],
        }  # fmt: skip


@dataclass(slots=True)
class _Images:
    """Counts differing words between files and what the golden model says they hold."""

    compared: int = 0
    mismatches: int = 0
    details: list[Mismatch] = field(default_factory=list)

    def compare(self, path: Path, expected: list[str]) -> list[str]:
        found = read_lines(path)
        self.compared += len(expected)
        name = f"{path.parent.name}/{path.name}"
        for index in range(max(len(found), len(expected))):
            want = expected[index] if index < len(expected) else "(nothing)"
            have = found[index] if index < len(found) else "(nothing)"
            if want != have:
                self.mismatches += 1
                if len(self.details) < MAX_SHOWN:
                    self.details.append(Mismatch(name, index, 0, want, have))
        return found


def _lines_of(tokens: list[str], width: int) -> list[str]:
    return [" ".join(tokens[at : at + width]) for at in range(0, len(tokens), width)]


def folder_job(generated: GeneratedDesign, inferences: int, images: _Images) -> Job:
    """Return the job of a folder's own files, compared word by word with the golden model's."""
    design, bundle = generated.design, generated.bundle
    trace = run_golden(bundle.network, bundle.workload)
    own = inference_job(design, bundle, trace, load=not design.rom)
    loads = [line for line in own.stream if line[0] in "01"]
    folder = generated.folder
    if design.rom:
        for name, (words, bits) in memory_images(design, bundle).items():
            images.compare(folder / "images" / f"{name}.hex", hex_lines(words, bits))
    stream = images.compare(folder / "images" / "load.hex", loads) if loads else []
    packet = images.compare(folder / "images" / "input.hex", own.stream[len(loads) :])
    results = []
    for pe, lines in enumerate(own.results):
        tokens = [token for line in lines for token in line.split()]
        found = images.compare(folder / "golden" / f"results{pe}.hex", tokens)
        results.append(_lines_of(found, 4))
    output = images.compare(folder / "golden" / "output.hex", own.output)
    return Job(
        stream=stream + packet * inferences,
        results=[lines * inferences for lines in results],
        output=output * inferences,
        real_words=own.real_words * inferences,
    )


def bind_graph(network: Network, graph: Graph) -> Bundle:
    """Return the bundle of a network on another graph."""
    return Bundle(network, bind(graph, network.manifest))


def graph_with_features(bundle: Bundle, path: Path) -> Graph:
    """Return a bundle's graph with the input features of an `.npz` of the documented form.

    Raises:
        InputError: the file's features do not fit the graph.
    """
    workload = bundle.workload
    fields = Fields(read_npz(path), str(path))
    shape = fields.integers("x_shape", (2,), 1)
    if int(shape[0]) != workload.num_nodes:
        fields.fail("x_shape", f"{int(shape[0])} rows; the graph has {workload.num_nodes} nodes")
    x_indptr, x_indices, x_values = read_features(fields, int(shape[0]), int(shape[1]))
    return Graph(
        name=workload.name,
        indptr=workload.indptr,
        indices=workload.indices,
        x_indptr=x_indptr,
        x_indices=x_indices,
        x_values=x_values,
        num_features=int(shape[1]),
        y=workload.labels,
    )


def simulate(
    generated: GeneratedDesign,
    jobs: Sequence[Job],
    *,
    simulator: Literal["verilator", "icarus"] = "verilator",
    random_init: bool = False,
    seed: int = 1,
    waves: Path | None = None,
    timeout_seconds: float | None = None,
) -> tuple[list[JobReport], int | None, float, float, str]:
    """Run jobs one after the other on one simulation of a generated folder.

    Returns:
        Reports, total cycles (None if it ended early), build and run seconds, and why it ended
        early or "".
    """
    design = generated.design
    values = parameters(design)
    harness = Path(runner.__file__).resolve().parent / HARNESS
    try:
        built = build(
            [*generated.sources, harness],
            "sgq_harness",
            simulator=simulator,
            parameters={
                **{name: values[name] for name in HARNESS_PARAMETERS},
                "COUNTERS": len(COUNTERS),
                "COUNT_BITS": values["COUNTER_BITS"],
            },
            waves=waves is not None,
            defines={"SGQ_CHECKS": "1"},
            visible=("finished", "total_compared", "total_mismatches"),
            clock="clk" if simulator == "verilator" else None,
            # Edited Verilog is judged by its words; what is generated has no warning, by test.
            lint=False,
        )
    except SourceError as error:
        return [], None, 0.0, 0.0, str(error)
    with TemporaryDirectory(prefix="sgq-hw-") as name:
        folder = Path(name)
        write_jobs(folder, design, jobs)
        if design.rom:
            for image in sorted((generated.folder / "images").glob("*_memory.hex")):
                write_lines(folder / image.name, read_lines(image))
        message = ""
        run_seconds = 0.0
        start = time.perf_counter()
        try:
            result = run(
                built, module=COCOTB_MODULE, test_dir=folder, plusargs=[f"+jobs={len(jobs)}"],
                seed=seed, random_init=random_init, timeout_seconds=timeout_seconds,
            )  # fmt: skip
            run_seconds = result.seconds
            if waves is not None and result.waves is not None:
                waves.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(result.waves, waves)
        except SimulationError as error:
            run_seconds = time.perf_counter() - start
            message = str(error)
        reports, cycles = read_report(folder / "harness_report.txt")
        if cycles is None and not message:
            message = "the simulation ended before all jobs were done"
    return reports, cycles, built.seconds, run_seconds, message


def _part_of(design: Design, leader: int, chunk: int) -> tuple[int, int]:
    """Return the pass that writes a word of a walk's rows, and the word among its own."""
    found = [step for step in design.walk(leader) if step.first_chunk <= chunk]
    return found[-1].index, chunk - found[-1].first_chunk


def _details(
    design: Design, workload: Workload, reports: list[JobReport], serial: bool
) -> list[Mismatch]:
    shown = []
    nodes = map_for(design, workload, serial=serial).placement.nodes
    for report in reports:
        for _, pe, index, row, chunk, lane, want, got, cycle in report.details:
            # A file that was tampered with may expect a word of any pass.
            known = index < len(design.passes)
            part, word = _part_of(design, index, chunk) if known else (index, chunk)
            in_order = lane < design.lanes
            shown.append(
                Mismatch(
                    where=design.passes[part].name if known else f"pass {index}",
                    node=int(nodes[row, pe]) if row < len(nodes) else -1,
                    channel=word * design.lanes + lane if in_order else -1,
                    expected=str(want) if in_order else "this word",
                    got=str(got) if in_order else "another word",
                    cycle=cycle,
                )
            )
    return shown[:MAX_SHOWN]


def judge(
    generated: GeneratedDesign,
    jobs: Sequence[Job],
    outcome: tuple[list[JobReport], int | None, float, float, str],
    images: _Images | None = None,
    bundle: Bundle | None = None,
    *,
    serial: bool = False,
) -> CosimResult:
    """Turn what the simulation reported into a verdict.

    A job that was never reported counts as wholly mismatched; so does an error that the hardware
    raised, which leaves words missing.
    """
    reports, cycles, build_seconds, run_seconds, message = outcome
    images = images or _Images()
    bundle = bundle or generated.bundle
    design = generated.design
    compared = mismatches = 0
    for index, job in enumerate(jobs):
        if index >= len(reports):
            mismatches += job.real_words
            continue
        report = reports[index]
        mismatches += report.mismatches
        compared += job.real_words * min(report.words, job.num_results) // job.num_results
        slots = design.pes * design.lanes * report.counters[0]
        if sum(report.counters[3:]) != slots:
            mismatches += 1
            message = message or f"counters: {sum(report.counters[3:])} slots of {slots} explained"
        if report.error:
            name = {code: text for text, code in ERRORS.items()}.get(report.error, "unknown")
            message = message or f"the hardware raised error {report.error} ({name})"
    trace = run_golden(bundle.network, bundle.workload)
    return CosimResult(
        design=design,
        bundle=bundle,
        jobs=reports,
        words_compared=compared,
        image_words_compared=images.compared,
        mismatches=mismatches + images.mismatches,
        details=(images.details + _details(design, bundle.workload, reports, serial))[:MAX_SHOWN],
        cycles_predicted=inference_cycles(design, bundle.workload, serial=serial),
        useful_macs=sum(useful_macs(bundle.network, bundle.workload, trace).values()),
        score_macs=score_macs(bundle.network, bundle.workload),
        build_seconds=build_seconds,
        run_seconds=run_seconds,
        total_cycles=cycles,
        message=message,
    )


def cosim(
    generated: GeneratedDesign,
    *,
    graph: Graph | None = None,
    inferences: int = 2,
    stalls: Stalls | None = None,
    simulator: Literal["verilator", "icarus"] = "verilator",
    random_init: bool = False,
    seed: int = 1,
    waves: Path | None = None,
    timeout_seconds: float | None = None,
    serial: bool = False,
) -> CosimResult:
    """Simulate a generated folder on its own graph, or on another one within capacity.

    Args:
        generated: The folder.
        graph: Another graph; the folder's own files are used without one.
        inferences: Back-to-back inferences; the last interval is the steady-state cycle count.
        stalls: Random stalls on both streams.
        simulator: `verilator` or `icarus`.
        random_init: Random power-up values (Verilator; Icarus starts from X).
        seed: Of the random power-up values.
        waves: Write a waveform here.
        timeout_seconds: Give up after this time.
        serial: Send graph and inputs unscheduled.

    Raises:
        InputError: the graph does not fit, or the design takes no unscheduled records.
        ToolError: no usable simulator.
    """
    images = _Images()
    bundle = generated.bundle
    if graph is None and not serial:
        job = folder_job(generated, inferences, images)
        if stalls is not None:
            job = Job(job.stream, job.results, job.output, job.real_words, stalls)
    else:
        if generated.design.rom:
            raise InputError("--graph: this design has its graph baked in (--rom)")
        if graph is not None:
            bundle = bind_graph(generated.bundle.network, graph)
        trace = run_golden(bundle.network, bundle.workload)
        job = inference_job(
            generated.design, bundle, trace, inferences=inferences, stalls=stalls, serial=serial
        )
    outcome = simulate(
        generated, [job], simulator=simulator, random_init=random_init, seed=seed, waves=waves,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip
    return judge(generated, [job], outcome, images, bundle, serial=serial)


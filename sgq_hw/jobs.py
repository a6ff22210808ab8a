"""Simulation jobs: what one run of the harness feeds in and expects, as files."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgq_hw.bundle import Bundle
from sgq_hw.design import Design
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.network import Trace
from sgq_hw.host import Beats, pack_words
from sgq_hw.manifest import Manifest
from sgq_hw.mapping import Mapping, map_for
from sgq_hw.packer import input_packet, load_packets, output_beats
from sgq_hw.pass_results import pass_codes, windows_of
from sgq_hw.words import hex_lines, write_lines

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stalls:
    """Random stalls: gaps before input beats and refusals of output beats, in 1/256."""

    input_gap: int = 0
    output_stall: int = 0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the harness.

    Attributes:
        stream: Lines of the input stream: mark and TLAST digit, then data.
        results: Lines of the words that the passes write, for each processing element.
        output: Lines of the output stream.
        real_words: Channel codes among the results that are no padding.
        stalls: Random stalls.
    """

    stream: list[str]
    results: list[list[str]]
    output: list[str]
    real_words: int
    stalls: Stalls = Stalls()

    @property
    def num_results(self) -> int:
        """Words that the passes write."""
        return sum(len(lines) for lines in self.results)


def result_lines(
    design: Design, manifest: Manifest, trace: Trace, mapping: Mapping
) -> list[list[str]]:
    """Return the words that each processing element writes in one inference, in its order.

    A line is pass, row of the PE, chunk, containers of the codes (what the windows keep).
    """
    bits = design.lanes * design.out_bits
    lines: list[list[str]] = [[] for _ in range(design.pes)]
    workload = mapping.workload
    for step in design.walks:
        # Rows of the feature buffer are walked where they lie, records as they come.
        walked = step.front == "combine_buffer" or not mapping.direct
        order = mapping.in_place if walked else np.arange(workload.num_nodes)
        rows = mapping.placement.local[order]
        words = []
        for part in design.walk(step.index):
            codes = pass_codes(design.passes, part, workload, trace)[order]
            # Exponents are data: a retrained network may bring others than the design's own.
            windows = windows_of(manifest, part)
            if windows:
                exponents = np.array([windows[bucket].exponent for bucket in design.order])
                codes = codes >> exponents[mapping.positions[order]][:, None]
            nodes = len(codes)
            part_words = feature_buffer(codes, design.lanes, nodes)
            words.append(part_words.reshape(part.chunks, nodes, -1))
        in_order = np.concatenate(words).transpose(1, 0, 2)
        for pe in range(design.pes):
            own = in_order[pe :: design.pes]
            prefixes = [
                f"{step.index:x} {row:x} {chunk:x} "
                for row in rows[pe :: design.pes].tolist()
                for chunk in range(step.walk_chunks)
            ]
            packed = pack_words(own.reshape(-1, design.lanes), design.out_bits)
            lines[pe] += hex_lines(packed, bits, prefixes)
    return lines


def marked(beats: Beats) -> list[str]:
    """Return stream lines whose mark says that they belong to an inference."""
    return [f"{2 + int(line[0])}{line[1:]}" for line in beats.lines()]


def inference_job(
    design: Design,
    bundle: Bundle,
    trace: Trace,
    *,
    inferences: int = 1,
    load: bool = True,
    stalls: Stalls | None = None,
    serial: bool = False,
) -> Job:
    """Load a network and graph, then run the same inference several times back to back.

    With `serial`, graph and inputs come unscheduled.
    """
    stream = load_packets(design, bundle, serial=serial).lines() if load else []
    stream += marked(input_packet(design, bundle.workload, serial=serial)) * inferences
    mapping = map_for(design, bundle.workload, serial=serial)
    final = design.passes[-1]
    output = output_beats(design, trace[final.layer, final.stage]).lines()
    return Job(
        stream=stream,
        results=[
            lines * inferences
            for lines in result_lines(design, bundle.network.manifest, trace, mapping)
        ],
        output=output * inferences,
        real_words=inferences
        * bundle.workload.num_nodes
        * sum(step.out_channels for step in design.passes),
        stalls=stalls or Stalls(),
    )


def beat_records(lines: Sequence[str], stream_bits: int) -> bytes:
    """Return beats as the harness reads them, up to the first line that is none: flags, data."""
    digits = stream_bits // 4
    if {*map(len, lines)} == {1 + digits}:
        with suppress(ValueError):
            return bytes.fromhex("0" + "0".join(lines))
    return b"".join(takewhile(bool, (_record((line[:1], line[1:]), (2, digits)) for line in lines)))


def result_records(lines: Sequence[str], word_bits: int) -> bytes:
    """Return result words as the harness reads them: pass, row, chunk, containers.

    A line that is none becomes a record that no word equals.
    """
    digits = (8, 8, 8, 2 * -(-word_bits // 8))
    nothing = b"\xff" * (sum(digits) // 2)
    return b"".join([_record(line.split(), digits) or nothing for line in lines])


def _record(fields: Sequence[str], digits: Sequence[int]) -> bytes:
    """Return hexadecimal numbers in so many digits, nothing if they are none or have more."""
    pairs = zip(fields, digits, strict=False)
    padded = "".join([field.rjust(width, "0") for field, width in pairs])
    try:
        record = bytes.fromhex(padded)
    except ValueError:
        return b""
    return record if len(padded) == sum(digits) and len(fields) == len(digits) else b""


def write_jobs(folder: Path, design: Design, jobs: Sequence[Job]) -> None:
    """Write the files that the harness reads."""
    for index, job in enumerate(jobs):
        stalls = job.stalls
        settings = (
            f"{stalls.input_gap:x} {stalls.output_stall:x} {stalls.seed:x} "
            f"{len(job.output):x} {job.num_results:x}"
        )
        write_lines(folder / f"job{index}_settings.hex", [settings])
        stream = beat_records(job.stream, design.stream_bits)
        (folder / f"job{index}_stream.bin").write_bytes(stream)
        for pe, lines in enumerate(job.results):
            results = result_records(lines, design.lanes * design.out_bits)
            (folder / f"job{index}_results{pe}.bin").write_bytes(results)
        output = beat_records(job.output, design.stream_bits)
        (folder / f"job{index}_output.bin").write_bytes(output)


@dataclass(slots=True)
class JobReport:
    """What the harness measured in one job; cycles are clock cycles.

    Attributes:
        compared: Compared lanes, padding included.
        mismatches: Words that differ, are missing or too many.
        words, beats: Result words and output beats seen.
        inferences: Finished inferences.
        interval: Cycles between the last two finished inferences.
        latency: Cycles from the first beat of an inference to its last output beat.
        load_cycles: Cycles from the first to the last load beat.
        stalled_inputs, stalled_outputs: Cycles in which a valid beat was not taken.
        source_done: Whether the whole input was taken.
        error: Sticky error code at the end.
        counters: Performance counters, read over AXI4-Lite at the end.
        steady: What they counted between the last two finished inferences.
        details: Lines about single mismatches.
    """

    compared: int
    mismatches: int
    words: int
    beats: int
    inferences: int
    interval: int
    latency: int
    load_cycles: int
    stalled_inputs: int
    stalled_outputs: int
    source_done: bool
    error: int
    counters: list[int]
    steady: list[int]
    details: list[list[int]]


def read_report(path: Path) -> tuple[list[JobReport], int | None]:
    """Parse the harness's report: jobs, and the total cycles (None where the run ended early)."""
    jobs: list[JobReport] = []
    details: list[list[int]] = []
    cycles: int | None = None
    if not path.is_file():
        return jobs, cycles
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        kind, *fields = line.split()
        if kind == "mismatch":
            details.append([int(field) for field in fields])
        elif kind == "job":
            numbers = [int(field) for field in fields]
            names = JobReport.__slots__[: len(numbers) - 2]
            values = dict(zip(names, numbers[1:-1], strict=True))
            jobs.append(
                JobReport(
                    **values,
                    source_done=bool(numbers[-1]),
                    error=0,
                    counters=[],
                    steady=[],
                    details=details,
                )
            )
            details = []
        elif kind == "error":
            jobs[int(fields[0])].error = int(fields[1])
        elif kind == "counter":
            jobs[int(fields[0])].counters.append(int(fields[2]))
            jobs[int(fields[0])].steady.append(int(fields[3]))
        elif kind == "end":
            cycles = int(fields[0])
    for job in jobs:
        if job.inferences < 2 and job.counters:
            # Nothing came before it: the counters themselves are its interval.
            job.interval = job.counters[0]
            job.steady = job.counters
    return jobs, cycles

"""Broken packets: a sticky code, the rest drained, no output, and the next inference is right."""

from collections.abc import Callable

import numpy as np
import pytest

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cosim import simulate
from sgq_hw.design import ERRORS, PACKET_TYPES, Design
from sgq_hw.generate import GeneratedDesign, generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.graphs import load_graph
from sgq_hw.jobs import Job, JobReport, Stalls, inference_job
from sgq_hw.quantize.config import uniform_config
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.train import train

Lines = list[str]
Break = Callable[[Design, "Packets"], Lines]


class Packets:
    """The packets of a good job, by kind; each a list of beat lines."""

    def __init__(self, lines: Lines) -> None:
        self.all: list[Lines] = [[]]
        for line in lines:
            self.all[-1].append(line)
            if line[0] in "13":
                self.all.append([])
        self.all.pop()

    def of(self, kind: str) -> Lines:
        """Return a copy of the first packet of a kind."""
        code = f"{PACKET_TYPES[kind]:02x}"
        return list(next(packet for packet in self.all if packet[0].endswith(code)))


def set_last(line: str, last: bool) -> str:
    return f"{(int(line[0]) & 2) | int(last)}{line[1:]}"


def set_word(line: str, value: int) -> str:
    return f"{line[0]}{value:0{len(line) - 1}x}"


def word(line: str) -> int:
    return int(line[1:], 16)


def unknown_type(design: Design, packets: Packets) -> Lines:
    packet = packets.of("weights")
    return [set_word(packet[0], word(packet[0]) | 0xF0), *packet[1:]]


def unknown_index(design: Design, packets: Packets) -> Lines:
    packet = packets.of("table")
    return [set_word(packet[0], word(packet[0]) | 0x0900), *packet[1:]]


def graph_too_large(design: Design, packets: Packets) -> Lines:
    packet = packets.of("graph")
    return [packet[0], set_word(packet[1], word(packet[1]) + (1 << 40))]


def no_nodes(design: Design, packets: Packets) -> Lines:
    packet = packets.of("graph")
    return [packet[0], set_word(packet[1], word(packet[1]) >> 32 << 32)]


def early_end(design: Design, packets: Packets) -> Lines:
    packet = packets.of("weights")[:5]
    return [*packet[:4], set_last(packet[4], True)]


def late_end(design: Design, packets: Packets) -> Lines:
    packet = packets.of("weights")
    return [*packet[:-1], set_last(packet[-1], False), *["0" + packet[2][1:]] * 3, packet[-1]]


def end_in_header(design: Design, packets: Packets) -> Lines:
    return [set_last(packets.of("weights")[0], True)]


def wrong_count(design: Design, packets: Packets) -> Lines:
    packet = packets.of("weights")
    return [set_word(packet[0], word(packet[0]) + (1 << 32)), *packet[1:]]


def edge_out_of_range(design: Design, packets: Packets) -> Lines:
    packet = packets.of("edges")
    field = design.edge_record.find("address")
    assert field is not None
    bad = word(packet[9]) | (((1 << field.bits) - 1) << field.low)
    return [*packet[:9], set_word(packet[9], bad), *packet[10:]]


def missing_row(design: Design, packets: Packets) -> Lines:
    packet = packets.of("edges")
    return [*packet[:-2], set_word(packet[-2], word(packet[-2]) | 1), packet[-1]]


def endless_row(design: Design, packets: Packets) -> Lines:
    packet = packets.of("edges")
    return [packet[0], *(set_word(line, word(line) & ~1) for line in packet[1:])]


def infer_wrong_count(design: Design, packets: Packets) -> Lines:
    packet = packets.of("inference")
    return [set_word(packet[0], word(packet[0]) + (1 << 32)), *packet[1:]]


def infer_early_end(design: Design, packets: Packets) -> Lines:
    packet = packets.of("inference")[:3]
    return [*packet[:2], set_last(packet[2], True)]


def infer_late_end(design: Design, packets: Packets) -> Lines:
    packet = packets.of("inference")
    return [*packet[:-1], set_last(packet[-1], False), *[packet[1]] * 5, packet[-1]]


def infer_end_in_header(design: Design, packets: Packets) -> Lines:
    return [set_last(packets.of("inference")[0], True)]


def infer_index_out_of_range(design: Design, packets: Packets) -> Lines:
    packet = packets.of("inference")
    field = design.input_record.find("address")
    assert field is not None
    bad = word(packet[2]) | (((1 << field.bits) - 1) << field.low)
    return [*packet[:2], set_word(packet[2], bad), *packet[3:]]


def infer_row_too_long(design: Design, packets: Packets) -> Lines:
    packet = packets.of("inference")
    return [*packet[:2], set_word(packet[2], word(packet[2]) & ~1), *packet[3:]]


BREAKS: list[tuple[Break, str]] = [
    (unknown_type, "ERR_HEADER"),
    (unknown_index, "ERR_HEADER"),
    (graph_too_large, "ERR_CAPACITY"),
    (no_nodes, "ERR_CAPACITY"),
    (early_end, "ERR_EARLY_TLAST"),
    (late_end, "ERR_LATE_TLAST"),
    (end_in_header, "ERR_EARLY_TLAST"),
    (wrong_count, "ERR_WORD_COUNT"),
    (edge_out_of_range, "ERR_INDEX"),
    (missing_row, "ERR_ROW_COUNT"),
    (endless_row, "ERR_ROW_LENGTH"),
    (infer_wrong_count, "ERR_ROW_COUNT"),
    (infer_early_end, "ERR_EARLY_TLAST"),
    (infer_late_end, "ERR_LATE_TLAST"),
    (infer_end_in_header, "ERR_EARLY_TLAST"),
    (infer_index_out_of_range, "ERR_INDEX"),
    (infer_row_too_long, "ERR_ROW_LENGTH"),
]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> GeneratedDesign:
    folder = tmp_path_factory.mktemp("errors")
    graph = load_graph("karate")
    bundle = quantize(train(graph, epochs=20), graph, uniform_config(4, 2))
    save_bundle(folder / "q.npz", bundle)
    return generate(folder / "q.npz", folder / "rtl", lanes=16)


def good(generated: GeneratedDesign, bundle: Bundle, stalls: Stalls) -> Job:
    trace = run_golden(bundle.network, bundle.workload)
    return inference_job(generated.design, bundle, trace, stalls=stalls)


@pytest.mark.parametrize("stalls", [Stalls(), Stalls(90, 60, 5)], ids=["smooth", "stalled"])
def test_every_error_is_reported_drained_and_overcome(
    generated: GeneratedDesign, stalls: Stalls
) -> None:
    job = good(generated, generated.bundle, stalls)
    packets = Packets(job.stream)
    inference = packets.of("inference")
    # Before anything is loaded an inference is refused.
    jobs = [Job(inference, [], [], 0, stalls)]
    expected = [ERRORS["ERR_NOT_LOADED"]]
    for breaker, name in BREAKS:
        # A good packet behind the broken one is drained too: the error is sticky.
        broken = breaker(generated.design, packets)
        jobs += [Job([*broken, *inference], [], [], 0, stalls), job]
        expected += [ERRORS[name], 0]
    reports, cycles, _, _, message = simulate(generated, jobs, random_init=True, seed=11)
    assert len(reports) == len(jobs)
    assert cycles is not None
    assert not message or "differ" in message
    names = ["not loaded"] + [f.__name__ for f, _ in BREAKS for _ in range(2)]
    assert [(n, report.error) for n, report in zip(names, reports, strict=True)] == list(
        zip(names, expected, strict=True)
    )
    for report, code in zip(reports, expected, strict=True):
        check(report, code, job)


def check(report: JobReport, code: int, job: Job) -> None:
    assert report.source_done
    if code:
        assert (report.beats, report.inferences) == (0, 0)
    else:
        assert report.mismatches == 0
        assert (report.words, report.beats) == (len(job.results), len(job.output))


def test_an_error_in_the_next_inference_leaves_the_running_one_alone(
    generated: GeneratedDesign,
) -> None:
    job = good(generated, generated.bundle, Stalls())
    packets = Packets(job.stream)
    broken = infer_wrong_count(generated.design, packets)
    late = infer_early_end(generated.design, packets)
    jobs = [
        Job([*job.stream, *broken], job.results, job.output, job.real_words),
        job,
        # The second packet is found out only when the first inference is over.
        Job([*job.stream, *late], job.results, job.output, job.real_words),
        job,
    ]
    reports, *_ = simulate(generated, jobs)
    assert [r.error for r in reports] == [
        ERRORS["ERR_ROW_COUNT"], 0, ERRORS["ERR_EARLY_TLAST"], 0,
    ]  # fmt: skip
    assert [r.inferences for r in reports] == [1, 1, 1, 1]
    assert [r.beats for r in reports] == [len(job.output)] * 4
    # The words of the broken inference's first pass come on top of the good one's.
    assert [r.mismatches for r in reports[:2]] == [0, 0]
    assert reports[3].mismatches == 0
    assert np.all([r.words >= len(job.results) for r in reports])

"""Broken packets and records: a sticky code, the rest drained, and the next inference is right."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sgq_hw.bundle import save_bundle
from sgq_hw.cosim import simulate
from sgq_hw.design import ERRORS
from sgq_hw.generate import GeneratedDesign, generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.jobs import Job, JobReport, Stalls, inference_job
from tests.random_networks import random_bundle
from tests.rtl.broken_packets import (
    INFERENCE_BREAKS,
    LOAD_BREAKS,
    ONE_PE_SPOILS,
    SEVERAL_PES_SPOILS,
    WINDOWS_BREAKS,
    Lines,
    Operands,
    Packets,
    set_last,
)

NODES, FEATURES = 34, 12
DESIGNS: dict[str, tuple[int, dict[str, int]]] = {
    "1-pe": (2, {"lanes": 4, "stream_bits": 64}),
    "1-pe-one-layer": (1, {"lanes": 3, "stream_bits": 64}),
    "4-pes": (2, {"lanes": 3, "pes": 4, "stream_bits": 32}),
    "4-pes-one-layer": (1, {"lanes": 4, "pes": 4, "stream_bits": 64}),
    "1-pe-windows": (1, {"lanes": 4, "stream_bits": 64}),
}
"""Layers and options. With one layer the pass that reads the edges is the last one. A word of 4 PEs
takes two beats of 32 bits."""
STALLS = {"smooth": Stalls(), "stalled": Stalls(90, 60, 5)}


@pytest.fixture(scope="module", params=list(DESIGNS))
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> GeneratedDesign:
    layers, options = DESIGNS[request.param]
    buckets = 3 if "windows" in request.param else 1
    folder = tmp_path_factory.mktemp("errors")
    bundle = random_bundle(
        np.random.default_rng(5), layers=layers, nodes=NODES, features=FEATURES, hidden=7,
        classes=5, graph="random", inputs="multi-bit", input_bits=3, self_loops=False, max_bits=5,
        buckets=buckets, windows=True,
    )  # fmt: skip
    save_bundle(folder / "q.npz", bundle)
    return generate(folder / "q.npz", folder / "rtl", sparse_input=True, **options)  # type: ignore[arg-type]


@dataclass
class Plan:
    """Jobs of one simulation, each with its name and expected error."""

    generated: GeneratedDesign
    stalls: Stalls

    def __post_init__(self) -> None:
        bundle = self.generated.bundle
        trace = run_golden(bundle.network, bundle.workload)
        self.good = inference_job(self.generated.design, bundle, trace, stalls=self.stalls)
        self.packets = Packets(self.generated.design, self.good.stream)
        self.inference = self.packets.of("inference")
        self.jobs: list[Job] = []
        self.expected: list[tuple[str, int]] = []

    def fails(self, name: str, stream: Lines, code: str) -> None:
        """Add a job that ends with an error and without a result."""
        nothing: list[Lines] = [[] for _ in self.good.results]
        self.jobs.append(Job(stream, nothing, [], 0, self.stalls))
        self.expected.append((name, ERRORS[code]))

    def works(self, name: str, stream: Lines) -> None:
        """Add a job with one right inference."""
        good = self.good
        self.jobs.append(Job(stream, good.results, good.output, good.real_words, self.stalls))
        self.expected.append((f"after {name}", 0))

    def run(self) -> dict[str, JobReport]:
        """Simulate all, and check that errors and results are as expected."""
        reports, cycles, _, _, message = simulate(
            self.generated, self.jobs, random_init=True, seed=11, timeout_seconds=300
        )
        assert not message or "differ" in message, message
        assert len(reports) == len(self.jobs)
        assert cycles is not None
        names = [name for name, _ in self.expected]
        found = [(name, report.error) for name, report in zip(names, reports, strict=True)]
        assert found == self.expected
        for (name, code), report in zip(self.expected, reports, strict=True):
            assert report.source_done, name
            if code:
                assert report.inferences == 0, name
                assert report.beats < len(self.good.output), name
                # A packet that has begun is ended: the harness takes the latency at TLAST.
                assert bool(report.beats) == bool(report.latency), name
            else:
                assert report.mismatches == 0, name
                assert report.words == self.good.num_results, name
                assert report.beats == len(self.good.output), name
            slots = self.generated.design.pes * self.generated.design.lanes * report.counters[0]
            assert sum(report.counters[3:]) == slots, name
        return dict(zip(names, reports, strict=True))


@pytest.mark.parametrize("stalls", list(STALLS))
def test_broken_packets(generated: GeneratedDesign, stalls: str) -> None:
    plan = Plan(generated, STALLS[stalls])
    # Before anything is loaded an inference is refused.
    plan.fails("not loaded", plan.inference, "ERR_NOT_LOADED")
    breaks = LOAD_BREAKS | (WINDOWS_BREAKS if generated.design.buckets > 1 else {})
    for name, (breaker, code) in breaks.items():
        # A good packet behind the broken one is drained too: the error is sticky.
        plan.fails(name, [*breaker(plan.packets), *plan.inference], code)
        plan.works(name, plan.good.stream)
    for name, (breaker, code) in INFERENCE_BREAKS.items():
        plan.fails(name, [*breaker(plan.packets), *plan.inference], code)
        # What was loaded is still there.
        plan.works(name, plan.inference)
    plan.run()


@pytest.mark.parametrize("stalls", list(STALLS))
def test_broken_records(generated: GeneratedDesign, stalls: str) -> None:
    plan = Plan(generated, STALLS[stalls])
    packets = plan.packets
    several = generated.design.pes > 1
    spoils = SEVERAL_PES_SPOILS if several else ONE_PE_SPOILS
    loads = [line for packet in packets.all[:-1] for line in packet]
    plan.works("loading", [*loads, *plan.inference])
    kinds = {"inference": Operands(FEATURES, False), "edges": Operands(NODES, True)}
    for kind, operands in kinds.items():
        for spoil, (change, code) in spoils.items():
            for share in (0, 2):
                steps = packets.steps(kind)
                change(steps, operands, share * len(steps) // 5)
                broken = packets.with_steps(kind, steps)
                assert broken != packets.of(kind)
                name = f"{kind}: {spoil} from {share}/5"
                # The error comes while the next inference's packet is being taken.
                if kind == "edges":
                    plan.fails(name, [*broken, *plan.inference * 3], code)
                    plan.works(name, [*packets.of("edges"), *plan.inference])
                else:
                    plan.fails(name, [*broken, *plan.inference * 2], code)
                    plan.works(name, plan.inference)
    reports = plan.run()
    # Results may leave as they come: those of the last pass that came before its error.
    cut = any(report.beats and report.error for report in reports.values())
    one_layer = len(generated.design.passes) == 2
    assert cut == (one_layer and not generated.design.collects)


@pytest.mark.parametrize("pes", [1, 4])
def test_complete_rows_are_too_few_or_too_many(pes: int, tmp_path: Path) -> None:
    """The packet is right in itself: as many words as its header says, and TLAST with the last."""
    bundle = random_bundle(
        np.random.default_rng(6), layers=1, nodes=NODES, features=FEATURES, classes=5,
        graph="random", inputs="multi-bit", input_bits=3, self_loops=False, max_bits=5,
    )  # fmt: skip
    save_bundle(tmp_path / "q.npz", bundle)
    generated = generate(
        tmp_path / "q.npz", tmp_path / "rtl", sparse_input=False, lanes=4, pes=pes, stream_bits=32
    )
    plan = Plan(generated, STALLS["smooth"])
    plan.works("loading", plan.good.stream)
    packet, design = plan.packets.of("inference"), generated.design
    words, header = plan.packets.count(packet), plan.packets.header
    for more in (-FEATURES, -1, 1, FEATURES):
        beats = -(-(words + more) // design.words_per_beat) * design.beats_per_word
        payload = [set_last(line, False) for line in packet[header:] * 2][:beats]
        broken = [*packet[:header], *payload[:-1], set_last(payload[-1], True)]
        broken = plan.packets.with_count(broken, words + more)
        plan.fails(f"{more} words", [*broken, *plan.inference], "ERR_ROW_COUNT")
        plan.works(f"{more} words", plan.inference)
    plan.run()


def test_an_error_in_the_next_inference_leaves_the_running_one_alone(
    generated: GeneratedDesign,
) -> None:
    plan = Plan(generated, STALLS["smooth"])
    good, packets = plan.good, plan.packets
    breaks = {name: breaker(packets) for name, (breaker, _) in INFERENCE_BREAKS.items()}
    jobs = []
    for broken in breaks.values():
        jobs.append(Job([*good.stream, *broken], good.results, good.output, good.real_words))
        jobs.append(good)
    reports, *_ = simulate(generated, jobs, timeout_seconds=300)
    codes = [ERRORS[code] for _, code in INFERENCE_BREAKS.values()]
    assert [report.error for report in reports] == [code for c in codes for code in (c, 0)]
    assert [report.inferences for report in reports] == [1] * len(jobs)
    assert [report.beats for report in reports] == [len(good.output)] * len(jobs)
    for name, first, second in zip(breaks, reports[::2], reports[1::2], strict=True):
        # Words of the broken inference's first pass may come on top of the good one's.
        extra = first.words - good.num_results
        assert first.mismatches == extra >= 0, name
        assert second.mismatches == 0, name

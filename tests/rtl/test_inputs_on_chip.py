"""Inputs on chip: wrong packets, inputs that do not fit, and Cora on every word."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cosim import cosim, simulate
from sgq_hw.design import ERRORS, PACKET_TYPES
from sgq_hw.errors import InputError
from sgq_hw.generate import GeneratedDesign, generate
from sgq_hw.golden.network import run as run_golden
from sgq_hw.host import make_packet, pack_words
from sgq_hw.jobs import Job, inference_job
from sgq_hw.mapping import map_workload
from sgq_hw.packer import load_packets, reload_packet
from sgq_hw.throughput import predict
from tests.quantised import quantised
from tests.random_networks import random_bundle
from tests.rtl.broken_packets import Lines, Packets, set_last, set_word, word

DESIGNS: dict[str, dict[str, object]] = {
    "64": {"stream_bits": 64},
    "pes2-32": {"stream_bits": 32, "pes": 2},
    "pes2-streamed": {"stream_bits": 64, "pes": 2, "streamed": True},
}


@pytest.fixture(scope="module", params=list(DESIGNS))
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> GeneratedDesign:
    folder = tmp_path_factory.mktemp("errors")
    bundle = random_bundle(
        np.random.default_rng(5), layers=2, nodes=30, features=12, hidden=7, classes=5,
        graph="random", inputs="multi-bit", input_bits=3, self_loops=False, max_bits=5,
    )  # fmt: skip
    save_bundle(folder / "q.npz", bundle)
    return generate(
        folder / "q.npz", folder / "rtl", lanes=4, sparse_input=True, inputs_on_chip=True,
        **DESIGNS[request.param],  # type: ignore[arg-type]
    )  # fmt: skip


def with_tag(packet: Lines, change: int) -> Lines:
    """Return a packet whose tag differs in some bits."""
    return [set_word(packet[0], word(packet[0]) ^ change << 16), *packet[1:]]


def wrong_starts(packets: Packets) -> dict[str, tuple[Lines, str]]:
    """Return inferences of a wrong form, each with its error."""
    good, end = packets.of("inference"), packets.header
    more = packets.with_count(good, packets.count(good) + 1)
    found = {
        "another graph": (with_tag(good, 4), "ERR_GRAPH"),
        "a word too many": (more, "ERR_WORD_COUNT"),
        "no end": ([*good[:-1], set_last(good[-1], False), *["0" + good[-1][1:]] * 2,
                    set_last(good[-1], True)], "ERR_LATE_TLAST"),
    }  # fmt: skip
    if packets.design.streamed:
        found["end in header"] = ([*good[: end - 1], set_last(good[end - 1], True)],
                                  "ERR_EARLY_TLAST")  # fmt: skip
        found["inputs too"] = (packets.with_count(good, 2 * packets.count(good)), "ERR_WORD_COUNT")
    elif end > 1:
        found["half a header"] = ([set_last(good[0], True)], "ERR_EARLY_TLAST")
    return found


def wrong_inputs(packets: Packets) -> dict[str, tuple[Lines, str]]:
    """Return input packets of a wrong form, each with its error."""
    good, design = packets.of("inputs"), packets.design
    kind, limit = PACKET_TYPES["inputs"], design.capacity.input_words
    tag = word(good[0]) >> 16 & 0xFFFF
    words = pack_words(np.zeros((limit + 1, 1), np.int64), design.stream_bits)
    large = make_packet(design.stream_bits, kind, 0, limit + 1, words, tag).lines()
    count = packets.count(good)
    return {
        "another graph": (with_tag(good, 1 << 15), "ERR_GRAPH"),
        "too many": (large, "ERR_CAPACITY"),
        "none": (packets.with_count(good, 0), "ERR_WORD_COUNT"),
        "fewer than said": ([*good[:-3], set_last(good[-3], True)], "ERR_EARLY_TLAST"),
        "more than said": (packets.with_count(good, count - 1), "ERR_LATE_TLAST"),
    }


def test_wrong_packets(generated: GeneratedDesign) -> None:
    """Each has its code and leaves no result; what was loaded before still works."""
    design, bundle = generated.design, generated.bundle
    good = inference_job(design, bundle, run_golden(bundle.network, bundle.workload))
    packets = Packets(design, good.stream)
    start, inputs = packets.of("inference"), packets.of("inputs")
    jobs = [good]
    expected = [("all", 0)]
    nothing: list[Lines] = [[] for _ in good.results]

    def add(name: str, stream: Lines, code: str = "ERR_NONE") -> None:
        fine = code == "ERR_NONE"
        jobs.append(
            Job(stream, good.results, good.output, good.real_words)
            if fine
            else Job(stream, nothing, [], 0)
        )
        expected.append((name, ERRORS[code]))

    for name, (stream, code) in wrong_starts(packets).items():
        add(name, [*stream, *start], code)
        add(f"after {name}", start)
    for name, (stream, code) in wrong_inputs(packets).items():
        add(name, [*stream, *start], code)
        if code in ("ERR_EARLY_TLAST", "ERR_LATE_TLAST"):
            # Its loading had begun: nothing whole is there.
            add(f"{name}: not loaded", start, "ERR_NOT_LOADED")
            add(f"{name}: again", [*inputs, *start])
        else:
            add(f"after {name}", start)
    # A graph makes the inputs stale, whatever lies in their memory.
    graph = [line for packet in packets.all[:-1] for line in packet if packet != inputs]
    add("a new graph", [*graph, *start], "ERR_NOT_LOADED")
    add("its inputs", [*inputs, *start])
    reports, _, _, _, message = simulate(generated, jobs, random_init=True, seed=3)
    assert not message or "differ" in message, message
    names = [name for name, _ in expected]
    found = [(name, report.error) for name, report in zip(names, reports, strict=True)]
    assert found == expected
    for (name, error), job, report in zip(expected, jobs, reports, strict=True):
        # A streamed graph's wrong end is found when it is there: passes have written words.
        assert report.mismatches == (report.words if error else 0), name
        assert report.beats == len(job.output), name
        assert report.inferences == int(not error), name


def test_the_packer_refuses_inputs_that_do_not_fit(generated: GeneratedDesign) -> None:
    bundle, limit = generated.bundle, generated.design.capacity.input_words
    tight = replace(
        generated.design, capacity=replace(generated.design.capacity, input_words=limit - 1)
    )
    name = bundle.workload.name
    message = f"^{name}: input_words: {limit}; the largest that fits is {limit - 1}$"
    with pytest.raises(InputError, match=message):
        load_packets(tight, bundle)
    with pytest.raises(InputError, match=message):
        reload_packet(tight, bundle.workload, bundle.workload)


def test_no_records_come_unscheduled(generated: GeneratedDesign) -> None:
    with pytest.raises(InputError, match="and inputs that are streamed as well"):
        load_packets(generated.design, generated.bundle, serial=True)


def test_cora(data_folder: Path, tmp_path: Path) -> None:
    """Every word; cycles and lost slots as predicted; records by the planner's choice."""
    bundle: Bundle = quantised("cora")
    save_bundle(tmp_path / "q.npz", bundle)
    generated = generate(tmp_path / "q.npz", tmp_path / "rtl", pes=2, lanes=8, inputs_on_chip=True)
    design = generated.design
    assert design.sparse_input
    memory = design.memory("input_memory")
    steps = map_workload(bundle.workload, 2).inputs.steps
    assert (memory.width, memory.depth) == (2 * design.input_record.bits, steps)
    result = cosim(generated, inferences=2, random_init=True, timeout_seconds=1800)
    assert result.equal, result.details[:5] or result.message
    nodes = bundle.workload.num_nodes
    assert result.words_compared == 2 * nodes * sum(s.out_channels for s in design.passes)
    data = result.as_json()
    assert data["cycles"] == data["cycles_predicted"]
    assert data["lost_slots"] == predict(design, bundle).lost_slots
    assert data["lost_slots"]["input_stall"] == 0

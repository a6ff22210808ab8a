"""The host driver packs what the packer packs, and unpacks what was packed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgq_hw import host
from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.design import Design
from sgq_hw.generate import GeneratedDesign, design_for, generate
from sgq_hw.golden.network import input_matrix
from sgq_hw.host import Accelerator, AcceleratorError, Layout, Transport
from sgq_hw.mapping import map_for, map_workload
from sgq_hw.packer import input_packet, layout_of, load_packets, output_beats
from sgq_hw.registers import constant_values, register_map
from sgq_hw.schedule import Schedule, check_schedule
from sgq_hw.words import write_lines
from tests.random_networks import random_bundle
from tests.windowed import windowed_bundle

FORMS = [
    {"pes": pes, "stream_bits": bits, "sparse_input": sparse}
    for pes, bits in ((1, 32), (1, 512), (2, 64), (8, 128))
    for sparse in (True, False)
]


def bundle_of(seed: int, **options: Any) -> Bundle:
    return random_bundle(np.random.default_rng(seed), **options)


def dense(bundle: Bundle) -> host.IntArray:
    codes: host.IntArray = input_matrix(bundle.network, bundle.workload).toarray()
    return codes


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("inputs", ["binary", "multi-bit", "signed"])
def test_inputs_are_packed_as_in_the_cosimulation(form: dict[str, Any], inputs: Any) -> None:
    bundle = bundle_of(3, nodes=21, features=11, inputs=inputs, layers=1)
    design = design_for(bundle, lanes=4, **form)
    layout, workload = layout_of(design), bundle.workload
    mapping = map_workload(workload, design.pes)
    want = input_packet(design, workload)
    sparse = host.pack_sparse(
        layout, mapping.places, workload.x_indptr, workload.x_indices, workload.x_codes,
        mapping.inputs,
    )  # fmt: skip
    assert sparse.lines() == want.lines()
    from_matrix = host.pack_dense(layout, mapping.places, dense(bundle))
    if not design.sparse_input:
        assert from_matrix.lines() == want.lines()
    elif design.pes == 1:
        # Stored zeros are records of their own; a matrix does not know them.
        stored = workload.x_codes is None or np.all(workload.x_codes != 0)
        assert (from_matrix.lines() == want.lines()) == stored
    assert from_matrix.last.sum() == 1


@given(seed=st.integers(0, 10**6), pes=st.sampled_from([1, 2, 4, 16]))
def test_schedules_in_row_order_keep_every_rule(seed: int, pes: int) -> None:
    bundle = bundle_of(seed, layers=1)
    design = design_for(bundle, lanes=8, pes=pes, sparse_input=True)
    mapping, workload = map_workload(bundle.workload, pes), bundle.workload
    columns = workload.x_indices
    found = host.in_order_schedule(layout_of(design), mapping.places, workload.x_indptr, columns)
    schedule = Schedule(found.entry, found.last, found.slot)
    check_schedule(
        schedule, workload.x_indptr, columns % design.banks, columns // design.banks,
        mapping.placement,
    )  # fmt: skip
    if pes == 1:
        assert np.array_equal(schedule.entry, mapping.inputs.entry)


@given(
    seed=st.integers(0, 10**6),
    lanes=st.integers(1, 9),
    stream_bits=st.sampled_from([32, 64, 256]),
)
def test_results_come_back(seed: int, lanes: int, stream_bits: int) -> None:
    bundle = bundle_of(seed, layers=1, nodes=5)
    design = design_for(bundle, lanes=lanes, stream_bits=stream_bits)
    final = design.passes[-1]
    low = -(1 << final.bits - 1) if final.signed else 0
    rng = np.random.default_rng(seed)
    codes = rng.integers(low, low + (1 << final.bits), (5, final.out_channels))
    layout = layout_of(design)
    data = output_beats(design, codes).data.tobytes()
    assert np.array_equal(host.unpack_results(layout, data), codes)
    with pytest.raises(ValueError, match="not rows of"):
        host.unpack_results(layout, data[:-1])


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> GeneratedDesign:
    folder = tmp_path_factory.mktemp("host")
    save_bundle(folder / "q.npz", bundle_of(7, nodes=30, features=13, inputs="multi-bit"))
    return generate(folder / "q.npz", folder / "rtl", pes=4, lanes=4, sparse_input=True)


def test_the_folder_describes_the_layout(generated: GeneratedDesign) -> None:
    data = json.loads((generated.folder / "design.json").read_text())
    assert Layout.from_description(data) == layout_of(generated.design)


def test_places_are_in_the_load_packets(generated: GeneratedDesign) -> None:
    design, workload = generated.design, generated.bundle.workload
    beats = host.read_beats(generated.folder / "images" / "load.hex", design.stream_bits)
    assert beats.lines() == load_packets(design, generated.bundle).lines()
    places = host.graph_places(layout_of(design), beats)
    assert np.array_equal(places, map_workload(workload, design.pes).places)
    inference = input_packet(design, workload)
    with pytest.raises(ValueError, match="no graph"):
        host.graph_places(layout_of(design), inference)
    with pytest.raises(ValueError, match="not beats of 32 bits"):
        host.read_beats(generated.folder / "images" / "load.hex", 32)


@pytest.mark.parametrize("sparse", [True, False])
def test_inputs_that_do_not_fit_are_refused(sparse: bool) -> None:
    bundle = bundle_of(3, nodes=6, features=5, inputs="binary", layers=1)
    layout = layout_of(design_for(bundle, sparse_input=sparse))
    places, good = np.arange(6), np.zeros((6, 5), np.int64)
    starts = np.array([0, 1, 1, 1, 1, 1, 1])

    def refused(message: str, call: Any, *arguments: Any) -> None:
        with pytest.raises(ValueError, match=message):
            call(layout, places, *arguments)

    refused("shape", host.pack_dense, good[:-1])
    refused("shape", host.pack_dense, good[:, :-1])
    refused("codes outside 0 to 1", host.pack_dense, good + 2)
    refused("codes outside 0 to 1", host.pack_dense, good - 1)
    refused("starts of 6 rows", host.pack_sparse, starts[:-1], np.array([0]))
    refused("starts of 6 rows", host.pack_sparse, starts[::-1], np.array([0]))
    refused("stored inputs", host.pack_sparse, starts, np.array([0, 1]))
    refused("stored inputs", host.pack_sparse, starts, np.array([0]), np.array([1, 1]))
    refused("columns", host.pack_sparse, starts, np.array([5]))
    refused("columns", host.pack_sparse, starts, np.array([-1]))
    if sparse:
        refused("leave zeros out", host.pack_sparse, starts, np.array([0]), np.array([0]))


class Register(Transport):
    """Registers that hold what a test puts there, and streams that end nowhere."""

    def __init__(self, design: Design) -> None:
        self.values = dict.fromkeys(range(0, 256, 4), 0)
        constants = constant_values(design)
        for register in register_map(design):
            self.values[register.address] = constants.get(register.name, 0)
        self.sent: list[bytes] = []

    def write_stream(self, data: bytes) -> None:
        self.sent.append(data)

    def read_stream(self, size: int) -> bytes:
        raise TimeoutError

    def read_register(self, address: int) -> int:
        return self.values[address]

    def write_register(self, address: int, value: int) -> None:
        self.values[address] = value


def test_the_driver_names_what_is_wrong(generated: GeneratedDesign, tmp_path: Path) -> None:
    transport = Register(generated.design)
    accelerator = Accelerator(generated.folder, transport)
    codes = dense(generated.bundle)
    accelerator.load()
    assert len(transport.sent) == len(generated.design.targets)
    with pytest.raises(TimeoutError):
        accelerator.run(codes)
    transport.values[0x10] = 7
    with pytest.raises(AcceleratorError, match="ERR_ROW_LENGTH"):
        accelerator.run(codes)
    assert transport.values[0x08] == 1
    transport.values[0x84] = 1
    assert accelerator.counters()["cycles"] == 1 << 32
    transport.values[0x18] = 3
    with pytest.raises(AcceleratorError, match="LANES: 0x3; the folder's has 0x4"):
        Accelerator(generated.folder, transport)


@pytest.mark.parametrize("stream_bits", [32, 256])
@pytest.mark.parametrize("pes", [1, 4])
@pytest.mark.parametrize("draw", [random_bundle, windowed_bundle])
def test_streamed_graphs_are_taken_out_of_the_packets(
    draw: Callable[..., Bundle], pes: int, stream_bits: int
) -> None:
    """With the graph's words out of our own packets, inputs pack to our own inference packet."""
    bundle = draw(np.random.default_rng(pes), nodes=13, layers=2)
    design = design_for(
        bundle, pes=pes, lanes=3, stream_bits=stream_bits, streamed=True, sparse_input=True
    )
    layout, workload = layout_of(design), bundle.workload
    load, inference = load_packets(design, bundle), input_packet(design, workload)
    graph = host.graph_words(layout, load, inference)
    mapping = map_for(design, workload)
    assert np.array_equal(host.graph_places(layout, load), mapping.places)
    packed = host.pack_sparse(
        layout, host.graph_places(layout, load), workload.x_indptr, workload.x_indices,
        workload.x_codes, mapping.inputs, graph,
    )  # fmt: skip
    assert np.array_equal(packed.data, inference.data)
    assert np.array_equal(packed.last, inference.last)
    with pytest.raises(ValueError, match="graph: goes with every inference"):
        host.pack_sparse(
            layout, mapping.places, workload.x_indptr, workload.x_indices, workload.x_codes
        )


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_inputs_go_where_the_nodes_of_degree_buckets_lie(form: dict[str, Any]) -> None:
    """One PE has an order too, and the graph's word is longer than 64 bits."""
    bundle = windowed_bundle(
        np.random.default_rng(5), nodes=21, features=11, inputs="signed", graph="random"
    )
    design = design_for(bundle, lanes=4, **form)
    layout, workload = layout_of(design), bundle.workload
    mapping = map_for(design, workload)
    places = host.graph_places(layout, load_packets(design, bundle))
    assert np.array_equal(places, mapping.places)
    assert not np.array_equal(places, np.arange(workload.num_nodes))
    want = input_packet(design, workload)
    found = host.pack_sparse(
        layout, places, workload.x_indptr, workload.x_indices, workload.x_codes, mapping.inputs
    )
    assert found.lines() == want.lines()
    if design.pes == 1 or not design.sparse_input:
        # Nothing is left to choose: the driver's own schedule is the same.
        own = host.pack_sparse(
            layout, places, workload.x_indptr, workload.x_indices, workload.x_codes
        )
        assert own.lines() == want.lines()
    natural = host.pack_dense(layout, np.arange(21), dense(bundle))
    assert natural.lines() != want.lines()


@pytest.fixture
def windowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GeneratedDesign]:
    """Generates folders for a network with degree windows, less the Verilog."""
    monkeypatch.setattr("sgq_hw.generate.render", lambda *_, **__: {})
    save_bundle(
        tmp_path / "q.npz", windowed_bundle(np.random.default_rng(7), nodes=30, graph="random")
    )

    def made(**options: Any) -> GeneratedDesign:
        return generate(tmp_path / "q.npz", tmp_path / "folder", lanes=4, **options)

    return made


def driver(generated: GeneratedDesign) -> tuple[Accelerator, Register]:
    transport = Register(generated.design)
    return Accelerator(generated.folder, transport), transport


@pytest.mark.parametrize("rom", [False, True])
def test_the_driver_of_one_pe_knows_the_order(
    rom: bool, windowed: Callable[..., GeneratedDesign]
) -> None:
    """Of a graph that is loaded from its packet, of one that is baked in from its image."""
    generated = windowed(rom=rom)
    workload = generated.bundle.workload
    accelerator, transport = driver(generated)
    want = map_workload(workload, 1, order=generated.design.order).places
    assert np.array_equal(accelerator.places, want)
    assert not np.array_equal(want, np.arange(workload.num_nodes))
    with pytest.raises(TimeoutError):
        accelerator.run_sparse(workload.x_indptr, workload.x_indices, workload.x_codes)
    assert transport.sent == [input_packet(generated.design, workload).data.tobytes()]


def test_the_driver_refuses_unscheduled_graphs(
    windowed: Callable[..., GeneratedDesign], tmp_path: Path
) -> None:
    generated = windowed(pes=4, streamed=True)
    accelerator, transport = driver(generated)
    design, bundle = generated.design, generated.bundle
    for serial in (False, True):
        beats = [
            *load_packets(design, bundle, serial=serial).lines(),
            *input_packet(design, bundle.workload, serial=serial).lines(),
        ]
        write_lines(tmp_path / f"{serial}.hex", beats)
    accelerator.load(tmp_path / "False.hex")
    sent = len(transport.sent)
    assert sent == len(design.targets)
    with pytest.raises(ValueError, match="packed with --serial"):
        accelerator.load(tmp_path / "True.hex")
    assert len(transport.sent) == sent

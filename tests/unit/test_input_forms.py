"""Inputs on chip: which form is taken and why, what it costs, and how a host loads it."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sgq_hw import host
from sgq_hw.budget import make_budget
from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cli import cli
from sgq_hw.cost.memory_mapper import map_memory
from sgq_hw.cycles import inference_cycles
from sgq_hw.generate import design_for, generate
from sgq_hw.golden.network import input_matrix
from sgq_hw.input_forms import compare_inputs
from sgq_hw.mapping import map_workload
from sgq_hw.packer import input_packet, layout_of, load_packets, reload_packet
from tests.quantised import quantised
from tests.random_networks import random_bundle
from tests.unit.test_host import Register


def bundle_of(seed: int = 3, **options: Any) -> Bundle:
    return random_bundle(np.random.default_rng(seed), layers=2, graph="random", **options)


def full(**options: Any) -> Bundle:
    """Return a bundle in whose inputs nothing is zero."""
    bundle = bundle_of(**options)
    workload, channels = bundle.workload, bundle.network.manifest.input.channels
    nodes = workload.num_nodes
    workload = type(workload)(**{
        **{name: getattr(workload, name) for name in workload.__dataclass_fields__},
        "x_indptr": np.arange(nodes + 1) * channels,
        "x_indices": np.tile(np.arange(channels), nodes),
        "x_codes": None,
    })  # fmt: skip
    return Bundle(bundle.network, workload)


def test_cora_is_kept_as_records(data_folder: Path) -> None:
    bundle = quantised("cora")
    design = design_for(bundle, pes=2, lanes=8, inputs_on_chip=True)
    choice = compare_inputs(design, bundle)
    assert choice.other is not None
    assert (choice.taken.name, choice.other.name) == ("sparse", "dense")
    steps = map_workload(bundle.workload, 2).inputs.steps
    # last, valid, slot, bank of 4, address in 359 rows of it; all values are one.
    assert choice.taken.bits == 2 * (1 + 1 + 1 + 2 + 9) * steps
    # The values of 32 steps lie side by side.
    lines = -(-1354 * 1433 // 32)
    assert choice.other.bits == 64 * lines
    assert choice.taken.blocks == map_memory(28, steps, "xc7", style="block").units
    assert choice.other.blocks == map_memory(64, lines, "xc7", style="block").units
    assert choice.taken.cycles == inference_cycles(design, bundle.workload)
    dense = design_for(bundle, pes=2, lanes=8, inputs_on_chip=True, sparse_input=False)
    assert choice.other.cycles == inference_cycles(dense, bundle.workload)
    assert choice.other.cycles > 20 * choice.taken.cycles
    assert choice.reason == "fewer RAMB36 of AMD 7-series"


@pytest.mark.parametrize("pes", [1, 4])
def test_full_rows_are_kept_as_they_are(pes: int) -> None:
    bundle = full(nodes=40, features=30, inputs="binary")
    design = design_for(bundle, pes=pes, inputs_on_chip=True)
    assert not design.sparse_input
    choice = compare_inputs(design, bundle)
    assert choice.other is not None
    # A word holds 64 values: those of 64 or of 16 steps.
    assert choice.other.bits > choice.taken.bits == -(-40 * 30 // 64) * 64
    assert choice.best is choice.taken
    asked = design_for(bundle, pes=pes, inputs_on_chip=True, sparse_input=True)
    assert asked.sparse_input
    other = compare_inputs(asked, bundle)
    assert other.reason == "as asked for"
    assert other.other == choice.taken
    assert other.taken == choice.other


def test_a_tie_in_blocks_goes_to_fewer_bits() -> None:
    bundle = bundle_of(nodes=6, features=5, inputs="binary")
    choice = compare_inputs(design_for(bundle, inputs_on_chip=True), bundle)
    assert choice.other is not None
    assert choice.taken.blocks == choice.other.blocks == Fraction(0)
    assert choice.reason == "fewer bits"
    assert choice.taken.bits < choice.other.bits


@pytest.mark.parametrize("sparse", [True, False])
def test_the_budget_charges_inputs_once(sparse: bool) -> None:
    bundle = bundle_of(nodes=20, features=9)
    streamed = make_budget(bundle, design_for(bundle, sparse_input=sparse), ())
    design = design_for(bundle, sparse_input=sparse, inputs_on_chip=True)
    budget = make_budget(bundle, design, ())
    memory = design.memory("input_memory")
    assert budget.bits_total == streamed.bits_total + memory.bits
    assert budget.compression.total == pytest.approx(budget.bits_fp32 / budget.bits_total)
    for name in ("features", "hidden", "stored"):
        assert getattr(budget.compression, name) == getattr(streamed.compression, name)
    data = budget.as_json()
    assert data["input_memory"]["form"] == ("sparse" if sparse else "dense")
    assert set(data["input_memory"]["forms"]) == {"sparse", "dense"}
    assert {"name": "input_memory", "width": memory.width, "depth": memory.depth, "copies": 1,
            "bits": memory.bits} in data["memories"]  # fmt: skip
    assert "input_memory" not in streamed.as_json()


def test_commands_say_what_was_taken_and_why(tmp_path: Path) -> None:
    save_bundle(tmp_path / "q.npz", bundle_of(nodes=20, features=9))
    line = re.compile(
        r"^inputs on chip: (sparse|dense), [\w -]+: \1 [\d,]+ bits, [\d.]+ RAMB36, [\d,]+ cycles; "
        r"(sparse|dense) [\d,]+ bits, [\d.]+ RAMB36, [\d,]+ cycles$", re.MULTILINE,
    )  # fmt: skip

    def said(*arguments: str) -> list[str]:
        done = CliRunner().invoke(cli, list(arguments))
        assert done.exit_code == 0, done.output
        return [found.group() for found in line.finditer(done.output)]

    bundle, rtl = str(tmp_path / "q.npz"), str(tmp_path / "rtl")
    first = said("generate", bundle, "--inputs", "on-chip", "-o", rtl)
    assert len(first) == 1
    assert said("budget", rtl) == first
    assert said("budget", bundle, "--inputs", "on-chip") == first
    assert said("budget", bundle) == []
    form = "sparse" if "chip: dense" in first[0] else "dense"
    asked = said("generate", bundle, "--inputs", "on-chip", "--input", form, "-o", rtl)
    assert asked[0].startswith(f"inputs on chip: {form}, as asked for: ")
    said("budget", bundle, "--fit", "4", "--inputs", "on-chip")
    refused = CliRunner().invoke(cli, ["budget", rtl, "--inputs", "on-chip"])
    assert "--inputs and --capacity were decided by generate" in str(refused.exception)


FORMS = [
    {"pes": pes, "stream_bits": bits, "sparse_input": sparse, "streamed": streamed}
    for pes, bits in ((1, 32), (1, 512), (2, 64), (8, 128))
    for sparse in (True, False)
    for streamed in (False, True)
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_packets_are_those_of_the_packer(form: dict[str, Any]) -> None:
    bundle = bundle_of(nodes=21, features=11, inputs="multi-bit")
    design = design_for(bundle, lanes=4, inputs_on_chip=True, **form)
    layout, workload = layout_of(design), bundle.workload
    mapping = map_workload(workload, design.pes)
    load, start = load_packets(design, bundle), input_packet(design, workload)
    again = reload_packet(design, workload, workload)
    assert load.lines()[-len(again.lines()) :] == again.lines()
    packed = host.pack_sparse(
        layout, mapping.places, workload.x_indptr, workload.x_indices, workload.x_codes,
        mapping.inputs,
    )  # fmt: skip
    assert packed.lines() == again.lines()
    graph = host.graph_words(layout, load, start) if design.streamed else None
    assert host.start_packet(layout, mapping.places, graph).lines() == start.lines()
    if not design.streamed:
        assert len(start.data) == layout.header_beats
    with pytest.raises(ValueError, match="do not go with an inference"):
        host.inference_packet(layout, mapping.places, np.zeros((1, 1), np.uint8), graph)


def test_the_driver(tmp_path: Path) -> None:
    bundle = bundle_of(nodes=21, features=11, inputs="multi-bit")
    save_bundle(tmp_path / "q.npz", bundle)
    generated = generate(
        tmp_path / "q.npz", tmp_path / "rtl", pes=2, sparse_input=True, inputs_on_chip=True
    )
    design = generated.design
    data = json.loads((generated.folder / "design.json").read_text())
    assert host.Layout.from_description(data) == layout_of(design)
    transport = Register(design)
    accelerator = host.Accelerator(generated.folder, transport)
    accelerator.load()
    assert len(transport.sent) == len(design.targets)
    workload, limit = bundle.workload, design.capacity.input_words
    schedule = map_workload(workload, 2).inputs
    accelerator.load_inputs_sparse(
        workload.x_indptr, workload.x_indices, workload.x_codes, schedule
    )
    assert transport.sent[-1] == transport.sent[-2]
    with pytest.raises(TimeoutError):
        accelerator.run()
    assert len(transport.sent[-1]) == 8
    codes = input_matrix(bundle.network, workload).toarray()
    with pytest.raises(ValueError, match=r"load_inputs\(codes\) takes them"):
        accelerator.run(codes)
    with pytest.raises(ValueError, match="load_inputs_sparse takes them"):
        accelerator.run_sparse(workload.x_indptr, workload.x_indices)
    with pytest.raises(ValueError, match=f"input_words: .*; the largest that fits is {limit}"):
        accelerator.load_inputs(np.ones_like(codes))
    generate(tmp_path / "q.npz", tmp_path / "rtl", pes=2, sparse_input=True)
    accelerator = host.Accelerator(tmp_path / "rtl", transport)
    with pytest.raises(ValueError, match="none are loaded into this accelerator"):
        accelerator.load_inputs(codes)
    with pytest.raises(ValueError, match=r"run\(codes\) takes them"):
        accelerator.run()

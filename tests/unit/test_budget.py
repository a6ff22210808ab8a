"""The memory budget: every figure recomputed by hand, and equal to what is generated."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from sgq_hw.budget import Budget, make_budget
from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.compression import cheapest_input_bits
from sgq_hw.cost.devices import find_device, load_devices
from sgq_hw.generate import design_for, generate
from tests.quantised import quantised
from tests.random_networks import INPUTS, InputKind, gcn_layers, random_bundle

Norm = Literal["factored", "edge"]

HIDDEN = 16


def budget_of(bundle: Bundle, **options: Any) -> Budget:
    return make_budget(bundle, design_for(bundle, **options), ())


@pytest.mark.parametrize("norm", ["factored", "edge"])
@pytest.mark.parametrize("bits", [1, 4, 16])
def test_compression_by_hand(bits: int, norm: Norm, data_folder: Path) -> None:
    """Cora with 16 hidden channels and 7 classes, at `--bits N`, sizes taken from the file."""
    bundle = quantised("cora", bits, norm)
    budget = budget_of(bundle)
    with np.load(data_folder / "cora.npz") as file:
        n, f = (int(size) for size in file["x_shape"])
        edges = len(file["indices"]) + n  # Cora stores no loops
        classes = int(file["y"].max()) + 1
    before = max(bits, 8)  # pre-aggregation
    assert budget.compression.features == pytest.approx(
        32 * (n * f + n * HIDDEN) / (n * f + bits * n * HIDDEN)
    )
    assert budget.compression.hidden == pytest.approx(32 / bits)
    # Kept between passes: X, XW, H, HW; logits leave at once. Two tables, or one and the edges.
    side_values, side_bits = (2 * n, 12 * n + 8 * n)
    if norm == "edge":
        side_values, side_bits = edges + n, max(bits, 2) * edges + 12 * n
    values = n * f + n * HIDDEN + n * HIDDEN + n * classes + side_values
    stored = n * f + before * n * HIDDEN + bits * n * HIDDEN + before * n * classes + side_bits
    assert budget.compression.stored == pytest.approx(32 * values / stored)
    parameters = f * HIDDEN + HIDDEN * classes + HIDDEN + classes
    results = 2 * n * HIDDEN + 2 * n * classes
    assert budget.bits_fp32 == 32 * (n * f + results + parameters + 2 * edges)
    assert budget.compression.total == pytest.approx(
        budget.bits_fp32 / (budget.bits_total + budget.input_bits)
    )


@pytest.mark.parametrize("norm", ["factored", "edge"])
def test_memories_by_hand(norm: Norm, data_folder: Path) -> None:
    bundle = quantised("cora", 4, norm)
    workload, manifest = bundle.workload, bundle.network.manifest
    n, f, edges, lanes = workload.num_nodes, manifest.input.channels, workload.num_edges, 16
    bias_bits = max(layer.aggregate.bias_bits for layer in gcn_layers(manifest))
    node_bits = 12  # 2,708 nodes
    assert 2 ** (node_bits - 1) < n <= 2**node_bits
    expected = {
        "weight_memory": 4 * lanes * (f + HIDDEN),
        "edge_memory": (1 + node_bits + (4 if norm == "edge" else 0)) * edges,
        "table0_memory": 12 * n,
        "channel_memory": bias_bits * lanes * 2,
        "region0_memory": 8 * lanes * n,
        "region1_memory": 4 * lanes * n,
        "output_fifo": (16 * lanes + 2) * 32,
    }
    if norm == "factored":
        expected["table1_memory"] = 8 * n
    budget = budget_of(bundle, lanes=lanes)
    assert {memory.name: memory.bits for memory in budget.design.memories} == expected
    assert budget.bits_total == sum(expected.values())


def test_one_layer_has_no_hidden_features() -> None:
    bundle = random_bundle(np.random.default_rng(0), layers=1, nodes=9)
    budget = budget_of(bundle)
    assert budget.compression.hidden is None
    assert budget.as_json()["compression_hidden"] is None


def bit_string(bundle: Bundle, dense: bool) -> str:
    """Really code the input: complete rows, or the length and the entries of each row."""
    spec, workload = bundle.network.manifest.input, bundle.workload
    starts, columns = workload.x_indptr.tolist(), workload.x_indices.tolist()
    codes = [1] * len(columns) if workload.x_codes is None else workload.x_codes.tolist()

    def binary(value: int, bits: int) -> str:
        return f"{value % 2**bits:0{bits}b}" if bits else ""

    lengths = [b - a for a, b in pairwise(starts)]
    length_bits = max(1, max(lengths).bit_length())
    column_bits = max(1, (spec.channels - 1).bit_length())
    parts = []
    for node, length in enumerate(lengths):
        entries = range(starts[node], starts[node] + length)
        if dense:
            row = {columns[e]: codes[e] for e in entries}
            parts += [binary(row.get(k, 0), spec.bits) for k in range(spec.channels)]
            continue
        parts.append(binary(length, length_bits))
        for e in entries:
            parts.append(binary(columns[e], column_bits))
            parts.append(binary(codes[e], 0 if workload.x_codes is None else spec.bits))
    return "".join(parts)


@pytest.mark.parametrize("inputs", INPUTS)
def test_cheapest_input_is_the_shorter_coding(inputs: InputKind) -> None:
    forms = set()
    for seed in range(12):
        features = (1, 8, 16, 21)[seed % 4]
        bundle = random_bundle(np.random.default_rng(seed), inputs=inputs, features=features)
        sizes = [len(bit_string(bundle, dense)) for dense in (False, True)]
        assert cheapest_input_bits(bundle) == min(sizes)
        forms.add(sizes[0] < sizes[1])
    assert inputs == "binary" or len(forms) == 2


def test_cheapest_input_of_cora(data_folder: Path) -> None:
    """Index lists: about a seventh of one bit a feature, and about 70 kB."""
    bundle = quantised("cora")
    listed = len(bit_string(bundle, dense=False))
    assert cheapest_input_bits(bundle) == listed
    n, f = bundle.workload.num_nodes, bundle.network.manifest.input.channels
    assert n * f / 8 < listed < n * f / 6
    assert 65e3 < listed / 8 < 75e3


def test_memories_are_those_of_the_generated_folder(tmp_path: Path) -> None:
    choices: list[dict[str, Any]] = [
        {"lanes": 3}, {"lanes": 16, "rom": True}, {"lanes": 8, "capacity": {"nodes": 70}},
    ]  # fmt: skip
    for seed, options in enumerate(choices):
        path, folder = tmp_path / f"{seed}.npz", tmp_path / f"rtl{seed}"
        bundle = random_bundle(np.random.default_rng(seed), nodes=20)
        save_bundle(path, bundle)
        generate(path, folder, **options)
        written = json.loads((folder / "design.json").read_text())["memories"]
        budget = budget_of(bundle, **options)
        priced = budget.as_json()["memories"]
        names = ("name", "width", "depth")
        assert [[m[k] for k in names] for m in priced] == [[m[k] for k in names] for m in written]
        assert all(m["bits"] == m["width"] * m["depth"] for m in priced)
        assert budget.bits_total == sum(m["width"] * m["depth"] for m in written)


def test_json_keys() -> None:
    bundle = random_bundle(np.random.default_rng(1), nodes=20, layers=2, hidden=10)
    known = load_devices()
    smallest = min(known, key=lambda device: device.total_block_kbits)
    parts = (smallest, find_device("XC7Z020"))
    design = design_for(bundle, lanes=3, capacity={"nodes": 4000})
    data = make_budget(bundle, design, parts).as_json()
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {
        "memories", "feature_memory", "feature_regions", "feature_total", "input_bits",
        "bits_total", "bits_fp32", "throughput", "compression_features", "compression_hidden",
        "compression_stored", "compression_total", "devices",
    }  # fmt: skip
    keys = {"name", "width", "depth", "copies", "bits"}
    assert all(set(memory) == keys for memory in data["memories"])
    names = [entry["layer"] for entry in data["feature_memory"]]
    assert names == [step.name for step in design.passes]
    for entry, step in zip(data["feature_memory"], design.passes, strict=True):
        assert entry["payload_bits"] == 20 * step.out_channels * step.bits
        assert entry["average_bits"] == step.bits
        assert entry["buckets"] == 1
        if step.destination is None:
            assert entry["stored_bits"] == 0
        else:
            memory = design.memory(f"region{step.destination}_memory")
            assert entry["stored_bits"] == memory.width * 4000 * step.chunks
    assert [device["part"] for device in data["devices"]] == [part.part for part in parts]
    for device, part in zip(data["devices"], parts, strict=True):
        assert {"part", "fits", "block_ram_used", "block_ram_available"} <= set(device)
        assert device["block_ram_available"] == part.memories[0].count
    assert [device["fits"] for device in data["devices"]] == [False, True]

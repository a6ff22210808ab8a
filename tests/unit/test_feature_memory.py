"""The feature memory in the budget: every figure recomputed from the graph and the memories."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.budget import make_budget
from sgq_hw.bundle import Bundle
from sgq_hw.cost.memory_mapper import map_memory
from sgq_hw.design import Design
from sgq_hw.feature_memory import FeatureMemory, FeatureRegion, feature_memory
from sgq_hw.generate import design_for
from sgq_hw.report import print_features
from tests.quantised import quantised

BITS = (8, 4, 2, 1)
SPLITS = (4, 8, 16)
AVERAGES = {"cora": 6.23, "amazon_computers": 2.18}


def design_of(bundle: Bundle, pes: int, lanes: int) -> Design:
    return design_for(bundle, pes=pes, lanes=lanes, stream_bits=64)


def features_of(bundle: Bundle, pes: int = 1, lanes: int = 16) -> FeatureMemory:
    return feature_memory(bundle, design_of(bundle, pes, lanes))


def blocks_of(design: Design, role: str = "feature") -> Fraction:
    """Blocks of the memories that the Verilog instantiates."""
    mapped = [
        (memory, map_memory(memory.width, memory.depth, "xc7", style=memory.style))
        for memory in design.memories
        if memory.role == role
    ]
    return sum(
        (memory.copies * cells.units for memory, cells in mapped if cells.kind == "block"),
        Fraction(0),
    )


def bits_of(design: Design) -> int:
    return sum(memory.bits for memory in design.memories if memory.role == "feature")


@pytest.mark.parametrize("name", AVERAGES)
def test_average_bits_of_real_graphs(name: str, data_folder: Path) -> None:
    """Node degrees taken from the file; SGQuant's bits at its splits."""
    with np.load(data_folder / f"{name}.npz") as file:
        degrees = np.diff(file["indptr"])
    widths = np.select([degrees < split for split in SPLITS], BITS[:3], BITS[3])
    entries = features_of(quantised(name, bucket_bits=BITS)).as_json()["feature_memory"]
    hidden = next(entry for entry in entries if entry["layer"] == "layer0.aggregate")
    assert round(hidden["average_bits"], 2) == AVERAGES[name]
    assert hidden["average_bits"] == pytest.approx(widths.mean())
    assert hidden["payload_bits"] == 16 * widths.sum()
    assert hidden["buckets"] == 4
    assert hidden["bucket_bits"] == list(BITS)
    assert hidden["bucket_nodes"] == [int((widths == bits).sum()) for bits in BITS]


@pytest.mark.parametrize(("pes", "lanes"), [(1, 16), (2, 8)])
def test_degree_aware_bits_save_most_block_ram_of_amazon(
    pes: int, lanes: int, data_folder: Path
) -> None:
    bundle = quantised("amazon_computers", bucket_bits=BITS)
    design = design_of(bundle, pes, lanes)
    totals = feature_memory(bundle, design).totals
    assert totals["built"].blocks <= Fraction(2, 5) * totals["uniform_8"].blocks
    assert totals["built"].blocks == blocks_of(design)
    assert totals["built"].bits == bits_of(design)


def is_never_above(region: FeatureRegion) -> bool:
    others = (*region.plans.values(), *region.alternatives)
    return all(region.plans["built"].blocks <= other.blocks for other in others)


def test_worse_plan_is_seen() -> None:
    """Planted: the last of the cuts is built instead of the first."""
    bundle = quantised("karate", bucket_bits=BITS)
    design = design_for(bundle, capacity={"nodes": 9000, "edges": 90_000}, stream_bits=64)
    region = feature_memory(bundle, design).regions[1]
    assert is_never_above(region)
    plans = {**region.plans, "built": region.alternatives[-1]}
    assert not is_never_above(replace(region, plans=plans))


@pytest.mark.parametrize(("pes", "lanes"), [(1, 16), (1, 5), (2, 8), (4, 64), (16, 1), (64, 16)])
def test_built_is_never_above_its_comparisons(pes: int, lanes: int) -> None:
    bundle = quantised("karate", bucket_bits=BITS)
    wide = {"nodes": 9000, "edges": 90_000}
    design = design_for(bundle, pes=pes, lanes=lanes, stream_bits=64, capacity=wide)
    memory = feature_memory(bundle, design)
    for region in memory.regions:
        assert region.plans["built"] == region.alternatives[0]
        assert is_never_above(region)
        merged = next(plan for plan in region.alternatives if len(plan.slices) == 1)
        assert merged.bits == region.plans["uniform_widest"].bits
    assert memory.totals["built"].blocks == blocks_of(design)
    assert memory.totals["built"].bits == bits_of(design)


@pytest.mark.parametrize(("pes", "lanes"), [(1, 16), (2, 8), (16, 4)])
def test_comparisons_are_the_designs_of_these_networks(pes: int, lanes: int) -> None:
    """A network that is uniform takes what the degree-aware one is told that it would take."""
    wide = {"nodes": 5000, "edges": 50_000}
    options: dict[str, Any] = {"pes": pes, "lanes": lanes, "stream_bits": 64, "capacity": wide}
    aware = quantised("karate", bucket_bits=BITS)
    totals = feature_memory(aware, design_for(aware, **options)).totals
    uniform = design_for(quantised("karate", 8), **options)
    for name in ("uniform_8", "uniform_widest"):
        assert (totals[name].bits, totals[name].blocks) == (bits_of(uniform), blocks_of(uniform))
    assert totals["fp32"].bits == 4 * bits_of(uniform)


def test_results_without_a_sign_take_a_bit_more_beside_others() -> None:
    """Region 0 also gets the aggregation that runs first in layer 1, which has no sign."""
    design = design_of(quantised("karate", bucket_bits=BITS), 1, 16)
    first, second, third, last = design.passes
    program = replace(
        design.program,
        passes=(first, second, replace(third, signed=False), last),
        regions=(
            replace(design.program.regions[0], widths=(9, 5, 3, 2)),
            design.program.regions[1],
        ),
    )
    mixed = replace(design, program=program)
    regions = feature_memory(quantised("karate", bucket_bits=BITS), mixed).regions
    for name in ("uniform_8", "uniform_widest"):
        assert [region.plans[name].slices[0].high for region in regions] == [9, 8]


def test_stored_bits_count_the_words_of_a_tensor() -> None:
    """Karate: 16 channels in two words of region 0, then 4 classes in one of them."""
    bundle = quantised("karate", bucket_bits=BITS)
    design = design_of(bundle, 2, 8)
    found = {
        entry["layer"]: entry for entry in features_of(bundle, 2, 8).as_json()["feature_memory"]
    }
    region = [memory for memory in design.memories if memory.name.startswith("region0_")]
    reserved = sum(memory.bits for memory in region)
    assert found["layer0.combine"]["stored_bits"] == reserved
    assert found["layer1.combine"]["stored_bits"] == reserved // 2
    assert found["layer1.combine"]["uniform_8"]["stored_bits"] == 8 * 8 * 36
    assert found["layer1.aggregate"]["stored_bits"] == found["layer1.aggregate"]["blocks"] == 0
    assert found["layer1.aggregate"]["region"] is None


@pytest.mark.parametrize("pes", [1, 2])
def test_collecting_is_told_apart(pes: int, data_folder: Path) -> None:
    """A single processing element collects results for the sake of the buckets only."""
    for bits in ((), BITS):
        bundle = quantised("cora", bucket_bits=bits)
        design = design_of(bundle, pes, 16 // pes)
        collecting = feature_memory(bundle, design).collecting
        wanted = pes == 1 and bits
        order = blocks_of(design, "order") + blocks_of(design, "output")
        assert collecting.blocks == (order if wanted else 0)
        assert (collecting.bits > 0) == bool(wanted)


def test_json_and_table_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    bundle = quantised("karate", bucket_bits=BITS)
    design = design_of(bundle, 1, 16)
    budget = make_budget(bundle, design, ())
    data = budget.as_json()
    assert json.loads(json.dumps(data)) == data
    total = data["feature_total"]
    assert (total["family"], total["block"]) == ("xc7", "RAMB36E1")
    kinds = ("built", "uniform_8", "uniform_widest", "fp32", "collecting")
    assert set(total) == {"family", "block", *kinds}
    for key in ("bits", "blocks", "luts"):
        assert sum(region[key] for region in data["feature_regions"]) == total["built"][key]
    # Combinations keep two bits at least, which have a sign; aggregations one.
    counts = [len(region["alternatives"]) for region in data["feature_regions"]]
    assert counts == [4, 8]
    for region in data["feature_regions"]:
        assert region["slices"] == region["alternatives"][0]["slices"]
        assert [piece["low"] for piece in region["slices"][1:]] == [
            piece["high"] for piece in region["slices"][:-1]
        ]
    print_features(budget.features)
    text = capsys.readouterr().out
    assert "8/4/2/1" in text
    assert "layer0.aggregate" in text
    assert f"{total['fp32']['bits']:,}" in text
    assert text.count("built") == 3

"""Predicted cycles and losses: they add up, on any array; the best array of a number of slots."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.cli import cli
from sgq_hw.cycles import BUFFERED_WORDS, pass_times
from sgq_hw.errors import InputError
from sgq_hw.generate import design_for
from sgq_hw.throughput import arrays_of, count_useful, predict
from tests.random_networks import random_bundle

CAUSES = {
    "bank_conflict", "row_imbalance", "lane_padding", "fill_drain", "input_stall", "output_stall",
    "computed_zeros",
}  # fmt: skip


def bundle(seed: int, **options: object) -> Bundle:
    return random_bundle(np.random.default_rng(seed), nodes=40, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sparse_input", [True, False])
@pytest.mark.parametrize(("pes", "lanes"), [(1, 1), (1, 16), (2, 5), (8, 4), (64, 1)])
def test_useful_and_lost_slots_add_up(pes: int, lanes: int, sparse_input: bool) -> None:
    for seed, self_loops in ((1, True), (2, False)):
        found = bundle(seed, self_loops=self_loops)
        for stream_bits in (32, 256):
            design = design_for(
                found, pes=pes, lanes=lanes, stream_bits=stream_bits, sparse_input=sparse_input
            )
            throughput = predict(design, found)
            lost = throughput.lost_slots
            assert set(lost) == CAUSES
            assert min(lost.values()) >= 0
            assert throughput.useful_macs == count_useful(found) > 0
            assert throughput.useful_macs + sum(lost.values()) == throughput.slots
            assert throughput.slots == pes * lanes * throughput.cycles
            assert sum(throughput.pass_cycles.values()) <= throughput.cycles


def test_a_narrow_stream_costs_input_stalls() -> None:
    found = bundle(3, inputs="signed", input_bits=16)
    narrow = design_for(found, pes=8, lanes=16, stream_bits=32, sparse_input=True)
    first = pass_times(narrow, found.workload)[0]
    # Two words are there when the pass begins.
    missing = narrow.beats_per_word - first.chunks
    assert first.input_wait == (first.steps - BUFFERED_WORDS) * missing > 0
    chosen = design_for(found, pes=8, lanes=16, sparse_input=True)
    widest = design_for(found, pes=8, lanes=16, stream_bits=1024, sparse_input=True)
    assert predict(chosen, found).cycles == predict(widest, found).cycles
    assert 64 <= chosen.stream_bits < 1024


def test_arrays_are_compared() -> None:
    found = bundle(4)
    arrays = arrays_of(found, 16)
    shapes = [(array.design.pes, array.design.lanes) for array in arrays]
    assert sorted(shapes) == [(1, 16), (2, 8), (4, 4), (8, 2), (16, 1)]
    assert [array.cycles for array in arrays] == sorted(array.cycles for array in arrays)
    assert {array.useful_macs for array in arrays} == {count_useful(found)}
    with pytest.raises(InputError, match="--fit: 8192 is no product of 1, 2, 4"):
        arrays_of(found, 8192)


def test_the_command(tmp_path: Path) -> None:
    save_bundle(tmp_path / "q.npz", bundle(5))
    target = str(tmp_path / "q.npz")
    run = CliRunner().invoke(
        cli, ["budget", target, "--fit", "8", "--json", str(tmp_path / "fit.json")]
    )
    assert run.exit_code == 0, run.output
    arrays = json.loads((tmp_path / "fit.json").read_text())["arrays"]
    best = arrays[0]
    assert f"best: --pes {best['pes']} --lanes {best['lanes']}" in run.output
    options = ["--pes", str(best["pes"]), "--lanes", str(best["lanes"])]
    run = CliRunner().invoke(
        cli, ["budget", target, *options, "--json", str(tmp_path / "one.json")]
    )
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "one.json").read_text())["throughput"] == best
    assert f"{best['cycles']:,} cycles an inference" in run.output
    for wrong in (["--pes", "2"], ["--all"], ["--device", "XC7Z020"]):
        run = CliRunner().invoke(cli, ["budget", target, "--fit", "8", *wrong])
        assert run.exit_code != 0

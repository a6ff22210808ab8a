"""Both bounds of attention's logits, through training, bundle, golden model and command line."""

import functools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sgq_hw.bundle import Bundle
from sgq_hw.cli import main
from sgq_hw.errors import InputError
from sgq_hw.golden import attention_unit
from sgq_hw.golden.network import attention_rows, run
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.layers import Bound, GatAttention
from sgq_hw.quantize.config import config_text, load_config, uniform_config
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.pipeline import quantize, quantized_network
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.train import TrainedModel, train
from tests.random_networks import validated

BOUNDS: tuple[Bound, ...] = ("row", "global")
GAT = ("gat", "gat")


@functools.cache
def trained(model: str, factor: float = 1.0) -> tuple[TrainedModel, Graph]:
    """Train once in a session; factors above 1 spread the logits."""
    graph = load_graph("karate")
    found = train(graph, model=model, epochs=12)
    wide = {
        name: value * np.float32(factor) if name.endswith(("source", "target", "beta")) else value
        for name, value in found.parameters.items()
    }
    return replace(found, parameters=wide), graph


def scalar_zeroed(bundle: Bundle, layer: int) -> int:
    """Count pairs of row and head without any weight, in plain integers."""
    step = next(s for s in bundle.network.manifest.steps() if s.key == (layer, "aggregate"))
    attention, workload = step.attention, bundle.workload
    assert isinstance(attention, GatAttention)
    table = bundle.network.exponentials[step.key].tolist()
    scores = run(bundle.network, workload)[layer, "score"].tolist()
    heads, half = attention.heads, (1 << attention.index_shift) >> 1

    def leaky(value: int) -> int:
        factor = 1 << attention.slope_shift if value >= 0 else attention.slope_code
        return value * factor

    lost = 0
    for row, (a, b) in enumerate(zip(workload.indptr, workload.indptr[1:], strict=False)):
        sources = workload.indices[a:b].tolist()
        for head in range(heads if sources else 0):
            nodes = sources if attention.bound == "row" else range(len(scores))
            bound = leaky(scores[row][head] + max(scores[j][heads + head] for j in nodes))
            logits = [leaky(scores[row][head] + scores[j][heads + head]) for j in sources]
            found = [(bound - logit + half) >> attention.index_shift for logit in logits]
            lost += not any(table[index] for index in found if index < len(table))
    return lost


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("factor", [1.0, 32.0])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_torch_equals_golden_and_lost_rows_are_counted(
    bits: int, factor: float, bound: Bound
) -> None:
    pair = trained("gat", factor)
    config = uniform_config(bits, GAT, attention_bound=bound)
    network = quantized_network(*pair, config)
    bundle = validated(freeze(network))
    trace = run(bundle.network, bundle.workload)
    for key, codes in network.stage_codes().items():
        assert np.array_equal(codes, trace[key]), key
    found = attention_rows(bundle, trace)
    assert [(rows.layer, rows.bound) for rows in found] == [(0, bound), (1, bound)]
    assert [rows.rows for rows in found] == [34 * 8, 34]
    assert [rows.zeroed_rows for rows in found] == [scalar_zeroed(bundle, i) for i in (0, 1)]
    lost = sum(rows.zeroed_rows for rows in found)
    assert lost == 0 if bound == "row" else lost > 0 or factor == 1.0


def test_a_unit_that_ignores_the_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = uniform_config(4, GAT, attention_bound="global")
    bundle = freeze(quantized_network(*trained("gat", 32.0), config))
    expected = [scalar_zeroed(bundle, layer) for layer in (0, 1)]
    original = attention_unit.gat_bounds

    def of_rows(*arguments: Any, **options: Any) -> Any:
        indptr, indices, target, source, _, *rest = arguments
        return original(indptr, indices, target, source, "row", *rest, **options)

    before = run(bundle.network, bundle.workload)
    monkeypatch.setattr(attention_unit, "gat_bounds", of_rows)
    after = run(bundle.network, bundle.workload)
    assert any(not np.array_equal(before[key], after[key]) for key in before)
    found = attention_rows(bundle, after)
    assert [rows.zeroed_rows for rows in found] == [0, 0] != expected


def test_fine_tuning_keeps_the_bound() -> None:
    """`quantize` compares every code with the golden model by itself."""
    config = uniform_config(4, GAT, attention_bound="global")
    bundle = quantize(*trained("gat"), config, tuning=FineTuning(epochs=4))
    records = [step.attention for step in bundle.network.manifest.steps() if step.attention]
    assert [record.bound for record in records if isinstance(record, GatAttention)] == [
        "global"
    ] * 2


def test_rows_of_agnn_have_the_factor_as_bound() -> None:
    pair = trained("agnn", 64.0)
    kinds = ("linear", "propagate", "propagate", "linear")
    bundle = freeze(quantized_network(*pair, uniform_config(4, kinds)))
    # A row is lost where even its own cosine lies too far below |beta|: never for beta > 0.
    found = attention_rows(bundle, run(bundle.network, bundle.workload))
    assert [(rows.bound, rows.rows) for rows in found] == [("beta", 34)] * 2
    away = {name: -np.abs(v) if name.endswith("beta") else v for name, v in
            pair[0].parameters.items()}  # fmt: skip
    bundle = freeze(quantized_network(replace(pair[0], parameters=away), pair[1],
                                      uniform_config(4, kinds)))  # fmt: skip
    assert sum(r.zeroed_rows for r in attention_rows(bundle, run(bundle.network,
                                                                 bundle.workload))) > 0  # fmt: skip


@pytest.mark.parametrize("kinds", [("gcn", "gcn"), ("linear", "propagate", "linear")])
def test_other_networks_have_no_choice(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    path = tmp_path / "bits.toml"
    config = uniform_config(4, kinds)
    path.write_text(config_text(msgspec.structs.replace(config, attention_bound="global")))
    with pytest.raises(InputError, match="attention_bound: a choice of GAT only"):
        load_config(path, kinds)
    path.write_text(config_text(config).replace('attention_bound = "row"', 'attention_bound = "?"'))
    with pytest.raises(InputError, match="attention_bound"):
        load_config(path, kinds)


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def call(text: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sgq-hw", *text.split()])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capfd.readouterr()

    for model in ("gat", "gcn"):
        assert call(f"train karate --model {model} --epochs 2 -o {model}.npz")[0] == 0
    for bound in BOUNDS:
        made = f"quantize gat.npz --bits 4 --attention-bound {bound} -o q.npz"
        assert call(made)[0] == 0
        code, stdout, _ = call("golden q.npz --json q.json")
        assert code == 0
        assert f"\nlayer 1: attention bound {bound}, 0 of 34 rows lose all weights\n" in stdout
        expected = [
            {"layer": layer, "bound": bound, "rows": rows, "zeroed_rows": 0}
            for layer, rows in ((0, 272), (1, 34))
        ]
        assert json.loads((tmp_path / "q.json").read_text())["attention"] == expected
    assert call("quantize gcn.npz --bits 4 -o q.npz")[0] == 0
    assert call("golden q.npz --json q.json")[1].count("\n") == 1
    assert json.loads((tmp_path / "q.json").read_text())["attention"] == []
    refused = {
        "gcn.npz --bits 4 --attention-bound global": "attention_bound: a choice of GAT only",
        "gat.npz --config f.toml --attention-bound row": "--attention-bound: the configuration",
        "gat.npz --bits 4 --attention-bound column": "'column' is not one of",
    }
    for arguments, reason in refused.items():
        code, stdout, stderr = call(f"quantize {arguments} -o no.npz")
        assert (code, stdout, stderr.count("\n")) == (2, "", 1)
        assert reason in stderr
        assert not (tmp_path / "no.npz").exists()

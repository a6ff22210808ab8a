"""Scales learned by gradients: their gradient, their limits, and exact integers all the while."""

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sgq_hw.bundle import save_bundle
from sgq_hw.formats import MAX_SHIFT
from sgq_hw.golden.network import run
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.quantize import pipeline, rounding
from sgq_hw.quantize.config import BitConfig, Taq, kinds_for, uniform_config, with_taq
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.network import QuantizedNetwork
from sgq_hw.quantize.pipeline import fine_tune, quantize, quantized_network
from sgq_hw.quantize.rounding import learned_rounded, rounded
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.train import TrainedModel, train
from tests.random_networks import validated

MODELS = ("gcn", "sage", "gin", "gat", "agnn")
TAQ = Taq(splits=(4, 8, 16), bits=(8, 4, 2, 1))
LEARNED = FineTuning(epochs=8, lr_factor=3.0, clipping="learned")


@functools.cache
def trained(model: str) -> tuple[TrainedModel, Graph]:
    graph = load_graph("karate")
    return train(graph, model=model, epochs=12), graph


def config_for(model: str, name: str) -> BitConfig:
    kinds = kinds_for(*trained(model))
    if name == "windows":
        return with_taq(uniform_config(8, kinds), kinds, TAQ)
    return uniform_config(int(name), kinds)


def assert_exact(network: QuantizedNetwork) -> None:
    bundle = validated(freeze(network))
    trace = run(bundle.network, bundle.workload)
    for key, codes in network.stage_codes().items():
        assert np.array_equal(codes, trace[key]), key


def cases() -> list[tuple[str, str]]:
    """GAT's hidden results have no windows."""
    found = [(model, name) for model in MODELS for name in ("2", "4", "windows")]
    return [case for case in found if case != ("gat", "windows")]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("windows", [True, False])
def test_the_gradient_is_the_slope_of_the_clipped_values(signed: bool, windows: bool) -> None:
    """LSQ's formula value by value, in plain Python."""
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(0, 2, (30, 4))).requires_grad_()
    weights = torch.from_numpy(rng.normal(0, 1, (30, 4)))
    buckets = torch.from_numpy(rng.integers(0, 2, 30)) if windows else None
    count = 2 if windows else 1
    exponents = torch.tensor([-1.3, 0.2][:count], dtype=torch.float64, requires_grad=True)
    scales = torch.exp2(torch.floor(exponents.detach() + 0.5))
    scale = scales[buckets][:, None] if buckets is not None else float(scales[0])
    low, high = (-2, 1) if signed else (0, 3)
    result = learned_rounded(values, exponents, buckets, scale, low, high)
    assert torch.equal(result, rounded(values, scale, low, high))
    result.mul(weights).sum().backward()  # type: ignore[no-untyped-call]
    expected = [0.0] * count
    for row in range(30):
        bucket = 0 if buckets is None else int(buckets[row])
        step = float(scales[bucket])
        for column in range(4):
            value = float(values.detach()[row, column])
            code = math.floor(value / step + 0.5)
            slope = code - value / step if low <= code <= high else min(max(code, low), high)
            expected[bucket] += float(weights[row, column]) * slope * step * math.log(2)
    assert exponents.grad is not None
    assert exponents.grad.tolist() == pytest.approx(expected)
    straight = values.grad
    assert straight is not None
    plain = values.detach().clone().requires_grad_()
    rounded(plain, scale, low, high).mul(weights).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(straight, plain.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("model", "name"), cases())
def test_learned_scales_stay_exact_and_within_their_limits(model: str, name: str) -> None:
    """Exponents thrown far to both sides, stage by stage: formats stay buildable and exact."""
    network = quantized_network(*trained(model), config_for(model, name))
    before = network.stage_codes()
    parameters = network.learn_scales()
    after = network.stage_codes()
    assert all(np.array_equal(codes, after[key]) for key, codes in before.items())
    generator = torch.Generator().manual_seed(0)
    for spread in (0.6, 2.0, 40.0):
        for parameter in parameters:
            drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            if spread < 40 or "weight" not in _name(network, parameter):
                parameter.data += (drawn - 0.5) * 2 * spread
        assert_exact(network)
        for stage in network.stages:
            chosen = network.calibrated[stage.key]
            assert chosen.product_scale <= chosen.output.scale
            assert chosen.output.scale <= chosen.product_scale * 2.0**MAX_SHIFT
            assert math.frexp(chosen.output.scale)[0] == 0.5
            assert chosen.output.bits <= 16


def _name(network: QuantizedNetwork, parameter: torch.nn.Parameter) -> str:
    return next(name for name, value in network.exponents.items() if value is parameter)


@pytest.mark.parametrize(("model", "name"), cases())
def test_tuning_with_learned_scales(model: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They move, the network frozen is the best one, and every code equals the golden model's."""
    monkeypatch.setattr(pipeline, "EXPONENT_LR", 0.3)
    scores = iter(range(100))
    monkeypatch.setattr(pipeline, "_score", lambda *_: (0.0, float(next(scores))))
    network = quantized_network(*trained(model), config_for(model, name))
    before = {key: chosen.output for key, chosen in network.calibrated.items()}
    fine_tune(network, *trained(model), LEARNED, 0, progress=False)
    assert_exact(network)
    moved = [key for key, chosen in network.calibrated.items() if chosen.output != before[key]]
    assert moved
    assert len(network.exponents) == sum(
        (stage.weight_bits > 0) + (stage is not network.stages[-1]) for stage in network.stages
    )


def test_an_earlier_network_comes_back_whole() -> None:
    """Also one from before its scales were learned."""
    network = quantized_network(*trained("gcn"), config_for("gcn", "windows"))
    codes = [network.stage_codes()]
    restores = [network.snapshot()]
    for exponent in network.learn_scales():
        exponent.data += 1.0
    codes.append(network.stage_codes())
    restores.append(network.snapshot())
    for exponent in network.exponents.values():
        exponent.data -= 2.0
    network.stage_codes()
    for index in (1, 0, 1):
        restores[index]()
        found = network.stage_codes()
        assert all(np.array_equal(found[key], values) for key, values in codes[index].items())
    assert any(not np.array_equal(codes[0][key], values) for key, values in codes[1].items())


def test_a_gradient_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the scales stay where calibration left them."""
    monkeypatch.setattr(pipeline, "EXPONENT_LR", 0.3)
    network = quantized_network(*trained("gcn"), config_for("gcn", "2"))
    backward = rounding._LearnedRound.backward

    def lost(ctx: object, *gradients: torch.Tensor) -> object:
        values, exponents, *rest = backward(ctx, *gradients)
        return values, torch.zeros_like(exponents), *rest

    monkeypatch.setattr(rounding._LearnedRound, "backward", staticmethod(lost))
    fine_tune(network, *trained("gcn"), LEARNED, 0, progress=False)
    assert all(torch.equal(value, value.round()) for value in network.exponents.values())


def test_the_same_call_gives_the_same_file(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        bundle = quantize(*trained("gcn"), config_for("gcn", "2"), tuning=LEARNED)
        save_bundle(tmp_path / "bundle.npz", bundle)
        found.append((tmp_path / "bundle.npz").read_bytes())
    assert found[0] == found[1]

"""The fake-quantised network in torch: the hardware's arithmetic with gradients.

Every scale is a power of two and every tensor is float64, so sums and products are exact and each
rounded value is `code * scale` with the very code that the golden model computes. Training and
evaluation therefore see the hardware's results, not an approximation of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sgq_hw.errors import InputError
from sgq_hw.formats import MAX_BIAS_BITS, MAX_SHIFT, Epilogue, Format, Key, Multiplier
from sgq_hw.golden.attention_unit import RECIPROCAL_SHIFT, elu, elu_table, round_means
from sgq_hw.golden.fixed_point import code_range, encode, signed_bits
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.models.sparse import drop_values, sparse_product
from sgq_hw.quantize.attention import (
    Attention,
    choose_agnn,
    choose_gat,
    exact_mean,
    trained_mean,
)
from sgq_hw.quantize.binding import bound_graph
from sgq_hw.quantize.config import BitConfig, Taq, check_config, config_kinds
from sgq_hw.quantize.plan import (
    NORMALISATIONS,
    PlannedStage,
    bundle_layers,
    plan_stages,
)
from sgq_hw.quantize.rounding import learned_rounded, replaced, rounded
from sgq_hw.quantize.scales import (
    best_scale,
    best_windows,
    windows_format,
)

FloatArray = npt.NDArray[np.float64]
BIAS_CODE_BITS = 53
"""Bias codes saturate here, in torch as in the bundle: float64 adds them exactly."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a forward pass does in training only.

    Attributes:
        dropout: Probability that an input or hidden feature is dropped.
        protected: Probability of each node that its features stay unrounded in this pass
            (Degree-Quant), float64 [nodes], or None.
        generator: Of all draws.
    """

    dropout: float
    protected: FloatArray | None
    generator: torch.Generator


@dataclass(slots=True)
class _Calibrated:
    """Formats of one stage, chosen by calibration.

    Attributes:
        product_scale: Grid of `acc * M`, on which bias and addend are added.
        output: Of the result.
        weight: Of the weights, None without.
        attention: Of an attend's weights, None without.
    """

    product_scale: float
    output: Format
    weight: Format | None = None
    attention: Attention | None = None


def _exponent_name(key: Key, name: str) -> str:
    return f"layer{key[0]}/{key[1]}/{name}"


@dataclass(slots=True)
class _Run:
    """A forward pass under way."""

    results: dict[Key, torch.Tensor] = field(default_factory=dict)
    calibrating: bool = False
    training: Training | None = None


class QuantizedNetwork(torch.nn.Module):
    """A network whose forward pass computes exactly the codes of its bundle.

    Args:
        parameters: Float parameters by the names of `sgq_hw.models.layout`.
        kinds: Kinds of the float layers.
        data: The graph, or set of graphs, it is calibrated and tuned on.
        config: Bits of every tensor.
        fixed: Parameters that are not tuned.

    Raises:
        InputError: the configuration cannot be built (names layer and limit), or a parameter or
            input is no number.
    """

    def __init__(
        self,
        parameters: Mapping[str, npt.NDArray[np.float32]],
        kinds: Sequence[str],
        data: Graph | GraphSet,
        config: BitConfig,
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        for name, value in parameters.items():
            if not np.isfinite(value).all():
                raise InputError(f"{name}: holds NaN or infinity")
        self.config, self.data = config, data
        self.kinds = config_kinds(kinds, of_graphs=isinstance(data, GraphSet))
        check_config(config, self.kinds)
        self.layers = bundle_layers(self.kinds, config)
        self.stages = plan_stages(self.layers, config)
        model = next((k for k in ("gcn", "sage", "gin", "gat") if k in self.kinds), "agnn")
        self.normalisation = NORMALISATIONS.get(model, config.normalisation)
        self.named = torch.nn.ParameterDict(
            {
                name: torch.nn.Parameter(
                    torch.from_numpy(value.astype(np.float64)), requires_grad=name not in fixed
                )
                for name, value in parameters.items()
            }
        )
        self.exponents = torch.nn.ParameterDict()
        rules = [stage.rule for stage in self.stages if stage.rule is not None]
        self.graph = bound_graph(
            data, config, rules, edge_values=self.normalisation == "edge",
            self_loops=model != "sage",
        )  # fmt: skip
        self.calibrated: dict[Key, _Calibrated] = {}
        self.calibrate()

    # ---- weights and formats ------------------------------------------------------------------

    def float_weight(self, stage: PlannedStage) -> torch.Tensor:
        """Return the float weights of a combination, [inputs, channels], differentiable."""
        weight: torch.Tensor = self.named[stage.weight]
        if stage.key[1] != "score":
            return weight
        prefix = stage.weight.partition("/")[0]
        ends = (self.named[f"{prefix}/target"], self.named[f"{prefix}/source"])
        heads, channels = ends[0].shape
        by_head = weight.view(-1, heads, channels)
        return torch.cat([(by_head * end).sum(dim=2) for end in ends], dim=1)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Choose every scale anew from the present parameters, in one sweep."""
        self._forward(_Run(calibrating=True))

    def _operand_scale(self, stage: PlannedStage) -> float:
        # The input's codes count as they are: their step is in the node table.
        return 1.0 if stage.source is None else self.calibrated[stage.source].output.scale

    def _product_scale(self, stage: PlannedStage, weight: Format | None) -> float:
        scale = self._operand_scale(stage)
        if weight is not None:
            scale *= weight.scale
        if stage.operation == "aggregate" and self.graph.edge is not None:
            scale *= self.graph.edge.scale
        if stage.operation == "attend":
            scale = math.ldexp(scale, -RECIPROCAL_SHIFT)
        if stage.rule is not None:
            scale *= self.graph.node_tables[stage.rule].scale
        return scale

    def _choose_weight(self, stage: PlannedStage) -> Format | None:
        if stage.operation != "combine":
            return None
        values = self.float_weight(stage).detach().numpy()
        method = self.config.calibration
        scale = best_scale(values, stage.weight_bits, signed=True, method=method)
        return Format(bits=stage.weight_bits, signed=True, scale=scale)

    def _choose_output(
        self, stage: PlannedStage, sums: torch.Tensor, product_scale: float
    ) -> Format:
        """Choose the result's format for exact sums."""
        smallest, largest = self._scale_limits(stage, product_scale)
        values, method = sums.detach().numpy(), self.config.calibration
        if stage.activation == "elu":
            # Codes below what ELU can give would be wasted.
            values = np.maximum(values, -1.0)
        if isinstance(stage.bits, Taq):
            return best_windows(
                values, self.graph.buckets, stage.bits.bits, stage.signed, smallest, largest, method
            )
        scale = best_scale(values, stage.bits, stage.signed, smallest, largest, method)
        return Format(bits=stage.bits, signed=stage.signed, scale=scale)

    def _choose_attention(self, stage: PlannedStage) -> Attention:
        """Choose how a stage weighs neighbours, for the formats of what it reads."""
        assert stage.source is not None
        if stage.scores is not None:
            heads = self._channels(stage.scores) // 2
            return choose_gat(stage, self.calibrated[stage.scores].output, heads)
        magnitude = self.calibrated[stage.source].output.magnitude
        beta = float(self._beta(stage).detach())
        return choose_agnn(stage, beta, self._channels(stage.source), magnitude)

    def _channels(self, key: Key) -> int:
        """Return the channels of a stage's result."""
        stage = next(stage for stage in self.stages if stage.key == key)
        if stage.operation == "combine":
            return self.float_weight(stage).shape[1]
        assert stage.source is not None
        return self._channels(stage.source)

    def _scale_limits(self, stage: PlannedStage, product_scale: float) -> tuple[float, float]:
        """Return the least and the largest scale of a stage's result."""
        smallest = product_scale
        for other in self.stages:
            # What is added to another stage's products must not be finer than their grid.
            if other.addend == stage.key:
                smallest = max(smallest, self._product_scale(other, None))
        return smallest, math.ldexp(product_scale, MAX_SHIFT)

    # ---- learned clipping ---------------------------------------------------------------------

    def learn_scales(self) -> list[torch.nn.Parameter]:
        """Make the exponents of all scales parameters, from their present values; return them.

        Those of weights and of results, one for each window; the logits keep theirs, whose 16 bits
        clip nothing. From then on every forward pass derives the formats from them.
        """
        for stage in self.stages:
            chosen = self.calibrated[stage.key]
            formats = {"weight": chosen.weight}
            if stage is not self.stages[-1]:
                formats["output"] = chosen.output
            for name, fmt in formats.items():
                if fmt is not None:
                    steps = [window.exponent for window in fmt.windows] or [0]
                    values = torch.tensor(steps, dtype=torch.float64) + math.log2(fmt.scale)
                    self.exponents[_exponent_name(stage.key, name)] = torch.nn.Parameter(values)
        return list(self.exponents.values())

    @torch.no_grad()
    def follow_exponents(self) -> None:
        """Derive every format from the present exponents, each within its limits.

        Nothing changes in a network whose scales are not learned.
        """
        for stage in self.stages if self.exponents else ():
            old = self.calibrated[stage.key]
            weight = old.weight and self._learned_format(
                stage.key, "weight", old.weight, 0.0, math.inf
            )
            scale = self._product_scale(stage, weight)
            output = self._learned_format(
                stage.key, "output", old.output, *self._scale_limits(stage, scale)
            )
            attention = old.attention
            if attention is not None:
                attention = self._choose_attention(stage)
            self.calibrated[stage.key] = _Calibrated(scale, output, weight, attention)

    def _learned_format(
        self, key: Key, name: str, old: Format, smallest: float, largest: float
    ) -> Format:
        """Return a format with the scales of its exponents, or without any the old ones."""
        learned = self.exponents.get(_exponent_name(key, name))
        if learned is None:
            return msgspec.structs.replace(old, scale=min(max(old.scale, smallest), largest))
        # What the limits forbid must not add up: the way back would be as long.
        learned.clamp_(math.log2(smallest) if smallest else -math.inf, math.log2(largest))
        scales = torch.exp2(torch.floor(learned + 0.5)).tolist()
        if not old.windows:
            return msgspec.structs.replace(old, scale=scales[0])
        return windows_format(scales, [window.bits for window in old.windows], old.signed)

    # ---- forward pass -------------------------------------------------------------------------

    def _round(self, key: Key, name: str, values: torch.Tensor, fmt: Format) -> torch.Tensor:
        """Round a stage's weights or results to a format, each node into its bucket's window."""
        exponents = self.exponents.get(_exponent_name(key, name))
        limits: tuple[Any, Any, Any] = (fmt.scale, *code_range(fmt.bits, fmt.signed))
        buckets = None
        if fmt.windows:
            by_bucket = [
                (math.ldexp(fmt.scale, w.exponent), *code_range(w.bits, fmt.signed))
                for w in fmt.windows
            ]
            buckets = torch.from_numpy(self.graph.buckets)
            by_row = torch.tensor(by_bucket, dtype=torch.float64)[buckets]
            limits = (by_row[:, 0:1], by_row[:, 1:2], by_row[:, 2:3])
        if exponents is None:
            return rounded(values, *limits)
        return learned_rounded(values, exponents, buckets, *limits)

    def _sums(self, stage: PlannedStage, run: _Run, weight: Format | None) -> torch.Tensor:
        """Return exact sums times the node factor, before bias and addend, as real values."""
        if weight is not None:
            values = self._round(stage.key, "weight", self.float_weight(stage), weight)
            if stage.source is not None:
                sums = run.results[stage.source] @ values
            else:
                features = self.graph.features
                if run.training is not None and run.training.dropout:
                    features = drop_values(
                        features, run.training.dropout, run.training.generator
                    )
                sums = sparse_product(features, values)
        else:
            matrix = self.graph.adjacency if stage.operation == "aggregate" else self.graph.pooling
            assert matrix is not None
            assert stage.source is not None
            sums = sparse_product(matrix, run.results[stage.source])
        if stage.rule is not None:
            sums = sums * self.graph.factors[stage.rule]
        return sums

    def _plain(self, stage: PlannedStage, run: _Run) -> torch.Tensor:
        """Run a stage without attention."""
        if run.calibrating:
            weight = self._choose_weight(stage)
        else:
            weight = self.calibrated[stage.key].weight
        scale = self._product_scale(stage, weight)
        sums = self._sums(stage, run, weight)
        if stage.bias:
            low, high = code_range(BIAS_CODE_BITS, signed=True)
            sums = sums + rounded(self.named[stage.bias], scale, low, high)
        if stage.addend is not None:
            sums = sums + run.results[stage.addend]
        if run.calibrating:
            output = self._choose_output(stage, sums, scale)
            self.calibrated[stage.key] = _Calibrated(scale, output, weight)
        result = self._round(stage.key, "output", sums, self.calibrated[stage.key].output)
        return self._protect(stage, run, sums, result)

    def _protect(
        self, stage: PlannedStage, run: _Run, sums: torch.Tensor, result: torch.Tensor
    ) -> torch.Tensor:
        """Keep the unrounded rows of nodes that Degree-Quant protects in this pass."""
        if run.training is None or run.training.protected is None:
            return result
        if len(sums) != len(run.training.protected):
            return result  # rows of graphs, not of nodes
        drawn = torch.rand(len(sums), generator=run.training.generator, dtype=torch.float64)
        kept = (drawn < torch.from_numpy(run.training.protected))[:, None]
        return torch.where(kept, sums if stage.signed else sums.clamp(min=0.0), result)

    def _attend(self, stage: PlannedStage, run: _Run) -> torch.Tensor:
        """Run a stage with attention: the golden unit's integers, or in training real numbers."""
        assert stage.source is not None
        scores = None if stage.scores is None else run.results[stage.scores]
        if run.calibrating or run.training is not None:
            result = self._attend_real(stage, run, scores)
        else:
            result = self._attend_exactly(stage, run, scores)
        if stage.activation == "elu":
            output = self.calibrated[stage.key].output
            codes = (result.detach() / output.scale).round().numpy().astype(np.int64)
            values = elu(np.clip(codes, *code_range(output.bits, True)), elu_table(
                output.bits, output.scale))  # fmt: skip
            result = replaced(functional.elu(result), torch.from_numpy(values * output.scale))
        return result

    def _attend_real(
        self, stage: PlannedStage, run: _Run, scores: torch.Tensor | None
    ) -> torch.Tensor:
        assert stage.source is not None
        assert self.graph.edges is not None
        hidden, scale = run.results[stage.source], self._product_scale(stage, None)
        beta = None
        if scores is None:
            beta = self._beta(stage)
            if not run.calibrating:
                beta = self._rounded_beta(stage, beta)
        means = trained_mean(self.graph.edges, hidden, scores, beta, stage.attention_bits)
        if stage.bias:
            low, high = code_range(BIAS_CODE_BITS, signed=True)
            means = means + rounded(self.named[stage.bias], scale, low, high)
        if run.calibrating:
            output = self._choose_output(stage, means, scale)
            self.calibrated[stage.key] = _Calibrated(
                scale, output, attention=self._choose_attention(stage)
            )
        result = self._round(stage.key, "output", means, self.calibrated[stage.key].output)
        return self._protect(stage, run, means, result)

    def _attend_exactly(
        self, stage: PlannedStage, run: _Run, scores: torch.Tensor | None
    ) -> torch.Tensor:
        chosen = self.calibrated[stage.key]
        assert stage.source is not None
        attention = self.attention(stage)
        assert attention is not None
        assert self.graph.edges is not None
        score_codes = None
        if scores is not None:
            assert stage.scores is not None
            score_codes = (scores / self.calibrated[stage.scores].output.scale).detach().numpy()
            score_codes = score_codes.astype(np.int64)
        bias = self.bias_codes(stage) if stage.bias else np.zeros((), np.int64)
        totals, exponents = exact_mean(
            attention, self.graph.edges, run.results[stage.source],
            self.calibrated[stage.source].output, score_codes, bias,
        )  # fmt: skip
        output = chosen.output
        codes = round_means(
            totals, exponents, round(math.log2(output.scale / chosen.product_scale)),
            bits=output.bits, signed=output.signed, windows=output.windows,
            buckets=self.graph.buckets,
        )  # fmt: skip
        return torch.from_numpy(codes * output.scale)

    def _rounded_beta(self, stage: PlannedStage, beta: torch.Tensor) -> torch.Tensor:
        attention = self.calibrated[stage.key].attention
        assert attention is not None
        limit = attention.largest_beta
        return rounded(beta, attention.logit_scale, -limit, limit)

    def attention(self, stage: PlannedStage) -> Attention | None:
        """Return the attention of a stage with its present parameters, None without one."""
        attention = self.calibrated[stage.key].attention
        if attention is None or stage.scores is not None:
            return attention
        return attention.with_beta(float(self._beta(stage).detach()))

    def _beta(self, stage: PlannedStage) -> torch.Tensor:
        beta: torch.Tensor = self.named[f"layer{self.layers[stage.key[0]].parameter}/beta"]
        return beta

    def _forward(self, run: _Run) -> dict[Key, torch.Tensor]:
        if not run.calibrating:
            self.follow_exponents()
        for stage in self.stages:
            result = (self._attend if stage.operation == "attend" else self._plain)(stage, run)
            if stage.hidden and run.training is not None and run.training.dropout:
                dropout = run.training.dropout
                keep = torch.rand(result.shape, generator=run.training.generator) >= dropout
                result = result * keep / (1.0 - dropout)
            run.results[stage.key] = result
        return run.results

    def forward(self, training: Training | None = None) -> torch.Tensor:
        """Return the logits [nodes or graphs, classes] as real values."""
        return self._forward(_Run(training=training))[self.stages[-1].key]

    @torch.no_grad()
    def stage_codes(self) -> dict[Key, npt.NDArray[np.int64]]:
        """Return the integer codes of every stage, [rows, channels]: equal to the golden model."""
        return {
            key: (result / self.calibrated[key].output.scale).numpy().astype(np.int64)
            for key, result in self._forward(_Run()).items()
        }

    def snapshot(self) -> Callable[[], None]:
        """Return a function that puts parameters and scales back to what they are now."""
        state = {name: value.clone() for name, value in self.named.state_dict().items()}
        exponents = {name: value.detach().clone() for name, value in self.exponents.items()}
        calibrated = dict(self.calibrated)  # entries are replaced, never changed

        def restore() -> None:
            self.named.load_state_dict(state)
            # A network from before exponents were learned has none.
            self.exponents = torch.nn.ParameterDict(
                {name: torch.nn.Parameter(value.clone()) for name, value in exponents.items()}
            )
            self.calibrated = dict(calibrated)

        return restore

    # ---- integers -----------------------------------------------------------------------------

    def bias_codes(self, stage: PlannedStage) -> npt.NDArray[np.int64]:
        """Return the bias of a stage on the grid of its products, int64 [channels]."""
        bias = self.named[stage.bias].detach().numpy()
        scale = self.calibrated[stage.key].product_scale
        return encode(bias, scale, BIAS_CODE_BITS, signed=True)

    def weight_codes(self, stage: PlannedStage) -> npt.NDArray[np.int64]:
        """Return the weights of a stage, int64 [inputs, channels]."""
        fmt = self.calibrated[stage.key].weight
        assert fmt is not None
        return encode(self.float_weight(stage).detach().numpy(), fmt.scale, fmt.bits, fmt.signed)

    def addend_factor(self, stage: PlannedStage) -> int:
        """Return the constant that brings a stage's addend onto the grid of its products."""
        assert stage.addend is not None
        scale = self.calibrated[stage.addend].output.scale
        return round(scale / self.calibrated[stage.key].product_scale)

    def epilogue(self, stage: PlannedStage) -> Epilogue:
        """Return the record of what ends a stage."""
        chosen = self.calibrated[stage.key]
        shift = round(math.log2(chosen.output.scale / chosen.product_scale))
        multiplier = Multiplier(kind="layer")
        if stage.operation == "attend":
            multiplier = Multiplier(kind="reciprocal", bits=RECIPROCAL_SHIFT + 1)
        elif stage.rule is not None:
            table = self.graph.node_tables[stage.rule]
            multiplier = Multiplier(kind="node", bits=table.bits, table=table.name)
        if shift > MAX_SHIFT:
            raise InputError(
                f"layers[{stage.key[0]}].{stage.key[1]}: shift {shift}; at most {MAX_SHIFT}"
            )
        bias_bits = 0
        if stage.bias:
            # Two bits more than the output's own range on the product grid, for retrained
            # networks; more only where this one's biases need them.
            codes = self.bias_codes(stage)
            needed = signed_bits(int(codes.min()), int(codes.max()))
            bias_bits = max(min(chosen.output.bits + shift + 2, MAX_BIAS_BITS), needed)
        return Epilogue(
            multiplier=multiplier, shift=shift, bias_bits=bias_bits, output=chosen.output
        )

"""The fake-quantised network in torch: the hardware's arithmetic with gradients.

Every scale is a power of two and every tensor is float64, so sums and products are exact and each
rounded value is `code * scale` with the very code that the golden model computes. Training and
evaluation therefore see the hardware's results, not an approximation of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from sgq_hw.bundle import Bundle, Network
from sgq_hw.errors import InputError
from sgq_hw.formats import MAX_BIAS_BITS, MAX_SHIFT, Epilogue, Format, Multiplier
from sgq_hw.golden.fixed_point import code_range, decode, encode, signed_bits
from sgq_hw.graphs import Graph
from sgq_hw.layers import GcnLayer
from sgq_hw.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, InputSpec, Manifest, NodeTable
from sgq_hw.models.sparse import Matrix, drop_values, sparse_product
from sgq_hw.quantize.config import BitConfig
from sgq_hw.quantize.scales import best_scale, power_of_two_at_least
from sgq_hw.quantize.workload import bind, input_codes, real_graph, table_values

FloatArray = npt.NDArray[np.float64]
StageKey = tuple[int, str]
Rule = Literal["degree", "input", "input-degree"]

BIAS_CODE_BITS = 53
"""Bias codes saturate here, in torch as in the bundle: float64 adds them exactly."""


class _Round(torch.autograd.Function):
    """Half-up rounding with saturation; the gradient passes where nothing saturated."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, scale: float, low: int, high: int
    ) -> torch.Tensor:
        steps = torch.floor(values / scale + 0.5)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp(low, high) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def _round(values: torch.Tensor, scale: float, low: int, high: int) -> torch.Tensor:
    result: torch.Tensor = _Round.apply(values, scale, low, high)  # type: ignore[no-untyped-call]
    return result


def fake_quantize(values: torch.Tensor, fmt: Format) -> torch.Tensor:
    """Round to a format and return real values, straight-through gradient inside the range."""
    low, high = code_range(fmt.bits, fmt.signed)
    return _round(values, fmt.scale, low, high)


@dataclass(slots=True)
class _Stage:
    """Run-time state of one stage; formats are filled in by calibration."""

    key: StageKey
    bits: int
    signed: bool
    table: str
    has_bias: bool
    product_scale: float = 1.0
    output: Format | None = None


class QuantizedNetwork(torch.nn.Module):
    """A GCN whose forward pass computes exactly the codes of its bundle.

    Args:
        weights: Float weights per layer [in, out].
        biases: Float biases per layer [out].
        graph: The graph it is calibrated and tuned on.
        config: Bits of every tensor.

    Raises:
        InputError: the configuration cannot be built; names layer and limit.
    """

    def __init__(
        self,
        weights: list[npt.NDArray[np.float32]],
        biases: list[npt.NDArray[np.float32]],
        graph: Graph,
        config: BitConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.graph = graph
        signed = graph.x_values is not None and bool((graph.x_values < 0).any())
        binary = graph.x_values is None
        self.input = InputSpec(
            channels=graph.num_features,
            bits=1 if binary else max(config.input, 2) if signed else config.input,
            signed=signed,
            row_normalised=not signed,
        )
        for index, layer in enumerate(config.layers):
            if layer.association == "(AX)W" and (index == 0 or config.normalisation != "edge"):
                raise InputError(
                    f"layers[{index}].association: (AX)W needs normalisation 'edge' and is not"
                    " possible in the first layer, whose input is streamed"
                )
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.from_numpy(weight.astype(np.float64))) for weight in weights
        )
        self.biases = torch.nn.ParameterList(
            torch.nn.Parameter(torch.from_numpy(bias.astype(np.float64))) for bias in biases
        )
        real = real_graph(graph, self_loops=True, row_normalised=self.input.row_normalised)
        self.node_tables = self._make_tables(real_factors={
            rule: table_values(rule, real, self.input)
            for rule in ("degree", "input", "input-degree")
        })
        self.edge: Format | None = None
        edge_values: FloatArray = np.ones(len(real.indices))
        if config.normalisation == "edge":
            scale = best_scale(real.edge_values, config.edge, signed=False)
            self.edge = Format(bits=config.edge, signed=False, scale=scale)
            codes = encode(real.edge_values, scale, config.edge, signed=False)
            edge_values = decode(codes, scale)
        nodes = graph.num_nodes
        self.adjacency = sparse.csr_array(
            (edge_values, real.indices, real.indptr), shape=(nodes, nodes)
        )
        inputs = input_codes(real, self.input.bits, signed).astype(np.float64)
        self.features = sparse.csr_array(
            (inputs, graph.x_indices, graph.x_indptr), shape=(nodes, graph.num_features)
        )
        self.weight_formats: list[Format] = []
        self.stages = self._make_stages()
        self.calibrate()

    def _make_tables(self, real_factors: dict[str, FloatArray]) -> dict[str, NodeTable]:
        factored = self.config.normalisation == "factored"
        rules: tuple[Rule, ...] = ("input-degree", "degree") if factored else ("input",)
        tables: dict[str, NodeTable] = {}
        for rule in rules:
            bits = self.config.factor if rule == "degree" else self.config.input_factor
            peak = float(real_factors[rule].max(initial=0.0))
            # A degree's factor never exceeds 1, on any graph, nor does a normalised row's the step
            # of its codes; the factors of other rows follow this graph's peak.
            top = 1.0
            if rule != "degree" and self.input.row_normalised:
                top = power_of_two_at_least(1.0 / code_range(self.input.bits, signed=False)[1])
            elif rule != "degree" and peak > 0:
                top = power_of_two_at_least(peak)
            tables[rule] = NodeTable(
                name=rule.replace("-", "_"), rule=rule, bits=bits, scale=math.ldexp(top, -bits)
            )
        self._table_reals = {
            table.name: torch.from_numpy(
                encode(real_factors[rule], table.scale, table.bits, signed=False) * table.scale
            )[:, None]
            for rule, table in tables.items()
        }
        return tables

    def _make_stages(self) -> list[_Stage]:
        factored = self.config.normalisation == "factored"
        stages = []
        last = len(self.config.layers) - 1
        for index, bits in enumerate(self.config.layers):
            order = ("combine", "aggregate")
            if bits.association == "(AX)W":
                order = ("aggregate", "combine")
            for position, stage in enumerate(order):
                table = ""
                if stage == "combine" and index == 0:
                    table = "input_degree" if factored else "input"
                elif factored:
                    table = "degree"
                ends_layer = position == 1
                # Hidden layers end in ReLU: an unsigned format. Sums of hidden features that are
                # only aggregated keep their sign, which is never negative.
                follows_relu = ends_layer and index != last
                unsigned = follows_relu or (stage == "aggregate" and not ends_layer)
                stages.append(
                    _Stage(
                        key=(index, stage),
                        bits=bits.combine if stage == "combine" else bits.aggregate,
                        signed=not unsigned,
                        table=table,
                        has_bias=ends_layer,
                    )
                )
        return stages

    def _table(self, name: str) -> NodeTable:
        return next(table for table in self.node_tables.values() if table.name == name)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Choose every scale anew from the present weights: least squared error, one sweep."""
        self.weight_formats = [
            Format(
                bits=bits.weight,
                signed=True,
                scale=best_scale(weight.detach().numpy(), bits.weight, signed=True),
            )
            for bits, weight in zip(self.config.layers, self.weights, strict=True)
        ]
        self._forward(calibrating=True)

    def _stage_sums(
        self, stage: _Stage, hidden: torch.Tensor | None, features: Matrix
    ) -> torch.Tensor:
        index, kind = stage.key
        if kind == "combine":
            weight = fake_quantize(self.weights[index], self.weight_formats[index])
            return sparse_product(features, weight) if hidden is None else hidden @ weight
        if hidden is None:
            raise InputError("layer 0: (AX)W needs its input in feature memory")
        return sparse_product(self.adjacency, hidden)

    def _forward(
        self,
        calibrating: bool = False,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> dict[StageKey, torch.Tensor]:
        results: dict[StageKey, torch.Tensor] = {}
        hidden: torch.Tensor | None = None
        features = drop_values(self.features, dropout, generator) if dropout else self.features
        # The input's codes count as they are: their step is in the node table.
        operand_scale = 1.0
        for stage in self.stages:
            index, kind = stage.key
            sums = self._stage_sums(stage, hidden, features)
            if kind == "combine":
                factor_scale = self.weight_formats[index].scale
            else:
                factor_scale = 1.0 if self.edge is None else self.edge.scale
            scale = operand_scale * factor_scale
            if stage.table:
                sums = sums * self._table_reals[stage.table]
                scale *= self._table(stage.table).scale
            if stage.has_bias:
                low, high = code_range(BIAS_CODE_BITS, signed=True)
                sums = sums + _round(self.biases[index], scale, low, high)
            if calibrating:
                stage.product_scale = scale
                stage.output = Format(
                    bits=stage.bits,
                    signed=stage.signed,
                    scale=best_scale(
                        sums.numpy(),
                        stage.bits,
                        stage.signed,
                        smallest=scale,
                        largest=math.ldexp(scale, MAX_SHIFT),
                    ),
                )
            assert stage.output is not None
            hidden = fake_quantize(sums, stage.output)
            results[stage.key] = hidden
            operand_scale = stage.output.scale
            if dropout and stage.has_bias and stage is not self.stages[-1]:
                keep = torch.rand(hidden.shape, generator=generator) >= dropout
                hidden = hidden * keep / (1.0 - dropout)
        return results

    def forward(
        self, dropout: float = 0.0, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return the logits [nodes, classes] as real values; `dropout` is for training."""
        results = self._forward(dropout=dropout, generator=generator)
        return results[self.stages[-1].key]

    @torch.no_grad()
    def stage_codes(self) -> dict[StageKey, npt.NDArray[np.int64]]:
        """Return the integer codes of every stage, [nodes, channels]: equal to the golden model."""
        results = self._forward()
        codes = {}
        for stage in self.stages:
            assert stage.output is not None
            codes[stage.key] = (results[stage.key] / stage.output.scale).numpy().astype(np.int64)
        return codes

    def snapshot(self) -> Callable[[], None]:
        """Return a function that puts parameters and scales back to what they are now."""
        state = {name: value.clone() for name, value in self.state_dict().items()}
        formats = list(self.weight_formats)
        stages = [(stage.product_scale, stage.output) for stage in self.stages]

        def restore() -> None:
            self.load_state_dict(state)
            self.weight_formats = formats
            for stage, (scale, output) in zip(self.stages, stages, strict=True):
                stage.product_scale, stage.output = scale, output

        return restore

    def _bias_codes(self, stage: _Stage) -> npt.NDArray[np.int64]:
        bias = self.biases[stage.key[0]].detach().numpy()
        return encode(bias, stage.product_scale, BIAS_CODE_BITS, signed=True)

    def _epilogue(self, stage: _Stage) -> Epilogue:
        assert stage.output is not None
        shift = round(math.log2(stage.output.scale / stage.product_scale))
        if stage.table:
            multiplier = Multiplier(
                kind="node", bits=self._table(stage.table).bits, table=stage.table
            )
        else:
            multiplier = Multiplier(kind="layer")
        bias_bits = 0
        if stage.has_bias:
            # Two bits more than the output's own range on the product grid, for retrained
            # networks; more only where this one's biases need them.
            codes = self._bias_codes(stage)
            needed = signed_bits(int(codes.min()), int(codes.max()))
            bias_bits = max(min(stage.output.bits + shift + 2, MAX_BIAS_BITS), needed)
        return Epilogue(
            multiplier=multiplier, shift=shift, bias_bits=bias_bits, output=stage.output
        )

    def manifest(self) -> Manifest:
        """Return the bundle's manifest for the present scales."""
        epilogues = {stage.key: self._epilogue(stage) for stage in self.stages}
        layers = tuple(
            GcnLayer(
                association=bits.association,
                in_channels=self.weights[index].shape[0],
                out_channels=self.weights[index].shape[1],
                weight=self.weight_formats[index],
                combine=epilogues[index, "combine"],
                aggregate=epilogues[index, "aggregate"],
            )
            for index, bits in enumerate(self.config.layers)
        )
        return Manifest(
            format=BUNDLE_FORMAT,
            version=BUNDLE_VERSION,
            normalisation=self.config.normalisation,
            self_loops=True,
            input=self.input,
            edge=self.edge,
            node_tables=tuple(self.node_tables.values()),
            layers=layers,
        )

    def freeze(self) -> Bundle:
        """Return the integers: network and bound graph."""
        manifest = self.manifest()
        weights = {
            (index, "combine"): encode(weight.detach().numpy(), fmt.scale, fmt.bits, fmt.signed)
            for index, (weight, fmt) in enumerate(
                zip(self.weights, self.weight_formats, strict=True)
            )
        }
        biases = {stage.key: self._bias_codes(stage) for stage in self.stages if stage.has_bias}
        return Bundle(Network(manifest, weights, biases), bind(self.graph, manifest))

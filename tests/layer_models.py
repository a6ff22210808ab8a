"""Two second models of a quantised network, written from docs/arithmetic.md and docs/bundle.md.

`scalar_run` goes node by node in Python integers; `dense_run` multiplies whole matrices of Python
integers. Neither uses the golden functions or `Layer.steps`, and they share no arithmetic.
"""

from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from sgq_hw.bundle import Bundle
from sgq_hw.formats import Epilogue, Key
from sgq_hw.layers import (
    AgnnAttention,
    AgnnLayer,
    GatAttention,
    GatLayer,
    GcnLayer,
    GinLayer,
    LinearLayer,
    ReadoutLayer,
    SageLayer,
)

Row = list[int]
Table = list[Row]
Matrix = npt.NDArray[np.object_]


# ---- node by node -------------------------------------------------------------------------------


def round_half_up(value: int, shift: int) -> int:
    """Rule 2."""
    return value if shift == 0 else (value + (1 << (shift - 1))) >> shift


def saturated(value: int, bits: int, signed: bool) -> int:
    low = -(1 << (bits - 1)) if signed else 0
    return min(max(value, low), low + (1 << bits) - 1)


class ScalarModel:
    """Everything by node, neighbour and channel."""

    def __init__(self, bundle: Bundle) -> None:
        self.network, self.workload = bundle.network, bundle.workload
        workload = bundle.workload
        starts, columns = workload.indptr.tolist(), workload.indices.tolist()
        self.nodes = len(starts) - 1
        self.neighbours: Table = [columns[starts[i] : starts[i + 1]] for i in range(self.nodes)]
        codes = [1] * len(columns)
        if workload.edge_codes is not None:
            codes = workload.edge_codes.tolist()
        self.edge_codes: Table = [codes[starts[i] : starts[i + 1]] for i in range(self.nodes)]
        self.trace: dict[Key, Table] = {}

    def inputs(self) -> Table:
        workload = self.workload
        starts, columns = workload.x_indptr.tolist(), workload.x_indices.tolist()
        codes = [1] * len(columns) if workload.x_codes is None else workload.x_codes.tolist()
        table = [[0] * self.network.manifest.input.channels for _ in range(self.nodes)]
        for node in range(self.nodes):
            for place in range(starts[node], starts[node + 1]):
                table[node][columns[place]] = codes[place]
        return table

    def run(self) -> dict[Key, Table]:
        features = self.inputs()
        for index, layer in enumerate(self.network.manifest.layers):
            features = self.layer(index, layer, features)
        return self.trace

    def layer(  # noqa: PLR0911 - one for each kind
        self, index: int, layer: Any, x: Table
    ) -> Table:
        """The table of docs/bundle.md, stages in running order."""
        combine, aggregate = (index, "combine"), (index, "aggregate")
        if isinstance(layer, GcnLayer) and layer.association == "(AX)W":
            summed = self.finish(aggregate, layer.aggregate, self.neighbour_sums(x))
            return self.finish(combine, layer.combine, self.product(combine, summed))
        if isinstance(layer, AgnnLayer):
            return self.mean(aggregate, layer.aggregate, x, self.agnn_weights(aggregate, layer, x))
        if isinstance(layer, ReadoutLayer):
            return self.finish((index, "readout"), layer.readout, self.graph_sums(x))
        hidden = self.finish(combine, layer.combine, self.product(combine, x))
        if isinstance(layer, LinearLayer):
            return hidden
        if isinstance(layer, GatLayer):
            score = (index, "score")
            scores = self.finish(score, layer.score, self.product(score, x))
            weights = self.gat_weights(aggregate, layer.attention, scores)
            codes = self.mean(aggregate, layer.aggregate, hidden, weights)
            if layer.activation == "elu":
                codes = [[self.elu(aggregate, code) for code in row] for row in codes]
                self.trace[aggregate] = codes
            return codes
        if isinstance(layer, SageLayer):
            root_key = (index, "root")
            root = self.finish(root_key, layer.root, self.product(root_key, x))
            added = [[code * layer.root_factor for code in row] for row in root]
            return self.finish(aggregate, layer.aggregate, self.neighbour_sums(hidden), added)
        summed = self.finish(aggregate, layer.aggregate, self.neighbour_sums(hidden))
        if isinstance(layer, GinLayer):
            mlp = (index, "mlp")
            return self.finish(mlp, layer.mlp, self.product(mlp, summed))
        return summed

    def product(self, key: Key, x: Table) -> Table:
        columns = self.network.weights[key].T.tolist()
        return [
            [sum(a * b for a, b in zip(row, column, strict=True)) for column in columns]
            for row in x
        ]

    def neighbour_sums(self, x: Table) -> Table:
        return [
            [
                sum(code * x[j][c] for j, code in zip(columns, codes, strict=True))
                for c in range(len(x[0]))
            ]
            for columns, codes in zip(self.neighbours, self.edge_codes, strict=True)
        ]

    def graph_sums(self, x: Table) -> Table:
        assert self.workload.graph_of_node is not None
        graphs = self.workload.graph_of_node.tolist()
        sums = [[0] * len(x[0]) for _ in range(max(graphs) + 1)]
        for node, row in enumerate(x):
            for channel, code in enumerate(row):
                sums[graphs[node]][channel] += code
        return sums

    def multiplier(self, key: Key, epilogue: Epilogue, row: int, channel: int) -> int:
        multiplier = epilogue.multiplier
        if multiplier.kind == "node":
            return int(self.workload.node_tables[multiplier.table][row])
        if multiplier.kind == "channel":
            return int(self.network.multipliers[key][channel])
        return multiplier.value

    def bias(self, key: Key, epilogue: Epilogue, channel: int) -> int:
        return int(self.network.biases[key][channel]) if epilogue.bias_bits else 0

    def word(self, epilogue: Epilogue, row: int, total: int, shift: int) -> int:
        """`sat(round_shift(total, S + e), b) << e`, e and b of the node's bucket."""
        output = epilogue.output
        if not output.windows:
            return saturated(round_half_up(total, shift), output.bits, output.signed)
        assert self.workload.buckets is not None
        window = output.windows[int(self.workload.buckets[row])]
        rounded = round_half_up(total, shift + window.exponent)
        return saturated(rounded, window.bits, output.signed) << window.exponent

    def finish(
        self, key: Key, epilogue: Epilogue, sums: Table, added: Table | None = None
    ) -> Table:
        """`out = sat((acc * M + addend * A + bias + half) >> S)`; `added` is addend * A."""
        result = []
        for row, accumulators in enumerate(sums):
            words = []
            for channel, acc in enumerate(accumulators):
                total = acc * self.multiplier(key, epilogue, row, channel)
                total += self.bias(key, epilogue, channel)
                total += added[row][channel] if added is not None else 0
                words.append(self.word(epilogue, row, total, epilogue.shift))
            result.append(words)
        self.trace[key] = result
        return result

    # -- attention: weights of each row's entries, one list for each head --

    def looked_up(
        self, key: Key, attention: GatAttention | AgnnAttention, bound: int, logits: Row
    ) -> Row:
        table = self.network.exponentials[key].tolist()
        weights = []
        for logit in logits:
            index = round_half_up(max(bound - logit, 0), attention.index_shift)
            weights.append(table[index] if index < len(table) else 0)
        return weights

    def gat_weights(self, key: Key, attention: GatAttention, scores: Table) -> list[Table]:
        heads = attention.heads

        def leaky(value: int) -> int:
            if value >= 0:
                return value << attention.slope_shift
            return value * attention.slope_code

        result = []
        for i, columns in enumerate(self.neighbours):
            rows = []
            for head in range(heads):
                target = scores[i][head]
                sources = [scores[j][heads + head] for j in columns]
                logits = [leaky(target + source) for source in sources]
                bound = max(logits, default=0)
                if attention.bound == "global":
                    bound = leaky(target + max(row[heads + head] for row in scores))
                rows.append(self.looked_up(key, attention, bound, logits))
            result.append(rows)
        return result

    def agnn_weights(self, key: Key, layer: AgnnLayer, x: Table) -> list[Table]:
        attention = layer.attention
        bits, beta = attention.norm_bits, attention.beta
        norms = [self.reciprocal_norm(row, bits) for row in x]
        result = []
        for i, columns in enumerate(self.neighbours):
            logits = []
            for j in columns:
                dot = sum(a * b for a, b in zip(x[i], x[j], strict=True))
                product = dot * norms[i][0] * norms[j][0] * beta
                shift = 2 * (bits - 1) + norms[i][1] + norms[j][1]
                logits.append(round_half_up(product, shift))
            result.append([self.looked_up(key, attention, abs(beta), logits)])
        return result

    @staticmethod
    def reciprocal_norm(row: Row, bits: int) -> tuple[int, int]:
        """r by one trial a bit, and f by its definition `2^(f-1) <= |h| < 2^f`."""
        squares = sum(code * code for code in row)
        if squares == 0:
            return 0, 0
        f = 0
        while squares >= 4**f:
            f += 1
        r = 0
        for bit in range(bits - 1, -1, -1):
            if (r + 2**bit) ** 2 * squares <= 2 ** (2 * (bits - 1 + f)):
                r += 2**bit
        return r, f

    def mean(self, key: Key, epilogue: Epilogue, x: Table, weights: list[Table]) -> Table:
        result = []
        for i, columns in enumerate(self.neighbours):
            words = []
            channels = len(x[0]) // len(weights[i])
            for channel in range(len(x[0])):
                row = weights[i][channel // channels]
                den = sum(row)
                num = sum(p * x[j][channel] for p, j in zip(row, columns, strict=True))
                e = den.bit_length()
                reciprocal = (2 ** (e + 15) - 1) // den if den else 0
                total = num * reciprocal + (self.bias(key, epilogue, channel) << e)
                words.append(self.word(epilogue, i, total, epilogue.shift + e))
            result.append(words)
        self.trace[key] = result
        return result

    def elu(self, key: Key, code: int) -> int:
        """The entry of a negative code is at its low bits: code + 2^(bits - 1)."""
        table = self.network.activations[key].tolist()
        return code if code >= 0 else int(table[code + len(table)])


def scalar_run(bundle: Bundle) -> dict[Key, Table]:
    """Return the codes of every stage, [rows][channels]."""
    return ScalarModel(bundle).run()


# ---- whole matrices -----------------------------------------------------------------------------


def as_objects(values: Any) -> Matrix:
    """Return Python integers in an array: they never overflow."""
    return np.array(np.asarray(values).tolist(), dtype=object)


def floor_half_up(values: Matrix, divisor: Matrix | int) -> Matrix:
    """`floor(v / divisor + 1/2)`, written without shifts."""
    result: Matrix = (2 * values + divisor) // (2 * divisor)
    return result


class DenseModel:
    """Everything by matrices of [nodes, nodes] and [nodes, channels]."""

    def __init__(self, bundle: Bundle) -> None:
        self.network, self.workload = bundle.network, bundle.workload
        workload = bundle.workload
        self.nodes = workload.num_nodes
        self.has_edge = np.zeros((self.nodes, self.nodes), bool)
        self.adjacency = as_objects(np.zeros((self.nodes, self.nodes), np.int64))
        rows = np.repeat(np.arange(self.nodes), np.diff(workload.indptr))
        self.has_edge[rows, workload.indices] = True
        values = np.ones(len(rows), np.int64)
        if workload.edge_codes is not None:
            values = workload.edge_codes
        self.adjacency[rows, workload.indices] = as_objects(values)
        self.trace: dict[Key, Matrix] = {}

    def run(self) -> dict[Key, Matrix]:
        workload = self.workload
        channels = self.network.manifest.input.channels
        x = np.zeros((self.nodes, channels), np.int64)
        rows = np.repeat(np.arange(self.nodes), np.diff(workload.x_indptr))
        x[rows, workload.x_indices] = 1 if workload.x_codes is None else workload.x_codes
        h = as_objects(x)
        for index, layer in enumerate(self.network.manifest.layers):
            h = self.layers(layer.kind, index, layer, h)
        return self.trace

    def layers(  # noqa: PLR0911 - one for each kind
        self, kind: str, index: int, layer: Any, h: Matrix
    ) -> Matrix:
        combine, aggregate = (index, "combine"), (index, "aggregate")
        if kind == "readout":
            assert self.workload.graph_of_node is not None
            graphs = self.workload.graph_of_node
            members = as_objects((np.arange(graphs.max() + 1)[:, None] == graphs).astype(int))
            return self.epilogue((index, "readout"), layer.readout, members @ h)
        if kind == "agnn":
            return self.attend(aggregate, layer, h, self.cosines(layer.attention, h)[None])
        if kind == "gcn" and layer.association == "(AX)W":
            h = self.epilogue(aggregate, layer.aggregate, self.adjacency @ h)
            return self.epilogue(combine, layer.combine, h @ self.weight(combine))
        x, h = h, self.epilogue(combine, layer.combine, h @ self.weight(combine))
        if kind == "linear":
            return h
        if kind == "gat":
            key = (index, "score")
            scores = self.epilogue(key, layer.score, x @ self.weight(key))
            return self.attend(aggregate, layer, h, self.leaky(layer.attention, scores))
        extra: Matrix | int = 0
        if kind == "sage":
            key = (index, "root")
            extra = self.epilogue(key, layer.root, x @ self.weight(key)) * layer.root_factor
        h = self.epilogue(aggregate, layer.aggregate, self.adjacency @ h, extra)
        if kind == "gin":
            return self.epilogue((index, "mlp"), layer.mlp, h @ self.weight((index, "mlp")))
        return h

    def weight(self, key: Key) -> Matrix:
        return as_objects(self.network.weights[key])

    def bias(self, key: Key) -> Matrix | int:
        return as_objects(self.network.biases[key]) if key in self.network.biases else 0

    def epilogue(
        self, key: Key, epilogue: Epilogue, sums: Matrix, extra: Matrix | int = 0
    ) -> Matrix:
        multiplier = epilogue.multiplier
        factor: Matrix | int = multiplier.value
        if multiplier.kind == "node":
            factor = as_objects(self.workload.node_tables[multiplier.table])[:, None]
        elif multiplier.kind == "channel":
            factor = as_objects(self.network.multipliers[key])
        total = sums * factor + extra + self.bias(key)
        return self.stored(key, epilogue, total, 2**epilogue.shift)

    def stored(
        self, key: Key, epilogue: Epilogue, total: Matrix, divisor: Matrix | int
    ) -> Matrix:
        """Round to multiples of each row's step, within the range of its window."""
        output = epilogue.output
        bits, step = as_objects([[output.bits]]), as_objects([[1]])
        if output.windows:
            assert self.workload.buckets is not None
            chosen = [output.windows[bucket] for bucket in self.workload.buckets]
            bits = as_objects([[window.bits] for window in chosen])
            step = as_objects([[2**window.exponent] for window in chosen])
        low = -(2 ** (bits - 1)) if output.signed else 0 * bits
        high = low + 2**bits - 1
        codes: Matrix = np.clip(floor_half_up(total, divisor * step), low, high) * step
        self.trace[key] = codes
        return codes

    # -- attention: logits and weights are [heads, nodes, nodes] --

    def leaky(self, attention: GatAttention, scores: Matrix) -> Matrix:
        """Logits less their bound, so that both kinds of attention continue alike."""
        scores = scores.T.reshape(2, attention.heads, self.nodes)
        sums = scores[0][:, :, None] + scores[1][:, None, :]
        factors = np.where(sums < 0, attention.slope_code, 2**attention.slope_shift)
        logits: Matrix = sums * factors.astype(object)
        counted = self.has_edge[None] | (attention.bound == "global")
        lowest = int(logits.min()) - 1
        below: Matrix = logits - np.where(counted, logits, lowest).max(axis=2, keepdims=True)
        return below

    def cosines(self, attention: AgnnAttention, h: Matrix) -> Matrix:
        squares = [sum(code * code for code in row) for row in h.tolist()]
        bits, beta = attention.norm_bits, attention.beta
        f = [(n.bit_length() + 1) // 2 for n in squares]
        r = [
            min(isqrt(4 ** (bits - 1 + e) // n), 2**bits - 1) if n else 0
            for n, e in zip(squares, f, strict=True)
        ]
        norm = as_objects(r)
        exponent = as_objects([2**e for e in f])
        products = (h @ h.T) * np.multiply.outer(norm, norm) * beta
        divisors = 4 ** (bits - 1) * np.multiply.outer(exponent, exponent)
        below: Matrix = floor_half_up(products, divisors) - abs(beta)
        return below

    def attend(self, key: Key, layer: Any, h: Matrix, below_bound: Matrix) -> Matrix:
        table = [*self.network.exponentials[key].tolist(), 0]
        indices = floor_half_up(-below_bound, 2**layer.attention.index_shift)
        p = as_objects(table)[np.clip(indices, 0, len(table) - 1).astype(int)]
        p = p * as_objects(self.has_edge.astype(int))
        den = p.sum(axis=2)
        e = as_objects([[value.bit_length() for value in row] for row in den.tolist()])
        reciprocal = (2 ** (e + 15) - 1) // np.maximum(den, 1) * (den > 0)
        num = np.concatenate(list(p @ self.by_head(h, len(p))), axis=1)
        repeats = h.shape[1] // len(p)
        reciprocal, power = (np.repeat(m.T, repeats, axis=1) for m in (reciprocal, 2**e))
        total = num * reciprocal + self.bias(key) * power
        shift: int = layer.aggregate.shift
        codes = self.stored(key, layer.aggregate, total, power * 2**shift)
        if getattr(layer, "activation", "none") == "elu":
            entries = self.network.activations[key].tolist()
            # Python counts from the end for negative codes, as the table does.
            codes = as_objects([[c if c >= 0 else entries[c] for c in row] for row in codes])
            self.trace[key] = codes
        return codes

    @staticmethod
    def by_head(h: Matrix, heads: int) -> Matrix:
        """[nodes, heads * channels] to [heads, nodes, channels]."""
        return np.stack(np.split(h, heads, axis=1))


def dense_run(bundle: Bundle) -> dict[Key, Table]:
    """Return the codes of every stage, [rows][channels]."""
    return {key: codes.tolist() for key, codes in DenseModel(bundle).run().items()}

"""The memory budget: what an accelerator keeps on chip, and which devices hold it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sgq_hw.bundle import Bundle
from sgq_hw.cost.devices import Device
from sgq_hw.cost.memory_mapper import FitResult, MemoryRequest, fit
from sgq_hw.design import Design, count_bits

FLOAT_BITS = 32


@dataclass(frozen=True, slots=True)
class TensorMemory:
    """One tensor of the network: elements, quantised bits an element, memory it occupies.

    Attributes:
        name: `input`, `layerI.STAGE`, `edges` or a node table.
        elements: Number of values.
        bits: Bits of a value.
        stored_bits: Bits reserved for it on chip, padding included; 0 where it is streamed.
    """

    name: str
    elements: int
    bits: int
    stored_bits: int

    @property
    def payload_bits(self) -> int:
        """Quantised size without padding."""
        return self.elements * self.bits

    @property
    def float_bits(self) -> int:
        """Size in fp32."""
        return self.elements * FLOAT_BITS


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory of one accelerator.

    Attributes:
        design: What is priced.
        tensors: Every tensor between passes, the input first.
        input_bits: The input in its cheapest lossless coding.
        bits_total: Bits of all memories of the design.
        bits_fp32: The same network and graph in dense fp32.
        compression_features: Layer inputs (X and hidden), fp32 against quantised payload.
        compression_hidden: The same without X; None for a network of one layer.
        compression_stored: X, every pass result that is kept, edge values or node factors.
        compression_total: Dense fp32 against all memories and the input in its cheapest coding.
        fits: One result for each device that was asked for.
    """

    design: Design
    tensors: tuple[TensorMemory, ...]
    input_bits: int
    bits_total: int
    bits_fp32: int
    compression_features: float
    compression_hidden: float | None
    compression_stored: float
    compression_total: float
    fits: tuple[FitResult, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the keys that other tools rely on."""
        passes = {step.name for step in self.design.passes}
        features = [tensor for tensor in self.tensors if tensor.name in passes]
        return {
            "memories": [
                {"name": m.name, "width": m.width, "depth": m.depth, "bits": m.bits}
                for m in self.design.memories
            ],
            "feature_memory": [
                {
                    "layer": tensor.name,
                    "payload_bits": tensor.payload_bits,
                    "stored_bits": tensor.stored_bits,
                    "average_bits": float(tensor.bits),
                    "buckets": 1,
                }
                for tensor in features
            ],
            "input_bits": self.input_bits,
            "bits_total": self.bits_total,
            "bits_fp32": self.bits_fp32,
            "compression_features": self.compression_features,
            "compression_hidden": self.compression_hidden,
            "compression_stored": self.compression_stored,
            "compression_total": self.compression_total,
            "devices": [
                {
                    "part": result.device,
                    "fits": result.fits,
                    "block_ram_used": float(result.block_ram_used),
                    "block_ram_available": result.block_ram_available,
                    "first_limit": result.runs_out_first,
                    "basis": sorted({mapping.basis for _, mapping in result.mappings}),
                }
                for result in self.fits
            ],
        }


def cheapest_input_bits(bundle: Bundle) -> int:
    """Return the bits of the input as complete rows or as index lists, whichever is less.

    An index list holds column and code (none where all are one) of each stored input, and the
    length of each row.
    """
    workload, spec = bundle.workload, bundle.network.manifest.input
    dense = workload.num_nodes * spec.channels * spec.bits
    code_bits = 0 if workload.x_codes is None else spec.bits
    longest = int(np.diff(workload.x_indptr).max(initial=0))
    listed = len(workload.x_indices) * (count_bits(spec.channels - 1) + code_bits)
    return min(dense, listed + workload.num_nodes * count_bits(longest))


def _tensors(bundle: Bundle, design: Design) -> list[TensorMemory]:
    manifest, workload = bundle.network.manifest, bundle.workload
    nodes = workload.num_nodes
    tensors = [TensorMemory("input", nodes * manifest.input.channels, manifest.input.bits, 0)]
    for step in design.passes:
        stored = 0
        if step.destination is not None:
            region = design.program.regions[step.destination]
            stored = step.chunks * design.lanes * region.bits * design.capacity.nodes
        tensors.append(TensorMemory(step.name, nodes * step.out_channels, step.bits, stored))
    if manifest.edge is not None:
        bits = manifest.edge.bits
        tensors.append(
            TensorMemory("edges", workload.num_edges, bits, bits * design.capacity.edges)
        )
    for table in manifest.node_tables:
        tensors.append(
            TensorMemory(table.name, nodes, table.bits, table.bits * design.capacity.nodes)
        )
    return tensors


def _ratio(tensors: list[TensorMemory]) -> float:
    return sum(t.float_bits for t in tensors) / sum(t.payload_bits for t in tensors)


def _float_network_bits(bundle: Bundle) -> int:
    """Return weights, biases and graph (32-bit index and value an edge) of the float network."""
    parameters = sum(weight.size for weight in bundle.network.weights.values())
    parameters += sum(bias.size for bias in bundle.network.biases.values())
    return FLOAT_BITS * (parameters + 2 * bundle.workload.num_edges)


def make_budget(bundle: Bundle, design: Design, devices: tuple[Device, ...]) -> Budget:
    """Price a design.

    Args:
        bundle: Network and graph.
        design: The accelerator.
        devices: Devices to try, may be empty.
    """
    tensors = _tensors(bundle, design)
    layer_ends = {design.passes[index].name for index in range(1, len(design.passes) - 1, 2)}
    hidden = [tensor for tensor in tensors if tensor.name in layer_ends]
    kept = [tensor for tensor in tensors if tensor.name == "input" or tensor.stored_bits]
    passes = {step.name for step in design.passes}
    results = [tensor for tensor in tensors if tensor.name in passes]
    bits_total = sum(memory.bits for memory in design.memories)
    input_bits = cheapest_input_bits(bundle)
    bits_fp32 = (
        tensors[0].float_bits
        + sum(tensor.float_bits for tensor in results)
        + _float_network_bits(bundle)
    )
    requests = [
        MemoryRequest(m.name, m.width, m.depth, rom=m.rom, style=m.style)
        for m in design.memories
    ]
    return Budget(
        design=design,
        tensors=tuple(tensors),
        input_bits=input_bits,
        bits_total=bits_total,
        bits_fp32=bits_fp32,
        compression_features=_ratio([tensors[0], *hidden]),
        compression_hidden=_ratio(hidden) if hidden else None,
        compression_stored=_ratio(kept),
        compression_total=bits_fp32 / (bits_total + input_bits),
        fits=tuple(fit(requests, device) for device in devices),
    )


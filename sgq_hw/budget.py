"""The memory budget: what an accelerator keeps on chip, and which devices hold it."""

from dataclasses import dataclass
from typing import Any

from sgq_hw.bundle import Bundle
from sgq_hw.compression import Compression, cheapest_input_bits, compression, float_bits
from sgq_hw.cost.devices import Device
from sgq_hw.cost.memory_mapper import FitResult, MemoryRequest, fit
from sgq_hw.design import Design
from sgq_hw.feature_memory import FeatureMemory, feature_memory
from sgq_hw.input_forms import InputChoice, compare_inputs
from sgq_hw.throughput import Throughput, predict


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory of one accelerator.

    Attributes:
        design: What is priced.
        features: Its feature memory, against other ways to keep the same tensors.
        inputs: Both forms of the inputs, where they lie on chip.
        input_bits: The input in its cheapest lossless coding.
        bits_total: Bits of all memories of the design.
        bits_fp32: The same network and graph in dense fp32.
        compression: The four figures; the total charges all memories and, where no memory holds
            it, the input in its cheapest coding.
        throughput: Predicted cycles and slots of an inference.
        fits: One result for each device that was asked for.
    """

    design: Design
    features: FeatureMemory
    inputs: InputChoice | None
    input_bits: int
    bits_total: int
    bits_fp32: int
    compression: Compression
    throughput: Throughput
    fits: tuple[FitResult, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the keys that other tools rely on."""
        return {
            "memories": [
                {
                    "name": m.name,
                    "width": m.width,
                    "depth": m.depth,
                    "copies": m.copies,
                    "bits": m.bits,
                }
                for m in self.design.memories
            ],
            **self.features.as_json(),
            "input_bits": self.input_bits,
            **({"input_memory": self.inputs.as_json()} if self.inputs else {}),
            "bits_total": self.bits_total,
            "bits_fp32": self.bits_fp32,
            "throughput": self.throughput.as_json(),
            "compression_features": self.compression.features,
            "compression_hidden": self.compression.hidden,
            "compression_stored": self.compression.stored,
            "compression_total": self.compression.total,
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


def make_budget(bundle: Bundle, design: Design, devices: tuple[Device, ...]) -> Budget:
    """Price a design.

    Args:
        bundle: Network and graph.
        design: The accelerator.
        devices: Devices to try, may be empty.
    """
    bits_total = sum(memory.bits for memory in design.memories)
    input_bits = cheapest_input_bits(bundle)
    charged = bits_total if design.inputs_on_chip else bits_total + input_bits
    requests = [
        MemoryRequest(m.name, m.width, m.depth, rom=m.rom, style=m.style)
        for m in design.memories
        for _ in range(m.copies)
    ]
    return Budget(
        design=design,
        features=feature_memory(bundle, design),
        inputs=compare_inputs(design, bundle) if design.inputs_on_chip else None,
        input_bits=input_bits,
        bits_total=bits_total,
        bits_fp32=float_bits(bundle),
        compression=compression(bundle, charged),
        throughput=predict(design, bundle),
        fits=tuple(fit(requests, device) for device in devices),
    )

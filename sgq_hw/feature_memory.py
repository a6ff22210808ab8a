"""What the feature memory of a design takes, against other ways to keep the same tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from sgq_hw.bundle import Bundle
from sgq_hw.compression import FLOAT_BITS, Tensor, tensors
from sgq_hw.cost.memory_mapper import block_resource, map_memory
from sgq_hw.design import Design
from sgq_hw.lowering import Pass
from sgq_hw.slices import DEFAULT_FAMILY, RegionPlan, candidates, plain_plan

UNIFORM_BITS: Final = 8
"""Width of the uniform network that degree-aware bits are compared with."""
BUILT: Final = "built"
COMPARISONS: Final = ("uniform_8", "uniform_widest", "fp32")
"""Every tensor with `UNIFORM_BITS` for each node, with those of its widest bucket, in fp32."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What some memories take.

    Attributes:
        bits: Stored bits, padding included.
        blocks: Block RAM, in the family's unit; halves where a block divides.
        luts: Estimated LUTs of what lies outside block RAM, and of cutting.
    """

    bits: int
    blocks: Fraction
    luts: int

    @classmethod
    def of(cls, plans: Iterable[RegionPlan]) -> "Amount":
        """Return what the regions of some plans take together."""
        found = list(plans)
        return cls(
            sum(plan.bits for plan in found),
            sum((plan.blocks for plan in found), Fraction(0)),
            sum(plan.luts for plan in found),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {"bits": self.bits, "blocks": float(self.blocks), "luts": self.luts}


@dataclass(frozen=True, slots=True)
class FeatureTensor:
    """A result of a pass, and what is reserved for it.

    Attributes:
        tensor: Its name and payload.
        region: Region that holds it, which other tensors share; None if it is streamed out.
        bucket_bits: Bits of each degree bucket, lowest degrees first; one width without buckets.
        bucket_nodes: Nodes of each.
        stored_bits: Bits reserved for it on chip, padding included, as built and as in
            `COMPARISONS`.
    """

    tensor: Tensor
    region: int | None
    bucket_bits: tuple[int, ...]
    bucket_nodes: tuple[int, ...]
    stored_bits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FeatureRegion:
    """A region of the feature buffer, and what else would hold its tensors.

    Attributes:
        index: Number of the region.
        tensors: Names of what it holds, one at a time.
        plans: How it is built, and the plain memories of `COMPARISONS`.
        alternatives: All ways to cut it, the best first; what is built is one of them.
    """

    index: int
    tensors: tuple[str, ...]
    plans: Mapping[str, RegionPlan]
    alternatives: tuple[RegionPlan, ...]


@dataclass(frozen=True, slots=True)
class FeatureMemory:
    """The feature memory of a design.

    Attributes:
        family: Family whose blocks are counted.
        tensors: Every result of a pass.
        regions: Every region of the feature buffer.
        collecting: Memories besides it that only degree buckets make necessary: with a single
            processing element, those that bring the results back into the order of the nodes.
    """

    family: str
    tensors: tuple[FeatureTensor, ...]
    regions: tuple[FeatureRegion, ...]
    collecting: Amount

    @property
    def totals(self) -> dict[str, Amount]:
        """All regions together, as built and as in `COMPARISONS`."""
        return {
            name: Amount.of(region.plans[name] for region in self.regions)
            for name in (BUILT, *COMPARISONS)
        }

    def as_json(self) -> dict[str, Any]:
        """Return the keys that `budget` adds: per tensor, per region, and in total."""
        return {
            "feature_memory": [self._tensor_json(entry) for entry in self.tensors],
            "feature_regions": [_region_json(region) for region in self.regions],
            "feature_total": {
                "family": self.family,
                "block": block_resource(self.family),
                **{name: amount.as_json() for name, amount in self.totals.items()},
                "collecting": self.collecting.as_json(),
            },
        }

    def _tensor_json(self, entry: FeatureTensor) -> dict[str, Any]:
        def kept(name: str) -> dict[str, Any]:
            if entry.region is None:
                return {"stored_bits": 0, "blocks": 0.0}
            blocks = self.regions[entry.region].plans[name].blocks
            return {"stored_bits": entry.stored_bits[name], "blocks": float(blocks)}

        return {
            "layer": entry.tensor.name,
            "region": entry.region,
            "payload_bits": entry.tensor.payload_bits,
            **kept(BUILT),
            "average_bits": entry.tensor.average_bits,
            "buckets": len(entry.bucket_bits),
            "bucket_bits": list(entry.bucket_bits),
            "bucket_nodes": list(entry.bucket_nodes),
            **{name: kept(name) for name in COMPARISONS},
        }


def _plan_json(plan: RegionPlan) -> dict[str, Any]:
    return {
        "slices": [
            {"low": part.low, "high": part.high, "rows": part.rows, "style": part.style}
            for part in plan.slices
        ],
        **Amount.of([plan]).as_json(),
    }


def _region_json(region: FeatureRegion) -> dict[str, Any]:
    return {
        "region": region.index,
        "layers": list(region.tensors),
        **_plan_json(region.plans[BUILT]),
        **{name: Amount.of([region.plans[name]]).as_json() for name in COMPARISONS},
        "alternatives": [_plan_json(plan) for plan in region.alternatives],
    }


def feature_memory(bundle: Bundle, design: Design) -> FeatureMemory:
    """Price the feature memory of a design, in the blocks of the family that it was planned for."""
    regions = tuple(_region(design, index) for index in range(len(design.program.regions)))
    payloads = {tensor.name: tensor for tensor in tensors(bundle)}
    nodes = bundle.workload.num_nodes
    return FeatureMemory(
        family=DEFAULT_FAMILY,
        tensors=tuple(
            _tensor(bundle, design, step, _payload(step, payloads, nodes), regions)
            for step in design.passes
        ),
        regions=regions,
        collecting=_collecting(design),
    )


def _payload(step: Pass, payloads: Mapping[str, Tensor], nodes: int) -> Tensor:
    """Return the tensor that a pass writes; halves and bounds of scores have no windows."""
    whole = payloads.get(step.name)
    if whole is not None:
        return whole
    elements = nodes * step.out_channels
    return Tensor(step.name, elements, elements * step.bits, layer_input=False, kept=True)


def _collecting(design: Design) -> Amount:
    bits, blocks = 0, Fraction(0)
    for memory in design.memories:
        if design.pes == 1 and memory.role in ("order", "output"):
            cells = map_memory(
                memory.width, memory.depth, DEFAULT_FAMILY, rom=memory.rom, style=memory.style
            )
            bits += memory.bits
            blocks += cells.blocks
    return Amount(bits, blocks, 0)


def _region(design: Design, index: int) -> FeatureRegion:
    region, capacity = design.program.regions[index], design.capacity
    held = [step for step in design.passes if index in (step.destination, step.duplicate)]

    def plain(bits: int) -> RegionPlan:
        return plain_plan(bits, region.chunks, design.lanes, capacity.nodes, design.banks)

    alternatives: tuple[RegionPlan, ...] = (plain(region.bits),)
    if design.region_plans:
        alternatives = candidates(
            region.widths, region.chunks, design.lanes, capacity.bucket_nodes, capacity.nodes,
            design.banks,
        )  # fmt: skip
    plan = design.region_plans[index] if design.region_plans else alternatives[0]
    # Tensors without a sign take a bit more where another one has a sign.
    uniform_bits = UNIFORM_BITS + (len({step.signed for step in held}) == 2)
    comparisons = (plain(uniform_bits), plain(region.bits), plain(FLOAT_BITS))
    return FeatureRegion(
        index=index,
        tensors=tuple(step.name for step in held),
        plans={BUILT: plan, **dict(zip(COMPARISONS, comparisons, strict=True))},
        alternatives=alternatives,
    )


def _tensor(
    bundle: Bundle, design: Design, step: Pass, tensor: Tensor, regions: tuple[FeatureRegion, ...]
) -> FeatureTensor:
    bucket_bits: tuple[int, ...] = (step.bits,)
    bucket_nodes: tuple[int, ...] = (bundle.workload.num_nodes,)
    if step.windows:
        assert bundle.workload.buckets is not None
        by_bucket = dict(zip(design.order, step.windows, strict=True))
        bucket_bits = tuple(by_bucket[bucket].bits for bucket in range(design.buckets))
        counts = np.bincount(bundle.workload.buckets, minlength=design.buckets)
        bucket_nodes = tuple(counts.tolist())
    stored_bits: dict[str, int] = {}
    if step.destination is not None:
        # A tensor of fewer channels than its region leaves words of the others free.
        chunks = design.program.regions[step.destination].chunks
        plans = regions[step.destination].plans
        stored_bits = {name: plan.bits // chunks * step.chunks for name, plan in plans.items()}
    return FeatureTensor(tensor, step.destination, bucket_bits, bucket_nodes, stored_bits)

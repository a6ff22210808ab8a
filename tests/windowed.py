"""Random networks of GCN layers with degree windows on every tensor that stays on chip."""

from dataclasses import replace
from typing import Any

import msgspec

from sgq_hw.bundle import Bundle
from sgq_hw.formats import Format, Window
from sgq_hw.layers import GcnLayer
from tests.random_networks import random_bundle, validated
from tests.random_workloads import Rng, between, random_codes


def windowed_bundle(rng: Rng, buckets: int = 4, **options: Any) -> Bundle:
    """Draw a network as `random_bundle` does, then windows and a bucket for every node.

    Args:
        rng: Source of all draws.
        buckets: Degree buckets, at least 2; some may be without nodes.
        options: Of `random_bundle`.
    """
    bundle = random_bundle(rng, **options)
    manifest, workload = bundle.network.manifest, bundle.workload
    final = manifest.steps()[-1].key

    def windowed(output: Format) -> Format:
        widths = [between(rng, 1 + output.signed, output.bits) for _ in range(buckets)]
        exponents = [between(rng, 0, output.bits - width) for width in widths]
        highest = between(rng, 0, buckets - 1)
        exponents[highest] = output.bits - widths[highest]
        pairs = zip(exponents, widths, strict=True)
        windows = [Window(exponent=exponent, bits=width) for exponent, width in pairs]
        return msgspec.structs.replace(output, windows=tuple(windows))

    layers = []
    for index, layer in enumerate(manifest.layers):
        assert isinstance(layer, GcnLayer)
        stages = {}
        for name in ("combine", "aggregate"):
            stage = getattr(layer, name)
            if (index, name) != final:
                stage = msgspec.structs.replace(stage, output=windowed(stage.output))
            stages[name] = stage
        layers.append(msgspec.structs.replace(layer, **stages))
    manifest = msgspec.structs.replace(
        manifest, layers=tuple(layers), degree_splits=tuple(range(1, buckets))
    )
    codes = random_codes(rng, 0, buckets - 1, workload.num_nodes)
    return validated(
        Bundle(replace(bundle.network, manifest=manifest), replace(workload, buckets=codes))
    )

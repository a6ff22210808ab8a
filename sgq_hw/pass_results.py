"""What every pass of a design writes, from the golden model's trace."""

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.fields import IntArray
from sgq_hw.formats import Epilogue, Window
from sgq_hw.golden.attention_unit import row_maxima
from sgq_hw.golden.network import Trace
from sgq_hw.layers import Step
from sgq_hw.lowering import Pass
from sgq_hw.manifest import Manifest


def stage_of(manifest: Manifest, step: Pass) -> Step | None:
    """Return the stage of a network that a pass works for; None for a maximum."""
    return next((stage for stage in manifest.steps() if stage.key == step.key), None)


def epilogue_of(manifest: Manifest, step: Pass) -> Epilogue | None:
    """Return the epilogue of a network's stage that a pass works for; None for a maximum."""
    stage = stage_of(manifest, step)
    return None if stage is None else stage.epilogue


def windows_of(manifest: Manifest, step: Pass) -> tuple[Window, ...]:
    """Return the windows of a pass's result by degree bucket, of this network."""
    epilogue = epilogue_of(manifest, step)
    return () if epilogue is None else epilogue.output.windows


def pass_codes(passes: tuple[Pass, ...], step: Pass, workload: Workload, trace: Trace) -> IntArray:
    """Return the codes that a pass writes, words as consumers see them.

    Args:
        passes: Of the design.
        step: One of them.
        workload: Graph and inputs.
        trace: What the golden model gives for them.

    Returns:
        int64 [nodes, channels].
    """
    if step.operation == "maximum":
        assert step.source_pass is not None
        scores = pass_codes(passes, passes[step.source_pass], workload, trace)
        return row_maxima(workload.indptr, workload.indices, scores)
    first = step.first_channel
    return np.asarray(trace[step.key][:, first : first + step.out_channels])

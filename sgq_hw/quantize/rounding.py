"""Rounding with gradients: the hardware's integers forward, straight through back."""

import math
from typing import Any

import torch


class _Round(torch.autograd.Function):
    """Half-up rounding with saturation; the gradient passes where nothing saturated."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, scale: Any, low: Any, high: Any
    ) -> torch.Tensor:
        steps = torch.floor(values / scale + 0.5)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        result: torch.Tensor = steps.clamp(low, high) * scale
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


class _LearnedRound(torch.autograd.Function):
    """`_Round` whose scale is 2 to the power of rounded exponents, which have a gradient too.

    For `y = s * clip(round(x / s), low, high)`, `dy/ds` is `round(x / s) - x / s` inside the range
    and its nearer end outside: Esser et al., "Learned Step Size Quantization", ICLR 2020, equation
    3. With `s = 2**e`, `dy/de = dy/ds * s * ln 2`, straight through the rounding of e: Jain et al.,
    "Trained Quantization Thresholds", MLSys 2020, section 3.3. LSQ's factor of the gradient is
    left out: Adam divides by the gradient's size.
    """

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, exponents: torch.Tensor, buckets: torch.Tensor | None,
        scale: Any, low: Any, high: Any,
    ) -> torch.Tensor:  # fmt: skip
        steps = torch.floor(values / scale + 0.5)
        inside = (steps >= low) & (steps <= high)
        result: torch.Tensor = steps.clamp(low, high) * scale
        ctx.save_for_backward(inside, (result - torch.where(inside, values, 0.0)) * math.log(2.0))
        ctx.buckets, ctx.count = buckets, len(exponents)
        return result

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None, None, None, None]:
        inside, slopes = ctx.saved_tensors
        by_row = (gradients[0] * slopes).sum(dim=1)
        if ctx.buckets is None:
            to_exponents = by_row.sum().reshape(1)
        else:
            to_exponents = by_row.new_zeros(ctx.count).index_add(0, ctx.buckets, by_row)
        return gradients[0] * inside, to_exponents, None, None, None, None


class _Replace(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, soft: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        return exact.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def rounded(
    values: torch.Tensor,
    scale: float | torch.Tensor,
    low: int | torch.Tensor,
    high: int | torch.Tensor,
) -> torch.Tensor:
    """Return `clamp(floor(x / scale + 0.5), low, high) * scale`, float64.

    Args:
        values: Real values, any shape.
        scale: Real value of one step, broadcastable.
        low: Smallest code, broadcastable.
        high: Largest code, of the same kind as `low`.
    """
    result: torch.Tensor = _Round.apply(values, scale, low, high)  # type: ignore[no-untyped-call]
    return result


def learned_rounded(
    values: torch.Tensor,
    exponents: torch.Tensor,
    buckets: torch.Tensor | None,
    scale: float | torch.Tensor,
    low: int | torch.Tensor,
    high: int | torch.Tensor,
) -> torch.Tensor:
    """Return what `rounded` does, with a gradient for the exponents of the scales.

    Args:
        values: Real values [rows, channels].
        exponents: Real exponents of the scales, [1] or one for each bucket.
        buckets: Bucket of each row, int64 [rows]; None with one exponent.
        scale: Real value of one step, 2 to the power of the rounded exponents.
        low: Smallest code, broadcastable.
        high: Largest code, of the same kind as `low`.
    """
    result: torch.Tensor = _LearnedRound.apply(  # type: ignore[no-untyped-call]
        values, exponents, buckets, scale, low, high
    )
    return result


def replaced(soft: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Return `exact` with the gradient of `soft`."""
    result: torch.Tensor = _Replace.apply(soft, exact)  # type: ignore[no-untyped-call]
    return result

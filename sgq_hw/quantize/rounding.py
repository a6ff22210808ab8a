"""Rounding with gradients: the hardware's integers forward, straight through back."""

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


def replaced(soft: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Return `exact` with the gradient of `soft`."""
    result: torch.Tensor = _Replace.apply(soft, exact)  # type: ignore[no-untyped-call]
    return result

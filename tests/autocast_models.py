"""Models that open regions of autocast themselves, each in another way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

BF16, FP16 = torch.bfloat16, torch.float16


class Block(nn.Module):
    """Two products and a norm: ``[B, 16] → [B, 16]``. ``kind`` None asks the input where it is."""

    def __init__(self, kind: str | None = "cpu") -> None:
        super().__init__()
        self.kind = kind
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.norm = nn.LayerNorm(16)

    def region(self, x: torch.Tensor, **settings: Any) -> torch.autocast:
        return torch.autocast(self.kind or x.device.type, **settings)

    def block(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.down(functional.gelu(self.up(x))))
        return result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class Inside(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16):
            x = self.block(x)
        return x.float()


class InHalf(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=FP16):
            x = self.block(x)
        return x.float()


class DefaultDtype(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x):
            return self.down(functional.relu(self.up(x)))


class Island(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16):
            x = self.block(x)
            with self.region(x, enabled=False):
                x = self.block(x.float())
            return self.block(x)


class OneAfterAnother(Block):
    """The casts of the weights end with each region."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            with self.region(x, dtype=BF16):
                x = self.block(x)
        return x


class WithoutCache(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16, cache_enabled=False):
            return self.block(self.block(x))


class Asking(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = self.kind or x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        with self.region(x, dtype=BF16):
            y = self.block(x)
            if torch.is_autocast_enabled(kind):
                y = y.to(torch.get_autocast_dtype(kind))
            if torch.is_autocast_cache_enabled():
                y = y * 2
        return y


class AroundCheckpoint(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16):
            x = self.down(self.up(x))
            result: torch.Tensor = checkpoint(self.block, x, use_reentrant=False)
        return result


class InsideCheckpoint(Block):
    def inner(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16):
            return self.block(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return result


class AroundForward(Block):
    """A wrapper around a forward that knows nothing of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device_type=x.device.type, dtype=BF16):
            return self.block(x)


class Images(Block):
    def __init__(self, kind: str | None = "cpu") -> None:
        super().__init__(kind)
        self.convolution, self.batch_norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16):
            x = self.batch_norm(self.convolution(x[None, None]))
            return functional.softmax(x, -1)


class Parts(Block):
    """A generator that keeps its region open between its parts."""

    def parts(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        with self.region(x, dtype=BF16):
            yield self.up(x)
            yield self.down(self.up(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return list(self.parts(x))[1]


WITH_A_KIND = (
    Inside, InHalf, DefaultDtype, Island, OneAfterAnother, WithoutCache, Asking, AroundCheckpoint,
    InsideCheckpoint, AroundForward, Images, Parts,
)  # fmt: skip
"""Models that take the type of the device, or ask their input for it."""


class Decorated(Block):
    @torch.autocast("cpu", dtype=BF16)
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class DecoratedMethod(Block):
    @torch.amp.autocast("cpu")
    def inner(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x)) + self.inner(x)


class Stored(Block):
    def __init__(self) -> None:
        super().__init__()
        self.amp = torch.autocast("cpu", dtype=BF16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.amp:
            return self.block(x)


class ByHand(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.set_autocast_dtype("cpu", BF16)
        torch.set_autocast_enabled("cpu", True)
        x = self.block(x)
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cpu", False)
        return x


class InHooks(Block):
    def __init__(self) -> None:
        super().__init__()
        self.amp = torch.autocast("cpu", dtype=BF16)
        self.up.register_forward_pre_hook(self.open)
        self.up.register_forward_hook(self.close)

    def open(self, module: nn.Module, args: Any) -> None:
        self.amp.__enter__()

    def close(self, module: nn.Module, args: Any, output: Any) -> None:
        self.amp.__exit__(None, None, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x).float())


class _Product(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ x


class OwnFunction(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=BF16):
            product: torch.Tensor = _Product.apply(  # type: ignore[no-untyped-call]
                self.block(x).to(BF16), self.up.weight
            )
            return product


class OfAnotherDevice(Block):
    """On the CPU the region does nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=BF16):
            return self.block(x)


FOR_THE_CPU = (Decorated, DecoratedMethod, Stored, ByHand, InHooks, OwnFunction, OfAnotherDevice)
"""Models that name the CPU, or a device that is not there."""

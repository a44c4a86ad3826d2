"""One kernel, as a device sees it: what it computes, what it moves."""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.estimate.time.kernels.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kernel. ``rows``, ``columns`` and ``inner`` are those of a product, 0 for none.

    ``rows`` of a norm are threads that reduce its rows.
    """

    kind: Kind
    dtype: str = "float32"
    """Of the operands that are multiplied."""
    flops: float = 0.0
    """Of products: as many as the shapes say, 2 per multiply-add."""
    elements: float = 0.0
    """Of the largest tensor read or written."""
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    rows: float = 0.0
    columns: float = 0.0
    inner: float = 0.0
    batch: float = 1.0
    """Products of that size; groups of a convolution."""
    window: float = 1.0
    """Elements of a convolution's filter per channel: 9 for 3 × 3."""
    padding: float = 0.0
    """What the filter's elements of a convolution grow by where channels are padded; a softmax's
    where rows are."""
    copied_bytes: float = 0.0
    """Read and written to bring operands into another layout and back, where that is done."""
    is_convolution: bool = False
    """Its TF32 switch is the convolutions' (``torch.backends.cudnn.allow_tf32``)."""
    share: float = 1.0
    """Of the products that are computed: causal attention leaves out what is masked."""
    is_data_gradient: bool = False
    """A convolution's, for its input."""
    is_filter_gradient: bool = False
    """A convolution's, for its filter."""
    is_channels_last: bool = False
    """A convolution's input has its channels last."""
    is_uneven_group: bool = False
    """A convolution's groups have 24, 40, 56 … channels: more than 8, no power of two."""
    is_unaligned: bool = False
    """Without groups, a convolution's channels are more than 8 and not divisible by 8; or sides of
    a product in half precision."""
    is_softmax: bool = False
    """A norm without statistics that are kept: a warp for each row."""
    is_portable: bool = False
    """Multiplies with the instructions of earlier architectures too, not with the newest alone."""

    @property
    def nbytes(self) -> float:
        """Return the bytes moved."""
        return self.read_bytes + self.written_bytes

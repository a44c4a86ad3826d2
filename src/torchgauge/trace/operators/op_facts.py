"""What the schema of an operator says about it, looked up once per operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from torchgauge.trace.operators.pointwise import pointwise_rule
from torchgauge.trace.shapes.fourier import TRANSFORMS
from torchgauge.trace.shapes.rule import Args, Kwargs, Rule
from torchgauge.trace.shapes.table import SHAPE_RULES
from torchgauge.trace.torch_internals.kernels import OpOverload, is_composite


@dataclass(frozen=True, slots=True, kw_only=True)
class OpFacts:
    """Facts of one overload that the recorder and the simulation need on every call."""

    name: str
    base: str = ""
    """The name without namespace and overload."""
    is_composite: bool = False
    """Seen whole only in inference mode, and then taken apart by the recorder."""
    is_higher_order: bool = False
    """Takes functions as arguments."""
    is_of_bitsandbytes: bool = False
    is_collective: bool = False
    """Sends tensors to other processes, or waits for them."""
    is_written_in_operators: bool = False
    """An operator of torch's own whose one kernel only calls other operators."""
    is_marker: bool = False
    """Marks a range for the profiler; computes nothing."""
    is_primitive: bool = False
    """One of ``torch._prims``, which the functions of ``torch._refs`` call."""
    is_factory: bool = False
    """Makes a tensor out of no tensor."""
    depends_on_shape_only: bool = False
    """The values made depend on shapes and scalars alone (``arange``, ``ones_like``)."""
    is_deterministic: bool = True
    is_mutating: bool = False
    is_elementwise: bool = False
    """Each element of the result depends on the elements at its place alone."""
    may_be_view: bool = False
    resizes: bool = False
    """Gives a storage another size."""
    makes_sparse: bool = False
    """Makes a sparse tensor of a dense one."""
    makes_nested: bool = False
    """Makes nested tensors or takes them apart."""
    rule: Rule | None = None
    """Makes the meta outputs; may return ``NotImplemented`` to leave them to PyTorch."""
    reads_layouts: bool = False
    """What the kernel takes for itself depends on the strides of its arguments."""
    is_fourier: bool = False
    """A Fourier transform, which takes what its argument's strides ask for."""
    reads_values: bool = False
    """The result is a Python number or has a shape that depends on values."""
    is_answered_by_specs: bool = False
    """Makes new tensors that look as the arguments' shapes, dtypes and numbers say."""
    is_plain: bool = False
    """Follows no special rule: where not all values are known it is only run and noted."""


class OpCall(NamedTuple):
    """One call of an operator without data."""

    func: Any
    facts: OpFacts
    args: Args
    kwargs: Kwargs
    tensors: Sequence[torch.Tensor]
    """The dense tensors among its arguments, all on the meta device."""


_cache: dict[Any, OpFacts] = {}
_UNKNOWN = OpFacts(name="?")
_FILLS = ("ones", "zeros", "full", "arange", "range", "linspace", "logspace", "eye", "tril_indices",
          "triu_indices", "scalar_tensor", "hann_window", "hamming_window", "new_ones", "new_zeros",
          "new_full", "ones_like", "zeros_like", "full_like")  # fmt: skip
_READERS = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "unique_dim",
            "_unique2", "unique_consecutive", "unique_dim_consecutive", "bincount", "allclose",
            "repeat_interleave", "_unique")  # fmt: skip
_READ_TAGS = frozenset((torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output))
_OTHER_TAGS = frozenset((torch.Tag.nondeterministic_seeded, torch.Tag.inplace_view))
_OTHER_BASES = ("lift", "_unsafe_view", "resize", "_to_sparse", "to_sparse", "sparse_", "_sparse")
"""What hands on a tensor that it got, or makes none that is one block of memory."""
_WRITTEN_IN_OPERATORS = frozenset(("aten.linalg_pinv.atol_rtol_tensor",))
"""Below autograd (``linalg_pinv`` in ``LinearAlgebra.cpp``)."""
_ELEMENTWISE = frozenset(("_to_copy", "copy", "fill", "zero", "floor_divide", "masked_fill"))
"""Element-wise without a tag that says so."""
_PLAIN_VIEWS = frozenset(
    ("t", "transpose", "permute", "view", "detach", "alias", "unsqueeze", "squeeze", "expand",
     "select", "slice")
)  # fmt: skip
_PLAIN_PRODUCTS = frozenset(("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "sum"))
_LAYOUT_READERS = frozenset((
    "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "_addmm_activation", "_cdist_backward", "_cdist_forward", "_embedding_bag_backward",
    "_log_softmax", "_log_softmax_backward_data",
    "_scaled_dot_product_flash_attention_for_cpu_backward", "_scaled_mm",
    "_segment_reduce_backward", "_softmax", "_softmax_backward_data",
    "_upsample_bicubic2d_aa_backward", "_upsample_bilinear2d_aa_backward",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact1d_backward",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact2d_backward",
    "_upsample_nearest_exact3d", "_upsample_nearest_exact3d_backward", "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward", "addmm", "addmv",
    "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward", "baddbmm",
    "binary_cross_entropy_with_logits", "bmm", "bucketize", "channel_shuffle", "col2im",
    "convolution", "convolution_backward", "embedding", "embedding_dense_backward",
    "fractional_max_pool2d", "fractional_max_pool2d_backward", "fractional_max_pool3d",
    "gather", "gelu_backward", "grid_sampler_2d_backward", "histc", "im2col", "index_select",
    "log_sigmoid_forward", "masked_scatter", "masked_scatter_", "masked_scatter_backward",
    "masked_select", "max", "max_pool2d_with_indices", "max_pool2d_with_indices_backward",
    "max_pool3d_with_indices", "max_pool3d_with_indices_backward", "max_unpool2d",
    "max_unpool3d", "min", "mkldnn_max_pool2d", "mkldnn_rnn_layer_backward", "mm",
    "multi_margin_loss", "multilabel_margin_loss_forward", "mv", "narrow_copy",
    "native_batch_norm", "native_batch_norm_backward", "native_group_norm", "native_layer_norm",
    "native_layer_norm_backward", "nll_loss2d_forward", "nll_loss_forward", "pixel_shuffle",
    "pixel_unshuffle", "reflection_pad1d", "reflection_pad1d_backward", "reflection_pad2d",
    "reflection_pad2d_backward", "reflection_pad3d", "reflection_pad3d_backward",
    "replication_pad1d", "replication_pad1d_backward", "replication_pad2d",
    "replication_pad2d_backward", "replication_pad3d", "replication_pad3d_backward", "roll",
    "scatter_reduce", "scatter_reduce_", "searchsorted", "segment_reduce", "tril", "triu",
    "upsample_bicubic2d", "upsample_bicubic2d_backward", "upsample_bilinear2d",
    "upsample_bilinear2d_backward", "upsample_linear1d_backward", "upsample_nearest1d",
    "upsample_nearest1d_backward", "upsample_nearest2d", "upsample_nearest2d_backward",
    "upsample_nearest3d", "upsample_nearest3d_backward", "upsample_trilinear3d",
    "upsample_trilinear3d_backward",
))  # fmt: skip


def facts_of(func: Any) -> OpFacts:
    """Return the facts of an operator overload (or higher-order operator)."""
    facts = _cache.get(func)
    if facts is None:
        facts = _UNKNOWN if func is None else _look_up(func)
        _cache[func] = facts
    return facts


def _look_up(func: Any) -> OpFacts:
    if not isinstance(func, OpOverload):
        return OpFacts(name=str(func), is_higher_order=True)
    schema = func._schema
    base = schema.name.rpartition("::")[2]
    takes_tensor = any("Tensor" in str(a.type) for a in schema.arguments)
    returns_tensor = any("Tensor" in str(r.type) for r in schema.returns)
    aliases = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    takes_device = any(a.name == "device" for a in schema.arguments)
    reads_values = base in _READERS or not _READ_TAGS.isdisjoint(func.tags)
    return OpFacts(
        name=str(func),
        base=base,
        is_composite=is_composite(func),
        is_of_bitsandbytes=schema.name.startswith("bitsandbytes::"),
        is_collective=schema.name.startswith(("c10d::", "_c10d_functional::")),
        is_written_in_operators=schema.name.startswith("torch_nn::")
        or str(func) in _WRITTEN_IN_OPERATORS,
        is_marker=schema.name.startswith("profiler::"),
        is_primitive=schema.name.startswith("prims::"),
        is_factory=returns_tensor and takes_device and not takes_tensor,
        depends_on_shape_only=base in _FILLS,
        is_deterministic=torch.Tag.nondeterministic_seeded not in func.tags
        and not base.startswith(("empty", "new_empty", "rand", "bernoulli", "dropout")),
        is_mutating=schema.is_mutable,
        is_elementwise=_is_elementwise(func, base),
        rule=SHAPE_RULES.get(str(func)) or _pointwise(func, schema),
        resizes=base.startswith("resize_"),
        makes_sparse=base.startswith("_to_sparse"),
        makes_nested="_nested" in base,
        may_be_view=aliases or func.is_view,
        reads_layouts=base in _LAYOUT_READERS,
        is_fourier=base in TRANSFORMS,
        reads_values=reads_values,
        is_answered_by_specs=takes_tensor
        and not (schema.is_mutable or reads_values or is_composite(func) or func.is_view)
        and schema.name.startswith("aten::")  # others may do anything
        and all(returned.alias_info is None for returned in schema.returns)
        and _OTHER_TAGS.isdisjoint(func.tags)
        and not base.startswith(_OTHER_BASES)
        and "_nested" not in base,
        is_plain=schema.name.startswith("aten::")
        and not is_composite(func)
        and (base in _PLAIN_PRODUCTS or (base in _PLAIN_VIEWS and func.is_view))
        and not schema.is_mutable
        and len(schema.returns) == 1,
    )


def _is_elementwise(func: OpOverload, base: str) -> bool:
    """Return whether PyTorch tags an operator, or the one that it does in place, as pointwise."""
    functional = base.removesuffix("_")
    if torch.Tag.pointwise in func.tags or functional in _ELEMENTWISE:
        return True
    packet = getattr(torch.ops.aten, functional, None) if functional != base else None
    other = getattr(packet, func._overloadname, None)
    return other is not None and torch.Tag.pointwise in other.tags


def _pointwise(func: Any, schema: Any) -> Any:
    """Return the element-wise rule for what PyTorch tags so and what makes one tensor.

    Other libraries' operators, and ``prims``, may be tagged and make another dtype.
    """
    plain = torch.Tag.pointwise in func.tags and torch.Tag.nondeterministic_seeded not in func.tags
    if (
        not plain
        or not schema.name.startswith("aten::")
        or is_composite(func)
        or len(schema.returns) != 1
        or str(schema.returns[0].type) != "Tensor"
    ):
        return None
    alias = schema.returns[0].alias_info
    if alias is not None and not alias.is_write:  # a view
        return None
    return pointwise_rule(str(func))

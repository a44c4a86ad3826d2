"""What each coefficient is expected to be before any fit, and how far the fit may take it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A coefficient's expected value and the standard deviation of its logarithm."""

    expected: float
    spread: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A coefficient that the measurements at hand cannot determine."""

    value: float
    meaning: str


OWN_SPREAD = {"tensor": 0.07, "vector": 0.07, "bandwidth": 0.05}
"""Of the factor by which a rate of siblings differs from what is expected of their chips, and of
that by which each of them differs from its siblings.

Copies reach 0.84 to 0.95 of the datasheet's bandwidth on all GPUs (te42kyfo/gpu-benches,
gpu-stream): what a fit wants beyond that belongs to other kernels.
"""
OWN_COMPILED = {
    "matmul.compute": 0.2, "convolution.compute": 0.3, "convolution.memory": 0.4,
    "convolution.grouped_last": 0.3, "depthwise.memory": 0.3, "depthwise_last.compute": 0.3,
    "attention.compute": 0.2, "norm.memory": 0.15, "norm.steps": 0.5, "broadcast.memory": 0.1,
    "cast.memory": 0.1, "copy.memory": 0.1,
    "reduction.memory": 0.15, "pooling.memory": 0.15, "pooling.steps": 0.3, "index.steps": 0.3,
}  # fmt: skip
"""Coefficients that a compiled step has for itself, and the spread of what they differ by.

Inductor's kernels and layouts are others; memory is no faster for it.
"""

_POINTWISE = {
    "broadcast": "element-wise work on operands of several shapes or dtypes",
    "cast": "casts of whole tensors",
    "copy": "copies of permuted, padded or joined tensors",
    "batch_statistics": "its statistics, in training",
    "column_sums": "sums over rows for a layer norm's weight and bias",
    "reduction": "sums and the like",
    "pooling": "pooling and resampling",
    "indexing": "rows by an index",
    "multi_tensor": "foreach and fused optimizers",
}

PRIORS: dict[str, Prior] = {
    "tensor": Prior(expected=0.95, spread=0.05,
                    meaning="tensor cores' rate under load, of the datasheet's"),
    "tensor.geforce": Prior(expected=1.15, spread=0.15,
                            meaning="the same of GeForce boards, which clock beyond what is "
                            "listed, of others'"),
    "vector": Prior(expected=0.98, spread=0.06,
                    meaning="rate of float32 products under load, of the datasheet's"),
    "vector.one_issue": Prior(
        expected=0.72, spread=0.08, meaning="the same where a scheduler has 32 lanes, of others': "
        "an RTX A6000 reaches 23.2 of 38.7 TFLOPS (siboehm.com, How to Optimize a CUDA Matmul "
        "Kernel)"),
    "bandwidth": Prior(expected=0.94, spread=0.02,
                       meaning="memory bandwidth that a copy reaches, of the datasheet's, where "
                       "few bytes in flight are enough"),
    "bandwidth.geforce": Prior(
        expected=1.05, spread=0.1, meaning="the same of GeForce boards, of others': no error "
        "correction, and an L2 that clocks beyond what is listed"),
    "bandwidth.in_flight": Prior(
        expected=36.0, spread=0.2, meaning="GB/s that a multiprocessor's loads in flight allow, "
        "8 bytes in each thread (gpu-stream on V100, A100, H100 and H200, te42kyfo/gpu-benches)"),
    "power": Prior(expected=0.45, spread=0.15,
                   meaning="exponent of watts per FLOP beside those of the architecture"),
    "overlap": Prior(expected=3.0, spread=0.3,
                     meaning="how compute and memory overlap: 1 not at all, infinite wholly"),
    "cache.gain": Prior(expected=1.0, spread=0.5,
                        meaning="how much faster operands come that fit in L2"),
    "launch.kernel_us": Prior(expected=4.0, spread=0.03,
                              meaning="begin and end of a kernel on the GPU"),
    "matmul.compute": Prior(expected=0.95, spread=0.05, meaning="large products"),
    "matmul.memory": Prior(expected=0.85, spread=0.1, meaning="operands of products"),
    "matmul.prologue": Prior(expected=24.0, spread=0.4,
                             meaning="begin and end of a tile, in elements of the inner side"),
    "matmul.narrow": Prior(expected=16.0, spread=0.5,
                           meaning="rows or columns with which half of the rate is reached"),
    "matmul.tail": Prior(expected=0.3, spread=0.5,
                         meaning="share of the processors that the last wave leaves idle"),
    "matmul.unaligned": Prior(
        expected=1.2, spread=0.3, meaning="time with sides that are not divisible by 8"),
    "convolution.compute": Prior(expected=0.85, spread=0.1, meaning="large convolutions"),
    "convolution.window": Prior(expected=0.15, spread=0.5,
                                meaning="time that gathering a large window adds to 1 x 1"),
    "convolution.window_last": Prior(
        expected=0.5, spread=0.5, meaning="the same with channels last, where a window's rows "
        "lie together, of that"),
    "convolution.grouped": Prior(expected=0.3, spread=0.7,
                                 meaning="time that groups add to products of their size"),
    "convolution.grouped_filter": Prior(
        expected=2.0, spread=0.7, meaning="the same for the filter's gradient: few tiles, whose "
        "inner side is all pixels"),
    "convolution.direct": Prior(
        expected=0.3, spread=0.7, meaning="grouped convolutions of NCHW without tensor cores, of "
        "the ordinary cores' rate"),
    "convolution.grouped_last": Prior(expected=1.5, spread=0.5,
                                      meaning="the same with channels last, of that"),
    "convolution.grouped_uneven": Prior(
        expected=1.5, spread=0.5, meaning="time, channels last, of groups of 24, 40, 56 … "
        "channels, in tiles of 128: kernels of their own have powers of two"),
    "convolution.unaligned": Prior(
        expected=1.2, spread=0.3, meaning="time with channels that are not divisible by 8"),
    "convolution.native": Prior(
        expected=0.7, spread=0.4, meaning="time that kernels add which take NCHW as it is"),
    "convolution.data_gradient": Prior(expected=1.0, spread=0.2,
                                       meaning="time of the input's gradient, of the forward's"),
    "convolution.filter_gradient": Prior(expected=1.0, spread=0.2,
                                         meaning="time of the filter's gradient"),
    "convolution.memory": Prior(expected=0.7, spread=0.2, meaning="operands of convolutions"),
    "convolution.prologue": Prior(expected=32.0, spread=0.5, meaning="as matmul.prologue"),
    "convolution.narrow": Prior(expected=16.0, spread=0.5, meaning="as matmul.narrow"),
    "convolution.tail": Prior(expected=0.3, spread=0.5, meaning="as matmul.tail"),
    "convolution.copied": Prior(expected=0.7, spread=0.2,
                                meaning="share of NCHW operands that tensor cores want copied"),
    "convolution.copied_tf32": Prior(expected=0.5, spread=0.4,
                                     meaning="the same in TF32, which cuDNN has NCHW kernels for"),
    "depthwise.compute": Prior(expected=0.2, spread=0.7,
                               meaning="depthwise convolutions, of the ordinary cores"),
    "depthwise.begin": Prior(expected=9.0, spread=0.7,
                             meaning="steps of a thread beside those of its window"),
    "depthwise.any_size": Prior(
        expected=1.3, spread=0.4, meaning="steps of a window beyond 5 x 5, which has no kernel "
        "of its own"),
    "depthwise.data_gradient": Prior(expected=1.0, spread=0.4,
                                     meaning="time of the input's gradient, of the forward's"),
    "depthwise.filter_gradient": Prior(
        expected=6.0, spread=0.5, meaning="time of a pixel of the filter's gradient, of a step"),
    "depthwise_last.compute": Prior(expected=0.2, spread=0.7,
                                    meaning="as depthwise.compute, channels last"),
    "depthwise_last.begin": Prior(expected=9.0, spread=0.7,
                                  meaning="as depthwise.begin, channels last"),
    "depthwise_last.large": Prior(
        expected=16.0, spread=0.5, meaning="time, channels last, of 2^31 elements and more: no "
        "kernel of its own, each element is loaded with its sector of 16"),
    "depthwise_last.data_gradient": Prior(expected=1.0, spread=0.4,
                                          meaning="as depthwise.data_gradient, channels last"),
    "depthwise_last.filter_gradient": Prior(expected=1.0, spread=0.4,
                                            meaning="time of the filter's gradient, of that"),
    "depthwise.memory": Prior(expected=0.6, spread=0.3, meaning="their operands"),
    "attention.compute": Prior(expected=0.85, spread=0.1,
                               meaning="the products of fused attention"),
    "attention.softmax": Prior(expected=16.0, spread=0.3,
                               meaning="operations of the ordinary cores on each score"),
    "attention.memory": Prior(expected=0.7, spread=0.2, meaning="its operands"),
    "norm.steps": Prior(
        expected=150.0, spread=0.7, meaning="operations of the ordinary cores on each element of "
        "a norm: running means and variances divide"),
    "norm.combine": Prior(
        expected=140.0, spread=0.7, meaning="the same of each thread that reduces a row: seven "
        "exchanges of twenty"),
    "norm.memory": Prior(expected=0.8, spread=0.3,
                         meaning="layer, group and RMS normalisation, softmax"),
    "softmax.steps": Prior(expected=40.0, spread=0.7,
                           meaning="as norm.steps, of a softmax: an exponential, no variance"),
    "index.steps": Prior(expected=40.0, spread=0.7,
                         meaning="operations of the ordinary cores that find an element's place"),
    "pooling.steps": Prior(expected=10.0, spread=0.7,
                           meaning="operations of the ordinary cores on each element of a window"),
    "recurrent.step_us": Prior(expected=10.0, spread=0.5,
                               meaning="a step of a recurrent network beside its products"),
    "recurrent.memory": Prior(expected=0.5, spread=0.4,
                              meaning="gates and states of recurrent networks"),
    "upsampling.step_us": Prior(expected=0.3, spread=0.5,
                                meaning="one image and channel in a thread of bilinear resampling"),
    "upsampling.memory": Prior(expected=0.7, spread=0.3, meaning="its operands"),
    **{f"{name}.memory": Prior(expected=0.88, spread=0.05, meaning=meaning)
       for name, meaning in _POINTWISE.items()},
    "batch_statistics.block": Prior(
        expected=4.0, spread=0.7, meaning="10^9 elements per second in a block of 512 threads, "
        "which has a quarter of bandwidth.in_flight"),
    "column_sums.block": Prior(
        expected=1.1, spread=0.5,
        meaning="10^9 elements per second in a block of 16 columns: [401408, 24] takes 9 ms in "
        "one (github.com/intel/torch-xpu-ops, pull 1880)"),
    "driver.allocation_ms_per_gib": Prior(
        expected=5.0, spread=0.5,
        meaning="asking the driver for memory, where a loop empties the cache"),
}  # fmt: skip

FIXED: dict[str, Fixed] = {
    "elementwise.memory": Fixed(
        value=1.0, meaning="element-wise work on operands of one shape and dtype: as a copy"),
    "batch_norm.memory": Fixed(
        value=1.0, meaning="batch normalisation, its statistics apart: as a copy"),
    "Hopper.tensor": Fixed(
        value=0.92, meaning="of tensor: an H100 SXM reaches at most 80.3 % of its datasheet in "
        "bf16 products and an A100 SXM 86.9 % (stas00/ml-engineering, maximum achievable matmul "
        "FLOPS)"),
    "Blackwell.tensor": Fixed(
        value=0.89, meaning="of tensor: a B200 reaches at most 77.6 % of its datasheet in bf16 "
        "products (as for Hopper)"),
    "compiled.batch_statistics.block": Fixed(
        value=1e4, meaning="as batch_statistics.block: Inductor splits sums among all blocks"),
    "compiled.column_sums.block": Fixed(value=1e4, meaning="as for batch_statistics.block"),
    "column_sums.since_2_8": Fixed(
        value=30.0, meaning="rate of column_sums.block since PyTorch 2.8, of that before: up to "
        "30 times where rows are many (github.com/pytorch/pytorch, pull 148605)"),
    "Hopper.portable": Fixed(
        value=0.53, meaning="share of the tensor cores' rate without Hopper's own instructions: "
        "FlashAttention-2 reaches 35 % of an H100's peak (FlashAttention-3, arXiv 2407.08608)"),
    "attention.first": Fixed(
        value=2.0, meaning="time of fused attention before PyTorch 2.2, of that since: "
        "FlashAttention-2 is about twice as fast as the first (arXiv 2307.08691)"),
    "launch.latency_us": Fixed(
        value=4.0, meaning="from the launch to the kernel's begin, GPU idle"),
    "dispatch.op_us": Fixed(value=15.0, meaning="Python, dispatch and launch of an operator"),
    "dispatch.backward_us": Fixed(value=12.0, meaning="the same in autograd's own thread"),
    "dispatch.view_us": Fixed(value=3.0, meaning="an operator that launches nothing"),
    "dispatch.module_us": Fixed(value=5.0, meaning="the call of a module's forward"),
    "dispatch.launch_us": Fixed(value=5.0, meaning="each further kernel of an operator"),
    "dispatch.compiled_us": Fixed(value=5.0, meaning="a kernel of a compiled graph"),
    "error.other_kernels": Fixed(
        value=0.4, meaning="the same for kernels that no set holds, such as float32 convolutions"),
    "error.launch": Fixed(
        value=0.5, meaning="the same of the time that launches take: it depends on the CPU"),
}  # fmt: skip
"""Measured sets hold large batches, of which none waits for the CPU."""

"""Element-wise, reduction, normalisation, pooling, loss, random and indexing operators, as data.

``aten`` packets stand without their namespace and without the underscore of the in-place variant;
What stands in no table itself follows another: ``_foreach_add``, ``prims.add`` and
``quantized.add`` follow ``add``, and ``gelu_backward`` follows ``gelu``. ``elementwise.py`` says
what each table means in numbers.
"""

from __future__ import annotations

from torchgauge.estimate.compute.registry import names

SHARING_NAMESPACES = ("prims", "quantized")
"""Whose operators follow those of ``aten`` that have the same name."""
WHOLE_TENSOR_FAMILIES = (
    "aten.special_", "aten.fake_quantize_", "aten._fake_quantize_", "quantized_decomposed."
)  # fmt: skip
"""What names of ``WHOLE_TENSOR_OPS`` begin with that stand in no table."""

WHOLE_TENSOR_OPS = names("""
    __and__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __lshift__ __or__ __rshift__
    __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _aminmax
    _amp_foreach_non_finite_check_and_unscale _amp_update_scale _choose_qparams_per_tensor
    _coalesce _conj_physical _ctc_loss _cudnn_ctc_loss _cummax_helper _cummin_helper
    _dirichlet_grad _fill_mem_eff_dropout_mask _fused_dropout _fused_moving_avg_obs_fq_helper
    _fused_moving_avg_obs_fq_helper_functional _gather_sparse_backward
    _grid_sampler_2d_cpu_fallback _histogramdd_bin_edges _histogramdd_from_bin_cts
    _histogramdd_from_bin_tensors _is_all_true _is_any_true _logcumsumexp _masked_scale
    _nested_sum_backward _philox_normal _philox_uniform _prelu_kernel _rowwise_prune
    _sample_dirichlet _segment_reduce_backward _sobol_engine_draw _sobol_engine_ff
    _sobol_engine_scramble _sparse_csr_prod _sparse_csr_sum _sparse_mask_projection
    _sparse_semi_structured_tile _sparse_sum _spdiags _standard_gamma _standard_gamma_grad
    _thnn_differentiable_gru_cell_backward _thnn_differentiable_lstm_cell_backward
    _thnn_fused_gru_cell _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl
    _transform_bias_rescale_qkv _unique _unique2 _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _weight_norm _weight_norm_differentiable_backward
    _weight_norm_interface abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d add
    affine_grid_generator all allclose alpha_dropout amax amin aminmax angle any arccos arccosh
    arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere asin asinh atan atan2
    atanh avg_pool1d avg_pool2d avg_pool3d bartlett_window batch_norm_backward_elemt
    batch_norm_backward_reduce batch_norm_gather_stats batch_norm_gather_stats_with_counts
    batch_norm_stats batch_norm_update_stats bernoulli binary_cross_entropy
    binary_cross_entropy_with_logits bincount binomial bitwise_and bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window bucketize cauchy ceil
    celu chalf choose_qparams_optimized clamp clamp_max clamp_min clip col2im conj_physical
    copysign cos cosh cosine_embedding_loss cosine_similarity count_nonzero cross ctc_loss
    cudnn_affine_grid_generator cudnn_grid_sampler cummax cummaxmin_backward cummin cumprod
    cumsum cumulative_trapezoid deg2rad dequantize diff digamma dist div divide dropout elu eq
    equal erf erfc erfinv exp exp2 expm1 exponential feature_alpha_dropout feature_dropout fix
    float_power floor floor_divide fmax fmin fmod frac fractional_max_pool2d
    fractional_max_pool3d frexp frobenius_norm fused_moving_avg_obs_fake_quant gcd ge gelu
    geometric ger glu glu_backward_jvp glu_jvp gradient greater greater_equal grid_sampler
    grid_sampler_2d grid_sampler_3d gt hamming_window hann_window hardshrink hardsigmoid
    hardswish hardtanh hash_tensor heaviside hinge_embedding_loss histc histogram histogramdd
    huber_loss hypot i0 igamma igammac infinitely_differentiable_gelu_backward isclose isfinite
    isin isinf isnan isneginf isposinf kaiser_window kl_div kron kthvalue l1_loss lcm ldexp le
    leaky_relu less less_equal lgamma linalg__powsum linalg_cross linalg_vander
    linalg_vector_norm log log10 log1p log2 log_normal log_sigmoid log_sigmoid_forward logaddexp
    logaddexp2 logcumsumexp logical_and logical_not logical_or logical_xor logit lt
    margin_ranking_loss masked_fill max max_pool1d max_pool1d_with_indices max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum
    mean median min minimum miopen_ctc_loss mish mkldnn_adaptive_avg_pool2d mkldnn_max_pool2d
    mkldnn_max_pool3d mode mse_loss msort mul multi_margin_loss multilabel_margin_loss
    multilabel_margin_loss_forward multinomial multiply mvlgamma nan_to_num nanmean nanmedian
    nanquantile nansum native_dropout native_norm ne neg negative nextafter nll_loss2d_backward
    nll_loss_backward nonzero nonzero_numpy nonzero_static norm norm_except_dim normal
    normal_functional not_equal outer pairwise_distance poisson poisson_nll_loss polar polygamma
    positive pow powsum prelu prod quantile quantize_per_channel quantize_per_tensor
    quantize_per_tensor_dynamic quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d
    rad2deg rand rand_like randint randint_like randn randn_like random randperm reciprocal
    reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward relu relu6
    remainder renorm replication_pad1d_backward replication_pad2d_backward
    replication_pad3d_backward round rrelu rrelu_with_noise rrelu_with_noise_functional rsqrt
    rsub searchsorted segment_reduce selu sgn sigmoid sign signbit silu sin sinc sinh
    smooth_l1_loss soft_margin_loss softplus softshrink sort sqrt square std std_mean sub
    subtract sum sum_to_size tan tanh threshold topk trace trapezoid trapz tril
    triplet_margin_loss triu true_divide trunc unfold_backward uniform unique_consecutive
    unique_dim unique_dim_consecutive upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d vander var
    var_mean where xlogy
    """)
"""One operation per element of the largest tensor read or made."""

WHOLE_TENSOR_OPS_ELSEWHERE = names("""
    _quantized.add bitsandbytes.dequantize_4bit bitsandbytes.dequantize_blockwise
    bitsandbytes.int8_double_quant bitsandbytes.int8_mm_dequant
    bitsandbytes.int8_vectorwise_dequant bitsandbytes.int8_vectorwise_quant
    bitsandbytes.quantize_4bit bitsandbytes.quantize_blockwise inductor.accumulate_grad
    onednn.qadd onednn.qadd_relu onednn.qbatch_norm2d onednn.qmul prims.bessel_i0
    prims.bessel_i0e prims.bessel_i1 prims.bessel_i1e prims.bessel_j0 prims.bessel_j1 prims.cbrt
    prims.erf_inv prims.erfcx prims.ndtri prims.shift_left prims.shift_right_arithmetic
    prims.spherical_bessel_j0 prims.xor_sum prims.zeta quantized.add_out quantized.add_relu
    quantized.add_relu_out quantized.add_scalar quantized.add_scalar_out
    quantized.add_scalar_relu quantized.add_scalar_relu_out quantized.batch_norm
    quantized.batch_norm1d quantized.batch_norm1d_relu quantized.batch_norm2d
    quantized.batch_norm2d_relu quantized.batch_norm3d quantized.batch_norm3d_relu
    quantized.batch_norm_relu quantized.group_norm quantized.instance_norm quantized.layer_norm
    quantized.mul_out quantized.mul_relu quantized.mul_relu_out quantized.mul_scalar
    quantized.mul_scalar_out quantized.mul_scalar_relu quantized.mul_scalar_relu_out
    quantized.softmax rngprims.philox_rand static_runtime.clamp_nan_to_num
    static_runtime.signed_log1p torchvision._ps_roi_align_backward
    torchvision._ps_roi_pool_backward torchvision._roi_align_backward
    torchvision._roi_pool_backward torchvision.nms
    """)
"""The same outside ``aten``, with their namespace."""

READS_BY_INDEX = names("""
    _unsafe_index _unsafe_masked_index embedding gather index index_select masked_select take
    take_along_dim quantized.embedding_2bit quantized.embedding_4bit quantized.embedding_byte
    torchvision.ps_roi_align torchvision.ps_roi_pool torchvision.roi_align
    torchvision.roi_pool
    """)
"""One operation per element made: the table that is read from is only touched."""

WRITES_BY_INDEX = names("""
    _index_put_impl _unsafe_index_put _unsafe_masked_index_put_accumulate embedding_renorm
    index_add index_copy index_fill index_put index_reduce masked_scatter nll_loss nll_loss2d
    nll_loss2d_forward nll_loss_forward nll_loss_nd put scatter scatter_add scatter_reduce
    """)
"""One operation per element written: the tensor written to is only touched."""

READS_FIRST_ARGUMENT = names("""
    embedding_backward embedding_dense_backward embedding_sparse_backward gather_backward
    index_select_backward masked_scatter_backward masked_select_backward
    value_selecting_reduction_backward
    """)
"""One operation per element of the first argument, a gradient to be spread."""

EMBEDDING_BAGS = names("""
    _embedding_bag _embedding_bag_dense_backward _embedding_bag_forward_only
    _embedding_bag_per_sample_weights_backward _embedding_bag_sparse_backward embedding_bag
    quantized.embedding_bag_2bit quantized.embedding_bag_4bit quantized.embedding_bag_byte
    """)
"""One operation per element of every row looked up."""

_BY_WEIGHT = {
    # scale and shift, or a product and a sum
    2: names("""
        _batch_norm_no_update _native_batch_norm_legit_no_training addcdiv addcmul addr
        batch_norm_elemt lerp quantized_batch_norm
    """),
    # SGD with momentum: 4 · exp, sum, log; square, mean, two scalings; a backward
    4: names("""
        _fused_rms_norm _fused_sgd _log_softmax_backward_data _masked_softmax_backward
        _softmax_backward_data _sparse_log_softmax_backward_data _sparse_softmax_backward_data
        logsumexp rms_norm special_logsumexp
    """),
    # max, subtract, exp, sum, divide · mean, variance, subtract, scale, shift
    5: names("""
        _batch_norm_with_update _batch_norm_with_update_functional _log_softmax _masked_softmax
        _nested_tensor_softmax_with_shape _safe_softmax _softmax _sparse_log_softmax
        _sparse_softmax cross_entropy_loss group_norm instance_norm layer_norm log_softmax
        native_group_norm native_layer_norm softmax special_log_softmax special_softmax
    """),
    # square, add, root, epsilon, divide, scale, subtract
    7: names("_fused_adagrad"),
    # twice the forward
    8: names("_fused_rms_norm_backward"),
    # twice the forward
    10: names("""
        _batch_norm_impl_index_backward batch_norm_backward cudnn_batch_norm_backward
        miopen_batch_norm_backward native_batch_norm_backward native_group_norm_backward
        native_layer_norm_backward
    """),
    # two moments (3 + 4), root, divide, epsilon, decay, step (7)
    14: names("_fused_adam _fused_adamw"),
}
WEIGHTS: dict[str, int] = {name: weight for weight, group in _BY_WEIGHT.items() for name in group}
"""Operations per element of the largest tensor, where one is clearly too few."""

BATCH_NORMS_WITH_FLAG = names("""
    _batch_norm_impl_index _native_batch_norm_legit _native_batch_norm_legit_functional
    batch_norm cudnn_batch_norm miopen_batch_norm native_batch_norm
    """)
"""Weigh 5 in training (statistics too), 2 with running statistics; argument 5 says which."""

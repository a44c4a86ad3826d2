"""Operators that do no arithmetic: views, allocation, whole copies and casts, bookkeeping.

``aten`` packets stand without their namespace and without the underscore of the in-place variant.
A ``*_copy`` or ``*_backward`` variant of a name here (``view_copy``) is free too. Reading or
writing through an index is element-wise work (``elementwise_ops``); moving a tensor whole is not.

Made by listing every operator of torch 2.6 and 2.13 and sorting the names by hand; the test
``test_flops_against_torch.py`` says which of the installed torch are in no table.
"""

from __future__ import annotations

from torchgauge.estimate.compute.registry import names

FREE_NAMESPACES = ("_c10d_functional.", "_c10d_functional_autograd.", "c10d.", "profiler.")
"""Collectives move data; the additions of an all-reduce are the network's, not the model's."""
FREE_FAMILIES = ("aten._nested_", "aten._validate_sparse_", "aten._cast_", "aten.sym_")
"""What names begin with; what stands in a table is counted as that says."""

FREE_OPS = names("""
    _add_batch_dim _assert_async _assert_scalar _assert_tensor_metadata
    _autocast_to_full_precision _autocast_to_reduced_precision _backward _chunk_cat _coalesced
    _conj _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _copy_from
    _copy_from_and_resize _cslt_compress _cudnn_init_dropout_state _cudnn_rnn_flatten_weight
    _cufft_clear_plan_cache _cufft_get_plan_cache_max_size _cufft_get_plan_cache_size
    _cufft_set_plan_cache_max_size _debug_has_internal_overlap _dimI _dimV _dim_arange
    _dyn_quant_pack_4bit_weight _efficientzerotensor _empty_affine_quantized
    _empty_per_channel_affine_quantized _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_sdp_choice
    _fw_primal _has_compatible_shallow_copy_type _has_same_storage_numel _indices _is_zerotensor
    _jagged_to_padded_dense_forward _lazy_clone _linalg_check_errors _local_scalar_dense
    _make_dep_token _make_dual _make_per_channel_quantized_tensor
    _make_per_tensor_quantized_tensor _mkldnn_reshape _mkldnn_transpose _neg_view
    _new_zeros_with_same_feature_meta _nnpack_available _nnz _pack_padded_sequence _pad_circular
    _pad_enum _pad_packed_sequence _padded_dense_to_jagged_forward _philox_key_fold_in
    _philox_key_split _pin_memory _print _propagate_xla_data _remove_batch_dim _reshape_alias
    _reshape_copy _reshape_from_tensor _resize_output _saturate_weight_to_fp16 _shape_as_tensor
    _sobol_engine_initialize_state _sparse_broadcast_to _sparse_bsc_tensor_unsafe
    _sparse_bsr_tensor_unsafe _sparse_compressed_tensor_unsafe
    _sparse_compressed_tensor_with_dims _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims
    _sparse_coo_tensor_with_dims_and_tensors _sparse_csc_tensor_unsafe _sparse_csr_tensor_unsafe
    _stack _to_copy _to_cpu _to_dense _to_sparse _to_sparse_bsc _to_sparse_bsr _to_sparse_csc
    _to_sparse_csr _to_sparse_semi_structured _unpack_dual _unsafe_view _use_cudnn_ctc_loss
    _use_cudnn_rnn_flatten_weight _use_miopen_ctc_loss _validate_compressed_sparse_indices
    _values _version _wrapped_linear_prepack adjoint alias align_as align_tensors align_to
    arange as_strided as_strided_scatter atleast_1d atleast_2d atleast_3d block_diag
    broadcast_tensors broadcast_to can_cast cartesian_prod cat ccol_indices channel_shuffle
    chunk clone coalesce col_indices column_stack combinations complex concat concatenate conj
    constant_pad_nd contiguous copy copy_sparse_to_sparse crow_indices cudnn_is_acceptable data
    dense_dim detach diag diag_embed diagflat diagonal diagonal_scatter dim dsplit dstack empty
    empty_like empty_permuted empty_quantized empty_strided expand expand_as eye
    fbgemm_linear_quantize_weight fbgemm_pack_gemm_matrix_fp16 fbgemm_pack_quantized_matrix
    fft_fftfreq fft_fftshift fft_ifftshift fft_rfftfreq fill fill_diagonal flatten
    flatten_dense_tensors flip fliplr flipud from_file full full_like get_device get_gradients
    hsplit hstack im2col imag indices int_repr is_coalesced is_complex is_conj is_contiguous
    is_distributed is_floating_point is_inference is_leaf is_neg is_nonzero is_pinned
    is_same_size is_set_to is_signed is_vulkan_available isreal item lift lift_fresh
    linalg_diagonal linspace logspace lu_unpack mH mT matrix_H meshgrid
    mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight moveaxis movedim narrow
    native_channel_shuffle nested_to_padded_tensor new_empty new_empty_strided new_full new_ones
    new_zeros numel numpy_T one_hot ones ones_like output_nr pad pad_sequence permute pin_memory
    pixel_shuffle pixel_unshuffle promote_types q_per_channel_axis q_per_channel_scales
    q_per_channel_zero_points q_scale q_zero_point qscheme range ravel real record_stream
    refine_names reflection_pad1d reflection_pad2d reflection_pad3d rename repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d requires_grad
    reshape reshape_as resize resize_as resize_as_sparse resolve_conj resolve_neg result_type
    retain_grad retains_grad roll rot90 row_indices row_stack scalar_tensor select
    select_scatter set set_data size slice slice_inverse slice_scatter sparse_bsc_tensor
    sparse_bsr_tensor sparse_compressed_tensor sparse_coo_tensor sparse_csc_tensor
    sparse_csr_tensor sparse_dim sparse_mask sparse_resize sparse_resize_and_clear split
    split_with_sizes squeeze stack storage_offset stride swapaxes swapdims t tensor_split tile
    to to_dense to_mkldnn to_padded_tensor to_sparse to_sparse_bsc to_sparse_bsr to_sparse_csc
    to_sparse_csr transpose tril_indices triu_indices type_as unbind unflatten
    unflatten_dense_tensors unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
    values view view_as view_as_complex view_as_real vsplit vstack zero zeros zeros_like
    """)

FREE_OPS_ELSEWHERE = names("""
    _dtensor.shard_dim_alltoall _quantized._wrapped_linear_prepack
    _quantized.wrapped_fbgemm_pack_gemm_matrix_fp16 debug_mode_ops.annotate
    debugprims.load_tensor export.access_subclass_inner_tensor fsdp.all_gather_copy_in
    fsdp.chunk_cat fsdp.copy fsdp.set fsdp.split_with_sizes_copy inductor._alloc_from_pool
    inductor._reinterpret_tensor inductor.resize_storage_bytes mkl._mkl_reorder_linear_weight
    mkldnn._get_mkldnn_serialized_md mkldnn._nbytes mkldnn._reorder_convolution_transpose_weight
    mkldnn._reorder_convolution_weight mkldnn._reorder_linear_weight
    mkldnn._reorder_mkldnn_rnn_layer_weight mkldnn.data_ptr onednn.linear_prepack_fp16
    onednn.qconv_prepack onednn.qlinear_prepack prim.device prim.layout prims._make_token
    prims._sink_tokens prims.broadcast_in_dim prims.collapse prims.collapse_view
    prims.convert_element_type prims.copy_strided prims.copy_to prims.device_put prims.iota
    prims.maximum_value prims.minimum_value prims.rev prims.slice_in_dim prims.split_dim
    prims.view_element_type prims.view_of prims.view_of_dtype quantized.cat_out
    quantized.cat_relu quantized.conv1d_prepack quantized.conv2d_prepack quantized.conv2d_unpack
    quantized.conv3d_prepack quantized.conv_prepack quantized.conv_transpose1d_prepack
    quantized.conv_transpose2d_prepack quantized.conv_transpose3d_prepack
    quantized.embedding_bag_4bit_prepack quantized.embedding_bag_4bit_unpack
    quantized.embedding_bag_byte_prepack quantized.embedding_bag_byte_unpack
    quantized.embedding_bag_prepack quantized.embedding_bag_unpack quantized.linear_prepack
    quantized.linear_prepack_fp16 quantized.linear_unpack quantized.make_quantized_cell_params
    quantized.make_quantized_cell_params_dynamic quantized.make_quantized_cell_params_fp16
    """)
"""The same outside ``aten``, with their namespace."""

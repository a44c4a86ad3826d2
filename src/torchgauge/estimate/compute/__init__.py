"""MACs, FLOPs and element-wise work of operators and modules."""

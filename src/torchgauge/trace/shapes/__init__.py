"""Shapes, dtypes and layouts of what kernels return, where PyTorch's meta kernels do not say it."""

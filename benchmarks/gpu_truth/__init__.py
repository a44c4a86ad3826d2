"""Ground truth: real steps on a device, recorded so that predictions can be checked against them.

``python -m benchmarks.gpu_truth.record`` makes records, ``….compare`` lays simulations beside
them; README.md in this folder says how to run both on any CUDA machine.
"""

"""Time of a step on a GPU that need not be there.

``predict(trace, DeviceModel(device=find_device("RTX 3090")))`` gives the timeline: every kernel
with when it runs and what bounds it. An operator becomes kernels (``time/kernels``), a kernel a
time (``cost``) from few coefficients (``devices/coefficients.csv``) and what the device sustains
(``rates``), and the kernels a step (``timeline``).
"""

from __future__ import annotations

from torchgauge.estimate.time.gpu.device_model import DeviceModel
from torchgauge.estimate.time.gpu.predict import predict
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.prediction import KernelRun, Prediction

__all__ = ["DeviceModel", "KernelRun", "Kind", "Prediction", "predict"]

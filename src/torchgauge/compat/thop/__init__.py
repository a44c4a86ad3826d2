"""``thop``'s names: MACs and parameters of a model in one call, with torchgauge's numbers.

>>> import torch
>>> macs, params = profile(torch.nn.Linear(100, 200), inputs=(torch.randn(1, 100),))
>>> macs, params
(20000.0, 20200.0)
>>> clever_format([macs, params], "%.3f")
('20.000K', '20.200K')
"""

import torch

from torchgauge.compat.thop.profile import profile, profile_origin
from torchgauge.compat.thop.utils import clever_format

default_dtype = torch.float64
"""What ``total_ops`` of a custom rule is kept in."""

__all__ = ["clever_format", "default_dtype", "profile", "profile_origin"]
__version__ = "0.1.1"
"""Of the interface that is offered, for programs that ask."""

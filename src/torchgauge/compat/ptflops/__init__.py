"""ptflops' names: ``get_model_complexity_info`` with both backends, and its formatting.

from torchgauge.compat.ptflops import get_model_complexity_info

macs, params = get_model_complexity_info(model, (3, 224, 224))
"""

from torchgauge.compat.ptflops.flops_counter import FLOPS_BACKEND, get_model_complexity_info
from torchgauge.compat.ptflops.utils import flops_to_string, params_to_string

__all__ = ["FLOPS_BACKEND", "flops_to_string", "get_model_complexity_info", "params_to_string"]

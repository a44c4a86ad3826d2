"""``torchsummary``'s names: the flat table that Keras users know, with torchgauge's numbers.

>>> from torch import nn
>>> _ = summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (4,))
----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
            Linear-1                    [-1, 8]              40
              ReLU-2                    [-1, 8]               0
================================================================
Total params: 40
Trainable params: 40
Non-trainable params: 0
----------------------------------------------------------------
Input size (MB): 0.00
Forward/backward pass size (MB): 0.00
Params size (MB): 0.00
Estimated Total Size (MB): 0.00
----------------------------------------------------------------
"""

from torchgauge.compat.torchsummary.torchsummary import summary, summary_string

__all__ = ["summary", "summary_string"]

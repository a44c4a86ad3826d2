"""The matmul-like operators and their exact formulas, one file per family, most in one table.

Conventions that hold in all of them:

- 1 MAC = 2 FLOPs; a bias costs no MAC.
- A formula counts multiply-adds of numbers of any kind. Those of complex numbers are 4 of real
  ones each (``real_products``), which ``op_cost`` and the predicted times multiply in.
- What the kernel executes is counted: products with padding zeros are part of a convolution, a
  fused attention backward recomputes its scores, a frozen weight has no gradient.
- Attention is dense: masks, causal ones included, take nothing off. That is the number published
  tables use; a flash kernel skips about half of the work of a causal mask.
- Varying lengths that only the data knows (jagged attention) count as the longest.
"""

from torchgauge.estimate.compute.formulas import (
    attention,
    convolution,
    dot_products,
    linalg,
    matmul,
    recurrent,
)

__all__ = ["attention", "convolution", "dot_products", "linalg", "matmul", "recurrent"]

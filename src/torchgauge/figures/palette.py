"""Colours of the figures, the same for the same thing everywhere: Okabe and Ito's (2008).

People who see few colours can tell them apart, and each role keeps the colour that it has on the
page (``web/src/styles.css``).
"""

from __future__ import annotations

from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.facts.trace import Phase, Role

TEXT, DIM, LINE = "#1b1f24", "#57606a", "#c3cad1"
BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE, GREY = (
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#8c8c8c",
)  # fmt: skip
BAD = "#b3151f"

ROLES = {
    Role.PARAMETER: ("Parameters", "#0072b2"),
    Role.BUFFER: ("Buffers", "#7aa6c2"),
    Role.OPTIMIZER_STATE: ("Optimizer states", "#cc79a7"),
    Role.GRADIENT: ("Gradients", "#d55e00"),
    Role.INPUT: ("Inputs", "#8c8c8c"),
    Role.SAVED_ACTIVATION: ("Saved activations", "#009e73"),
    Role.OUTPUT: ("Outputs", "#5f6b2d"),
    Role.TEMPORARY: ("Temporaries", "#e69f00"),
    Role.WORKSPACE: ("Workspaces", "#b8a100"),
    Role.ROUNDING: ("Rounding", "#b9b9b9"),
}
"""By role its name and colour, those that live longest first: the order of the areas."""
SMALL_ROLES = "#d4d4d4"

PHASES = {
    Phase.FORWARD: ("Forward", BLUE),
    Phase.LOSS: ("Loss", GREEN),
    Phase.BACKWARD: ("Backward", ORANGE),
    Phase.OPTIMIZER: ("Optimizer", PURPLE),
}

KINDS = {
    Kind.MATMUL: "Matrix products",
    Kind.CONVOLUTION: "Convolutions",
    Kind.DEPTHWISE: "Depthwise convolutions",
    Kind.ATTENTION: "Attention",
    Kind.ELEMENTWISE: "Element-wise",
    Kind.BROADCAST: "Broadcast",
    Kind.CAST: "Casts",
    Kind.COPY: "Copies",
    Kind.NORM: "Normalization",
    Kind.BATCH_NORM: "Batch norm",
    Kind.BATCH_STATISTICS: "Batch statistics",
    Kind.COLUMN_SUMS: "Sums of columns",
    Kind.RECURRENT: "Recurrent layers",
    Kind.REDUCTION: "Reductions",
    Kind.POOLING: "Pooling",
    Kind.UPSAMPLING: "Upsampling",
    Kind.INDEXING: "Indexing",
    Kind.MULTI_TENSOR: "Multi-tensor",
    Kind.SCALAR: "Scalars",
}
OTHER = "Other"


def kind_name(kind: str) -> str:
    """Return the name of a kind of kernel; a saved report may hold one that is not known.

    >>> kind_name("batch_norm"), kind_name("sparse"), kind_name("")
    ('Batch norm', 'sparse', 'Other')
    """
    names: dict[str, str] = {str(known): name for known, name in KINDS.items()}
    return names.get(kind, kind) or OTHER


SERIES = (
    (BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (SKY, "P"),
)  # fmt: skip
"""Colours and markers of series that are no roles: in grey print the markers tell them apart."""
OTHERS = (GREY, "X")

"""What the formats of a graph write on nodes and edges."""

from __future__ import annotations

from collections import Counter

from torchgauge.figures.graph.model import Cluster, Graph, Node
from torchgauge.figures.labels import plain, shortened

_MOST_LETTERS = 60


def title(item: Node | Cluster) -> str:
    """Return the name of a box with how many it stands for."""
    name = shortened(plain(item.name), _MOST_LETTERS)
    return f"{name} × {item.count}" if item.count > 1 else name


def type_name(item: Node | Cluster) -> str:
    """Return the class of a box, nothing where it is the box's name."""
    return shortened(plain(item.type), _MOST_LETTERS) if item.type != item.name else ""


class EdgeTexts:
    """Shapes on edges; the dtype that most have is left out."""

    def __init__(self, graph: Graph) -> None:
        dtypes = Counter(_split(edge.shape)[1] for edge in graph.edges)
        self.usual = dtypes.most_common(1)[0][0] if dtypes else ""

    def text(self, shape: str) -> str:
        """Return what is written on an edge."""
        sizes, dtype = _split(shape)
        return sizes if dtype == self.usual else f"{sizes} {dtype}"

    @staticmethod
    def short(shape: str) -> str:
        """Return the sizes alone, as papers write them.

        >>> EdgeTexts.short("[1, 64, 56, 56] float32")
        '1×64×56×56'
        """
        return _split(shape)[0].strip("[]").replace(", ", "×")


def _split(shape: str) -> tuple[str, str]:
    sizes, _, dtype = shape.rpartition(" ")
    return sizes, dtype


def head(graph: Graph) -> str:
    """Return what a reader has to know of a graph that does not show everything."""
    if graph.depth >= graph.full_depth:
        return "equal siblings are one box"
    return f"equal siblings are one box; modules down to depth {graph.depth} of {graph.full_depth}"

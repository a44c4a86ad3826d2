"""Which modules are equal siblings, as the terminal's table folds them."""

from __future__ import annotations

from torchgauge.facts.report import Report
from torchgauge.render.tree.parts import folded_siblings, range_name


class Folds:
    """The runs of equal siblings of a report: the first one stands for all."""

    def __init__(self, report: Report) -> None:
        self._runs = {path: run for run in folded_siblings(report) for path in run}

    def first(self, path: str) -> str:
        """Return the path of the module that stands for a module, folded parents included."""
        known = ""
        for part in path.split("."):
            known = f"{known}.{part}" if known else part
            run = self._runs.get(known)
            known = run[0] if run else known
        return known

    def are_apart(self, one: str, other: str) -> bool:
        """Return whether two modules lie in different ones of a run of equal siblings."""
        ones, others = one.split("."), other.split(".")
        same = 0
        while same < min(len(ones), len(others)) and ones[same] == others[same]:
            same += 1
        if same >= min(len(ones), len(others)):
            return False
        run = self._runs.get(".".join(ones[: same + 1]))
        return run is not None and ".".join(others[: same + 1]) in run

    def name(self, path: str, parent: str) -> tuple[str, int]:
        """Return a module's name below a parent, runs as ranges, and how many it stands for."""
        prefix = f"{parent}." if parent else ""
        below = path.removeprefix(prefix) if path.startswith(prefix) else path
        known = path.removesuffix(below).removesuffix(".")
        names, count = list[str](), 1
        for part in below.split("."):
            known = f"{known}.{part}" if known else part
            run = self._runs.get(known)
            if run is None:
                names.append(part)
                continue
            names.append(range_name(run[0].rpartition(".")[2], run[-1].rpartition(".")[2]))
            count *= len(run)
        return ".".join(names), count

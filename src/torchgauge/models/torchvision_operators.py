"""Let torchvision be imported beside a torch that its compiled operators were not built for."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    # Asked for since torchvision 0.28.
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_kept: list[Any] = []  # what a Library defined lasts as long as the Library


@functools.cache
def define_missing_operators() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` when torchvision's own library cannot load.

    PyPI's torchvision is built for CUDA. Beside a CPU-only torch its ``_C.so`` does not load
    (it wants ``libc10_cuda.so``), and ``import torchvision`` then fails with ``operator
    torchvision::nms does not exist``, because it registers shape rules for operators that the
    library would have declared. With the two declared, everything but these operators works.
    Seen with torch 2.13.0+cpu and torchvision 0.28.0. Nothing is done where ``_C.so`` loads,
    where torch has CUDA (a real mismatch should be heard of), or where there is no torchvision.
    """
    import torch

    if torch.version.cuda is not None or "torchvision" in sys.modules:
        return
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return
    if _library_loads(Path(found.submodule_search_locations[0])):
        return
    library: Any = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):  # the program's own
            library.define(schema)
    _kept.append(library)


def _library_loads(folder: Path) -> bool:
    import torch

    for path in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")):
        try:
            torch.ops.load_library(str(path))
        except OSError:
            continue
        return True
    return False

"""The program as ONNX, and how near ONNX Runtime's results are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchgauge.deploy.export.exporting import Exported
from torchgauge.deploy.extras import require
from torchgauge.deploy.manifest import ONNX
from torchgauge.errors import ModelError
from torchgauge.models.build import first_line
from torchgauge.models.exported_archive import quiet_torch

EXTRA = "onnx"


def write_onnx(folder: Path, exported: Exported, example: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Write ``model.onnx`` and compare what ONNX Runtime makes of ``example``.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        ModelError: an operator has no counterpart in ONNX.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, EXTRA, "write ONNX")
    path = folder / ONNX
    signature = exported.signature
    try:
        with quiet_torch():
            torch.onnx.export(
                exported.program,
                (),
                str(path),
                input_names=[_name(tensor.name) for tensor in signature.inputs],
                output_names=[_name(tensor.name) for tensor in signature.outputs],
                dynamo=True,
                external_data=True,
            )
    except OSError:
        raise
    except Exception as error:
        raise ModelError(
            f"the program cannot be written as ONNX: {first_line(error)}",
            hint="leave --onnx out; the package is complete without it",
        ) from error
    return _compared(path, exported, example)


def _compared(path: Path, exported: Exported, example: Sequence[torch.Tensor]) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = dict(zip((i.name for i in session.get_inputs()), example, strict=True))
    got = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
    with torch.no_grad(), quiet_torch():
        expected = exported.program.module()(*example)
    difference = max(
        float((torch.from_numpy(ours).double() - theirs.double()).abs().max())
        for ours, theirs in zip(got, expected, strict=True)
    )
    return {
        "max_difference": difference,
        "text": f"ONNX Runtime {onnxruntime.__version__} on `{ONNX}`: a difference of "
        f"{difference:.3g} at most, on the first of these sizes.",
    }


def _name(name: str) -> str:
    return name.replace(".", "_")

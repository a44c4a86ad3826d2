"""Import a library that is an extra, or say which command installs it."""

from __future__ import annotations

import importlib
from typing import Any

from torchgauge.errors import MissingExtraError

_PURPOSES = {
    "lightning.pytorch": ("lightning", "use the callback for Lightning"),
    "pytorch_lightning": ("pytorch-lightning", "use the callback for PyTorch Lightning"),
    "transformers.trainer_callback": ("hf", "use the callback for transformers"),
    "accelerate": ("accelerate", "look at a prepared model"),
    "keras": ("keras", "use the callback for Keras"),
    "omegaconf": ("hydra", "read a configuration of Hydra or OmegaConf"),
    "tensorboard": ("tensorboard", "log to TensorBoard"),
    "mlflow": ("mlflow", "log to MLflow"),
    "wandb": ("wandb", "log to Weights & Biases"),
    "aim": ("aim", "log to Aim"),
    "mcp": ("mcp", "answer an assistant by MCP"),
}
"""By module: the extra of this package that brings it, and what for."""


def optional(module: str) -> Any:
    """Return a library that an integration needs.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported; the hint has the command that
            installs it.
    """
    extra, purpose = _PURPOSES[module]
    name = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # also what a package of another build raises at its import
        if isinstance(error, ModuleNotFoundError) and error.name in (module, name):
            raise MissingExtraError(
                f"{name} is needed to {purpose} and is not installed",
                hint=f'pip install "torchgauge[{extra}]"',
            ) from error
        lines = str(error).splitlines() or [type(error).__name__]
        raise MissingExtraError(
            f"{name} is needed to {purpose} and cannot be imported: {lines[0]}",
            hint=f'python -c "import {module}" shows the whole error',
        ) from error

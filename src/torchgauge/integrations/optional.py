"""Import a library that is an extra, or say which command installs it."""

from __future__ import annotations

from typing import Any

from torchgauge.deploy.extras import require

_PURPOSES = {
    "lightning.pytorch": ("lightning", "use the callback for Lightning"),
    "pytorch_lightning": ("pytorch-lightning", "use the callback for PyTorch Lightning"),
    "transformers": ("hf", "use the callback for transformers"),
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
        MissingExtraError: it is not installed; the hint has the command that installs it.
    """
    extra, purpose = _PURPOSES[module]
    return require(module, extra, purpose)

"""How an optimizer is named that is a class of its own."""

from __future__ import annotations


def as_class(value: object) -> str:
    """Return how a class of an optimizer is named, where one was meant, else ``""``.

    >>> as_class("torch.optim.SparseAdam")
    'a class is named package.module:Class: torch.optim:SparseAdam'
    """
    if not isinstance(value, str):
        kind = class_of(value)
        if not hasattr(kind, "zero_grad"):
            return (
                "write a name such as 'adamw', or package.module:Class for a class; its arguments "
                "go into optimizer_options"
            )
        module = "torch.optim" if kind.__module__.startswith("torch.optim.") else kind.__module__
        value = f"{module}.{kind.__name__}"
    module, _, name = value.rpartition(".")
    if not name[:1].isupper() or not value.replace(".", "").isidentifier():
        return ""
    return f"a class is named package.module:Class: {module or 'torch.optim'}:{name}"


def class_of(value: object) -> type:
    """Return a class itself, and of anything else its class."""
    return value if isinstance(value, type) else type(value)

"""Device names as people and drivers write them, brought to one form."""

from __future__ import annotations

import re
from functools import cache

_NOISE = frozenset((
    "nvidia", "amd", "geforce", "tesla", "radeon", "instinct", "gpu", "graphics", "generation",
    "module", "edition", "developer", "dev", "kit", "the",
))  # fmt: skip
_FAMILY = frozenset(("rtx", "gtx", "rx", "jetson", "titan"))
_SPELLINGS = {
    "sxm2": "sxm", "sxm3": "sxm", "sxm4": "sxm", "sxm5": "sxm", "mobile": "laptop",
    "notebook": "laptop",
}  # fmt: skip


@cache
def tokens(name: str) -> tuple[str, ...]:
    """Return the words of a name that tell devices apart.

    >>> tokens("NVIDIA A100-SXM4-80GB")
    ('a100', 'sxm', '80gb')
    >>> tokens("NVIDIA GeForce RTX 3060 (12 GiB)")
    ('rtx', '3060', '12gb')
    """
    text = re.sub(r"\((?:r|tm)\)", " ", name.casefold())
    text = re.sub(r"(?<![0-9a-z])(\d+)\s*gi?b\b", r" \1gb", text)
    text = re.sub(r"\b(rtx|gtx|rx)(?=\d)", r"\1 ", text)
    text = re.sub(r"\b(\d{4})(ti|super|xt|xtx)\b", r"\1 \2", text)
    words = re.findall(r"[0-9a-z]+", text)
    return tuple(_SPELLINGS.get(word, word) for word in words if word not in _NOISE)


def is_size(word: str) -> bool:
    """Return whether a word says how much memory there is.

    >>> is_size("80gb"), is_size("a100")
    (True, False)
    """
    return re.fullmatch(r"\d+gb", word) is not None


@cache
def keys(name: str) -> tuple[str, str, str]:
    """Return the forms under which a name is found, the strictest first.

    Spaces and dashes do not count (``rtx3060ti``), nor does the order of words
    (``A100 80GB PCIe``), nor a family's name (``4090`` for ``RTX 4090``).
    """
    words = tokens(name)
    return (
        "".join(words),
        " ".join(sorted(words)),
        "".join(word for word in words if word not in _FAMILY),
    )

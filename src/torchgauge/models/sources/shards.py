"""The index of a checkpoint that is split over several files (``….index.json``)."""

from __future__ import annotations

import json
from pathlib import Path

from torchgauge.errors import ModelSpecError


def read_shards(index: Path) -> list[Path]:
    """Return the files that an index names, in order of appearance.

    Raises:
        ModelSpecError: the index is damaged, or a file that it names is missing.
    """
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        weight_map = content["weight_map"]
        names = list(dict.fromkeys(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelSpecError(
            f"{index} is not the index of a checkpoint", hint="it needs a weight_map, as Hugging "
            "Face writes it",
        ) from error  # fmt: skip
    # Only names beside the index: it is data, and must not lead elsewhere.
    paths = [index.parent / Path(str(name)).name for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelSpecError(
            f"{index} names {missing[0]}{more}, not found next to it",
            hint=f"put {'them' if more else 'it'} into {index.parent}",
        )
    return paths

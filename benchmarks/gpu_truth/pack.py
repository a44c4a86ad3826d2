"""Put records into a few archives, and take them out: for machines that hand back few files.

``python -m benchmarks.gpu_truth.pack FOLDER OUT`` writes ``OUT/records-0.tar`` and so on;
``python -m benchmarks.gpu_truth.pack --unpack OUT FOLDER`` is the way back.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from pathlib import Path

from benchmarks.gpu_truth.schema import SUFFIX

ARCHIVE_BYTES = 15_000_000
MOST_ARCHIVES = 8


def pack(folder: Path, out: Path) -> list[Path]:
    """Write all records below a folder into archives of at most ``ARCHIVE_BYTES``.

    Raises:
        ValueError: when they do not fit into ``MOST_ARCHIVES``.
    """
    groups: list[list[Path]] = [[]]
    size = 0
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        needed = path.stat().st_size + 2048  # a header, and blocks of 512
        if size + needed > ARCHIVE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += needed
    if len(groups) > MOST_ARCHIVES:
        raise ValueError(f"{len(groups)} archives, {MOST_ARCHIVES} at most: pack fewer records")
    out.mkdir(parents=True, exist_ok=True)
    archives = []
    for number, group in enumerate(groups):
        archives.append(out / f"records-{number}.tar")
        with tarfile.open(archives[-1], "w") as archive:
            for path in group:
                archive.add(path, path.relative_to(folder))
    return archives


def unpack(source: Path, folder: Path) -> int:
    """Take the records out of the archives in a folder; return how many there were."""
    count = 0
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("records-*.tar")):
        with tarfile.open(path) as archive:
            members = [m for m in archive.getmembers() if m.name.endswith(SUFFIX)]
            archive.extractall(folder, members, filter="data")
            count += len(members)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--unpack", action="store_true")
    options = parser.parse_args()
    if options.unpack:
        print(f"{unpack(options.source, options.target)} records")
    else:
        print("\n".join(str(path) for path in pack(options.source, options.target)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

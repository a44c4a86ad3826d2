"""``python -m torchgauge``: the same as the ``torchgauge`` command."""

from __future__ import annotations

import sys

from torchgauge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

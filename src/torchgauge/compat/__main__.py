"""``python -m torchgauge.compat script.py``: a script whose imports torchgauge answers."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from torchgauge.compat.stand_in import TOOLS, install

_USAGE = f"""usage: python -m torchgauge.compat SCRIPT [ARGUMENT ...]
       python -m torchgauge.compat -m MODULE [ARGUMENT ...]

Run a Python program in which {", ".join(TOOLS)} are answered by torchgauge."""


class _TorchvisionWatch:
    """Defines the operators that torchvision misses when a program imports it, as the CLI does."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing itself; the finders after it do."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            from torchgauge.models.torchvision_operators import define_missing_operators

            define_missing_operators()


def main(arguments: list[str]) -> int:
    """Run the program; return 2 when there is none."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "-m":
        if len(arguments) < 2:
            print(_USAGE, file=sys.stderr)
            return 2
        _prepare()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    script = Path(arguments[0])
    if not script.is_file():
        print(f"torchgauge.compat: there is no file {script}", file=sys.stderr)
        return 2
    _prepare()
    sys.argv = arguments
    sys.path[0] = str(script.resolve().parent)  # as `python script.py` does
    runpy.run_path(str(script), run_name="__main__")
    return 0


def _prepare() -> None:
    install()
    sys.meta_path.insert(0, _TorchvisionWatch())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

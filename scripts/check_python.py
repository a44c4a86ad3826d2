"""Stop with one clear sentence when this Python cannot make the environment."""

import sys


def problem() -> str:
    if sys.version_info < (3, 11):
        return "torchgauge needs Python 3.11 or newer, this is %d.%d" % sys.version_info[:2]
    try:
        import ensurepip  # noqa: F401  (Debian leaves it out of python3)
        import venv  # noqa: F401
    except ImportError:
        return "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
    return ""


if __name__ == "__main__":
    message = problem()
    if message:
        hint = "\n  try: make PYTHON=/path/to/another/python3 ..."
        sys.exit(message + hint)

"""What all tests share: golden files, and the check that no test leaves torch changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from doctor_stage import Stage

os.environ["TORCHGAUGE_CPU"] = ""  # a calibration of this machine is none of the tests' business
os.environ["TORCHGAUGE_LANG"] = "en"  # nor is the locale of who runs them

collect_ignore_glob = ["staged/*"]
"""Stand-ins for a broken machine's programs: no tests, and they run only where they are put."""

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what runs in its background so, and programs inherit it:
    # the tests that interrupt one would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with ``tests/golden/NAME``; ``--update-golden`` writes the file."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
            return
        assert path.exists(), f"{name} is missing: run pytest with --update-golden and look at it"
        assert text + "\n" == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter without packages."""
    folder = tmp_path_factory.mktemp("bare")
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, timeout=60)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window and without any network of its own (``make test-browser``).

    One for all tests: Playwright runs once in a process.
    """
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    assert program, "Chromium is missing: apt-get install chromium"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture
def bare(tmp_path: Path, bare_python: str) -> Stage:
    """A staged machine without a GPU, a driver and packages."""
    from doctor_stage import Stage

    return Stage(tmp_path / "stage", bare_python)


@pytest.fixture
def machine(bare: Stage) -> Stage:
    """A healthy staged machine: RTX 3060, driver 550, torch 2.6.0+cu124."""
    from doctor_stage import RTX_3060

    bare.plug_in(RTX_3060)
    bare.install_driver()
    bare.install_torch()
    return bare


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves torch's global state changed. Costs nothing without torch.

    The random state is put back instead: making a model draws from it. That an analysis does not
    is what ``test_untouched.py`` is for.
    """
    before, random_state = _torch_state(), _random_state()
    yield
    after = _torch_state()
    if random_state is not None:
        sys.modules["torch"].set_rng_state(random_state)
    changed = [name for name in before if after[name] != before[name]]
    assert not changed, f"the test left torch changed: {', '.join(changed)}"


def _random_state() -> Any:
    torch = sys.modules.get("torch")
    return torch.get_rng_state() if hasattr(torch, "get_rng_state") else None


def _torch_state() -> dict[str, object]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):
        return {}
    hooks = torch.nn.modules.module
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "forward pre-hooks": tuple(hooks._global_forward_pre_hooks),
        "forward hooks": tuple(hooks._global_forward_hooks),
        "backward hooks": tuple(hooks._global_backward_hooks),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
    }

"""schemathesis against the servers' own OpenAPI: no request makes a 5xx, each answer is as said."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys

import pytest

from deploy_models import Mlp, Recurrent, Tagger, packaged
from serving_process import running

pytestmark = pytest.mark.slow

IDS = {"input_size": (2, 7), "dtypes": ["int64"]}
CASES = [(Mlp, {"input_size": (4,)}), (Tagger, IDS), (Recurrent, IDS)]


@pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"
)
@pytest.mark.parametrize(("model", "inputs"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_the_description_is_kept(tmp_path, model, inputs):
    packaged(model(), tmp_path / "p", inputs=inputs, longest=16)
    with running(tmp_path / "p") as server:
        address = f"http://127.0.0.1:{server.port}"
        # A schema cannot say how many bytes a shape has, so some data that it allows is refused.
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json",
             "--checks", "all", "--exclude-checks", "positive_data_acceptance",
             "--max-examples", "150", "--seed", "1"],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert "No issues found" in done.stdout
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0

"""``torchgauge watch --ui``: what its page is told of edits, who may listen, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest
from live_server import until
from watched import BROKEN, NET, Watched, params, watched

from torchgauge.cli.main import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")


@pytest.mark.slow
def test_edits_reach_the_page_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    with watched(tmp_path) as watch:
        told = watch.events()
        name, first = next(told)
        assert (name, first["version"]["number"], first["version"]["files"]) == ("version", 1, [])
        assert first["answers"]["1"]["report"]["totals"]["params"] == params(8)

        watch.save(width="WIDTH = 16\n")
        assert next(told) == ("saved", {"files": ["width_of_watched.py"]})
        name, second = next(told)
        assert name == "version" and set(second["answers"]) == {"2"}
        assert second["answers"]["2"]["report"]["totals"]["params"] == params(16)
        assert second["model"]["values"]["batch-size"] == 4
        carried = sum(layer["difference"].get("params", 0) for layer in second["layers"]["1"])
        assert carried == params(16) - params(8)

        watch.save(net=BROKEN)
        assert next(told)[0] == "saved"
        name, broken = next(told)
        assert name == "broken" and broken["version"]["number"] == 3
        line = len(BROKEN.splitlines())
        assert f"net_of_watched.py:{line}: SyntaxError" in broken["problems"]["en"]["message"]

        watch.save(net=NET)
        assert next(told)[0] == "saved"
        name, mended = next(told)
        assert name == "version" and (mended["first"], mended["last"]) == (1, 2)
        assert mended["layers"]["2"] == []
        _refused(watch)
        _answered_by_new_code(watch)

        assert watch.interrupt() == 130
        assert list(told)[-1] == ("ended", {})
        assert not watch.is_served()
        assert watch.process.stdout is not None and watch.process.stderr is not None
        shown = watch.process.stdout.read()
        assert "Params   90 → 178" in shown and "not analysed" in shown
        said = watch.process.stderr.read()
        assert "Traceback" not in said and "error" not in said


def _refused(watch: Watched) -> None:
    """Nobody without the token, from another page or by another name hears of the versions."""
    address = f"{watch.url}/versions?since=0"
    token = {"Authorization": f"Bearer {watch.token}"}
    assert httpx.get(address).status_code == 401
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert httpx.get(address, headers={**token, **header}).status_code == 403
    for since in ("x", "-1", "1" * 10):
        response = httpx.get(f"{watch.url}/versions?since={since}", headers=token)
        assert response.status_code == 400
    assert httpx.post(address, headers=token).status_code == 405


def _answered_by_new_code(watch: Watched) -> None:
    """A question of the page is answered by the code that is there now, in a new process."""
    for width in (16, 24):
        events = watch.events()
        number = next(events)[1]["version"]["number"]
        watch.save(width=f"WIDTH = {width}\n")
        while (now := next(events))[0] != "version" or now[1]["version"]["number"] == number:
            pass
        response = httpx.post(
            f"{watch.url}/analyses",
            json={"client": "tab", "changes": {"batch-size": 32}},
            headers={"Authorization": f"Bearer {watch.token}"},
            timeout=120,
        )
        found = re.search(r'"totals":\{"params":(\d+)', response.text)
        assert found is not None and int(found[1]) == params(width)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another process adopts it there")
def test_a_watch_that_is_killed_takes_its_page_with_it(tmp_path: Path) -> None:
    with watched(tmp_path) as watch:
        until(watch.is_served, 60)
        watch.process.send_signal(signal.SIGKILL)
        until(lambda: not watch.is_served(), 60)


def test_what_is_no_model_ends_before_there_is_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    for arguments, message in (
        (["net.py:Net", "--port", "8000"], "--port is an option of the live page"),
        (["net.py:Net", "--no-open"], "--open is an option of the live page"),
        (["nothing.py:Net", "--ui"], "nothing.py"),
        (["net.py:Net", "--ui", "--optimizer", "adamw"], "no meaning in inference"),
    ):
        assert main(["watch", *arguments]) == 2
        said = capsys.readouterr().err
        assert message in said and "try: " in said and "http://" not in said


def test_a_taken_port_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchgauge.deploy.serving.http.server import bind

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    with bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["watch", "net.py:Net", "--ui", "--no-open", "--port", port]) == 2
    assert "choose another --port" in capsys.readouterr().err

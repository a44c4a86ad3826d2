"""What each tab of a watched page is told: what it lacks, once, and nothing that is old."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from torchgauge.request import Inputs, Request
from torchgauge.web.watch.messages import Broken, Good, Heading, Saved
from torchgauge.web.watch.versions import Versions

REQUEST = Request(spec="net.py:Net", inputs=Inputs(size=(4, 8)))
HOSTILE = "boom \x1b[31m \u202e'</script>"


def heading(number: int) -> Heading:
    return Heading(number=number, files=("net.py",), at="12:03:11", seconds=0.5, watched=2)


def good(number: int, *since: int) -> Good:
    report = {"inputs": [{"name": "x", "shape": [4, 8], "dtype": "float32"}], "batch_size": 4}
    answer = json.dumps({"report": {**report, "number": number}}).encode()
    layers = {one: json.dumps([f"{one} to {number}"]).encode() for one in since}
    return Good(heading=heading(number), answer=answer, layers=layers)


def broken(number: int) -> Broken:
    return Broken(heading=heading(number), error=HOSTILE, hint="add --debug", exit_status=3)


def told(versions: Versions, since: int = 0) -> list[tuple[str, Any]]:
    """Return what a tab that comes now is told, up to the end."""

    async def read() -> list[tuple[str, Any]]:
        versions.end()
        return [(name, json.loads(content)) async for name, content in versions.events(since)]

    return asyncio.run(read())


def after(*messages: Any) -> Versions:
    versions = Versions(REQUEST)
    for message in messages:
        versions.take(message)
    return versions


def test_before_anything_comes_there_is_nothing() -> None:
    versions = after()
    assert versions.benches == []
    assert told(versions) == [("ended", {})]


def test_a_tab_gets_the_answers_that_it_lacks() -> None:
    versions = after(good(1), good(2, 1), good(3, 1, 2))
    for since, lacks in ((0, {"1", "2", "3"}), (2, {"3"}), (1, {"2", "3"}), (9, {"2", "3"})):
        (name, version), _ = told(versions, since)
        assert name == "version"
        assert set(version["answers"]) == lacks, since
        assert (version["first"], version["last"]) == (1, 2)
        assert version["version"]["number"] == 3
        assert version["layers"] == {"1": ["1 to 3"], "2": ["2 to 3"]}
    assert told(versions, 3) == [("ended", {})]


def test_the_model_that_is_asked_about_is_the_newest() -> None:
    versions = after(good(1), good(2, 1))
    assert len(versions.benches) == 1
    (_, version), _ = told(versions)
    assert version["model"]["command"] == "torchgauge summary net.py:Net --input-size 4,8"
    assert version["model"]["values"]["batch-size"] is None  # nothing says where the batch is
    assert versions.benches[0].ran.batch_size == 4


def test_what_is_broken_is_told_in_every_language_until_it_is_mended() -> None:
    versions = after(good(1), Saved(files=("net.py",)), broken(2))
    (_, version), (name, problem), _ = told(versions)
    assert version["version"]["number"] == 1
    assert name == "broken"
    assert problem["problems"]["en"] == {"message": HOSTILE, "hint": "add --debug", "status": 3}
    assert set(problem["problems"]) == {"en", "zh"}
    versions = after(good(1), broken(2), Saved(files=("a.py",)))
    assert [name for name, _ in told(versions)] == ["version", "broken", "saved", "ended"]
    versions = after(good(1), broken(2), broken(3))
    assert [name for name, _ in told(versions)] == ["version", "broken", "ended"]
    versions = after(good(1), broken(2), Saved(files=("a.py",)), good(3, 1))
    assert [name for name, _ in told(versions)] == ["version", "ended"]


def test_saves_are_counted() -> None:
    versions = after(good(1), Saved(files=("a.py",)), broken(2), Saved(files=("a.py",)), good(3, 1))
    assert versions.saves == 2


@pytest.mark.parametrize("tabs", [1, 3])
def test_every_tab_hears_of_what_comes_later_and_once(tabs: int) -> None:
    versions = after(good(1))
    heard: list[list[str]] = [[] for _ in range(tabs)]

    async def tab(number: int, ready: asyncio.Event) -> None:
        async for name, content in versions.events(0):
            at = json.loads(content).get("version", {}).get("number", "")
            heard[number].append(f"{name} {at}".strip())
            ready.set()

    async def read() -> None:
        ready = [asyncio.Event() for _ in range(tabs)]
        tasks = [asyncio.create_task(tab(number, one)) for number, one in enumerate(ready)]
        await asyncio.gather(*(one.wait() for one in ready))
        for message in (Saved(files=("a.py",)), good(2, 1)):
            for one in ready:
                one.clear()
            threading.Thread(target=versions.take, args=(message,)).start()
            await asyncio.gather(*(one.wait() for one in ready))
        versions.end()
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(read(), 20))
    assert heard == [["version 1", "saved", "version 2", "ended"]] * tabs


def test_a_tab_that_goes_is_forgotten() -> None:
    versions = after(good(1))

    async def read() -> None:
        events = versions.events(0)
        await anext(events)
        await events.aclose()
        assert not versions._readers

    asyncio.run(read())

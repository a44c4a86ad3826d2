"""A real client over stdio asks the server."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kept import library

import torchgauge as tg
from torchgauge.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore")

NET = """
import os, sys, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, how=""):
        super().__init__()
        print("the model's code prints")
        os.write(1, b"and writes to the descriptor of stdout\\n")
        self.first, self.second, self.how = nn.Linear(8, width), nn.Linear(width, 2), how

    def forward(self, x):
        if self.how == "crash":
            os.abort()
        if self.how == "sleep":
            time.sleep(60)
        if self.how == "wrong":
            return self.second(x)
        return self.second(self.first(x))
"""


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Any]:
    library("mcp")
    import anyio
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    (tmp_path / "net.py").write_text(NET)

    def run(conversation: Callable[[Any], Awaitable[Any]], *options: str) -> Any:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "torchgauge", "mcp", *options], cwd=tmp_path
        )

        async def talk() -> Any:
            with anyio.fail_after(240), (tmp_path / "stderr.txt").open("w") as log:
                async with Client(stdio_client(server, errlog=log)) as client:
                    return await conversation(client)

        return anyio.run(talk)

    return run


def test_the_tools_have_typed_arguments(ask):
    async def conversation(client: Any) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in ask(conversation)}
    assert set(tools) == {"summary", "fit", "compare", "advise", "devices"}
    schema = tools["summary"].input_schema
    assert schema["required"] == ["model"]
    assert schema["properties"]["mode"]["enum"] == ["inference", "training"]
    assert "bf16-autocast" in schema["properties"]["precision"]["enum"]
    assert all(tool.description and tool.annotations.read_only_hint for tool in tools.values())


def test_answers_equal_those_of_the_library(ask, tmp_path):
    scenario = {"mode": "training", "optimizer": "adamw", "device": "T4"}
    model = {"model": "net.py:Net", "input_size": [16, 8]}

    async def conversation(client: Any) -> Any:
        return [
            await client.call_tool("summary", {**model, **scenario}),
            await client.call_tool("fit", {**model, "mode": "training", "devices": ["T4"]}),
            await client.call_tool("compare", {**model, "other": "net.py:Net(width=8)"}),
            await client.call_tool("devices", {"search": "jetson"}),
            await client.call_tool("advise", {**model, "goal": "params:-10%"}),
        ]  # fmt: skip

    summary, fit, compare, devices, advise = ask(conversation)
    assert not any(answer.is_error for answer in (summary, fit, compare, devices, advise))
    expected = tg.analyze(f"{tmp_path / 'net.py'}:Net", (16, 8), **scenario)
    data = summary.structured_content
    assert data["totals"] == expected.to_dict()["totals"]
    assert data["memory"]["device_bytes"] == expected.memory.device_bytes
    assert data["time"]["total_ms"] == pytest.approx(expected.time.total_ms)
    assert {"first", "second"} <= {layer["path"] for layer in data["heaviest"]}
    assert summary.content[0].text.startswith("Net · ")
    assert len(summary.content[0].text) < 4000
    assert fit.structured_content["devices"][0]["verdict"] == "fits"
    params = {item["name"]: item for item in compare.structured_content["figures"]}
    assert params["totals.params"]["difference"] == 90 - 46
    assert advise.structured_content["goal"]["figure"] == "totals.params"
    assert "suggestions" in advise.structured_content
    names = [device["name"] for device in devices.structured_content["devices"]]
    assert names
    assert all("Jetson" in name for name in names)


def test_an_error_is_one_of_the_tool_and_the_server_goes_on(ask):
    def question(**settings: Any) -> dict[str, Any]:
        return {"model": "net.py:Net", "input_size": [2, 8], "settings": settings}

    async def conversation(client: Any) -> Any:
        return [
            await client.call_tool("summary", {"model": "net.py:Nett"}),
            await client.call_tool("summary", {**question(), "device": "T5"}),
            await client.call_tool("summary", question(how="wrong")),
            await client.call_tool("summary", question(how="crash")),
            await client.call_tool("summary", {"model": "net.py:Net", "mode": "cooking"}),
            await client.call_tool("summary", question()),
        ]

    *errors, last = ask(conversation)
    assert all(answer.is_error for answer in errors)
    spec, device, failed, crash, typed = (answer.content[0].text for answer in errors)
    assert "Nett" in spec
    assert "try: did you mean" in spec
    assert "T5" in device
    assert "second" in failed
    assert "the process that ran the model ended: SIGABRT" in crash
    assert "cooking" in typed
    assert not last.is_error
    assert last.structured_content["totals"]["params"] == 46


def test_two_at_once_and_one_that_takes_too_long(ask):
    import anyio

    found: dict[str, Any] = {}
    order: list[str] = []

    async def conversation(client: Any) -> Any:
        async def one(how: str) -> None:
            question = {"model": "net.py:Net", "input_size": [2, 8], "settings": {"how": how}}
            found[how] = await client.call_tool("summary", question)
            order.append(how)

        async with anyio.create_task_group() as group:
            group.start_soon(one, "sleep")
            group.start_soon(one, "")

    ask(conversation, "--timeout", "25")
    assert order == ["", "sleep"]
    assert not found[""].is_error
    assert "summary took more than 25 seconds and was ended" in found["sleep"].content[0].text


def test_without_the_sdk_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp"]) == 2
    assert 'try: pip install "torchgauge[mcp]"' in capsys.readouterr().err

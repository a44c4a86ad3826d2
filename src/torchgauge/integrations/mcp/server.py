"""The tools of the server and their arguments, by the official SDK.

An error of a question is an error of the tool, which the assistant reads; the server goes on.
This module needs the extra ``mcp``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations

from torchgauge.facts.scenario import OPTIMIZERS
from torchgauge.integrations.mcp.worker import QuestionError, Workers
from torchgauge.version import __version__

SECONDS = 300.0
"""Time for one question, by default."""
_AT_ONCE = 4
_INSTRUCTIONS = """\
Says what a PyTorch model costs before it is trained: parameters, MACs, memory, time, and whether it
fits a GPU. Nothing is trained and no GPU is needed; the model runs once without data. A model is
named by a spec: file.py:Name, file.py:Name(width=2), package.module:callable, torchvision:resnet50,
timm:NAME, hf:PATH/config.json. Ask `summary` or `fit` before and after a change, or `compare`.
"""
InputSize = list[int] | list[list[int]] | dict[str, list[int]]
Mode = Literal["inference", "training"]
Precision = Literal["as-built", "fp32", "tf32", "bf16", "fp16", "bf16-autocast", "fp16-autocast"]
Accuracy = Literal["none", "small", "retrain"]
Optimizer = Literal[OPTIMIZERS]  # type: ignore[valid-type]  # the names are a tuple


class Tools:
    """What an assistant can ask: each method is a tool, and its docstring what the tool is for.

    Args:
        seconds: after which a question is given up.
    """

    def __init__(self, seconds: float) -> None:
        self._workers = Workers(seconds)
        self._limiter = CapacityLimiter(_AT_ONCE)

    async def _ask(self, tool: str, question: dict[str, Any]) -> CallToolResult:
        ask = partial(self._workers.ask, tool, question)
        try:
            answer = await to_thread.run_sync(ask, limiter=self._limiter)
        except QuestionError as error:
            raise ToolError(str(error)) from error
        text = TextContent(type="text", text=answer.text)
        return CallToolResult(content=[text], structured_content=answer.data)

    async def summary(
        self,
        model: str,
        input_size: InputSize | None = None,
        batch_size: int | None = None,
        dtypes: list[str] | None = None,
        mode: Mode = "inference",
        device: str = "cpu",
        precision: Precision = "as-built",
        optimizer: Optimizer | None = None,
        checkpointing: bool | None = None,
        settings: dict[str, Any] | None = None,
        depth: int = 2,
    ) -> CallToolResult:
        """Parameters, MACs, FLOPs, memory and time of one step of a PyTorch model, by layer.

        `model` is a spec such as `net.py:Net`; `input_size` such as `[3, 224, 224]`, one per input,
        or by argument name. `batch_size` says that sizes have no batch. `device` names a GPU that
        the tool `devices` lists; memory and time are then predicted for it. `settings` are
        arguments of the model.
        """
        return await self._ask("summary", dict(
            model=model, input_size=input_size, batch_size=batch_size, dtypes=dtypes, mode=mode,
            device=device, precision=precision, optimizer=optimizer, checkpointing=checkpointing,
            settings=settings, depth=depth,
        ))  # fmt: skip

    async def fit(
        self,
        model: str,
        devices: list[str],
        input_size: InputSize | None = None,
        batch_size: int | None = None,
        dtypes: list[str] | None = None,
        mode: Mode = "training",
        precision: Precision = "as-built",
        optimizer: Optimizer | None = None,
        checkpointing: bool | None = None,
        accumulation: int | None = None,
        context: int | None = None,
        settings: dict[str, Any] | None = None,
    ) -> CallToolResult:
        """Whether a step fits into a GPU, the largest batch, and what would make it fit.

        `devices` are GPUs that the tool `devices` lists, such as `["T4"]`; with several there is
        one verdict for each and no search. `context` sizes the KV cache of a language model that
        generates, instead of `input_size`.
        """
        return await self._ask("fit", dict(
            model=model, devices=devices, input_size=input_size, batch_size=batch_size,
            dtypes=dtypes, mode=mode, precision=precision, optimizer=optimizer,
            checkpointing=checkpointing, accumulation=accumulation, context=context,
            settings=settings,
        ))  # fmt: skip

    async def compare(
        self,
        model: str,
        other: str | None = None,
        input_size: InputSize | None = None,
        batch_size: int | None = None,
        mode: Mode = "inference",
        device: str = "cpu",
        precision: Precision = "as-built",
        optimizer: Optimizer | None = None,
        other_batch_size: int | None = None,
        other_device: str | None = None,
        other_precision: Precision | None = None,
        other_optimizer: Optimizer | None = None,
        other_checkpointing: bool | None = None,
    ) -> CallToolResult:
        """What changes from one model or scenario to another: figures, verdict, and which layers.

        `other` is a second model spec; without it the same model is compared under the `other_…`
        settings, such as `other_precision="bf16-autocast"`.
        """
        changes = dict(
            batch_size=other_batch_size, device=other_device, precision=other_precision,
            optimizer=other_optimizer, checkpointing=other_checkpointing,
        )  # fmt: skip
        return await self._ask("compare", dict(
            model=model, other=other, input_size=input_size, batch_size=batch_size, mode=mode,
            device=device, precision=precision, optimizer=optimizer, changes=changes,
        ))  # fmt: skip

    async def advise(
        self,
        model: str,
        input_size: InputSize | None = None,
        batch_size: int | None = None,
        mode: Mode = "inference",
        device: str = "cpu",
        precision: Precision = "as-built",
        optimizer: Optimizer | None = None,
        settings: dict[str, Any] | None = None,
        goal: str | None = None,
        accuracy: Accuracy = "retrain",
    ) -> CallToolResult:
        """What is wrong with a model and what can be slimmed: each change applied and measured.

        `goal` is what to reach, such as `fit:RTX 3060 12GB`, `params:-50%`, `macs:600M`,
        `memory:8GB` or `latency:20ms`. `accuracy` says how far changes may go: `none` keeps the
        function, `retrain` needs training again.
        """
        return await self._ask("advise", dict(
            model=model, input_size=input_size, batch_size=batch_size, mode=mode, device=device,
            precision=precision, optimizer=optimizer, settings=settings, goal=goal,
            accuracy=accuracy,
        ))  # fmt: skip

    async def devices(self, search: str = "") -> CallToolResult:
        """GPUs and boards that can be named as `device`, with their memory; and the GPUs here.

        `search` are words of the name, maker, kind or architecture, such as `jetson`.
        """
        return await self._ask("devices", {"search": search})


def serve(seconds: float = SECONDS) -> None:
    """Answer over stdin and stdout until the client goes away."""
    server = MCPServer("torchgauge", version=__version__, instructions=_INSTRUCTIONS)
    tools = Tools(seconds)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in (tools.summary, tools.fit, tools.compare, tools.advise, tools.devices):
        server.add_tool(tool, annotations=reads)
    server.run("stdio")

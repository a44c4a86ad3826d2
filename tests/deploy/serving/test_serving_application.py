"""The HTTP application in this process: routes, statuses, limits, counters. No sockets."""

from __future__ import annotations

import asyncio
import html
import json
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import httpx
import pytest
import torch

from deploy_models import Tagger, packaged
from torchgauge.deploy.export.signature import Signature, TensorSignature
from torchgauge.deploy.serving.budget import BatchLimit, batch_limit
from torchgauge.deploy.serving.engine import LocalEngine
from torchgauge.deploy.serving.http.application import Service, create_application
from torchgauge.deploy.serving.http.docs_page import docs_page
from torchgauge.deploy.serving.model import open_package, warm_up
from torchgauge.deploy.serving.settings import Settings
from torchgauge.errors import UsageError

SETTINGS = Settings(max_wait_seconds=0.001, max_body_bytes=2000, max_batch=4)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    model = Tagger()
    folder = tmp_path_factory.mktemp("packages") / "tagger"
    packaged(model, folder, inputs={"input_size": (2, 7), "dtypes": ["int64"]}, longest=32)
    served = open_package(folder)
    warm_up(served)
    return model.eval(), served


@asynccontextmanager
async def client_of(served, settings=SETTINGS, run=None):
    served = served if run is None else replace(served, run=run)
    limit = BatchLimit(served.memory, served.signature, 2**30, settings.max_batch)
    service = Service(served.signature, LocalEngine(served, settings, limit), settings, limit)
    application = create_application("tagger", service)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        client.service = service
        try:
            yield client
        finally:
            await service.stop()


def asked(served, ids, **options):
    """Return the response to one request."""

    async def ask():
        async with client_of(served, **options) as client:
            return await client.post("/v1/predict", json={"inputs": {"ids": ids}})

    return asyncio.run(ask())


def test_the_answer_is_the_models(tagger):
    model, served = tagger
    ids = [[1, 2, 3], [4, 5, 6]]
    response = asked(served, ids)
    assert response.status_code == 200
    expected = model(torch.tensor(ids))
    outputs = response.json()["outputs"]
    torch.testing.assert_close(torch.tensor(outputs["scores"]), expected["scores"])
    torch.testing.assert_close(torch.tensor(outputs["pooled.0"]), expected["pooled"][0])


def test_many_at_once_each_get_their_own(tagger):
    model, served = tagger
    batches = []

    def run(tensors):
        batches.append(len(tensors[0]))
        return served.run(tensors)

    async def ask():
        settings = replace(SETTINGS, max_wait_seconds=0.05)
        async with client_of(served, settings, run) as client:
            return await asyncio.gather(
                *(
                    client.post("/v1/predict", json={"inputs": {"ids": [[word, word]]}})
                    for word in range(20)
                )
            )

    for word, response in enumerate(asyncio.run(ask())):
        scores = torch.tensor(response.json()["outputs"]["scores"])
        torch.testing.assert_close(scores, model(torch.tensor([[word, word]]))["scores"])
    assert sum(batches) == 20
    assert max(batches) == 4


@pytest.mark.parametrize(
    ("ids", "status", "code", "message"),
    [
        ([[50]], 422, "bad_input", "the model takes 0 to 49"),
        ([[1] * 33], 422, "bad_input", "the model takes 1…32"),
        ([[1]] * 5, 422, "bad_input", "5 samples are more than one request may have here"),
        ([[0.5]], 422, "bad_input", "no whole numbers"),
        ([[1] * 30] * 40, 413, "body_too_large", "larger than 1.95 KiB"),
    ],
)
def test_refusals(tagger, ids, status, code, message):
    response = asked(tagger[1], ids)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert message in error["message"]


def test_what_the_model_refuses_is_the_requests_fault(tagger):
    def run(_):
        raise ValueError("sizes must be even\nand more")

    response = asked(tagger[1], [[1]], run=run)
    assert response.status_code == 422
    assert response.json()["error"]["message"] == (
        "the model refused ids [1, 1]: ValueError: sizes must be even"
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-length": "2000000000"}, 413),
        ({"content-type": "application/json; charset=utf-8"}, 400),
        ({"content-type": "Application/JSON", "content-encoding": "Identity"}, 400),
    ],
)
def test_headers_decide_before_the_body_is_read(tagger, headers, status):
    read = []

    async def body():
        read.append(True)
        yield b"{}"

    async def ask():
        async with client_of(tagger[1]) as client:
            return await client.post("/v1/predict", content=body(), headers=headers)

    response = asyncio.run(ask())
    assert response.status_code == status
    assert response.headers.get("connection") == (None if status == 400 else "close")


def test_a_body_without_a_length_is_cut_off_at_the_limit(tagger):
    sent = 0

    async def body():
        nonlocal sent
        for _ in range(1000):
            sent += 500
            yield b"[" * 500

    async def ask():
        async with client_of(tagger[1]) as client:
            response = await client.post("/v1/predict", content=body())
            assert client.service.pending.held == 0
            return response

    assert asyncio.run(ask()).status_code == 413


def test_a_slow_body_is_given_up(tagger):
    # httpx's transport waits for its own generator, so the application is asked directly.
    assert asyncio.run(_direct(tagger[1])) == 408


async def _direct(served):
    statuses = []

    async def receive():
        await asyncio.sleep(5)

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async with client_of(served, replace(SETTINGS, body_seconds=0.05)) as client:
        application = create_application("tagger", client.service)
        scope = {
            "type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict",
            "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
            "server": ("server", 80), "client": ("client", 1), "root_path": "",
        }  # fmt: skip
        await application(scope, receive, send)
    return statuses[0]


def test_a_full_queue_is_429_with_retry_after_and_the_rest_is_answered(tagger):
    _, served = tagger
    gate = threading.Event()

    def run(tensors):
        assert gate.wait(10)
        return served.run(tensors)

    async def ask():
        settings = replace(SETTINGS, max_queue=3, batching=False)
        async with client_of(served, settings, run) as client:
            asks = [
                asyncio.create_task(client.post("/v1/predict", json={"inputs": {"ids": [[1]]}}))
                for _ in range(12)
            ]
            while sum(task.done() for task in asks) < 8:
                await asyncio.sleep(0.01)
            assert (await client.get("/healthz")).status_code == 200
            gate.set()
            return await asyncio.gather(*asks)

    responses = asyncio.run(ask())
    statuses = [response.status_code for response in responses]
    # Three in the queue, and one in the model's hands if it was quick.
    assert statuses.count(200) in (3, 4)
    assert statuses.count(200) + statuses.count(429) == 12
    busy = next(response for response in responses if response.status_code == 429)
    assert busy.headers["retry-after"] == "1"


def test_every_reason_for_429_has_a_retry_after(tagger):
    """A full queue is above; here too many requests at once, and too many bytes."""
    _, served = tagger
    gate = threading.Event()

    def run(tensors):
        assert gate.wait(10)
        return served.run(tensors)

    async def ask():
        settings = replace(SETTINGS, max_queue=2, batching=False)
        async with client_of(served, settings, run) as client:
            ask_one = partial(client.post, "/v1/predict", json={"inputs": {"ids": [[1]]}})
            held = [asyncio.create_task(ask_one())]  # the model's
            while client.service.engine.waiting or not client.service.taken:
                await asyncio.sleep(0.01)
            held += [asyncio.create_task(ask_one()) for _ in range(2)]  # the queue's
            while client.service.engine.waiting < 2:
                await asyncio.sleep(0.01)
            held.append(asyncio.create_task(ask_slowly(client)))  # its body is still coming
            while client.service.taken < 4:
                await asyncio.sleep(0.01)
            crowded = await ask_one()
            gate.set()
            await asyncio.gather(*held)
        async with client_of(served, replace(SETTINGS, max_pending_bytes=10)) as client:
            return crowded, await client.post("/v1/predict", json={"inputs": {"ids": [[1]]}})

    async def ask_slowly(client):
        async def body():
            while not gate.is_set():
                await asyncio.sleep(0.01)
            yield b'{"inputs": {"ids": [[1]]}}'

        return await client.post("/v1/predict", content=body())

    crowded, heavy = asyncio.run(ask())
    assert crowded.json()["error"] == {
        "code": "busy", "message": "too many requests at once (4); try again later",
    }  # fmt: skip
    assert "take all of the memory for bodies" in heavy.json()["error"]["message"]
    for response in (crowded, heavy):
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        ("POST", "/v2/models", 404, "not_found", "there is nothing at '/v2/models'; POST /v1/pre"),
        ("POST", "/v1/predict/", 404, "not_found", "there is nothing at '/v1/predict/'"),
        ("GET", "/v1/predict", 405, "method_not_allowed", "/v1/predict takes POST, not GET"),
        ("POST", "/healthz", 405, "method_not_allowed", "/healthz takes GET, not POST"),
    ],
)
def test_paths_and_methods_that_do_not_exist(tagger, method, path, status, code, message):
    async def ask():
        async with client_of(tagger[1]) as client:
            response = await client.request(method, path)
            return response, (await client.get("/metrics")).text

    response, metrics = asyncio.run(ask())
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert message in response.json()["error"]["message"]
    assert response.headers.get("allow") == (None if status == 404 else message.split()[2][:-1])
    label = path if status == 405 else "unmatched"
    assert f'torchgauge_requests_total{{path="{label}",status="{status}"}} 1.0' in metrics


def test_a_thousand_unknown_paths_are_one_line_of_the_metrics(tagger):
    async def ask():
        async with client_of(tagger[1]) as client:
            await asyncio.gather(*(client.get(f"/{number}") for number in range(1000)))
            return (await client.get("/metrics")).text

    lines = [line for line in asyncio.run(ask()).splitlines() if "requests_total{" in line]
    assert lines == ['torchgauge_requests_total{path="unmatched",status="404"} 1000.0']


def test_a_bug_of_the_server_is_an_error_of_the_same_form(tagger):
    async def ask():
        async with client_of(tagger[1]) as client:
            client.service.engine.predict = None
            transport = httpx.ASGITransport(
                app=create_application("tagger", client.service), raise_app_exceptions=False
            )
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as other:
                response = await other.post("/v1/predict", json={"inputs": {"ids": [[1]]}})
                metrics = (await other.get("/metrics")).text
            return response, metrics, client.service

    response, metrics, service = asyncio.run(ask())
    assert response.status_code == 500
    assert response.json()["error"] == {
        "code": "internal", "message": "the server failed: TypeError",
    }  # fmt: skip
    assert 'torchgauge_requests_total{path="/v1/predict",status="500"} 1.0' in metrics
    assert service.taken == service.answered == 1


def test_no_answer_in_time_is_504(tagger):
    def run(tensors):
        time.sleep(0.3)
        return tagger[1].run(tensors)

    async def ask():
        settings = replace(SETTINGS, request_seconds=0.05)
        async with client_of(tagger[1], settings, run) as client:
            return await client.post("/v1/predict", json={"inputs": {"ids": [[1]]}})

    assert asyncio.run(ask()).status_code == 504


def test_pending_bytes_are_bounded(tagger):
    async def ask():
        settings = replace(SETTINGS, max_pending_bytes=10)
        async with client_of(tagger[1], settings) as client:
            return await client.post("/v1/predict", json={"inputs": {"ids": [[1]]}})

    response = asyncio.run(ask())
    assert response.status_code == 429


def test_facts(tagger):
    async def ask():
        async with client_of(tagger[1]) as client:
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            await client.post("/v1/predict", json={"inputs": {"ids": [[1, 2]]}})
            await client.post("/v1/predict", json={"inputs": {}})
            metrics = (await client.get("/metrics")).text
            signature = (await client.get("/v1/signature")).json()
            description = (await client.get("/openapi.json")).json()
            await client.service.stop()
            assert (await client.get("/readyz")).status_code == 503
            return metrics, signature, description

    metrics, signature, description = asyncio.run(ask())
    assert 'torchgauge_requests_total{path="/v1/predict",status="200"} 1.0' in metrics
    assert 'torchgauge_requests_total{path="/v1/predict",status="422"} 1.0' in metrics
    assert "torchgauge_batch_samples_sum 1.0" in metrics
    assert signature["inputs"] == [tagger[1].signature.inputs[0].to_dict()]
    operation = description["paths"]["/v1/predict"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    ids = schema["properties"]["inputs"]["properties"]["ids"]["anyOf"][0]
    assert ids["items"]["maxItems"] == 32
    assert ids["items"]["items"] == {"type": "integer", "minimum": 0, "maximum": 49}
    assert {"200", "408", "413", "422", "429", "503", "504"} <= operation["responses"].keys()
    busy = operation["responses"]["429"]
    assert "the queue is full, too many requests are being read" in busy["description"]
    assert busy["headers"]["Retry-After"]["required"]


def test_the_documentation_needs_nothing_from_elsewhere(tagger):
    async def ask():
        async with client_of(tagger[1]) as client:
            page = (await client.get("/docs")).text
            body = html.unescape(page[page.index("{&quot;inputs") :].partition("</pre>")[0])
            example = await client.post("/v1/predict", json=json.loads(body))
            return page, example, (await client.get("/redoc")).status_code

    page, example, redoc = asyncio.run(ask())
    assert "<td>ids</td><td>[batch, sequence]</td><td>int64</td><td>0…49</td>" in page
    assert "<td>429</td><td>too much at once" in page
    assert "<td>samples in one request</td><td>4 at most" in page
    assert "://" not in page
    assert "<script" not in page
    assert example.status_code == 200
    assert redoc == 404


def test_names_of_strangers_are_escaped_on_the_page():
    tensor = TensorSignature(name="<script>", shape=(100, 3), dtype="float32")
    page = docs_page("<b>", "", Signature(inputs=(tensor,), outputs=()), 1)
    assert "<script" not in page
    assert "<b>" not in page
    assert html.escape('"shape": [100, 3], "data": "base64 of the bytes"') in page


def test_a_large_answer_is_sent_in_pieces_and_counted_while_it_is(tagger):
    model, served = tagger
    held = []

    async def ask():
        settings = replace(SETTINGS, max_batch=400, max_body_bytes=2**20)
        async with client_of(served, settings) as client:
            ids = [[1] * 20] * 200
            pending = client.service.pending
            hold = pending.hold
            pending.hold = lambda size: (held.append(size), hold(size))
            response = await client.post("/v1/predict", json={"inputs": {"ids": ids}})
            assert pending.held == 0
            return response.json()

    outputs = asyncio.run(ask())["outputs"]
    expected = model(torch.tensor([[1] * 20] * 200))
    torch.testing.assert_close(torch.tensor(outputs["scores"]), expected["scores"])
    assert held == [200 * (20 * 5 + 16) * 4]


# ---------------------------------------------------------------------------- memory


def test_the_batch_limit_is_what_the_memory_allows(tagger):
    table, signature = tagger[1].memory, tagger[1].signature
    short, long = table.lines[0], table.lines[-1]
    # The outputs of a sample are kept once more: 5 scores for each token and 16 numbers.
    short_answer, long_answer = (16 * 5 + 16) * 4, (32 * 5 + 16) * 4
    budget = long.peak_bytes(3) + 3 * long_answer
    limit = BatchLimit(table, signature, budget, max_batch=1000)
    assert limit({"sequence": 32}) == 3
    assert limit({"sequence": 30}) == 3  # covered by the same line
    assert limit({"sequence": 16}) == (budget - short.fixed_bytes) // (
        short.bytes_per_sample + short_answer
    )
    assert BatchLimit(table, signature, budget, max_batch=2)({"sequence": 32}) == 2
    assert BatchLimit(table, signature, 100, max_batch=2)({"sequence": 32}) == 0


def test_a_length_without_memory_is_refused_and_shorter_ones_are_answered(tagger):
    _, served = tagger

    async def ask():
        budget = served.memory.lines[0].peak_bytes(1) + (16 * 5 + 16) * 4
        limit = BatchLimit(served.memory, served.signature, budget, 4)
        settings = replace(SETTINGS, max_body_bytes=10_000)
        engine = LocalEngine(served, settings, limit)
        service = Service(served.signature, engine, settings, limit)
        transport = httpx.ASGITransport(app=create_application("tagger", service))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answers = [
                await client.post("/v1/predict", json={"inputs": {"ids": [[1] * n]}})
                for n in (16, 32)
            ]
        await service.stop()
        return answers

    short, long = asyncio.run(ask())
    assert short.status_code == 200
    assert long.status_code == 422
    assert (
        "sequence = 32 is more than this server has memory for"
        in json.loads(long.text)["error"]["message"]
    )


def test_a_server_without_memory_for_one_sample_does_not_start(tagger):
    settings = replace(SETTINGS, max_pending_bytes=2**20)
    with pytest.raises(UsageError, match=r"one sample takes .* are left for the model"):
        batch_limit(tagger[1], settings, 2**20)
    assert batch_limit(tagger[1], settings, 2**40)({"sequence": 1}) == 4

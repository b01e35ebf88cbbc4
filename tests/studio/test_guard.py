"""What is refused before anything looks at it, and what every answer carries."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from open_ldm.studio.guard import Guard

TOKEN = "0123456789abcdef"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    read = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            read = b"cut off"
            break
        read += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": read or b"inside"})


def answered(
    path: str = "/", method: str = "GET", token: str | None = None, query: str = "", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    guard = Guard(inner, token, most_bytes=100)
    given = {"host": "127.0.0.1:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


HOSTILE = [
    {"path": "/gradio_api/file=/etc/passwd"},
    {"path": "/gradio_api/file/etc/passwd"},
    {"path": "/file=/etc/passwd"},
    {"path": "/gradio_api/upload", "method": "POST"},
    {"path": "/gradio_api/proxy=https://example.org/x"},
    {"path": "/gradio_api/stream/a/b/1/playlist.m3u8"},
    {"path": "/gradio_api/run/predict", "method": "POST"},
    {"path": "/gradio_api/call/predict", "method": "POST"},
    {"path": "/gradio_api/component_server", "method": "POST"},
    {"path": "/gradio_api/custom_component/1/client/x/../../etc"},
    {"path": "/gradio_api/vibe-code"},
    {"path": "/gradio_api/process_recording", "method": "POST"},
    {"path": "/gradio_api/deep_link"},
    {"path": "/static/../../etc/passwd"},
    {"path": "/assets/..%2f..%2fetc"},
    {"path": "/monitoring"},
    {"path": "/login", "method": "POST"},
    {"path": "/", "method": "DELETE"},
    {"path": "/", "query": "page=x"},
    {"path": "/", "host": "evil.example"},
    {"path": "/", "host": "127.0.0.1.evil.example:7860"},
    {"path": "/api/sample", "method": "POST", "origin": "http://evil.example"},
    {"path": "/api/sample", "method": "POST", "content_length": "101"},
    {"path": "/api/sample", "method": "POST", "content_length": "-1"},
    {"path": "/api/sample", "method": "POST", "content_length": "9" * 5000},
]


@pytest.mark.parametrize("request_", HOSTILE, ids=lambda one: f"{one.get('method', 'GET')} {one['path']}"[:50])
def test_hostile_requests_are_refused(request_: dict[str, str]) -> None:
    status, _, body = answered(**request_)
    assert 400 <= status < 500 and body != b"inside"


@pytest.mark.parametrize(
    ("path", "method"),
    [("/", "GET"), ("/assets/index-Dph_2.js", "GET"), ("/static/js/x.min.js", "GET"), ("/gradio_api/queue/join", "POST")],
)
def test_what_the_pages_need_is_let_through_and_keeps_browsers_at_home(path: str, method: str) -> None:
    status, headers, body = answered(path, method, origin="http://127.0.0.1:7860")
    assert (status, body) == (200, b"inside")
    assert "default-src 'self'" in headers["content-security-policy"] and "http" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (401, {"path": "/api/runs", "token": TOKEN}),
        (403, {"path": "/api/sample", "method": "POST", "origin": "http://evil.example"}),
        (404, {"path": "/api/nothing"}),
        (404, {"path": "/api"}),
        (405, {"path": "/api/sample", "method": "PUT"}),
        (413, {"path": "/api/sample", "method": "POST", "content_length": "101"}),
        (421, {"path": "/api/runs", "host": "evil.example"}),
    ],
)
def test_the_api_is_refused_in_json_and_pages_in_words(status: int, request_: dict[str, str]) -> None:
    found, headers, body = answered(**request_)
    assert (found, headers["content-type"]) == (status, "application/json")
    content = json.loads(body)
    assert list(content) == ["error"] and content["error"] and "\n" not in content["error"]
    found, headers, body = answered(**{**request_, "path": "/apis", "token": None})  # type: ignore[arg-type]
    assert found >= 400 and headers["content-type"].startswith("text/plain") and not body.startswith(b"{")


def test_a_body_longer_than_it_says_is_cut_off() -> None:
    assert answered("/api/sample", "POST", body=b"x" * 101)[2] == b"cut off"
    assert answered("/api/sample", "POST", body=b"x" * 100)[2] == b"x" * 100


def test_a_token_is_asked_for_and_leaves_the_address() -> None:
    assert answered(token=TOKEN)[0] == 401
    assert answered("/api/runs", token=TOKEN, authorization="Bearer wrong")[0] == 401
    assert answered("/api/runs", token=TOKEN, query=f"token={TOKEN}")[0] == 401
    assert answered("/api/runs", token=TOKEN, authorization=f"Bearer {TOKEN}")[2] == b"inside"
    status, headers, _ = answered(token=TOKEN, query=f"tab=runs&token={TOKEN}")
    assert (status, headers["location"]) == (303, "/?tab=runs")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert answered(token=TOKEN, cookie=cookie.partition(";")[0])[2] == b"inside"
    assert answered(token=TOKEN, query="token=wrong")[0] == 401

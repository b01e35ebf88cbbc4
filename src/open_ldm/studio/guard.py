"""What a request must be before anything looks at it: a known path, a host that is ours, a token, and not too large.

It is plain ASGI middleware, so that it also sees what the library behind the pages serves. Of that library's paths only those
that the pages need are let through: none that reads, writes or lists a file by a name in the request, or fetches an address.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

from open_ldm.core.plain_data import to_json
from open_ldm.studio.limits import LIMITS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE, QUERY = "ldm_studio", "token"
_NAME = r"[\w.-]+"
_GET = re.compile(
    rf"/|/api/runs|/api/schema|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/assets/{_NAME}|/svelte/{_NAME}"
    rf"|/static/(?:{_NAME}/)*{_NAME}|/gradio_api/(?:info/?|startup-events|app_id/?|queue/data|theme\.css|heartbeat/{_NAME})"
)
_POST = re.compile(r"/api/sample|/gradio_api/queue/join|/gradio_api/cancel|/gradio_api/reset/?")
_OF_OTHER_PAGES = {"page", "deep_link"}
"""Entries of an address by which the library behind the pages looks for what we do not have, and fails (status 500)."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " connect-src 'self' data: blob:; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
Headers = tuple[tuple[bytes, bytes], ...]


class Guard:
    """Middleware that refuses what the studio does not offer, and adds the headers that keep a browser at home.

    Args:
        app: What it guards.
        token: Who asks must know it; None where only this machine can ask.
        hosts: Names by which the studio may be called; empty for any. A page of another site cannot make a browser ask
            a studio on this machine by a name of its own (DNS rebinding).
        most_bytes: Of a request's body.
        framed_by: Sites whose pages may show the studio inside themselves, besides its own.
    """

    def __init__(
        self,
        app: App,
        token: str | None = None,
        hosts: Iterable[str] = LOCAL_NAMES,
        most_bytes: int = LIMITS.body_bytes,
        framed_by: Iterable[str] = (),
    ) -> None:
        self.app, self.token, self.hosts, self.most_bytes = app, token, frozenset(hosts), most_bytes
        policy = " ".join([_POLICY, *framed_by])
        self.headers: Headers = ((b"content-security-policy", policy.encode()), *_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an error, or hand the request on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif (refused := self._refused(scope)) is not None:
            await _answer(send, self.headers, *refused, as_json=_asks_api(scope))
        elif (given := self._token_in_query(scope)) is not None:
            right = hmac.compare_digest(given.encode(), self.token.encode()) if self.token else False
            await _answer(
                send, self.headers, 303, "", (_location(scope), *([_cookie(self.token)] if right and self.token else []))
            )
        else:
            await self.app(scope, _counted(receive, self.most_bytes), _with_headers(send, self.headers))

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(method)
        if allowed is None:
            return 405, "this method is not offered"
        if self.hosts and _host(headers.get("host", "")) not in self.hosts:
            return 421, "the studio is not called by this name"
        if method == "POST" and not _same_origin(headers):
            return 403, "requests of other sites are refused"
        if allowed.fullmatch(path) is None or ".." in path or _OF_OTHER_PAGES & parse_qs(_query(scope)).keys():
            return 404, "there is nothing here"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or len(length) > 12 or int(length) > self.most_bytes:
            return 413, f"a request may have at most {self.most_bytes:,} bytes"
        if self.token is not None and not self._knows_token(scope, headers):
            return 401, "a token is needed: open the address that ldm studio printed, or send Authorization: Bearer TOKEN"
        return None

    def _knows_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        bearer = headers.get("authorization", "")
        given = [bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None, self._token_in_query(scope)]
        with suppress(CookieError):  # cookies that cannot be read hold no token
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            given.append(None if morsel is None else morsel.value)
        wanted = (self.token or "").encode()
        return any(hmac.compare_digest(one.encode(), wanted) for one in given if one is not None)

    def _token_in_query(self, scope: Scope) -> str | None:
        if self.token is None or scope["path"] != "/":
            return None
        found = parse_qs(_query(scope)).get(QUERY)
        return found[0] if found else None


def _query(scope: Scope) -> str:
    return bytes(scope["query_string"]).decode("latin-1")


def _host(given: str) -> str:
    """The name in a Host header, without its port."""
    return (given.partition("]")[0] + "]" if given.startswith("[") else given.partition(":")[0]).lower()


def _same_origin(headers: dict[str, str]) -> bool:
    """Whether a request that changes something comes from our own page, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or re.sub(r"^https?://", "", origin) == headers.get("host", "")


def _location(scope: Scope) -> tuple[bytes, bytes]:
    """The page itself without the token in its address, where it would be seen and remembered."""
    query = parse_qs(_query(scope))
    query.pop(QUERY, None)
    return b"location", ("/" + (f"?{urlencode(query, doseq=True)}" if query else "")).encode("latin-1", "ignore")


def _cookie(token: str) -> tuple[bytes, bytes]:
    return b"set-cookie", f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/".encode("latin-1", "ignore")


def _asks_api(scope: Scope) -> bool:
    return bool(re.match(r"/api(/|$)", scope["path"]))


async def _answer(send: Send, own: Headers, status: int, text: str, more: Headers = (), *, as_json: bool = False) -> None:
    """Answer in one line, to the API as the object that all its errors are."""
    kind, body = (b"application/json", to_json({"error": text})) if as_json else (b"text/plain; charset=utf-8", text)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *more, *own]})
    await send({"type": "http.response.body", "body": body.encode()})


def _counted(receive: Receive, most: int) -> Receive:
    """Cut off a body that is longer than its header said, or that said nothing."""
    read = 0

    async def counted() -> Message:
        """Receive a message; beyond the limit the client counts as gone."""
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        return {"type": "http.disconnect"} if read > most else message

    return counted


def _with_headers(send: Send, headers: Headers) -> Send:
    async def sent(message: Message) -> None:
        """Send a message, its start with the further headers."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return sent

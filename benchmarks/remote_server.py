"""A web server for a folder that is slow and fails now and then, which tests and benchmarks read shards from."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Served:
    """A running server: its address, what it was asked for, and how it behaves, which may be changed while it runs.

    Attributes:
        url: Address of the folder.
        latency_seconds: Wait before each answer.
        fault_every: Every so-manieth answer fails, in turn by status 503, by a body that ends early and by one that is another
            file's; 0 for none.
        wrong_bytes: Whether the third kind of fault happens; no time-out or length shows it.
        asked: Number of answers by method and name; those for a part of a file count as "RANGE".
    """

    url: str = ""
    latency_seconds: float = 0.0
    fault_every: int = 0
    wrong_bytes: bool = False
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: int = 0
    _answers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self) -> str:
        """Say how the next answer fails: "", "status", "short" or "wrong"."""
        with self._lock:
            self._answers += 1
            if not self.fault_every or self._answers % self.fault_every:
                return ""
            kinds = ("status", "short", "wrong") if self.wrong_bytes else ("status", "short")
            self.faults += 1
            return kinds[self.faults % len(kinds)]

    def count(self, method: str, name: str) -> None:
        """Note a request."""
        with self._lock:
            self.asked[method, name] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a reader that has gone away, as one does after its time-out."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a folder's files at 127.0.0.1 until the block ends."""
    state = Served()
    server = _Server(("127.0.0.1", 0), _handler(folder, state))
    state.url = f"http://127.0.0.1:{server.server_address[1]}/data"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(folder: Path, state: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            time.sleep(state.latency_seconds)
            name = unquote(urlsplit(self.path).path).removeprefix("/data").strip("/")
            given = self.headers.get("Range")
            state.count("RANGE" if given else self.command, name)
            fault = state.fault()
            if fault == "status":
                self._send(503, b"", with_body)
                return
            if not name:
                links = "".join(f'<a href="/data/{file.name}">{file.name}</a>\n' for file in sorted(folder.iterdir()))
                self._send(200, links.encode(), with_body, "text/html")
                return
            path = folder / name
            if not path.is_file():
                self._send(404, b"", with_body)
                return
            content = path.read_bytes()
            whole = len(content)
            if given:
                first, _, last = given.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or whole - 1), whole - 1)
                content = content[start : end + 1]
                self._range = f"bytes {start}-{end}/{whole}"
            if fault == "wrong":
                content = bytes(len(content))
            self._send(206 if given else 200, content, with_body, short=fault == "short")

        def _send(
            self, status: int, body: bytes, with_body: bool, kind: str = "application/x-tar", short: bool = False
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 206:
                self.send_header("Content-Range", self._range)
            self.end_headers()
            if with_body:
                self.wfile.write(body[: len(body) // 2] if short else body)
            if short:
                self.close_connection = True

        def log_message(self, *given: object) -> None:
            """Say nothing."""

    return Handler

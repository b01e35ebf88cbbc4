"""A headless Chromium that opens pages and says what happened, over its debugging pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_SECONDS = 120.0
_READS, _WRITES = 3, 4
"""The file descriptors from which Chromium reads messages and to which it writes them."""
Theme = Literal["light", "dark"]


def find_chromium() -> str | None:
    """The program, or None where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Opened:
    """A page that was opened. `requests`: all but the page itself and data URIs; `errors`: of scripts, loading and security."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Browser:
    """One tab of one Chromium process; every wait ends after two minutes. Use `browser` to open it."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._pending = b""
        self._numbers = itertools.count(1)
        self._opened, self._url, self._loaded = Opened(), "", False
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, page: Path | str, width_px: int, height_px: int = 900, theme: Theme = "light") -> Opened:
        """Open a file, or an address, at that size and wait until it has loaded."""
        self.show(width_px, height_px, theme)
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self._opened, self._url, self._loaded = Opened(), url, False
        self.call("Page.navigate", url=self._url)
        limit = time.monotonic() + _SECONDS
        while not self._loaded:
            self._receive(limit)
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self._opened

    def show(self, width_px: int, height_px: int = 900, theme: Theme = "light") -> None:
        """Show the page that is open at that size and in that theme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width_px, height=height_px, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited. Raises AssertionError when it throws."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        box = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": box["width"], "height": min(box["height"], 16_000), "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile are noted. Raises AssertionError for an error."""
        number = next(self._numbers)
        session = {} if self._session is None else {"sessionId": self._session}
        _write_all(self._to, json.dumps({"id": number, "method": method, "params": parameters, **session}).encode() + b"\0")
        limit = time.monotonic() + _SECONDS
        while (answer := self._receive(limit)).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def _receive(self, limit: float) -> Mapping[str, Any]:
        """The next message; an event is noted first."""
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._back], [], [], max(0.0, limit - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium said nothing for {_SECONDS:g} s")
            received = os.read(self._back, 1 << 16)
            if not received:
                raise ConnectionError("Chromium has ended")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\0")
        message: Mapping[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if url != self._url and not url.startswith("data:"):
                self._opened.requests.append(url)
        elif event == "Runtime.exceptionThrown":
            self._opened.errors.append(str(told["exceptionDetails"].get("text")))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self._opened.errors.append(str(told["args"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self._opened.errors.append(told["entry"]["text"])


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start Chromium with the new profile folder `profile`, and end it afterwards, whatever happens."""
    (given, to), (back, answers) = (_high_pipe() for _ in range(2))
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]

    def connect() -> None:
        os.dup2(given, _READS)
        os.dup2(answers, _WRITES)

    held = _held_open(_READS, _WRITES)
    with (profile.parent / f"{profile.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(_READS, _WRITES), preexec_fn=connect
        )
    for end in (given, answers, *held):
        os.close(end)
    try:
        opened = Browser(to, back)
        yield opened
    finally:
        with suppress(OSError):
            os.close(to)  # Chromium ends when its pipe does
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        os.close(back)


def _held_open(*wanted: int) -> list[int]:
    """Open those of these descriptors that are free: a process can be passed only open ones, and none that Popen uses."""
    opened: list[int] = []
    while len(opened) < len(wanted):
        number = os.open(os.devnull, os.O_RDONLY)
        if number not in wanted:
            os.close(number)
            break
        opened.append(number)
    return opened


def _high_pipe() -> tuple[int, int]:
    """A pipe whose ends are not among the descriptors that Chromium uses."""
    import fcntl  # not on Windows, where no page is opened

    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]


def _write_all(to: int, content: bytes) -> None:
    while content:
        content = content[os.write(to, content) :]

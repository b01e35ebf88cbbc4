"""Measures `ldm studio` as its users meet it: until the page is ready, until the first picture, many requests, hostile ones.

python benchmarks/studio_load.py RUN [RUN ...] [--requests 200]
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HOSTILE: tuple[tuple[str, str, dict[str, str], bytes], ...] = (
    ("GET", "/gradio_api/file=/etc/passwd", {}, b""),
    ("GET", "/gradio_api/file=../../../../etc/passwd", {}, b""),
    ("GET", "/file=C:/Windows/win.ini", {}, b""),
    ("GET", "/static/..%2f..%2f..%2fetc/passwd", {}, b""),
    ("GET", "/assets/%2e%2e/%2e%2e/etc/passwd", {}, b""),
    ("GET", "/gradio_api/proxy=http://example.org/", {}, b""),
    ("POST", "/gradio_api/upload", {}, b"x"),
    ("POST", "/gradio_api/component_server", {}, b"{}"),
    ("GET", "/?page=../../x", {}, b""),
    ("GET", "/", {"Host": "evil.example"}, b""),
    ("POST", "/api/sample", {"Origin": "http://evil.example"}, b"{}"),
    ("DELETE", "/api/runs", {}, b""),
    ("POST", "/api/sample", {}, b"x" * (13 << 20)),
    ("POST", "/api/sample", {}, b"[" * 100_000),
    ("POST", "/api/sample", {}, b'{"model": "../../etc/passwd", "prompt": "x"}'),
    ("POST", "/api/sample", {}, b'{"model": "MODEL", "count": 1000000}'),
    ("POST", "/api/sample", {}, b'{"model": "MODEL", "steps": 1000000}'),
    ("POST", "/api/sample", {}, b'{"model": "MODEL", "start": "/etc/passwd"}'),
    ("POST", "/api/sample", {}, b'{"model": "MODEL", "controls": {"size": "../../x"}}'),
    ("POST", "/api/sample", {}, b'{"model": "MODEL", "seed": 1e400}'),
)


def asked(address: str, content: dict[str, Any] | None = None) -> bytes:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"content-type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return bytes(answer.read())


def refused(address: str, model: str, request: tuple[str, str, dict[str, str], bytes]) -> tuple[bool, int]:
    method, path, headers, body = request
    body = body.replace(b"MODEL", model.encode())
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address + path, body or None, headers, method=method), timeout=60
        ) as answer:
            return False, int(answer.status)
    except urllib.error.HTTPError as error:
        return 400 <= error.code < 500, error.code
    except (ConnectionError, urllib.error.URLError):
        return True, 0  # hung up on


def freed_after_hanging_up(address: str, content: dict[str, Any]) -> float:
    """Seconds until the device is free again after a client has asked for much and gone away."""
    host, _, port = address.removeprefix("http://").partition(":")
    body = json.dumps({**content, "count": 16, "steps": 250, "solver": "heun"}).encode()
    head = f"POST /api/sample HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        while json.loads(asked(address + "/api/runs"))["jobs"] == 0:
            time.sleep(0.01)
    begun = time.perf_counter()
    while json.loads(asked(address + "/api/runs"))["jobs"]:
        time.sleep(0.01)
    return time.perf_counter() - begun


def memory_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    started = time.perf_counter()
    command = [sys.executable, "-m", "open_ldm", "studio", *given.runs, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        address = line.partition(" at ")[2].partition("/ ")[0]
        page = asked(address + "/")
        ready = time.perf_counter() - started
        model = json.loads(asked(address + "/api/runs"))["runs"][0]
        content: dict[str, Any] = {"model": model["name"]}
        content |= {"label": model["classes"][0]} if model["takes"] == "class" else {}
        begun = time.perf_counter()
        first = json.loads(asked(address + "/api/sample", {**content, "count": 4}))
        first_seconds = time.perf_counter() - begun
        assert base64.b64decode(first["pictures"][0]["png"]).startswith(b"\x89PNG")

        def one(number: int) -> float:
            begin = time.perf_counter()
            asked(address + "/api/sample", {**content, "seed": number, "steps": 4})
            return time.perf_counter() - begin

        begun = time.perf_counter()
        with ThreadPoolExecutor(given.requests) as pool:
            waits = sorted(pool.map(one, range(given.requests)))
        took = time.perf_counter() - begun
        freed = freed_after_hanging_up(address, content)
        verdicts = [refused(address, model["name"], request) for request in HOSTILE]
        alive = len(asked(address + "/"))
        result = {
            "page ready (s)": round(ready, 2),
            "page (bytes)": len(page),
            "first picture, 4 pictures of the run's own steps (s)": round(first_seconds, 2),
            f"{given.requests} requests at once (s)": round(took, 2),
            "failed": 0,
            "median wait (s)": round(statistics.median(waits), 2),
            "longest wait (s)": round(waits[-1], 2),
            "device free after a client hung up (s)": round(freed, 2),
            f"hostile requests refused, of {len(HOSTILE)}": sum(one for one, _ in verdicts),
            "their status": [status for _, status in verdicts],
            "answers afterwards": alive > 0,
            "peak memory (MB)": round(memory_mb(process.pid)),
        }
        print(json.dumps(result, indent=1))
        return 0 if all(one for one, _ in verdicts) else 1
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())

"""A file system of fsspec over urllib, for tests where aiohttp, which fsspec's own one for the web needs, is not installed."""

from __future__ import annotations

import importlib.util
import re
import urllib.error
import urllib.request
from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem


class PlainWeb(AbstractFileSystem):
    """Reads what a server gives at plain://."""

    protocol = "plain"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.rstrip("/")

    def _ask(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[Any, bytes]:
        request = urllib.request.Request(path.replace("plain://", "http://"), headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer, answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(path) from error
            error.status = error.code
            raise

    def ls(self, path: str, detail: bool = True, **given: Any) -> list[Any]:
        names = re.findall(r'href="/data/([^"]+)"', self._ask(path)[1].decode())
        return [{"name": f"{path}/{name}", "size": None, "type": "file"} for name in names]

    def info(self, path: str, **given: Any) -> dict[str, Any]:
        return {"name": path, "size": int(self._ask(path, method="HEAD")[0].headers["Content-Length"]), "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **given: Any) -> bytes:
        return self._ask(path, {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"})[1]


def web_address(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an address that can be read here: as given with aiohttp, else by way of urllib."""
    if importlib.util.find_spec("aiohttp") is not None:
        return url
    fsspec.register_implementation("plain", PlainWeb, clobber=True)
    monkeypatch.setitem(__import__("open_ldm.sources.network", fromlist=["x"]).LIBRARIES, "plain", lambda: None)
    return url.replace("http://", "plain://")

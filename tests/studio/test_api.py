"""The API and the page over HTTP: typed, bounded, and without a request to anywhere."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.studio.device_queue import DeviceQueue
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest, play
from open_ldm.studio.serve import StudioOptions, bound_socket, nothing_to_show, opened, token_of
from open_ldm.studio.trainings import Trainings
from tests.studio.conftest import job

pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def client(improved: Path, entangled: Path) -> Iterator[Any]:
    """The whole application in this process; any connection to elsewhere fails."""
    from starlette.testclient import TestClient

    from open_ldm.studio.app import build_app

    def refused(*given: Any, **named: Any) -> Any:
        raise AssertionError(f"a connection was attempted: {given[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        patch.setattr(socket, "create_connection", refused)
        patch.setattr(socket, "getaddrinfo", refused)
        models = Models([entangled, improved], "cpu")
        app = build_app(models, Trainings(models.paths), DeviceQueue(), hosts=("testserver",))
        with TestClient(app) as opened_client:
            yield opened_client


def test_the_page_names_no_other_machine(client: Any) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "open-ldm studio" in page.text
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:)?//([^"/]+)', page.text)
    assert not loaded
    style = client.get("/theme.css").text
    assert "@import" not in style and "fonts.g" not in style + page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert '"analytics_enabled":false' in page.text.replace(" ", "")


def test_sample_answers_the_pictures_of_play(client: Any, models: Models) -> None:
    content = {"model": "improved", "prompt": "a red circle", "controls": {"size": "48x48"}, "seed": 3, "count": 2}
    found = client.post("/api/sample", json=content).json()
    wanted = play(models, PlayRequest.model_validate(content), job())
    assert [base64.b64decode(one["png"]) for one in found["pictures"]] == [one.png for one in wanted.pictures]
    assert found["pictures"][1]["seed"] == 4 and found["pictures"][0]["controls"] == {"size": "48x48"}
    assert found["settings"] == wanted.settings and found["samples_seen"] == 9


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"[" * 3000, 400),
        (b'{"model": "improved", "model": "entangled"}', 400),
        (b'{"model": "improved", "seed": NaN}', 400),
        (b'{"model": "improved", "seed": 1e400}', 400),
        (b'{"model": "/etc"}', 400),
        (b'{"model": "improved", "prompt": "a red circle", "count": 17}', 400),
        (b"\xff", 400),
        (b"x" * (13 << 20), 413),
    ],
    ids=range(10),
)
def test_what_does_not_fit_is_answered_in_one_line(client: Any, body: bytes, status: int) -> None:
    answer = client.post("/api/sample", content=body)
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"] and len(answer.json()["error"]) < 300


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"label": "ship"}, "label was given, but this model was not trained with classes; fix: prompt=TEXT"),
        ({"controls": {"sise": "8x8"}}, "the model knows no control 'sise'"),
    ],
)
def test_errors_name_fields_of_the_request(client: Any, field: dict[str, Any], said: str) -> None:
    answer = client.post("/api/sample", json={"model": "improved", **field})
    assert answer.status_code == 400 and answer.json()["error"].startswith(said) and "--" not in answer.json()["error"]


def test_runs_and_schema_say_what_can_be_asked(client: Any) -> None:
    content = client.get("/api/runs").json()
    assert content["jobs"] == 0
    one, two = content["runs"]
    assert (one["name"], two["name"], two["takes"]) == ("entangled", "improved", "text")
    assert list(two["controls"]) == ["size", "crop", "flip", "aspect"] and two["controls"]["size"][0]["high"] == 160
    schema = client.get("/api/schema").json()["POST /api/sample"]
    assert set(schema["properties"]) == set(PlayRequest.model_fields)


def test_files_and_uploads_of_the_library_are_closed(client: Any) -> None:
    for path in (
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/upload",
        "/openapi.json",
        "/docs",
        "/?page=x",
    ):
        assert client.get(path).status_code == 404
    assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 404
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421


def test_what_the_command_line_names_is_all_there_is(improved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, trainings = opened(StudioOptions(runs=(improved,), recipes=("demo-improved",)))
    assert models.names == ["improved", "demo-improved"] and trainings.names == models.names
    assert trainings.folder("demo-improved") == Path("runs/demo-improved")
    with pytest.raises(ConfigError, match="no run folder"):
        opened(StudioOptions(runs=(tmp_path / "none",)))
    monkeypatch.setattr("open_ldm.studio.serve.demo_models", list)
    with pytest.raises(ConfigError, match="ldm demo"):
        opened(StudioOptions())
    assert "\n" not in nothing_to_show([]).one_line()


def test_the_demo_opens_where_no_run_is_named(improved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_ldm.studio.serve.demo_models", lambda: [improved])
    models, trainings = opened(StudioOptions())
    assert models.names == ["improved"] and trainings.names == []


def test_another_host_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDM_STUDIO_TOKEN", raising=False)
    assert token_of(StudioOptions()) is None
    first, second = (token_of(StudioOptions(host="0.0.0.0")) for _ in range(2))
    assert first and second and first != second and len(first) >= 32
    monkeypatch.setenv("LDM_STUDIO_TOKEN", "a-token-of-sixteen")
    assert token_of(StudioOptions()) == "a-token-of-sixteen"
    with pytest.raises(ConfigError, match="token"):
        token_of(StudioOptions(token="short"))


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with bound_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="--port"):
        bound_socket("127.0.0.1", taken.getsockname()[1])


def test_the_answer_is_plain_json(client: Any) -> None:
    assert json.loads(client.get("/api/runs").content)["version"]

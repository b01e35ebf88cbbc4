"""The API: `POST /api/sample`, `GET /api/runs` and `GET /api/schema`, the same functions as the pages (docs/studio.md)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from open_ldm import __version__
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, OpenLdmError, error_line
from open_ldm.core.extras import need
from open_ldm.core.option_words import options_as_arguments
from open_ldm.core.plain_data import parse_json
from open_ldm.run_folder.history import read_history
from open_ldm.studio.device_queue import BusyError, CancelledError, DeviceQueue
from open_ldm.studio.models import ModelFacts, Models
from open_ldm.studio.play import Played, PlayRequest, play
from open_ldm.studio.widgets import Check, Choice, Part, Slider, widgets_of

_FIELDS = {"class": "label", "control": "controls"}
"""Fields of a request that are called otherwise than the options of `ldm sample`."""


def error_text(error: OpenLdmError) -> str:
    """Return an error of sampling on one line, with the fields of a request in the place of options."""
    fix = "" if "--class-index" in error.fix else error.fix  # a request has no field for it
    return error_line(*(options_as_arguments(part, _FIELDS) for part in (error.problem, error.needed, fix)))


def runs_content(models: Models, queue: DeviceQueue) -> dict[str, Any]:
    """Return what `/api/runs` answers: every model with what it can be asked for, where its run stands, and how many wait."""
    runs = [_run_content(models, name) for name in models.names]
    return {"version": __version__, "jobs": queue.length, "runs": runs}


def sample_content(found: Played) -> dict[str, Any]:
    """Return what `/api/sample` answers: each picture's PNG as base64, with its request."""
    pictures = [
        {
            "png": base64.b64encode(one.png).decode(),
            "seed": one.seed,
            "shows": one.shows,
            "controls": dict(one.controls),
        }
        for one in found.pictures
    ]
    return {
        "model": found.model,
        "samples_seen": found.samples_seen,
        "settings": found.settings,
        "seconds": round(found.seconds, 3),
        "pictures": pictures,
    }


def request_of(body: bytes) -> PlayRequest:
    """Read the body of a request to `/api/sample`. Raises ConfigError for anything else than such a JSON object."""
    try:
        content = parse_json(body.decode())
    except ValueError as error:
        raise ConfigError("the body is no JSON that can be read", needed="an object as /api/schema describes") from error
    if not isinstance(content, dict):
        raise ConfigError("the body is no JSON object", needed="an object as /api/schema describes")
    return validate(PlayRequest, content, source="/api/sample")


def schema_content() -> dict[str, Any]:
    """Return the JSON schema of a request to `/api/sample`."""
    return {"POST /api/sample": PlayRequest.model_json_schema()}


def add_routes(app: Any, models: Models, queue: DeviceQueue) -> None:
    """Add the routes of the API to an application of FastAPI."""
    responses = need("fastapi.responses", extra="studio")
    requests = need("starlette.requests", extra="studio")
    answer = partial(responses.JSONResponse, headers={"cache-control": "no-store"})

    async def sample(request: Any) -> Any:
        """Sample; waits in the queue of the device. A client that goes away frees it."""
        try:
            asked = request_of(await request.body())
            job = queue.submit(lambda job: play(models, asked, job))
            async with aclosing(queue.follow(job)) as following:
                async for _ in following:
                    if await request.is_disconnected():
                        break
            return answer(sample_content(job.future.result(timeout=0)))
        except BusyError as error:
            return answer({"error": error.one_line()}, status_code=503)
        except (CancelledError, TimeoutError):
            return answer({"error": "the job was cancelled, or took too long"}, status_code=408)
        except OpenLdmError as error:
            return answer({"error": error_text(error)}, status_code=400)
        except requests.ClientDisconnect:
            return answer({"error": "the body is too large"}, status_code=413)
        except Exception as error:  # a fault of this program, or a device without memory
            return answer({"error": error_line(f"unexpected {type(error).__name__}: {error}")}, status_code=500)

    def runs() -> Any:
        """List the models."""
        return answer(runs_content(models, queue))

    def schema() -> Any:
        """Describe a request."""
        return answer(schema_content())

    sample.__annotations__ = {"request": requests.Request}
    app.add_api_route("/api/sample", sample, methods=["POST"], response_model=None)
    app.add_api_route("/api/runs", runs, methods=["GET"], response_model=None)
    app.add_api_route("/api/schema", schema, methods=["GET"], response_model=None)


def _run_content(models: Models, name: str) -> Mapping[str, Any]:
    state, facts = read_history(models.path(name)).state, models.facts(name)
    content: dict[str, Any] = {"name": name, "state": state.word, "reason": state.reason}
    return content if facts is None else {**content, **_model_content(facts)}


def _model_content(facts: ModelFacts) -> Mapping[str, Any]:
    view, sampling = facts.known.facts.view, facts.recipe.sampling
    return {
        "samples_seen": facts.samples_seen,
        "takes": facts.semantic,
        "classes": list(facts.known.facts.class_names),
        "height_px": view.height_px,
        "width_px": view.width_px,
        "controls": {widget.option: [_part_content(part) for part in widget.parts] for widget in widgets_of(facts)},
        "sampling": sampling.model_dump(mode="json"),
    }


def _part_content(part: Part) -> Mapping[str, Any]:
    match part:
        case Slider():
            return {"kind": "number", "label": part.label, "low": part.low, "high": part.high, "default": part.value}
        case Choice():
            return {"kind": "choice", "label": part.label, "choices": list(part.choices), "default": part.value}
        case Check():
            return {"kind": "yes or no", "label": part.label, "default": part.value}
        case _:
            return {"kind": "text", "label": part.label, "form": part.hint}

"""What all pages share: their context, what of them stands in the address, and how a job is followed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from open_ldm.core.errors import OpenLdmError, error_line
from open_ldm.studio.device_queue import CancelledError, DeviceQueue, Job
from open_ldm.studio.markup import progress, status
from open_ldm.studio.models import ModelFacts, Models
from open_ldm.studio.trainings import Trainings

Shown = tuple[str, str]
"""HTML of the status, and HTML of the result."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
"""How a handler is bound that shows its own progress; all of them wait in our queue, not in the library's."""


@dataclass
class Studio:
    """What pages are built from.

    Attributes:
        gr: The module gradio.
        models: Those of the command line, or the demo's.
        playable: Those that could be sampled when the studio began.
        trainings: What may be started.
        queue: Of the device.
        remembered: Components whose values stand in the address, by their name there, with their defaults.
        loading: What is shown once these values are there: handler, inputs, outputs.
    """

    gr: Any
    models: Models
    playable: list[ModelFacts]
    trainings: Trainings
    queue: DeviceQueue
    remembered: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    loading: list[tuple[Any, Any, Any]] = field(default_factory=list)

    def remember(self, name: str, component: Any) -> Any:
        """Let the value of a component stand in the page's address under a name, where it is not the default."""
        self.remembered[name] = component, component.value
        return component

    def on_load(self, handler: Any, inputs: Any, outputs: Any) -> None:
        """Call a handler when the page has been opened and what stands in its address has been read."""
        self.loading.append((handler, inputs, outputs))

    async def run(
        self, work: Callable[[Job[Any]], Any], show: Callable[[Any], Markup], keep: Callable[[], Any]
    ) -> AsyncIterator[tuple[str, Any]]:
        """Queue a job, and yield (status, result) until it has ended; who stops listening cancels it.

        Args:
            work: The job.
            show: Its result as HTML.
            keep: What stands for "the result stays as it is".
        """
        try:
            job = self.queue.submit(work)
            async with aclosing(self.queue.follow(job)) as following:
                async for where in following:
                    yield progress(where), keep()
            yield status("done"), str(show(job.future.result()))
        except CancelledError as error:
            yield status(error.one_line()), keep()
        except OpenLdmError as error:
            yield status(error.one_line(), wrong=True), keep()
        except Exception as error:  # a fault of this program or a device without memory: the page stays usable and says so
            yield status(error_line(f"unexpected {type(error).__name__}: {error}"), wrong=True), keep()

    def button_pair(self, name: str) -> tuple[Any, Any]:
        """A button that begins something, and one that cancels it."""
        with self.gr.Row():
            start = self.gr.Button(name, variant="primary", scale=2)
            cancel = self.gr.Button("Cancel", scale=1)
        return start, cancel

    def cancels(self, button: Any, event: Any, shown: Any) -> None:
        """Let a button cancel what an event, or one of several, began."""
        button.click(
            lambda: status("cancelled"),
            None,
            shown,
            cancels=event if isinstance(event, list) else [event],
            queue=False,
            api_visibility="private",
        )


def restored(text: str, default: Any) -> Any:
    """Return a value from the page's address as its component takes it; the default for one that does not fit.

    Components themselves check ranges and choices again when they are used.
    """
    try:
        match default:
            case bool():
                return text == "true"
            case int():
                return int(float(text))
            case float():
                return float(text)
            case list():
                return text[:500].split(",")
            case _:
                return text[:500]
    except (ValueError, OverflowError):
        return default


def within(component: Any, value: Any, default: Any) -> Any:
    """Return a restored value where it lies within what a slider or a choice offers, else the default."""
    low, high = getattr(component, "minimum", None), getattr(component, "maximum", None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        fits = (low is None or value >= low) and (high is None or value <= high)
        return value if fits else default
    choices = getattr(component, "choices", None)
    if choices is not None:
        known = [choice[1] for choice in choices]
        if isinstance(value, list):
            return [one for one in value if one in known] or default
        return value if value in known else default
    return value


def from_query(query: Mapping[str, str], name: str, component: Any, default: Any) -> Any:
    """Return the value that a component has under an address."""
    return within(component, restored(query[name], default), default) if name in query else default

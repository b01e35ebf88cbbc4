"""The page as a whole: the tabs, what of them stands in the address, and the application that serves them and the API."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup

from open_ldm.core.extras import need
from open_ldm.studio.api import add_routes
from open_ldm.studio.device_queue import DeviceQueue
from open_ldm.studio.guard import Guard
from open_ldm.studio.models import Models
from open_ldm.studio.pages import compare_page, controls_page, data_page, denoise_page, play_page, runs_page
from open_ldm.studio.pages.base import Studio, from_query
from open_ldm.studio.trainings import Trainings

TITLE = "open-ldm studio"
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
_COLOURS = {
    "body_text_color_subdued": "#565a63",
    "body_text_color_subdued_dark": "#b9bec8",
    "block_info_text_color": "#565a63",
    "block_info_text_color_dark": "#b9bec8",
    "block_label_text_color": "#44474f",
    "block_title_text_color": "#44474f",
    "button_primary_background_fill": "#1d4ed8",
    "button_primary_background_fill_hover": "#1e40af",
    "button_primary_background_fill_dark": "#1d4ed8",
    "button_primary_background_fill_hover_dark": "#1e40af",
}
"""Those of the theme have too little contrast for small text (WCAG 2.2 asks for 4.5 to 1)."""
PAGES = {
    "Play": play_page.build,
    "Controls": controls_page.build,
    "Runs": runs_page.build,
    "Compare": compare_page.build,
    "Data": data_page.build,
    "Denoise": denoise_page.build,
}


@dataclass(frozen=True)
class Shown:
    """What is served: which pages, under which title, and whose pages may show it inside themselves beside its own."""

    pages: tuple[str, ...] = tuple(PAGES)
    title: str = TITLE
    framed_by: tuple[str, ...] = ()


def import_gradio() -> Any:
    """Import Gradio with everything switched off that asks another machine. Raises MissingExtraError."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return need("gradio", extra="studio")


def build_blocks(models: Models, trainings: Trainings, queue: DeviceQueue, shown: Shown) -> Any:
    """Build the tabs."""
    gr = import_gradio()
    with gr.Blocks(title=shown.title, analytics_enabled=False) as blocks:
        studio = Studio(gr, models, models.playable(), trainings, queue)
        gr.HTML(str(Markup('<h1 class="ldm-title">{}</h1>').format(shown.title)))
        with gr.Tabs(selected=shown.pages[0].lower(), elem_classes="ldm-one-page" if len(shown.pages) == 1 else "") as tabs:
            for name in shown.pages:
                with gr.Tab(name, id=name.lower()):
                    PAGES[name](studio)
        _keep_in_address(gr, blocks, tabs, studio, shown)
    return blocks


def build_app(
    models: Models,
    trainings: Trainings,
    queue: DeviceQueue,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    shown: Shown = Shown(),
) -> Any:
    """Build the application: pages and API behind the guard.

    Args:
        models: What is shown.
        trainings: What may be started.
        queue: Of the device.
        token: That requests need; None for none.
        hosts: Names by which the studio may be called; empty for any.
        shown: Which pages.

    Returns:
        An ASGI application.
    """
    gr, fastapi = import_gradio(), need("fastapi", extra="studio")
    blocks = build_blocks(models, trainings, queue, shown)
    blocks.queue(default_concurrency_limit=None, max_size=queue.limits.waiting, api_open=False)
    app = fastapi.FastAPI(title=shown.title, docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(app, models, queue)
    style, script = (_resource(name) for name in ("style.css", "address.js"))
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gr.themes.Base(font=list(_FONT), font_mono=list(_MONO), primary_hue="blue").set(**_COLOURS),
        css=style,
        head=f"<script>{script}</script>",
    )
    return Guard(mounted, token, hosts, framed_by=shown.framed_by)


def _keep_in_address(gr: Any, blocks: Any, tabs: Any, studio: Studio, shown: Shown) -> None:
    """Write what is chosen into the page's address, and read it from there when the page is opened."""
    remembered = studio.remembered
    for name, (component, default) in remembered.items():
        script = f"(value) => {{ window.ldmRemember({json.dumps(name)}, value, {json.dumps(default)}); return []; }}"
        component.change(None, component, None, js=script, api_visibility="private")
    tab_names = [name.lower() for name in shown.pages]

    def restore(request: gr.Request) -> list[Any]:
        """Return the values that stand in the page's address."""
        query = dict(request.query_params) if request is not None else {}
        chosen = query.get("tab", "")
        values = [from_query(query, name, component, default) for name, (component, default) in remembered.items()]
        return [gr.update(selected=chosen if chosen in tab_names else tab_names[0]), *values]

    restore.__annotations__ = {"request": gr.Request}
    outputs = [tabs, *(component for component, _ in remembered.values())]
    opened = blocks.load(restore, None, outputs, api_visibility="private", show_progress="hidden")
    for handler, inputs, shown in studio.loading:
        opened.then(handler, inputs, shown, api_visibility="private", show_progress="hidden")


def _resource(name: str) -> str:
    return (resources.files("open_ldm") / "studio" / name).read_text(encoding="utf-8")

#!/usr/bin/env bash
# Gradio and a query parameter of one's own that is called `page`.
#
# Input: an app of one page that reads its start values from the address, as `request.query_params` invites it to do, opened
# at `/?page=2` and, for comparison, at `/?sheet=2`.
#
# Expected: the same page from both, and the handler of `load` sees the parameter. An app of one page has no other pages.
#
# Seen (gradio 6.31.0): `/?sheet=2` answers 200. `/?page=2` answers 500, from a KeyError: the route takes `page` for the name of
# one of the app's own pages, whether there are any or not. Anybody can make an app answer 500 by a link.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check gradio==6.31.0 httpx==0.28.1
export GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1
"$work/venv/bin/python" - <<'PYTHON'
import sys

import fastapi
import gradio as gr
from fastapi.testclient import TestClient

with gr.Blocks() as blocks:
    number = gr.Textbox()

    def restored(request: gr.Request) -> str:
        return request.query_params.get("page", "1")

    blocks.load(restored, None, number)

app = gr.mount_gradio_app(fastapi.FastAPI(), blocks, path="/")
with TestClient(app, raise_server_exceptions=False) as client:
    found = {query: client.get(f"/?{query}=2").status_code for query in ("sheet", "page")}
print(f"gradio {gr.__version__}: {found}")
sys.exit(0 if found == {"sheet": 200, "page": 500} else 1)
PYTHON

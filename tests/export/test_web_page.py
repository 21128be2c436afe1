"""An exported site in a browser, sent by a server that knows nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anymask.checkpoints import load_model
from anymask.errors import InputError
from anymask.export.web import export_web, packaged_page


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.long
def test_the_site_segments_a_sample_with_no_server_of_ours(tmp_path: Path, in_browser: Callable[..., None]) -> None:
    try:
        packaged_page()
    except InputError as error:
        pytest.skip(str(error))
    export_web(load_model("anymask-s"), tmp_path / "site", name="anymask-s", int8=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path / "site")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            in_browser("site", ANYMASK_SITE=f"http://127.0.0.1:{server.server_address[1]}/")
        finally:
            server.shutdown()

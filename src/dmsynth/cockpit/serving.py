"""Start the cockpit: on loopback only, and nothing opened but this one page."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from dmsynth.cockpit.workspace import Workspace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.machine import keep_memory_small

_FIRST, _TRIED = 7860, 40  # ports


def open_cockpit(
    root: Path,
    brought: dict[str, Path] | None = None,
    port: int | None = None,
    browser: bool = True,
    renderers: Sequence[str] = (),
    dmss: dict[str, str] | None = None,
    page: str = "",
) -> None:
    """Serve the cockpit until it is interrupted.

    Args:
        root: the workspace; made if it is not there.
        brought: faces from elsewhere by name.
        port: on 127.0.0.1; by default the first free one from 7860. 0: any free one.
        browser: open the page in the user's browser.
        renderers: what moves a brought picture, such as ``liveportrait:DIR`` (``steering.renderer``).
        dmss: DMSs by name: command lines with {video} in them.
        page: what the printed address leads to: the tabs, or ``record``.

    Raises:
        DmsynthError: a port that is taken, or Gradio is not installed.
    """
    try:
        import uvicorn

        from dmsynth.cockpit.live import LiveServer
        from dmsynth.cockpit.page import build
        from dmsynth.cockpit.record import LARGEST_FRAME
        from dmsynth.steering import FaceSpec, kind_of
    except ModuleNotFoundError as error:
        raise DmsynthError(
            f"the cockpit needs {error.name}; pip install fastapi gradio uvicorn websockets onnx onnxscript"
        ) from None
    keep_memory_small()
    titles = {kind_of(FaceSpec(name)).title: name for name in renderers}
    live_server = LiveServer(Workspace(root, brought or {}), titles)
    for name in ["starter", *live_server.workspace.brought]:
        live_server.face(name)  # what cannot be opened is said now
    listening = _listen(port)
    token = secrets.token_urlsafe(32)
    app = build(live_server, dmss or {}, token)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/{page}?token={token}"
    way_in = live_server.workspace.root / "open-cockpit.html"
    config = uvicorn.Config(app, log_level="warning", ws_max_size=LARGEST_FRAME, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)

    def welcome() -> None:
        print(f"cockpit: {address}  (Ctrl-C ends it)", flush=True)  # noqa: T201
        if browser:
            _write_login_file(way_in, address)
            webbrowser.open(way_in.as_uri())
        with contextlib.suppress(DmsynthError):
            live_server.tracker()  # takes seconds, and is wanted soon

    threading.Timer(0.3, welcome).start()
    try:
        server.run(sockets=[listening])
    finally:
        way_in.unlink(missing_ok=True)


def _write_login_file(path: Path, address: str) -> None:
    """A page that only its owner can read, which leads to the cockpit: in the command line of a browser everybody on
    this machine could read the token."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>dmsynth cockpit</title>'
        )


def _listen(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1 at ``port``, or the first free one. ``DmsynthError`` if it is taken."""
    for candidate in [port] if port is not None else range(_FIRST, _FIRST + _TRIED):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", candidate))
            return listening
        except OSError:
            listening.close()
    wanted = f"port {port}" if port is not None else f"every port from {_FIRST} to {_FIRST + _TRIED - 1}"
    raise DmsynthError(f"{wanted} is taken by another program; give another --port")

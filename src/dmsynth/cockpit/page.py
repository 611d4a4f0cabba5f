"""The page: Gradio's tabs and our own routes, on this machine alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import gradio
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

from dmsynth.cockpit import faces, steer, trajectory, validate
from dmsynth.cockpit.gate import Gate
from dmsynth.cockpit.live import LiveServer
from dmsynth.cockpit.record import Recorder, add_recording
from dmsynth.cockpit.workspace import LARGEST, Workspace, slug
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image

_PAGES = 200  # that are open at once, and then some
_ASSETS = {
    "steerer.js": ("dmsynth.web", "text/javascript"),
    "steerer.css": ("dmsynth.web", "text/css"),
    "cockpit.js": ("dmsynth.cockpit", "text/javascript"),
    "cockpit.css": ("dmsynth.cockpit", "text/css"),
    "record.js": ("dmsynth.cockpit", "text/javascript"),
    "record.css": ("dmsynth.cockpit", "text/css"),
}
_HEAD = (
    '<link rel="stylesheet" href="/own/steerer.css"><link rel="stylesheet" href="/own/cockpit.css">'
    '<script src="/own/steerer.js"></script><script src="/own/cockpit.js"></script>'
)
_SHOWN = {".html", ".xml", ".json", ".mp4", ".png", ".parquet", ".yaml", ".jsonl"}  # of the workspace's files
_CHUNK = 2**20
_FORGET = (3600, 6 * 3600)  # seconds: how often Gradio's copies are looked through, and how old they may get
# What is in the workspace reaches nothing, neither the page around it nor any address; reports bring all they show.
_FILE_POLICY = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; "
    "media-src data: 'self'; frame-ancestors 'self'"
)


def build(live_server: LiveServer, dmss: dict[str, str], token: str) -> Gate:
    """The application, behind its gate.

    Args:
        token: what a browser must have been given before it is served anything.
        dmss: DMSs that whoever started the cockpit named, by name their command lines (``--dms``).
    """
    workspace = live_server.workspace
    os.environ["GRADIO_TEMP_DIR"] = str((workspace.root / "uploads" / ".gradio").resolve())
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return Gate(_mounted(routes(live_server), _tabs(live_server, dmss), workspace), workspace, token)


def routes(live_server: LiveServer) -> FastAPI:
    """Our own addresses."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/own/{name}")
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            return PlainTextResponse("no such file", 404)
        package, kind = _ASSETS[name]
        content = files(package).joinpath(name).read_text("utf-8")
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    @app.get("/api/faces")
    def names() -> Response:
        faces = [{"name": name} if name in live_server.renderers else name for name in live_server.names()]
        return JSONResponse(faces)  # a renderer has no source frames of its own: it moves a picture that was brought

    @app.get("/api/face")
    def face(name: str) -> Response:
        return _answered(lambda: JSONResponse(live_server.describe(name)))

    @app.get("/api/source")
    def source(face: str, number: int) -> Response:
        return _answered(lambda: _picture(live_server, face, number))

    @app.get("/api/portrait")
    def portrait(face: str) -> Response:
        return _answered(lambda: _as_jpeg(live_server.portrait(face)))

    @app.post("/api/source")
    async def bring(request: Request) -> Response:
        return await _brought(live_server, request)

    @app.post("/api/photo")
    async def photo(request: Request, name: str) -> Response:
        return await _photo(live_server, request, name)

    @app.get("/files/{path:path}")
    def file(path: str) -> Response:
        return _file(live_server, path)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await live_server.serve(socket)

    add_recording(app, Recorder(live_server))
    return app


def _mounted(app: FastAPI, blocks: gradio.Blocks, workspace: Workspace) -> FastAPI:
    """Gradio's page at ``/`` of the application, set up so that it keeps little, and reads nothing of this machine."""
    fonts = ["system-ui", "sans-serif"]
    # Gradio remembers 10,000 pages, and below what it had to say to 2,000 of them, long after they are closed.
    blocks.state_session_capacity = _PAGES
    app = gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name="127.0.0.1",
        footer_links=[],
        allowed_paths=[str(workspace.root / kind) for kind in ("datasets", "trainings", "videos")],
        max_file_size=LARGEST["recording"],
        ssr_mode=False,
        run_history=False,
        show_error=True,
        theme=gradio.themes.Base(primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["monospace"]),
        head=_HEAD,
    )
    # Gradio looks at the paths that it is given only after launch(), which a mounted page has none of: whoever can
    # reach the server could name any file of this machine as an "upload" and read it.
    blocks.has_launched = True
    blocks._queue.pending_messages_per_session.max_size = _PAGES
    return app


def _tabs(live_server: LiveServer, dmss: dict[str, str]) -> gradio.Blocks:
    with gradio.Blocks(
        title="dmsynth cockpit", analytics_enabled=False, fill_width=True, delete_cache=_FORGET
    ) as blocks:
        gradio.HTML(apply_default_css=False, value='<h1 class="cockpit-title">dmsynth <span>cockpit</span></h1>')
        with gradio.Tabs():
            with gradio.Tab("Steer"):
                steer.tab()
            with gradio.Tab("Trajectory"):
                trajectory.tab(live_server, blocks)
            with gradio.Tab("Faces"):
                faces.tab(live_server.workspace, blocks)
            with gradio.Tab("Validate"):
                validate.tab(live_server.workspace, dmss, blocks)
    return blocks


def _answered(make: Callable[[], Response]) -> Response:
    try:
        return make()
    except DmsynthError as error:
        return JSONResponse({"error": str(error)}, 404)


def _picture(live_server: LiveServer, name: str, number: int) -> Response:
    sources = live_server.face(name).face.trained.sources
    if not 0 <= number < len(sources):
        raise DmsynthError(f"{name}: has source frames 0 to {len(sources) - 1}")
    return _as_jpeg(cv2.resize(sources[number], None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))


def _as_jpeg(small: Image) -> Response:
    done, jpeg = cv2.imencode(".jpg", small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    assert done
    return Response(jpeg.tobytes(), media_type="image/jpeg", headers={"Cache-Control": "max-age=600"})


async def _brought(live_server: LiveServer, request: Request) -> Response:
    """A portrait, or a video whose first frame is the source, brought as the body of a request."""
    kept = live_server.workspace.root / "uploads" / f".brought-{os.urandom(6).hex()}"
    try:
        if not await _received(request, kept):
            return _too_large()
        return JSONResponse({"source": await live_server.bring(kept)})
    except DmsynthError as error:
        return JSONResponse({"error": str(error)}, 422)
    finally:
        kept.unlink(missing_ok=True)


async def _photo(live_server: LiveServer, request: Request, name: str) -> Response:
    """A picture, brought as the body of a request, that becomes a face: posed, without training."""
    with TemporaryDirectory(prefix=".brought-", dir=live_server.workspace.root / "uploads") as folder:
        kept = Path(folder) / (slug(Path(name).stem) or "photo")
        try:
            if not await _received(request, kept):
                return _too_large()
            return JSONResponse(await live_server.add_photo(kept))
        except DmsynthError as error:
            return JSONResponse({"error": str(error)}, 422)


async def _received(request: Request, kept: Path) -> bool:
    """The body of a request, written to ``kept``; False if it is larger than a portrait may be."""
    taken = 0
    with kept.open("wb") as file:
        async for chunk in request.stream():
            taken += len(chunk)
            if taken > LARGEST["portrait"]:
                return False
            file.write(chunk)
    return True


def _too_large() -> Response:
    message = f"a source has at most {LARGEST['portrait'] // _CHUNK} MB; this one is larger"
    return JSONResponse({"error": message}, 413)


def _file(live_server: LiveServer, path: str) -> Response:
    """A file of the workspace: results and videos, nothing else."""
    try:
        found = live_server.workspace.inside(path)
    except DmsynthError:
        return PlainTextResponse("no such file", 404)
    parts = found.relative_to(live_server.workspace.root.resolve()).parts
    known = len(parts) > 1 and parts[0] in ("results", "videos", "trainings", "datasets", "scenarios")
    if not known or found.suffix not in _SHOWN or not found.is_file() or any(part.startswith(".") for part in parts):
        return PlainTextResponse("no such file", 404)
    headers = {"Content-Security-Policy": _FILE_POLICY, "Cache-Control": "no-cache"}
    return FileResponse(found, headers=headers)

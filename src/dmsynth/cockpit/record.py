"""Recording oneself: a page with the browser's camera, and the line over which its frames come.

Frames are kept as they arrive, in a video that is there when the recording has ended, and not at all if the page is
closed before. What is missing and what is wrong with a frame, ``datasets.guide`` says.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import Field

from dmsynth.cockpit.live import LiveServer
from dmsynth.cockpit.showing import job_in_html
from dmsynth.cockpit.workspace import outs_of
from dmsynth.datasets.guide import CONSENT, MAPS, Guidance, Guide, consent_in_words
from dmsynth.support.errors import DmsynthError, explain_os_error
from dmsynth.support.files import remove_leftovers
from dmsynth.support.records import Record, checked, json_of
from dmsynth.video import Image, VideoWriter
from dmsynth.video.pictures import camera_frame

LARGEST_FRAME = 2**20
"""Bytes of a message on any of the cockpit's lines; a JPEG of 640×480 has about a tenth."""

_CLOCK = 60.0  # steps a second of the video's time stamps; frames come as fast as they are tracked
_SILENT = 30.0  # seconds without a frame after which the recording is given up
_LARGEST_MESSAGE = 1000  # characters
# Nothing but our own script and style; the camera's picture is no resource that a policy would know.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://{host}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PERMISSIONS = "camera=(self), microphone=(), geolocation=(), display-capture=()"


class _Begin(Record):
    """The first message of a page: who agreed to be recorded."""

    name: Annotated[str, Field(max_length=40, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")]
    consent: Literal[True]


class _Finish(Record):
    """The message of a page whose button was pressed."""

    finish: Literal[True]


@dataclass
class _Film:
    """A recording that is being made.

    Attributes:
        path: where it will be.
        metadata: the person's name, and the consent.
        begun: holds the video open; an error that passes through it discards the video.
    """

    path: Path
    metadata: dict[str, str]
    guide: Guide
    begun: ExitStack
    video: VideoWriter | None = None
    shape: tuple[int, ...] = ()
    since: float = 0.0  # when the first kept frame came

    def take(self, content: bytes, now: float) -> Guidance:
        """Judge a frame and keep it if it shall be. ``DmsynthError`` for one that is damaged."""
        image = camera_frame(content)
        if self.shape and image.shape != self.shape:
            raise DmsynthError("the camera's pictures have another size now; cancel, and begin again")
        guidance = self.guide.look(image, now)
        if guidance.kept:
            self._write(image, now)
        return guidance

    def _write(self, image: Image, now: float) -> None:
        if self.video is None:
            height, width = image.shape[:2]
            self.video = self.begun.enter_context(VideoWriter(self.path, width, height, _CLOCK, self.metadata))
            self.shape, self.since = image.shape, now
        self.video.write(image, now - self.since)


@dataclass
class Recorder:
    """Makes recordings, one at a time, and has a face made of each."""

    live_server: LiveServer
    _recording: bool = False
    _judging: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "judging"))

    def __post_init__(self) -> None:
        remove_leftovers(self.live_server.workspace.root / "uploads")  # of a server that was killed in the middle

    async def serve(self, socket: WebSocket) -> None:
        """One connection: who agreed, then frames, each answered by what to do next, and at last the job that makes a
        face. Without consent nothing is taken; of a recording that is not finished nothing stays."""
        await socket.accept()
        with suppress(WebSocketDisconnect, RuntimeError):  # the page was closed
            try:
                begin = _read(await _received(socket), _Begin, "give your name, and tick that you agree")
                if self._recording:
                    raise DmsynthError("another page is recording; finish there, or close it, and begin again")
                self._recording = True
                try:
                    await self._record(socket, begin.name.strip())
                finally:
                    self._recording = False
            except (DmsynthError, OSError) as error:
                told = str(error) if isinstance(error, DmsynthError) else explain_os_error(error)
                await socket.send_text(json.dumps({"error": told}))
            await socket.close()

    async def _record(self, socket: WebSocket, name: str) -> None:
        workspace, loop = self.live_server.workspace, asyncio.get_running_loop()
        consent = consent_in_words(name, date.today().isoformat())
        with workspace.alone():
            path = workspace.new("uploads", name, ".mp4")
        guide = Guide(await loop.run_in_executor(self._judging, self.live_server.tracker))
        with ExitStack() as begun:
            await socket.send_text(json.dumps({"maps": {key: _described(key) for key in MAPS}}))
            await self._film(socket, _Film(path, {"title": name, "comment": consent}, guide, begun))
        begin = partial(workspace.begin_face, path, name, consent, widened=not guide.well_covered)
        job = await loop.run_in_executor(None, begin)
        await socket.send_text(json.dumps({"job": job.folder.name}))

    async def _film(self, socket: WebSocket, film: _Film) -> None:
        """Frame after frame, until there is enough or the page has it finished."""
        loop, enough = asyncio.get_running_loop(), False
        while True:
            given = await _received(socket)
            try:
                if isinstance(given, str):
                    _read(given, _Finish, "send frames, or finish")
                    if enough:
                        return
                    raise DmsynthError("there are too few usable frames for a face yet; go on a moment")
                guidance = await loop.run_in_executor(self._judging, partial(film.take, given, time.monotonic()))
            except DmsynthError as error:
                await socket.send_text(json.dumps({"error": str(error)}))
                continue
            enough = guidance.enough
            await socket.send_text(json.dumps(asdict(guidance)))
            if guidance.done:
                return

    def made(self, name: str) -> dict[str, Any]:
        """How the job is getting on that makes a face: its state, in ``html``, and the ``face`` by its name once it is
        there. ``DmsynthError`` if there is no such job."""
        job = self.live_server.workspace.job(name)
        if job is None:
            raise DmsynthError(f"{name}: no such job")
        face = Path(outs_of(job)[0]).name
        there = face in self.live_server.workspace.trained()
        return {"state": job.state, "html": job_in_html(job), "face": face if there else None}


def add_recording(app: FastAPI, recorder: Recorder) -> None:
    """Add the page, its line, and what it asks for afterwards."""

    @app.get("/record")
    def page(request: Request) -> Response:
        text = files("dmsynth.cockpit").joinpath("record.html").read_text("utf-8")
        policy = _POLICY.format(host=request.headers["host"])
        headers = {"Content-Security-Policy": policy, "Permissions-Policy": _PERMISSIONS, "Cache-Control": "no-store"}
        return HTMLResponse(text.replace("{{ consent }}", escape(CONSENT)), headers=headers)

    @app.get("/api/made")
    def made(job: str) -> Response:
        try:
            return JSONResponse(recorder.made(job))
        except DmsynthError as error:
            return JSONResponse({"error": str(error)}, 404)

    @app.websocket("/camera")
    async def camera(socket: WebSocket) -> None:
        await recorder.serve(socket)


def _described(name: str) -> dict[str, Any]:
    """What the page must know of a map to draw it."""
    each = MAPS[name]
    return {"columns": each.columns, "rows": each.rows, "wanted": each.wanted.tolist()}


async def _received(socket: WebSocket) -> str | bytes:
    """The next message. ``WebSocketDisconnect`` if the page was closed, ``DmsynthError`` if it is silent."""
    try:
        message = await asyncio.wait_for(socket.receive(), _SILENT)
    except TimeoutError:
        raise DmsynthError(f"no picture came for {_SILENT:.0f} seconds, so the recording has ended") from None
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect
    return message["bytes"] if message.get("bytes") is not None else str(message["text"])


def _read(given: str | bytes, model: type[_Begin] | type[_Finish], mend: str) -> Any:
    """A message as ``model``; ``DmsynthError`` if it is none."""
    if isinstance(given, bytes) or len(given) > _LARGEST_MESSAGE:
        raise DmsynthError(f"this message is none that is expected here; {mend}")
    try:
        return checked(json_of(given, "this message", mend), model, "this message", mend)
    except DmsynthError:
        raise DmsynthError(f"this message is none that is expected here; {mend}") from None

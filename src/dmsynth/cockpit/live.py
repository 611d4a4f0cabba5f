"""Live steering: a WebSocket beside Gradio's queue, so that the picture follows the mouse at once."""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import Field

from dmsynth.cockpit.workspace import Workspace
from dmsynth.controls import ControlSpace
from dmsynth.learning.face_file import located, read_face
from dmsynth.steering import FACE, FaceSpec, SteerableFace, open_renderer
from dmsynth.steering.live import LiveFace
from dmsynth.steering.renderer import PORTRAIT
from dmsynth.steering.source import as_source
from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import Number, Record, checked, json_of
from dmsynth.trackers import Face, Tracker, why_unusable
from dmsynth.video import Image, read_video, write_image
from dmsynth.video.pictures import read_image
from dmsynth.video.portrait import default_portrait
from dmsynth.web.description import description

_QUALITY = 90  # of the JPEGs that are sent
_OPEN_FACES, _SOURCES = 4, 12  # kept in memory
_PORTRAITS, _PORTRAIT_HEIGHT = 200, 72  # kept in memory; pixels
_LARGEST_SOURCE = 1280  # pixels of its longer side: twice what a face has
_LARGEST_MESSAGE = 4000  # characters


class DrawRequest(Record):
    """What a page asks for over its connection: a picture, or what the tracker reads in the last one.

    Attributes:
        values: of the face's controls, in their order and units.
        names: of the ``values``, if they are another face's: what both have is the same, the rest at rest.
        source: a source frame of the face's by its number, or one that was brought by its name.
    """

    face: Annotated[str, Field(max_length=200)] = ""
    values: Annotated[list[Number], Field(max_length=100)] = Field(default_factory=list)
    names: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=100)] = Field(default_factory=list)
    source: Annotated[int, Field(ge=0, le=10**9)] | Annotated[str, Field(max_length=200)] | None = None
    track: bool = False


@dataclass
class Client:
    """What is remembered of one connection: its last picture, which source frame that came from, or the source that was
    brought, and that person's face at rest: None, not looked for yet; empty, not to be found."""

    image: Image | None = None
    face: str = ""
    source: int | None = None
    given: str | None = None
    rest: list[Face] | None = None


@dataclass
class LiveServer:
    """The faces that are open, the source frames that were brought, and who draws: one at a time, first come first
    served, so that no client starves another.

    Attributes:
        renderers: what moves a brought picture, by its name for people: renderers as ``steering.renderer`` names them.
    """

    workspace: Workspace
    renderers: Mapping[str, str] = field(default_factory=dict)
    _faces: OrderedDict[str, tuple[float, LiveFace]] = field(default_factory=OrderedDict)
    _sources: OrderedDict[str, Image] = field(default_factory=OrderedDict)
    _appearances: OrderedDict[tuple[str, str], Any] = field(default_factory=OrderedDict)
    _drawing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "drawing"))
    _slowly: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "drawing-slowly"))
    _bringing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "bringing"))
    _tracking: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "tracking"))
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _finding: threading.Lock = field(default_factory=threading.Lock)
    _opening: threading.Lock = field(default_factory=threading.Lock)
    _opening_tracker: threading.Lock = field(default_factory=threading.Lock)
    _tracker: Tracker | None = None

    def names(self) -> list[str]:
        """Whatever can be steered here."""
        return [*self.workspace.faces(), *self.renderers]

    def face(self, name: str) -> LiveFace:
        """A face by its name, opened once, its first picture drawn. ``DmsynthError`` if there is none."""
        path = self.workspace.face(name)
        changed = _changed(path)  # trained on since
        if (found := self._open_one(name, changed)) is not None:
            return found
        with self._opening:  # a photo takes seconds: whoever draws another face shall not wait for it
            if (found := self._open_one(name, changed)) is not None:
                return found
            live = _opened(path)
            with self._finding:
                self._faces[name] = (changed, live)
                self._faces.move_to_end(name)
                while len(self._faces) > _OPEN_FACES:
                    self._faces.popitem(last=False)
            return live

    def _open_one(self, name: str, changed: float) -> LiveFace | None:
        """A face that is open and has not changed since."""
        with self._finding:
            if name not in self._faces or self._faces[name][0] != changed:
                return None
            self._faces.move_to_end(name)
            return self._faces[name][1]

    async def add_photo(self, file: Path) -> dict[str, str]:
        """Keep a picture that somebody brought, to be steered without training: the ``face`` by its name, and the
        ``source`` by which a renderer moves it (``bring``). ``DmsynthError`` unless it shows one whole face."""

        def look() -> dict[str, str]:
            before = set(self.workspace.faces())
            kept = self.workspace.take(file, "portrait")
            name = f"posed:{kept.stem}"
            try:
                self.face(name)
            except DmsynthError:
                if name not in before:
                    kept.unlink(missing_ok=True)
                raise
            return {"face": name, "source": self.keep_source(read_image(kept))}

        return await asyncio.get_running_loop().run_in_executor(self._bringing, look)

    def portrait(self, name: str) -> Image:
        """What a face looks like, small: its most typical source frame, or the picture that is posed."""
        path = self.workspace.face(name)
        return _portrait(path, _changed(path))

    def describe(self, name: str) -> dict[str, Any]:
        """What a page must know of a face, and how many source frames it has."""
        face = self.face(name).face
        return description(face, name) | {"sources": len(face.trained.sources)}

    async def bring(self, file: Path) -> str:
        """Keep a source frame out of a portrait, or the first frame of a video, that somebody brought; returns the name
        by which it is steered from. One is looked into at a time, beside whatever is drawn: it may be large."""

        def look() -> str:
            return self.keep_source(_first_frame(file))

        return await asyncio.get_running_loop().run_in_executor(self._bringing, look)

    def keep_source(self, image: Image) -> str:
        """The same of a picture, grey or RGB; a large one is made smaller, and only the last few are kept."""
        name, share = secrets.token_hex(8), _LARGEST_SOURCE / max(image.shape[:2])
        if share < 1:
            image = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        with self._looking:
            self._sources[name] = image
            while len(self._sources) > _SOURCES:
                self._sources.popitem(last=False)
        return name

    def tracker(self) -> Tracker:
        """Opened when it is first needed: it takes seconds."""
        with self._opening_tracker:
            if self._tracker is None:
                from dmsynth.trackers import open_tracker

                self._tracker = open_tracker()
            return self._tracker

    def draw(self, client: Client, request: DrawRequest) -> bytes:
        """A picture for a client: four bytes, the number of its source frame (−1: one that was brought), and a JPEG."""
        name, source = request.face, request.source
        brought = source if isinstance(source, str) else None
        if (name, brought) != (client.face, client.given):
            client.rest = None  # another person's eyes
        if name in self.renderers:
            face: SteerableFace = self._given(name, str(source))
            client.image = next(face.frames(np.array([_values(request, face.trained.space)], dtype=float)))
            client.source = None
        else:
            live = self.face(name)
            last = client.source if client.face == name else None
            own = source if isinstance(source, int) else None
            given = self._given(name, brought) if brought is not None else None
            drawn = live.draw(_values(request, live.face.trained.space), last, own, given)
            client.image, client.source = drawn.image, drawn.source
        client.face, client.given = name, brought
        done, jpeg = cv2.imencode(
            ".jpg",
            client.image if client.image.ndim == 2 else cv2.cvtColor(client.image, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, _QUALITY],
        )
        assert done
        return struct.pack("<i", -1 if client.source is None else client.source) + jpeg.tobytes()

    def _given(self, name: str, source: str) -> Any:
        """A brought source frame, encoded for a face."""
        with self._looking:
            if source not in self._sources:
                raise DmsynthError("this source frame is not here any more; bring it again")
            self._sources.move_to_end(source)
            image = self._sources[source]
        if (name, source) not in self._appearances:
            if name in self.renderers:
                self._appearances[name, source] = _moving(self.renderers[name], image)
            else:
                face = self.face(name).face
                if face.trained.space.turns_head:
                    self._appearances[name, source] = face.appearance(
                        *as_source(image, "the source", face.head_only, self.tracker())
                    )
                else:
                    self._appearances[name, source] = face.appearance(image)
            while len(self._appearances) > _SOURCES:
                self._appearances.popitem(last=False)
        self._appearances.move_to_end((name, source))
        return self._appearances[name, source]

    def track(self, client: Client) -> dict[str, Any]:
        """What the tracker reads in a client's last picture: the face's controls, gaze and lids from the person's rest
        (``LiveFace.measured``)."""
        if client.image is None:
            raise DmsynthError("there is no picture yet")
        tracker = self.tracker()
        faces = tracker(client.image)
        reason = why_unusable(faces, client.image)
        tracked = None if reason else self._measured(client, faces[0], tracker)
        return {"tracked": tracked, "reason": reason, "tracker": tracker.name}

    def _measured(self, client: Client, seen: Face, tracker: Tracker) -> dict[str, float]:
        if client.face in self.renderers:
            return {name: round(value, 1) for name, value in seen.pose.items()}
        live = self.face(client.face)
        if client.rest is None and live.face.trained.space.moves_eyes:
            given = self._given(client.face, client.given) if client.given is not None else None
            client.rest = tracker(live.at_rest(given))[:1]
        measured = live.measured(seen, client.rest[0] if client.rest else None)
        return {name: round(value, 2) for name, value in measured.items()}

    async def serve(self, socket: WebSocket) -> None:
        """One connection, from its first request to its last: each is answered before the next is read, so a
        client that asks too fast delays only itself."""
        await socket.accept()
        client, loop = Client(), asyncio.get_running_loop()
        try:
            while (message := await socket.receive())["type"] == "websocket.receive":
                try:
                    request = _read(message.get("text"))
                    if request.track:
                        found = await loop.run_in_executor(self._tracking, partial(self.track, client))
                        await socket.send_text(json.dumps(found))
                    else:
                        # what moves a picture may take seconds for each: no other client shall wait for it
                        pool = self._slowly if request.face in self.renderers else self._drawing
                        await socket.send_bytes(await loop.run_in_executor(pool, partial(self.draw, client, request)))
                except DmsynthError as error:
                    await socket.send_text(json.dumps({"error": str(error)}))
        except (WebSocketDisconnect, RuntimeError):
            return  # the page was closed, perhaps in the middle of an answer


def _changed(path: Path) -> float:
    """When a face's file was written last; 0 for what is no file."""
    file, _ = located(path)
    return file.stat().st_mtime if file.is_file() else 0.0


@lru_cache(maxsize=_PORTRAITS)
def _portrait(path: Path, changed: float) -> Image:
    """A face is not opened for it: a photo would take seconds."""
    spec = FaceSpec.of(path)
    if spec.kind == FACE:
        picture = read_face(path).source
    else:
        picture = default_portrait() if str(spec.where) == PORTRAIT else read_image(spec.where)
    height, width = picture.shape[:2]
    size = max(1, round(width * _PORTRAIT_HEIGHT / height)), _PORTRAIT_HEIGHT
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _opened(path: Path) -> LiveFace:
    """A face of the workspace. What takes long at the first picture, such as to cut out a photo, is done."""
    spec = FaceSpec.of(path)
    try:
        live = LiveFace(open_renderer(spec))
        live.at_rest()
        return live
    except DmsynthError as error:
        told = str(error) if spec.kind == FACE else str(error).replace(str(spec.where), spec.where.stem)
        raise DmsynthError(told) from None


def _moving(renderer: str, image: Image) -> SteerableFace:
    """A renderer with a brought picture as its source."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.png"
        write_image(source, image)
        try:
            return open_renderer(FaceSpec(renderer, str(source)))
        except DmsynthError as error:
            raise DmsynthError(str(error).replace(str(source), "the source")) from None


def _values(request: DrawRequest, space: ControlSpace) -> list[float]:
    """The values that a request has for a face's controls."""
    if not request.names:
        return request.values
    if len(request.names) != len(request.values):
        raise DmsynthError(f"there are {len(request.values)} values, and {len(request.names)} names for them")
    here = zip(request.names, request.values, strict=True)
    return space.row({name: value for name, value in here if name in space.names})


def _read(text: str | None) -> DrawRequest:
    if text is None or len(text) > _LARGEST_MESSAGE:
        raise DmsynthError(f"this message is no text, or longer than {_LARGEST_MESSAGE} characters")
    mend = "ask for a face, values and a source"
    return checked(json_of(text, "this message", mend), DrawRequest, "this message", mend)


def _first_frame(brought: Path) -> Image:
    try:
        return read_image(brought)
    except DmsynthError:
        try:
            return next(iter(read_video(brought))).image
        except (DmsynthError, StopIteration):
            raise DmsynthError("this is neither a picture nor a video; give .png, .jpg or .mp4") from None

"""One clip: what happens in it, drawn to a part of a tar archive.

All chance in a clip comes from the plan's seed and the clip's number, so it has the same bytes wherever it is drawn.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dmsynth.camera.capture import LANDMARKS
from dmsynth.controls import HEAD
from dmsynth.generation.design import Cell, Design
from dmsynth.generation.motions import Room, cells, driving, stratified, uniform
from dmsynth.generation.plan import Driving, Order, Uniform
from dmsynth.motion.trajectory import Trajectory
from dmsynth.steering import FaceSpec, SteerableFace, open_renderer
from dmsynth.steering.provenance import sidecar_of
from dmsynth.steering.taken import drawn_size, taken
from dmsynth.steering.writing import Shot, write_video
from dmsynth.support.files import read_json, replacing, write_json
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Tracker, open_tracker
from dmsynth.validation.openlabel import openlabel
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenarios import Hold, Scenario
from dmsynth.video import Image

_QUALITY = 92  # of JPEG, in per cent
_IN_PICTURE = 2  # COCO's sign for a point that is labelled and seen


@dataclass(frozen=True)
class Clip:
    """A clip in words: one row of the index.

    Attributes:
        key: begins the names of its files in the shard.
        frames: how many; ``width``, ``height`` of each in pixels; ``frame_rate`` a second.
        covered: share of the frames whose command the face covers; the others were drawn to the edge of the coverage,
            and their labels are those of what was drawn.
    """

    clip: int
    key: str
    person: str
    camera: str
    motion: str
    things: str
    frames: int
    frame_rate: float
    width: int
    height: int
    covered: float


class Studio:
    """Draws the clips of an order, or the first ``most`` frames of each."""

    def __init__(self, order: Order, most: int | None = None) -> None:
        self.order, self.design, self._most = order, Design(order), most
        self._cells: dict[tuple[str, str], NDArray[np.float64]] = {}

    def face(self, person: str, size: tuple[int, int]) -> SteerableFace:
        """A person's face, drawn at a ``size`` (width, height)."""
        return _open(FaceSpec(self.order.people[person]), size)

    def scenario(self, row: Clip) -> Scenario:
        """A clip as a scenario that ignores warnings, for its labels as OpenLABEL."""
        return Scenario(
            name=f"clip-{row.clip}",
            title=f"{row.person}, {row.motion}",
            source=f"the plan {self.order.plan.name}, seed {self.order.plan.seed}",
            speed=0,
            camera=self.order.cameras[row.camera],
            moves=[Hold(hold=row.frames / row.frame_rate)],
            warnings="ignore",
        )

    def clip(self, number: int) -> tuple[Clip, Shot]:
        """The clip of that ``number`` in words, and ready to be drawn."""
        shot, (cell, _) = self.shot(number), self.design.cell(number)
        assert shot.capture is not None
        order, camera = self.order, shot.capture.camera
        row = Clip(
            clip=number,
            key=f"{number:010d}",
            person=list(order.people)[cell.person],
            camera=camera.name,
            motion=list(order.motions)[cell.motion],
            things=order.plan.things[cell.things].name,
            frames=len(shot.values),
            frame_rate=camera.sensor.frame_rate,
            width=camera.sensor.width,
            height=camera.sensor.height,
            covered=round(float(shot.table["covered"].mean()), 4),
        )
        return row, shot

    def shot(self, number: int) -> Shot:
        """The clip of that ``number``, ready to be drawn."""
        order, (cell, rank) = self.order, self.design.cell(number)
        person, camera = list(order.people)[cell.person], list(order.cameras.values())[cell.camera]
        face = self.face(person, drawn_size(camera))
        frames = self.design.frames_of(cell)
        frames = frames if self._most is None else min(frames, self._most)
        random = np.random.default_rng((order.plan.seed, number))
        noise = int(random.integers(2**31))
        motion = self._motion(cell, face, frames, rank, random)
        worn = order.plan.things[cell.things].worn
        return taken(face, motion, "edge", f"clip {number}", camera, worn, open_tracker_once(), noise)

    def _motion(
        self, cell: Cell, face: SteerableFace, frames: int, rank: int, random: np.random.Generator
    ) -> Trajectory:
        """The motion of a cell in the car's frame; ``rank``: how many clips of this person and motion come before."""
        camera = list(self.order.cameras.values())[cell.camera]
        name, motion = list(self.order.motions.items())[cell.motion]
        rate = camera.sensor.frame_rate
        times = np.arange(frames) / rate
        if isinstance(motion, Scenario):
            whole = motion.trajectory()
            begin = random.uniform(0, max(0.0, whole.seconds - times[-1]))
            columns = [np.interp(begin + times, whole.times, column) for column in whole.values.T]
            return Trajectory(whole.names, times, np.stack(columns, axis=1))
        if isinstance(motion, Driving):
            return driving(motion, times, random)
        person = list(self.order.people)[cell.person]
        room = Room.of(face.trained.space, face.trained.coverage, motion.ranges, person)
        if isinstance(motion, Uniform):
            seen = uniform(room, times, random)
        else:
            seen = stratified(room, self._cells_of(name, person, room), rank, frames, rate, random)
        values = seen.values.copy()
        head = [seen.names.index(name) for name in HEAD]
        values[:, head] = camera.in_car(values[:, head])
        return Trajectory(seen.names, seen.times, values)

    def _cells_of(self, name: str, person: str, room: Room) -> NDArray[np.float64]:
        """The cells of a stratified motion, in an order of chance that all clips of the person share."""
        if (name, person) not in self._cells:
            found = cells(room)
            seed = (self.order.plan.seed, 1 + list(self.order.people).index(person))
            self._cells = {(name, person): found[np.random.default_rng(seed).permutation(len(found))]}
        return self._cells[name, person]


def draw(studio: Studio, number: int, folder: Path) -> Clip:
    """Draw a clip to ``KEY.part`` and then ``KEY.json`` in ``folder``, or take it from there if it was drawn before.

    The part is a stretch of a tar archive: headers and files, without the archive's end.
    """
    kept = folder / f"{number:010d}.json"
    if kept.is_file() and kept.with_suffix(".part").is_file():
        return Clip(**read_json(kept))
    row, shot = studio.clip(number)
    plan = studio.order.plan
    with replacing(kept.with_suffix(".part")) as temporary, temporary.open("wb") as file:
        part = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # not closed: that writes an end
        files = _video(row, shot, studio, folder) if plan.store == "video" else _pictures(row, shot)
        for name, content in files:
            header = tarfile.TarInfo(name)  # no owner, no time
            header.size = len(content)
            part.addfile(header, BytesIO(content))
    write_json(kept, asdict(row), lasting=False)
    return row


def _video(row: Clip, shot: Shot, studio: Studio, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a clip that is stored as video."""
    with TemporaryDirectory(dir=folder, prefix="drawing-") as scratch:
        video = Path(scratch) / f"{row.key}.mp4"
        table = write_video(shot, video, quiet=True, repeatable=True)
        yield video.name, video.read_bytes()
        yield table.name, compact(shot.labels())
        yield f"{row.key}.json", _json(asdict(row) | {"provenance": read_json(sidecar_of(video))})
        if studio.order.plan.openlabel:
            scenario = studio.scenario(row)
            yield f"{row.key}.openlabel.json", _json(openlabel(scenario, Rendered(video, read_table(table))))


def compact(table: pd.DataFrame) -> bytes:
    """A table as parquet, numbers as float32: of short tables, statistics and a description of pandas would be most."""
    single = table.astype({name: np.float32 for name, kind in table.dtypes.items() if kind == np.float64})
    content = pa.Table.from_pandas(single, preserve_index=False).replace_schema_metadata(None)
    words = [name for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    file = BytesIO()
    pq.write_table(content, file, compression="zstd", use_dictionary=words, write_statistics=False, store_schema=False)
    return file.getvalue()


def _pictures(row: Clip, shot: Shot) -> Iterator[tuple[str, bytes]]:
    """The files of a clip that is stored as pictures: they are encoded as they are drawn; labels are whole at the
    end."""
    said = shot.provenance.in_words().replace("Synthetic video", "Synthetic picture").encode()
    pictures = [_jpeg(image, said) for image in shot.frames()]
    labels = shot.labels()
    about = {name: value for name, value in asdict(row).items() if name not in ("clip", "key", "frames", "covered")}
    for number, (picture, label) in enumerate(zip(pictures, labels.to_dict("records"), strict=True)):
        key = f"{row.key}-{number:05d}"
        yield f"{key}.jpg", picture
        yield f"{key}.json", _json({**about, "clip": row.clip, **label, **_coco(label, row)})


def _coco(label: Mapping[Hashable, Any], row: Clip) -> dict[str, Any]:
    """The box and the points of a face as COCO has them: left, top, width, height; and x, y and a sign for each point,
    2: in the picture, 0: not."""
    left, top, right, bottom = (float(label[f"face_{side}"]) for side in ("left", "top", "right", "bottom"))
    points: list[float] = []
    for name in LANDMARKS:
        x, y = float(label[f"{name}_x"]), float(label[f"{name}_y"])
        inside = 0 <= x <= row.width - 1 and 0 <= y <= row.height - 1
        points += [x, y, _IN_PICTURE] if inside else [0, 0, 0]
    return {"bbox": [round(each, 3) for each in (left, top, right - left, bottom - top)], "keypoints": points}


def _jpeg(image: Image, said: bytes) -> bytes:
    """A picture with a comment."""
    encoded, content = cv2.imencode(
        ".jpg",
        image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, _QUALITY],
    )
    assert encoded
    start, rest = content[:2].tobytes(), content[2:].tobytes()
    return start + b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said + rest


def _json(content: Mapping[Any, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"


@lru_cache(maxsize=1)
def open_tracker_once() -> Tracker:
    """The tracker that finds faces in drawn frames, one for all clips of a process."""
    return open_tracker()


@lru_cache(maxsize=2)
def _open(spec: FaceSpec, size: tuple[int, int]) -> SteerableFace:
    return open_renderer(spec, size)

"""A recorded drive, edited: inside a window of time the driver looks where a trajectory says; all else stays.

Eyes are moved in the recorded frame itself (``edited_eyes``); that takes no training.
The head is turned by the face's own network with each recorded frame as its source, so light, expression and cabin are
the frame's. The flow that the network draws moves the recording's own pixels, at their own size, in a soft patch around
the head. Frames outside the window go into the new file as they were decoded, and the file is encoded without loss:
decoded, they are the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dmsynth.controls import HEAD
from dmsynth.learning.swapwarp import SwapWarp, resized, warp
from dmsynth.motion.trajectory import Trajectory, minimum_jerk
from dmsynth.steering.edited_features import features_of, looks_natural, paint_features
from dmsynth.steering.face import SteerableFace
from dmsynth.steering.provenance import Provenance
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing
from dmsynth.support.progress import progress
from dmsynth.support.table_files import write_table
from dmsynth.trackers import Face, Tracker, face_columns, why_unusable
from dmsynth.video import Image, as_file, check_whole, decode, open_video, probe_video
from dmsynth.video.orientation import Orientation

_TURN = 0.5  # seconds over which the driver's own pose gives way to the trajectory's, and back
_FADE = 0.2  # seconds over which the recorded picture gives way to the steered one, before it turns
_AROUND = (0.55, 0.75, 0.35)  # of the face's box: what the patch reaches beyond it sideways, upwards, downwards
_SOFT = 0.22  # of the patch: its soft edge
_FORMATS = {"yuv420p": 219.0, "yuvj420p": 255.0}
"""Pixel formats that are edited, and the range of their luma."""


@dataclass(frozen=True)
class _Step:
    """What is wanted of one frame. ``pose`` (k,) in the face's controls, if there is a face; what the ``eyes`` do, by
    name; ``turn`` and ``fade`` from 0 (the recording's) to 1 (the trajectory's)."""

    pose: NDArray[np.float64]
    eyes: dict[str, float]
    turn: float
    fade: float


def edit_video(
    drive: Path,
    face: SteerableFace | None,
    trajectory: Trajectory,
    begin: float,
    end: float,
    out: Path,
    tracker: Tracker,
) -> pd.DataFrame:
    """Write ``drive`` to ``out`` with the driver following ``trajectory`` from ``begin`` to ``end`` seconds. Without a
    ``face`` only eyes, mouth and brows can move: ``gaze_*`` in the head, lids as factors of the recorded opening,
    mouth and brows on top of the recorded ones.

    The trajectory starts when the driver's own pose has given way (``_FADE + _TURN`` after ``begin``) and stays at its
    end until it gives way again. Beside ``out``: ``OUT.parquet`` with a row a frame (``edited``, the commanded
    ``pitch``, ``yaw``, ``roll`` and whether the face covers them, the ``recorded_*`` pose) and ``OUT.provenance.json``.
    Sound is left out.

    Raises:
        DmsynthError: a face or a video that cannot be edited; a window that the drive or the trajectory does not fill;
            a frame inside it without exactly one face.
    """
    eyes = features_of(trajectory)
    if face is None and (eyes is None or set(trajectory.names) & set(HEAD)):
        raise DmsynthError(
            "without --face only eyes, mouth and brows can be moved: command gaze_yaw, gaze_pitch, eye_opening, "
            "mouth_opening or brow_raise, or give a face that was trained on this driver"
        )
    face = face and face.as_learned()
    if face and not (isinstance(face.trained.network, SwapWarp) and face.trained.space.turns_head):
        raise DmsynthError(f"{face.path}: editing needs a SwapWarp face that turns its head; train one without --model")
    if out.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise DmsynthError(f"{out}: a video is written as .mp4, .mkv or .mov; change the name's ending")
    if end - begin < 2 * (_TURN + _FADE) + trajectory.seconds:
        raise DmsynthError(
            f"--from {begin:g} --to {end:g}: too short for {trajectory.seconds:g} s of scenario, which needs "
            f"{2 * (_TURN + _FADE) + trajectory.seconds:g} s with the ways there and back"
        )
    check_whole(drive, pictures=True)  # before the work, not after it
    info = probe_video(drive)
    if info.seconds and end > info.seconds:
        raise DmsynthError(f"--to {end:g}: {drive} ends at {info.seconds:.2f} s; choose a window inside it")
    motion = trajectory.in_space(face.trained.space) if face and set(trajectory.names) & set(HEAD) else None
    rows: list[dict[str, Any]] = []
    origin = Provenance.of(face.path, face.trained, "edited") if face else Provenance.of_recording(drive)
    with replacing(out) as temporary, av.open(as_file(temporary), "w") as written, _opened(drive) as (read, stream):
        written.metadata.update(origin.metadata())
        new = written.add_stream("libx264", rate=stream.average_rate)
        new.width, new.height = (info.width, info.height)
        new.pix_fmt = stream.codec_context.pix_fmt
        new.codec_context.time_base = stream.time_base
        new.options = {"qp": "0", "preset": "veryfast"}  # without loss
        if stream.codec_context.color_range:
            new.codec_context.color_range = stream.codec_context.color_range
        first: float | None = None
        orientation: Orientation | None = None
        with progress("editing", stream.frames or None) as advance:
            for number, (frame, _) in enumerate(decode(drive, read, stream)):
                first = float(frame.time or 0) if first is None else first
                time = float(frame.time or 0) - first
                orientation = orientation or Orientation.of_frame(frame)
                frame = _upright(frame, orientation)
                step = _step(time, begin, end, motion, eyes)
                row: dict[str, Any] = {"frame": number, "time": time, "edited": step is not None}
                if step is not None:
                    frame, told = _edited(frame, face, step, tracker, f"{drive}, frame {number}")
                    row |= told
                rows.append(row)
                frame.pict_type = 0  # the encoder's choice
                written.mux(new.encode(frame))
                advance()
        written.mux(new.encode(None))
        if not rows or rows[-1]["time"] < end - 1e-6:
            last = rows[-1]["time"] if rows else 0.0
            raise DmsynthError(f"--to {end:g}: {drive} ends at {last:.2f} s; choose a window inside it")
    table = pd.DataFrame(rows)
    origin.write_beside(out)
    write_table(out.with_suffix(".parquet"), table)
    return table


@contextmanager
def _opened(drive: Path) -> Iterator[tuple[Any, Any]]:
    """A drive's container and its video stream; ``DmsynthError`` for one that cannot be edited bit by bit."""
    container, stream = open_video(drive)
    with container:
        stream.thread_type = "AUTO"
        aspect = float(stream.sample_aspect_ratio or 1)
        kind = stream.codec_context.pix_fmt
        if kind not in _FORMATS or stream.width % 2 or stream.height % 2 or aspect != 1:
            raise DmsynthError(
                f"{drive}: {kind}, {stream.width}×{stream.height}, pixels {aspect:g} wide; editing needs yuv420p with "
                "even sides and square pixels: convert it first, and import the converted one"
            )
        yield container, stream


def _upright(frame: Any, orientation: Orientation) -> Any:
    """The frame turned as its file says, pixel by pixel, so that the new file needs no such word."""
    if orientation == Orientation():
        return frame
    return _from_planes([orientation.upright(plane) for plane in _planes(frame)], frame)


def _step(time: float, begin: float, end: float, motion: Trajectory | None, eyes: Trajectory | None) -> _Step | None:
    """What is wanted at ``time``; None outside the window."""
    if not begin <= time <= end:
        return None
    edge = min(time - begin, end - time)
    fade = min(1.0, edge / _FADE)
    phase = np.array([np.clip((edge - _FADE) / _TURN, 0, 1)])
    turn = float(minimum_jerk(np.zeros(1), np.ones(1), phase)[0, 0])

    def at(course: Trajectory | None) -> dict[str, float]:
        if course is None:
            return {}
        moment = course.times[0] + max(0.0, time - begin - _FADE - _TURN)
        return {name: float(np.interp(moment, course.times, course[name])) for name in course.names}

    return _Step(np.array(list(at(motion).values())), at(eyes), turn, fade)


def _edited(
    frame: Any, face: SteerableFace | None, step: _Step, tracker: Tracker, where: str
) -> tuple[Any, dict[str, Any]]:
    """The frame with eyes and head moved, and what the table says of it."""
    rgb: Image = frame.to_ndarray(format="rgb24")
    faces = tracker(rgb)
    reason = why_unusable(faces, rgb)
    if reason:
        raise DmsynthError(f"{where}: {reason}; choose a window in which the driver's face is seen whole")
    told: dict[str, Any] = {"covered": True}
    if step.eyes:
        planes = [plane.astype(np.float32) for plane in _planes(frame)]
        eyes = paint_features(planes, faces[0], step.eyes, step.turn, step.fade, where)
        told = {**eyes, "covered": looks_natural(step.eyes) if step.turn else True}
        frame = _from_planes(planes, frame)
    if face is None or not step.pose.size:
        return frame, told
    frame, of_head = _turned(frame, face, step, faces, tracker)
    return frame, told | of_head | {"covered": told["covered"] and of_head["covered"]}


def _turned(
    frame: Any, face: SteerableFace, step: _Step, faces: list[Face], tracker: Tracker
) -> tuple[Any, dict[str, Any]]:
    """The frame with the head turned, and what the table says of it."""
    space = face.trained.space
    rgb: Image = frame.to_ndarray(format="rgb24")
    left, top, width, height = _region(rgb.shape[1], rgb.shape[0], face.size)
    luma = frame.to_ndarray(format="gray")[top : top + height, left : left + width]
    inside = rgb[top : top + height, left : left + width] if face.trained.in_colour else luma
    own = _own_pose(face, inside, faces[0], tracker)
    # Between the recorded pose and the commanded one: angles are small, and never wrap.
    target = own + step.turn * (step.pose - own)
    flow, correction = _draw(face, inside, own, target)
    planes = [plane.astype(np.float32) for plane in _planes(frame)]
    patch = _patch(faces[0], rgb.shape[1], rgb.shape[0])[top : top + height, left : left + width]
    for number, plane in enumerate(planes):
        share = 1 if number == 0 else 2  # chroma has half the size
        box = np.s_[top // share : (top + height) // share, left // share : (left + width) // share]
        part = torch.from_numpy(plane[box])[None, None]
        size = part.shape[-2:]
        moved = warp(part, resized(flow, size))[0, 0].numpy()
        if number == 0:
            moved = moved + _FORMATS[frame.format.name] * resized(correction, size)[0, 0].numpy()
        shown = step.fade * cv2.resize(patch, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        plane[box] += shown * (moved - plane[box])
    pose = {name: float(value) for name, value in zip(space.names, target, strict=True)}
    covered = not face.outside_coverage(target[None]).size
    recorded = {f"recorded_{name}": float(value) for name, value in zip(space.names, own, strict=True)}
    return _from_planes(planes, frame), {**pose, "covered": covered, **recorded}


def _own_pose(face: SteerableFace, image: Image, found: Face, tracker: Tracker) -> NDArray[np.float64]:
    """The recorded pose on the face's own scale: the tracker's if that is the scale, else as the network reads it."""
    about = face.trained.about
    if about["settings"].get("labels") == "tracked" and about.get("tracker") == tracker.name:
        return np.array([face_columns(found)[name] for name in face.trained.space.names])
    return face.encoded_controls(image)


def _draw(
    face: SteerableFace, inside: Image, own: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The flow along which the region's pixels are fetched, and what the network changes besides, in luma.

    Both (1, c, h, w) at the network's size: flow in its own units, luma in shares of white.
    """
    trained = face.trained
    network: SwapWarp = trained.network  # type: ignore[assignment]
    with torch.inference_mode():
        image = face.to_network(inside)
        k = trained.space.size
        carried = network.encode(image).estimate[:, k:]  # the frame's own
        here, there = (torch.from_numpy(trained.space.encode(pose[None])) for pose in (own, target))
        code = torch.cat([there, carried], dim=1)
        appearance = network.encode(image, torch.cat([here, carried], dim=1))
        drawing = network.draw(appearance, code)
        same = network.draw(appearance, appearance.code)
        # What the network does to a frame that is not turned at all is its blur, and no part of the edit.
        change = (drawing.image - drawing.warped) - (same.image - same.warped)
        return drawing.flow - same.flow, change.mean(dim=1, keepdim=True)


def _region(width: int, height: int, face: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width, height (all even) of the middle part with the face's shape: what the face learned from."""
    aspect = face[0] / face[1]
    cut_width, cut_height = min(width, round(height * aspect)) // 2 * 2, min(height, round(width / aspect)) // 2 * 2
    return (width - cut_width) // 4 * 2, (height - cut_height) // 4 * 2, cut_width, cut_height


def _patch(face: Face, width: int, height: int) -> NDArray[np.float32]:
    """(height, width) in [0, 1]: 1 on the head, soft towards the edge of an ellipse around it, 0 beyond."""
    left, top, right, bottom = face.box
    sizes = (right - left, bottom - top, bottom - top)
    across, up, down = (share * size for share, size in zip(_AROUND, sizes, strict=True))
    left, right, top, bottom = left - across, right + across, top - up, bottom + down
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot((2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top))
    share = np.clip((1 - radius) / _SOFT, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _planes(frame: Any) -> Iterator[NDArray[np.uint8]]:
    """Luma and both chromas, (h, w) uint8."""
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)
        yield rows[:, : plane.width]


def _from_planes(planes: Sequence[NDArray[Any]], like: Any) -> Any:
    """A frame of the planes (luma, then both chromas of half its size), with time and colours ``like`` another."""
    whole = np.concatenate([np.clip(plane.round(), 0, 255).astype(np.uint8).ravel() for plane in planes])
    frame = av.VideoFrame.from_ndarray(whole.reshape(-1, planes[0].shape[1]), format=like.format.name)
    frame.pts, frame.time_base = like.pts, like.time_base
    frame.color_range, frame.colorspace = like.color_range, like.colorspace
    return frame

"""The thesis's rotation dataset (4.1) from real video: frames with the tracker's labels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.datasets.dataset import Dataset, DatasetWriter, finished_dataset, split_by_time
from dmsynth.datasets.masked import is_covered
from dmsynth.datasets.recording_advice import View, advice
from dmsynth.datasets.widening import EACH, MOST, SHARE, posed_frames
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of
from dmsynth.support.parallel import map_ordered
from dmsynth.support.progress import console, progress
from dmsynth.trackers import Face, Tracker, face_labels, find_faces, why_unusable
from dmsynth.trackers.identity import PersonChangeDetector
from dmsynth.video import Image, VideoInfo, check_crop, check_whole, cut_to_shape, fit, probe_video, read_video
from dmsynth.video.picture_folder import FRAME_RATE, pictures_in

_AREA = 640 * 480  # pixels of a frame, unless a size is given
_TRACKED_WIDTH = 640  # pixels; wider frames are tracked at this width
_EDGES = ("left", "top", "right", "bottom")
_LYING = 60.0  # degrees of roll, in the median, that no driver has
_ENOUGH = 24  # frames that tell so
_LOOKED_AT = 48  # frames of a recording, for a mask
FEWEST_FRAMES = 36
"""Usable frames that a recording needs: two for each of the 18 blocks of time that splits are made of."""


@dataclass(frozen=True)
class _Sample:
    recording: int
    frame: int
    time: float
    image: Image
    damaged: bool


def import_recordings(
    out: Path,
    videos: Sequence[Path],
    tracker: Tracker,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    colour: bool = True,
    consent: str | None = None,
    widened: bool = True,
    frame_rate: float = FRAME_RATE,
) -> Dataset:
    """Make a dataset from recordings of one person.

    Every frame is cropped, scaled and measured; frames without exactly one usable face are left out and counted by
    reason, also those that the decoder had to patch. Labels are the tracker's (``tracked_pitch`` … in degrees,
    ``tracked_x``, ``tracked_y`` in pixels of the stored frame), with the recording's name and the time in it. Splits go
    by blocks of time. Interrupted, the same call goes on where it was. How more of the recordings could be used is said
    at the end (``recording_advice``).

    Args:
        out: the dataset's folder; if it is there already and the same was asked for, it is opened.
        videos: the recordings: files, or folders of numbered pictures.
        tracker: who measures; thread-safe (``TrackerPool``).
        size: width, height of the frames, each divisible by 16; by default the first video's shape at the area
            of 640×480 (``shape_at``). Frames are scaled to cover it and the overhang is cut equally on both sides.
        crop: left, top, width, height in pixels of the upright video: use only this part.
        colour: store RGB, not grey.
        consent: who may be shown, and on what consent.
        widened: add frames of the recording, posed (``sources.widening``), to learn from.
        frame_rate: pictures a second in folders of pictures.

    Raises:
        DmsynthError: a video that cannot be read, too few usable frames, a head that lies on its side.
    """
    infos = _checked(videos, crop)
    size = size or shape_at(*(crop[2:] if crop else (infos[0].width, infos[0].height)))
    names = [video.name.encode("utf-8", "replace").decode() for video in videos]  # a name need not be text
    recipe = {
        "kind": "recording",
        "videos": [{"name": name, "sha256": _sha256(video)} for name, video in zip(names, videos, strict=True)],
        "size": list(size),
        "crop": list(crop) if crop else None,
        "colour": colour,
        "tracker": tracker.name,
        "widened": widened,
    } | ({"frame_rate": frame_rate} if any(video.is_dir() for video in videos) else {})
    made = finished_dataset(out, recipe, consent)
    if made is not None:
        return made
    writer = DatasetWriter(out, recipe, (size[1], size[0], 3) if colour else (size[1], size[0]), consent)
    samples = _samples(videos, crop, colour, frame_rate, skip=writer.done)
    with progress(f"importing {', '.join(names)}", sum(info.frames for info in infos), writer.done) as advance:
        for _ in _imported(videos, names, writer, map_ordered(lambda s: _measure(s, tracker, size), samples)):
            advance()
    filmed = [record for record in writer.records if not record.get("posed", False)]
    kept = [record for record in filmed if "left_out" not in record]
    boxes = np.array([[record[f"tracked_{edge}"] for edge in _EDGES] for record in kept]).reshape(-1, 4)
    to_do = advice(writer.left_out, boxes, _view(infos[0], crop, size), size[0])
    problem = _too_few(videos, filmed, writer.left_out, to_do) or _lying(videos, kept)
    if problem:
        writer.abandon()  # it can never become a dataset
        raise DmsynthError(problem)
    for each in [*_masked(writer, kept), *(f"{names[0]}: {each}" for each in to_do)]:
        console.print(each, style="yellow")
    recordings = np.array([str(record["recording_index"]) for record in kept])
    splits = split_by_time(recordings, np.array([record["time"] for record in kept]))
    if widened:
        _widen(writer, tracker, np.flatnonzero(splits == "train"))
    return writer.finish(np.concatenate([splits, np.full(writer.kept - len(kept), "train")]))


def _checked(videos: Sequence[Path], crop: tuple[int, int, int, int] | None) -> list[VideoInfo]:
    """What each video is. ``DmsynthError`` for one that is cut off or smaller than the crop: before hours of work."""
    for video in videos:
        check_whole(video)
    infos = [probe_video(video) for video in videos]
    if crop is not None:
        for video, info in zip(videos, infos, strict=True):
            check_crop(video, info, crop)
    return infos


def _imported(
    videos: Sequence[Path],
    names: Sequence[str],
    writer: DatasetWriter,
    measured: Iterable[tuple[_Sample, list[Face]]],
) -> Iterator[None]:
    """Keep or leave out the measured frames, one after the other.

    Raises ``DmsynthError`` as soon as it is clear that the head lies on its side.
    """
    detectors = [PersonChangeDetector() for _ in videos]
    for sample, faces in measured:
        reason = "damaged" if sample.damaged else why_unusable(faces, sample.image)
        if reason:
            writer.leave_out(reason)
            yield
            continue
        where = {
            "recording": names[sample.recording],
            "recording_index": sample.recording,
            "frame": sample.frame,
            "time": sample.time,
        }
        labels = face_labels(faces[0]) | _carried(faces[0])
        writer.keep(sample.image, where | {"posed": False} | labels)
        if writer.kept == _ENOUGH and (problem := _lying(videos, writer.records)):
            writer.abandon()
            raise DmsynthError(problem)  # now, and not after hours
        changed = detectors[sample.recording].changed(sample.image, faces[0], sample.time)
        if changed is not None:
            _warn_of_another(videos[sample.recording], changed)
        yield


def _warn_of_another(video: Path, came: float) -> None:
    console.print(
        f"{video}: from {came:.1f} s on it seems to show another person; a dataset is one person's: if so, cut the "
        "recording there and import one part",
        style="yellow",
    )


def _too_few(
    videos: Sequence[Path], filmed: Sequence[Mapping[str, Any]], left_out: Mapping[str, int], to_do: Sequence[str]
) -> str | None:
    """What to say where too few frames are usable."""
    kept = sum("left_out" not in record for record in filmed)
    if kept >= FEWEST_FRAMES:
        return None
    names = ", ".join(map(str, videos))
    if left_out.get("no face", 0) == len(filmed):
        return (
            f"{names}: no face is found in any of {len(filmed)} frames (100 % without one), though dark and noisy ones "
            "are brightened and softened and small faces searched for; film one person, the whole face in view, or "
            "give --crop LEFT,TOP,WIDTH,HEIGHT around the driver"
        )
    counts = ", ".join(f"{reason}: {count}" for reason, count in left_out.items()) or "none left out"
    return "; ".join(
        [
            f"{names}: only {kept} of {len(filmed)} frames hold exactly one usable face ({counts}); a recording needs "
            f"{FEWEST_FRAMES}: film one person, the whole face in view",
            *to_do,
        ]
    )


def _view(info: VideoInfo, crop: tuple[int, int, int, int] | None, size: tuple[int, int]) -> View:
    """The part of a video that frames of ``size`` show (``cut_to_shape``)."""
    left, top, width, height = crop or (0, 0, info.width, info.height)
    across, down = min(width, round(height * size[0] / size[1])), min(height, round(width * size[1] / size[0]))
    left, top = left + (width - across) // 2, top + (height - down) // 2
    return View(left, top, across, down, (info.width, info.height))


def _sha256(video: Path) -> str:
    """Of a file's bytes, or of the names and contents of a folder's pictures."""
    if not video.is_dir():
        return sha256_of(video)
    each = (f"{sha256_of(picture)} {picture.name}\n" for picture in pictures_in(video))
    return hashlib.sha256("".join(each).encode("utf-8", "surrogateescape")).hexdigest()


def _lying(videos: Sequence[Path], kept: Sequence[Mapping[str, Any]]) -> str | None:
    """What to say where a recording's head lies on its side: it was filmed or exported without its note to turn it."""
    for number, video in enumerate(videos):
        rolls = [record["tracked_roll"] for record in kept if record.get("recording_index") == number]
        roll = float(np.median(rolls)) if rolls else 0.0
        if abs(roll) > _LYING:
            turn = "transpose=2" if roll > 0 else "transpose=1"
            turn = "hflip,vflip" if abs(roll) > 180 - _LYING else turn
            return (
                f"{video}: the head lies on its side (roll {roll:+.0f}°), so the recording is stored turned; turn it "
                f"first: ffmpeg -i {video.name} -vf {turn} upright.mp4"
            )
    return None


def _masked(writer: DatasetWriter, kept: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to say of each recording whose driver wears a mask, by frames that lie evenly in it."""
    said = []
    for name in dict.fromkeys(record["recording"] for record in kept):
        own = [number for number, record in enumerate(kept) if record["recording"] == name]
        some = sorted({own[int(at)] for at in np.linspace(0, len(own) - 1, _LOOKED_AT)})
        if is_covered([writer.frame(number) for number in some], [kept[number] for number in some]):
            said.append(
                f"{name}: mouth and nose seem to be covered, as by a mask: under one, pitch is measured up to 16° too "
                "high, and a face learns it so; film the driver without it, or import only the part without it"
            )
    return said


def _widen(writer: DatasetWriter, tracker: Tracker, frames: NDArray[np.int64]) -> None:
    """Append posed frames (``sources.widening``) of some of the ``frames``, evenly chosen."""
    groups = min(MOST, round(SHARE * len(frames))) // EACH
    chosen = frames[np.linspace(0, len(frames) - 1, groups).round().astype(int)]
    done = sum(record.get("posed", False) for record in writer.records)
    kept = [record for record in writer.records if "left_out" not in record]

    def pose(group: int) -> tuple[int, list[tuple[Image, Face | str]]]:
        number = int(chosen[group])
        return number, list(posed_frames(writer.frame(number), tracker, seed=number))

    with progress("posing its frames", EACH * groups, done) as advance:
        for number, posed in map_ordered(pose, range(done // EACH, groups)):
            of = {key: kept[number][key] for key in ("recording", "recording_index", "frame", "time")}
            for image, face in posed[done % EACH :]:
                if isinstance(face, Face):
                    writer.keep(image, of | {"posed": True} | face_labels(face) | _carried(face))
                else:
                    writer.leave_out(face, posed=True)
                advance()
            done = 0  # only the first group can have been begun


def _samples(
    videos: Sequence[Path],
    crop: tuple[int, int, int, int] | None,
    colour: bool,
    frame_rate: float,
    skip: int,
) -> Iterator[_Sample]:
    """All videos' frames, one after the other, from the one numbered ``skip``; earlier ones are only decoded."""
    count = 0
    for recording, video in enumerate(videos):
        for frame in read_video(video, not colour, damaged=True, frame_rate=frame_rate):
            count += 1
            if count > skip:
                image = frame.image
                if crop:
                    left, top, width, height = crop
                    image = image[top : top + height, left : left + width]
                yield _Sample(recording, frame.index, frame.time, image, frame.damaged)


def _measure(sample: _Sample, tracker: Tracker, size: tuple[int, int]) -> tuple[_Sample, list[Face]]:
    """Track the frame before it is made small, because a small frame's answers are noisier; then make it small."""
    cut = cut_to_shape(sample.image, size[0] / size[1])
    faces = find_faces(tracker, cut, max(_TRACKED_WIDTH, size[0]), size[0])
    return replace(sample, image=fit(cut, *size)), faces


def _carried(face: Face) -> dict[str, float]:
    """What a living person does besides turning the head: where the head is, how large, and the expression."""
    left, top, right, bottom = face.box
    x, y = face.centre
    place = {"x": x, "y": y, "size": math.sqrt((right - left) * (bottom - top))}
    return {f"carried_{name}": value for name, value in (place | face.expression).items()}


def shape_at(width: int, height: int, area: int = _AREA) -> tuple[int, int]:
    """Width and height of that shape with at most ``area`` pixels, and so that half of each is a multiple of 16, as a
    network takes it (``learning.data.learned``); small frames are not enlarged, theirs are multiples of 16."""
    scale = min(1.0, math.sqrt(area / (width * height)))
    unit = 32 if scale < 1 and area >= _AREA else 16
    return max(unit, round(width * scale / unit) * unit), max(unit, round(height * scale / unit) * unit)

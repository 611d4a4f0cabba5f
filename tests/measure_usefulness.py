"""Does it help? What docs/generate.md says of networks that learn from generated frames, measured anew.

python tests/measure_usefulness.py plan CAST.yaml [FRAMES]           # the plan, on the standard output
python tests/measure_usefulness.py generated SET OUT.npz             # pictures of heads and eyes, and labels, of a set
python tests/measure_usefulness.py real OUT.npz VIDEO ...            # the same of videos, labelled by two trackers each
python tests/measure_usefulness.py compare GENERATED.npz REAL.npz    # two small networks trained on either

A network of one kind sees a head (48×48) and says pitch, yaw and roll in the camera's frame; one of the other kind sees
both eyes (72×24) and says the gaze in the head. Each is trained as many steps on generated frames alone and, once for
every person, on the real frames of all other people; both are judged on that person's real frames.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmsynth.controls import HEAD
from dmsynth.evaluation.eyes import gaze_judge
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console, progress
from dmsynth.trackers import open_second_tracker, open_tracker
from dmsynth.trackers.gaze import eye_aspects, gaze_by_landmarks
from dmsynth.video import Image, read_video, to_grey

HEADS, EYES = (60, 60), (84, 30)  # width, height as kept: more than is seen, so that a cut can move
_SEEN = {"head": (48, 48), "gaze": (72, 24)}
_BOX, _STRIP = 1.3, 1.6  # of the longer side of the landmarks' box; of the distance of the outer corners
_OUTER = (33, 263)  # of Face Landmarker's mesh
_OPEN = 0.4  # of a lid's usual opening, below which nobody says where an eye looks
_ASPECT = 0.12  # likewise, height over width
_BATCH, _STEPS = 128, 3000
_AXES = {"head": HEAD, "gaze": ("gaze_pitch", "gaze_yaw")}

PLAN = """name: usefulness
frames: {frames}
seed: 0
people: [{{cast: {cast}}}]
frame_rate: 10
size: [320, 240]
cameras: [day, dusk, night, low-sun, underexposed]
things: [{{wear: [], weight: 3}}, {{wear: [glasses]}}]
motions:
  - {{kind: driving}}
  - {{kind: uniform, ranges: {{mouth_opening: [0, 0.4]}}}}
  - {{kind: stratified, ranges: {{mouth_opening: [0, 0.4]}}}}
"""


def _cut(image: Image, centre: tuple[float, float], width: float, size: tuple[int, int]) -> Image:
    """A part of a grey image about ``centre``, ``width`` pixels wide, as ``size`` (width, height)."""
    scale = size[0] / width
    turn = np.array([[scale, 0, size[0] / 2 - scale * centre[0]], [0, scale, size[1] / 2 - scale * centre[1]]])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if scale < 0.5:  # warping alone would skip pixels
        image = cv2.blur(image, (int(0.5 / scale) * 2 + 1,) * 2)
    return cv2.warpAffine(image, turn, size, flags=how, borderMode=cv2.BORDER_REPLICATE)


def _pictures(image: Image, box: Any, outer: NDArray[np.float64]) -> tuple[Image, Image]:
    left, top, right, bottom = box
    side = _BOX * HEADS[0] / _SEEN["head"][0] * max(right - left, bottom - top)
    head = _cut(image, ((left + right) / 2, (top + bottom) / 2), side, HEADS)
    x, y = outer.mean(axis=0)
    width = _STRIP * EYES[0] / _SEEN["gaze"][0] * float(np.hypot(*(outer[1] - outer[0])))
    return head, _cut(image, (float(x), float(y)), width, EYES)


def _clips(folder: Path) -> Iterator[tuple[bytes, pd.DataFrame, str]]:
    people = pd.read_parquet(folder / "index.parquet").set_index("clip")["person"]
    for shard in sorted((folder / "data").glob("*.tar")):
        with tarfile.open(shard) as tar:
            content = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        for name, video in content.items():
            if name.endswith(".mp4"):
                key = name.removesuffix(".mp4")
                yield video, pd.read_parquet(io.BytesIO(content[f"{key}.parquet"])), str(people[int(key)])


def _write(out: Path, kept: dict[str, list[Any]]) -> None:
    arrays: dict[str, Any] = {name: np.array(each) for name, each in kept.items()}
    np.savez(out, **arrays)


def generated(folder: Path, out: Path) -> None:
    """Heads, eyes and exact labels of a set that was stored as videos."""
    kept: dict[str, list[Any]] = {name: [] for name in ("heads", "eyes", "head", "gaze", "open", "person")}
    clips = pd.read_parquet(folder / "index.parquet")
    with progress("reading", len(clips)) as advance, tempfile.TemporaryDirectory() as temporary:
        for video, labels, person in _clips(folder):
            path = Path(temporary, "clip.mp4")
            path.write_bytes(video)
            for frame, row in zip(read_video(path), labels.to_dict("records"), strict=True):
                outer = np.array([[row[f"{side}_eye_outer_{axis}"] for axis in "xy"] for side in ("right", "left")])
                box = [row[f"face_{side}"] for side in ("left", "top", "right", "bottom")]
                if not np.isfinite([*box, *outer.ravel()]).all():
                    continue
                head, eyes = _pictures(to_grey(frame.image), box, outer)
                kept["heads"].append(head)
                kept["eyes"].append(eyes)
                kept["head"].append([row[f"camera_{name}"] for name in HEAD])
                kept["gaze"].append([row[name] for name in _AXES["gaze"]])
                lids = min(row["eye_opening_left"], row["eye_opening_right"])
                kept["open"].append(lids >= _OPEN and min(row["visible_left"], row["visible_right"]) > 0.5)
                kept["person"].append(person)
            advance()
    _write(out, kept)


def real(out: Path, videos: list[Path]) -> None:
    """Heads and eyes of videos; as labels what Face Landmarker says, and beside what a second tracker says."""
    tracker, network = open_tracker("face-landmarker"), gaze_judge()
    second = open_second_tracker(tracker, "auto")
    if network is None or second is None:
        raise DmsynthError("two judges of each are needed: docs/judges.md says where they are from")
    kept: dict[str, list[Any]] = {
        name: [] for name in ("heads", "eyes", "head", "gaze", "open", "person", "second_head", "second_gaze")
    }
    for video in videos:
        for frame in read_video(video):
            found, other = tracker(frame.image), second(frame.image)
            if not found or not other:
                continue
            face = found[0]
            head, eyes = _pictures(to_grey(frame.image), face.box, face.landmarks[list(_OUTER), :2].astype(float))
            one, two = gaze_by_landmarks(face), network(frame.image, face)
            kept["heads"].append(head)
            kept["eyes"].append(eyes)
            kept["head"].append([face.pose[name] for name in HEAD])
            kept["second_head"].append([other[0].pose[name] for name in HEAD])
            kept["gaze"].append([one.gaze_pitch, one.gaze_yaw])
            kept["second_gaze"].append([two.gaze_pitch, two.gaze_yaw])
            kept["open"].append(min(eye_aspects(face)) > _ASPECT)
            kept["person"].append(video.stem)
        console.print(video.stem, sum(each == video.stem for each in kept["person"]), "frames")
    _write(out, kept)


def _network(size: tuple[int, int], outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    flat = 64 * (size[0] // 8) * (size[1] // 8)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, outputs))


def _varied(images: NDArray[np.uint8], size: tuple[int, int], random: np.random.Generator | None) -> Tensor:
    """Pictures (n, 1, h, w) of mean 0 and spread 1; with ``random`` cut, lit, blurred and noisy as cameras may."""
    spare = np.array(images.shape[:0:-1]) - size
    across, down = spare // 2 if random is None else [random.integers(0, most + 1) for most in spare]
    part = images[:, down : down + size[1], across : across + size[0]].astype(np.float32)
    if random is not None:
        if random.random() < 0.3:
            part = np.stack([cv2.GaussianBlur(each, (0, 0), random.uniform(0.4, 1.2)) for each in part])
        gamma = np.exp(random.normal(0, 0.3, (len(part), 1, 1))).astype(np.float32)
        part = np.float32(255) * (part / np.float32(255)) ** gamma
        part += random.normal(0, random.uniform(0, 8), part.shape).astype(np.float32)
    middle, spread = part.mean(axis=(1, 2), keepdims=True), part.std(axis=(1, 2), keepdims=True)
    return torch.from_numpy(((part - middle) / (spread + 1e-3))[:, None].astype(np.float32))


def _learned(images: NDArray[np.uint8], labels: NDArray[np.float32], size: tuple[int, int], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = _network(size, labels.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        chosen = random.integers(0, len(images), _BATCH)
        answer = network(_varied(images[chosen], size, random))
        loss = nn.functional.smooth_l1_loss(answer, torch.from_numpy(labels[chosen] / 10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _said(network: nn.Module, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    with torch.inference_mode():
        parts = [network(_varied(images[at : at + 512], size, None)) for at in range(0, len(images), 512)]
    return np.asarray(10 * torch.cat(parts).numpy(), float)


def _errors(said: NDArray[np.float64], label: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Mean absolute errors an axis, as they are and after this person's median is taken out; correlations."""
    off = said - label
    correlation = [np.corrcoef(said[:, axis], label[:, axis])[0, 1] for axis in range(label.shape[1])]
    alone = np.abs(off - np.median(off, axis=0)).mean(axis=0)
    return {"error": np.abs(off).mean(axis=0), "without the median": alone, "correlation": np.array(correlation)}


def compare(made: Path, filmed: Path) -> pd.DataFrame:
    """A row for each network, person, material and judge."""
    ours, theirs = dict(np.load(made)), dict(np.load(filmed))
    people, rows = sorted(set(theirs["person"])), []
    for kind, images in (("head", "heads"), ("gaze", "eyes")):
        size = _SEEN[kind]
        inside = [each["open"] if kind == "gaze" else np.ones(len(each["open"]), bool) for each in (ours, theirs)]
        from_made = _learned(ours[images][inside[0]], ours[kind][inside[0]].astype(np.float32), size, 0)
        for person in people:
            mine = theirs["person"] == person
            others, tested = inside[1] & ~mine, inside[1] & mine
            from_real = _learned(theirs[images][others], theirs[kind][others].astype(np.float32), size, 0)
            says = {
                "generated": _said(from_made, theirs[images][tested], size),
                "real, other people": _said(from_real, theirs[images][tested], size),
                "the other tracker": theirs[f"second_{kind}"][tested],
            }
            for judge in ("", "second_"):
                label = theirs[judge + kind][tested]
                for who, said in says.items():
                    if who == "the other tracker" and judge:
                        continue
                    rows += [
                        {"network": kind, "person": person, "judge": judge or "first", "learned from": who, "of": name}
                        | dict(zip(_AXES[kind], values, strict=True))
                        for name, values in _errors(said, label).items()
                    ]
            console.print(pd.DataFrame(rows[-15:]).round(2).to_string(index=False))
    return pd.DataFrame(rows)


def main() -> None:
    task, *given = sys.argv[1:]
    if task == "plan":
        frames = given[1] if len(given) > 1 else 100_000
        sys.stdout.write(PLAN.format(cast=Path(given[0]).resolve(), frames=frames))
    elif task == "generated":
        generated(Path(given[0]), Path(given[1]))
    elif task == "real":
        real(Path(given[0]), [Path(each) for each in given[1:]])
    else:
        table = compare(Path(given[0]), Path(given[1]))
        groups = ["network", "judge", "learned from", "of"]
        console.print(table.groupby(groups).mean(numeric_only=True).round(2).to_string())


if __name__ == "__main__":
    main()

"""The demo: one portrait → dataset → training → steering → tracking → report, in minutes on two cores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from dmsynth.datasets.photo import PoseRange, pose_photo
from dmsynth.evaluation import evaluate, follow, tracking_errors
from dmsynth.evaluation.judges import with_second_judge
from dmsynth.learning.training import train
from dmsynth.motion.driving import from_motions
from dmsynth.report.html import SteeredRun, write_report
from dmsynth.steering import load_face, steer_to_video
from dmsynth.support.files import write_json
from dmsynth.support.table_files import write_table
from dmsynth.trackers import Tracker

MOTIONS = (
    "hold 0.4; move yaw=-30 1; sweep yaw=-30:30 3; move yaw=0 1; "  # a yaw sweep
    "move pitch=8 0.7; move pitch=-8 1.1; move pitch=0 0.7; "  # a nod
    "move roll=9 0.7; move roll=-9 1.1; move roll=0 0.7; hold 0.4"  # a tilt
)
FRAME_RATE = 25.0


@dataclass(frozen=True)
class DemoSize:
    """The size of a demo. The default takes about two minutes on two cores; tests use a smaller one.

    Attributes:
        begin: the face that training begins from; None: from nothing.
        train_seconds, steps: how long it is; neither: as long as usual (``learning.settings.ADAPTING``).
    """

    frames: int = 900
    size: tuple[int, int] = (640, 480)
    colour: bool = True
    begin: Path | None = Path("starter")
    train_seconds: float | None = None
    steps: int | None = None


def demo(
    out: Path,
    tracker: Tracker,
    photo: Path | None = None,
    size: DemoSize | None = None,
    seed: int = 0,
    second: Tracker | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Run the whole pipeline into ``out`` and return the metrics.

    ``out`` gets ``metrics.json``, ``report.html``, ``steered.mp4`` (with its table) and ``face.safetensors``. Finished
    parts of an interrupted demo are kept. ``second`` is the second judge. ``command`` is shown in the report.
    """
    size = size or DemoSize()
    out.mkdir(parents=True, exist_ok=True)
    # Slightly wider than the commands, because a tracker may measure less than the true angle.
    poses = PoseRange(pitch=10, yaw=36, roll=11)
    dataset = pose_photo(out / "dataset", photo, tracker, size.frames, size.size, poses, seed, size.colour)
    trained = train(
        dataset,
        out / "training",
        begin=size.begin,
        max_time=timedelta(seconds=size.train_seconds) if size.train_seconds else None,
        steps=size.steps,
        seed=seed,
    )
    shutil.copyfile(trained, out / "face.safetensors")
    face = load_face(out / "face.safetensors")

    trajectory = from_motions(MOTIONS, face.trained.space, FRAME_RATE)
    video = out / "steered.mp4"
    steer_to_video(face, trajectory, video, FRAME_RATE)
    table = follow(face, trajectory.table(), video, tracker)
    run = SteeredRun(video, table, tracking_errors(table, face.trained.space), MOTIONS)

    write_table(out / "tracked.parquet", table)

    evaluation = with_second_judge(evaluate(face, dataset, tracker), face.trained.space, dataset, second)
    followed = {"frames": len(table), "lost": int((~table["found"]).sum()), **run.errors}
    metrics = {**evaluation.metrics, "trajectory": followed}
    write_json(out / "metrics.json", metrics)
    write_report(out / "report.html", face, evaluation, [command] if command else [], run)
    return metrics

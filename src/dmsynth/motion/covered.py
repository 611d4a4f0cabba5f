"""A motion checked against the training coverage: poses outside are marked, refused, clipped, or fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES, ControlSpace
from dmsynth.controls.coverage import Coverage, clip, frame_ranges
from dmsynth.motion.trajectory import Trajectory
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console


@dataclass(frozen=True)
class Covered:
    """A motion as it is rendered, frame by frame.

    Attributes:
        values: (n, k) in the order and units of the control space.
        table: one row per frame: ``frame``, ``time``, the controls, whether the coverage contains the commanded pose
            (``covered``), and how far to trust the frame (``confidence``, 1 to 0; 0.5 where coverage ends).
        share: factor by which the motion was shrunk; 1: not at all.
    """

    values: NDArray[np.float64]
    table: pd.DataFrame
    share: float = 1.0


def cover(
    motion: Trajectory,
    space: ControlSpace,
    coverage: Coverage,
    frame_rate: float,
    outside: str,
    name: str,
    trusted: str,
) -> Covered:
    """A motion, resampled at ``frame_rate`` for the controls of ``space``, checked against the training ``coverage``.

    Args:
        outside: what to do with poses outside it: ``warn``, ``strict`` (refuse), ``clip`` (each to the edge), ``fit``
            (the whole motion), ``mark`` (no message; the table marks them), or ``edge`` (``clip`` without a message).
        name: of the video, for messages.
        trusted: description of the coverage, for messages.

    Raises:
        DmsynthError: values out of the controls' range; poses outside the coverage under ``strict``.
    """
    motion, share = motion.in_space(space).resampled(frame_rate), 1.0
    if outside == "fit":
        motion, share = fitted(motion, space, coverage)
    values = motion.values
    CONTROL_SPACES[space.name].check(values)
    beyond = coverage.outside(space.encode(values))
    if beyond.any():
        frames = frame_ranges(np.flatnonzero(beyond))
        message = f"{name}: {frames} of {len(values)} command poses outside {trusted}"
        if outside == "strict":
            raise DmsynthError(f"{message}; command less, use --clip, or train on more poses")
        if outside not in ("mark", "edge"):
            clipped = ", clipped to its edge" if outside == "clip" else ""
            console.print(f"warning: {message}{clipped}", style="yellow")
        if outside in ("clip", "edge"):
            values = clip(values, space, coverage)
    table = Trajectory(motion.names, motion.times, values).table()
    table["covered"] = ~beyond
    table["confidence"] = coverage.confidence(space.encode(values)).round(3)
    return Covered(values, table, share)


def fitted(motion: Trajectory, space: ControlSpace, coverage: Coverage) -> tuple[Trajectory, float]:
    """The motion, shrunk evenly towards its middle until the training coverage holds all of it, and to which share.

    Its shape stays, and so does what follows what, which clipping each frame alone does not promise. The middle is the
    motion's median pose, drawn into the coverage where it lies outside.
    """
    codes = space.encode(motion.in_space(space).values)
    middle = coverage.clipped(np.median(codes, axis=0)[None])[0]
    for share in np.linspace(1, 0, 101):
        shrunk = (middle + share * (codes - np.median(codes, axis=0))).astype(np.float32)
        if share == 1 and not coverage.outside(codes).any():
            return motion, 1.0
        if not coverage.outside(shrunk).any():
            break
    return Trajectory(space.names, motion.times, space.decode(shrunk)), float(share)

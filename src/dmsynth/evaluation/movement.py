"""How exactly a face moves to where it is told, measured in the images alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmsynth.steering import SteerableFace
from dmsynth.trackers.template import FaceTemplate
from dmsynth.video import Image


@dataclass(frozen=True)
class Movement:
    """What ``measure_movement`` found.

    Attributes:
        commanded, measured: (n, 2) x and y of the face's centre in pixels; measured is NaN where no face is seen.
    """

    commanded: NDArray[np.float64]
    measured: NDArray[np.float64]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(n,) in which images a face is seen."""
        return np.asarray(np.isfinite(self.measured).all(axis=1))

    @property
    def gain(self) -> tuple[float, float]:
        """Movement gain in x and y: the slope of the least-squares line of measured over commanded.

        1 is perfect control, 0 is none; NaN where fewer than two faces are seen.
        """
        if self.seen.sum() < 2:
            return float("nan"), float("nan")
        commanded = self.commanded[self.seen]
        moved = commanded - commanded.mean(axis=0)
        slope = (moved * self.measured[self.seen]).sum(axis=0) / (moved**2).sum(axis=0)
        return float(slope[0]), float(slope[1])

    @property
    def error(self) -> float:
        """Mean distance of the measured centre from the commanded one, in pixels; NaN where no face is seen."""
        distances = np.linalg.norm(self.measured - self.commanded, axis=1)[self.seen]
        return float(distances.mean()) if len(distances) else float("nan")


def measure_movement(
    face: SteerableFace, sources: list[Image], commands: NDArray[np.float64], template: FaceTemplate
) -> Movement:
    """Steer each of the ``sources`` to its row of ``commands`` (n, 2), x and y in pixels, and find the face."""
    steered = (next(face.frames(command[None], source)) for command, source in zip(commands, sources, strict=True))
    return Movement(commands, np.array([template.locate(image) for image in steered]))

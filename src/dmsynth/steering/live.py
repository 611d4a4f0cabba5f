"""Interactive steering: one frame at a time, each as soon as it is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmsynth.controls import CONTROL_SPACES, FEATURES
from dmsynth.steering.face import CHANGE, SteerableFace, choose_sources, to_pixels
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers import Face
from dmsynth.trackers.features import feature_columns, features_from_rest
from dmsynth.video import Image

_KEPT = 48  # encoded source frames


@dataclass(frozen=True)
class Drawn:
    """A frame (grey or RGB uint8) and which of the face's source frames it came from; None: one that was given."""

    image: Image
    source: int | None


class LiveFace:
    """A face whose source frames stay encoded, for any number of clients at once.

    Each client sends the source frame of its last picture again, so that it changes seldom
    (``SteerableFace.frames`` looks ahead to the same end, but here nobody knows what comes).
    """

    def __init__(self, face: SteerableFace) -> None:
        self.face = face
        self._encoded: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        trained = face.trained
        self._codes = trained.space.comparable(trained.source_codes)

    def draw(
        self,
        values: list[float],
        last: int | None = None,
        source: int | None = None,
        appearance: tuple[Any, NDArray[np.float32]] | None = None,
    ) -> Drawn:
        """The picture at ``values`` (k), in the order and units of the face's control space.

        Args:
            last: the source frame of the picture before.
            source: steer from this one of the face's source frames.
            appearance: steer from this source instead (``SteerableFace.appearance``).

        Raises:
            DmsynthError: values that are not k numbers in the space's range; no such source frame.
        """
        trained = self.face.trained
        space = trained.space
        row = space.whole(np.array([values], dtype=float))
        if row.shape[1] != space.size:
            raise DmsynthError(f"give {', '.join(space.names)}: {space.size} numbers, not {len(values)}")
        CONTROL_SPACES[space.name].only(space.names).check(row)
        if source is not None and not 0 <= source < len(trained.sources):
            raise DmsynthError(f"source frame {source}: this face has 0 to {len(trained.sources) - 1}")
        code = self.face.commanded_codes(row) if appearance is None else space.encode(row)
        if trained.carried.size:
            own = trained.source_codes[[source or 0], space.size :]  # a frame that was asked for keeps its expression
            held = own if appearance is None else appearance[1][None]
            code = np.concatenate([code, held], axis=1).astype(np.float32)
        if appearance is not None:
            return Drawn(self._picture(appearance[0], code), None)
        chosen = self._choose(code, last) if source is None else source
        return Drawn(self._picture(self._appearance(chosen), code), chosen)

    def at_rest(self, appearance: tuple[Any, NDArray[np.float32]] | None = None) -> Image:
        """The picture with every control at rest; ``appearance`` as in ``draw``."""
        return self.draw(self.face.trained.space.row({}), appearance=appearance).image

    def measured(self, seen: Face, rest: Face | None) -> dict[str, float]:
        """What a tracker measures of this face's controls, by name, in their units, in the face that it has ``seen`` in
        a picture. Gaze, lids, mouth and brows are from this person's rest, as the command is: from the face at ``rest``
        (``at_rest``). None, or landmarks without irises: they are left out."""
        measured, names = dict(seen.pose), self.face.trained.space.names
        if self.face.trained.space.moves_eyes and rest is not None:
            both = [feature_columns(face) for face in (rest, seen)]
            if all(both):
                rows = np.array([[each[name] for name in FEATURES] for each in both])
                measured |= dict(zip(FEATURES, features_from_rest(rows, np.array([0]))[1].tolist(), strict=True))
        return {name: value for name, value in measured.items() if name in names}

    def _choose(self, code: NDArray[np.float32], last: int | None) -> int:
        """The source that suits best, left only for one that is clearly better."""
        alike = self.face.trained.space.comparable(code)
        best = int(choose_sources(alike, self._codes, 0.0)[0])
        if last is None or not 0 <= last < len(self._codes):
            return best
        distance = np.square(self._codes - alike).sum(axis=1)
        return last if distance[last] <= distance[best] + CHANGE else best

    def _appearance(self, source: int) -> Any:
        with self._lock:
            if source in self._encoded:
                self._encoded.move_to_end(source)
                return self._encoded[source]
        with torch.inference_mode():
            encoded: Any = self.face.own_appearance(source)
        with self._lock:
            self._encoded[source] = encoded
            while len(self._encoded) > _KEPT:
                self._encoded.popitem(last=False)
        return encoded

    def _picture(self, appearance: Any, code: NDArray[np.float32]) -> Image:
        with torch.inference_mode():
            network: Any = self.face.trained.network
            return to_pixels(network.steer(appearance, torch.from_numpy(code)))[0]

"""Control spaces: the quantities that can be steered.

A control space is an ordered list of named quantities. Its order is the order of the first entries of a latent
vector; its ranges map to the network's [0, 1] (thesis 3.1.2: "all pixel values and positional coordinates are
normalized to values between 0 and 1").
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmsynth.support.errors import DmsynthError

T = TypeVar("T")

HEAD = ("pitch", "yaw", "roll")
"""The head's rotation, in the order of ``controls.pose``."""

EYES = ("gaze_pitch", "gaze_yaw", "eye_opening_left", "eye_opening_right")
"""The eyes in the head: gaze in degrees, signs as for the head, 0 at rest; lids, the person's own left and right: 0
closed, 1 as at rest."""

EYES_RANGE = (20.0, 30.0)
"""Degrees of gaze pitch and yaw either way within which posed eyes look natural."""

MOUTH = "mouth_opening"
"""How far the jaw has dropped: 0 as at rest, 1 as in a yawn (``trackers.mouth.WIDE_OPEN``)."""

BROWS = "brow_raise"
"""How far both brows are raised: -1 lowered and drawn together, as against glare, 0 as at rest, 1 as in surprise
(``trackers.brows.BROW_WAY``)."""

FEATURES = (*EYES, MOUTH, BROWS)
"""Facial features: what a driver commands beside the head."""

FEATURES_AT_REST = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)

BOTH_EYES = "eye_opening"
"""A factor for both lids."""

LOOK = ("look_pitch", "look_yaw", "head_share")
"""Where the driver looks, in the camera's frame, and how much of it the head does (``motion.eyes``)."""


@dataclass(frozen=True)
class Control:
    """One steered quantity. ``low`` maps to 0 and ``high`` to 1 in the network's code.

    ``rest`` is its default value; None is the middle of its range.
    """

    name: str
    unit: str
    low: float
    high: float
    rest: float | None = 0.0

    @property
    def at_rest(self) -> float:
        return (self.low + self.high) / 2 if self.rest is None else self.rest


@dataclass(frozen=True)
class ControlSpace:
    """An ordered list of controls.

    Attributes:
        labels: the kind of label by which a dataset shows this space: ``tracked``, measured in each frame, or
            ``commanded``, known from how the frame was made.
    """

    name: str
    controls: tuple[Control, ...]
    labels: str = "tracked"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(control.name for control in self.controls)

    @property
    def size(self) -> int:
        return len(self.controls)

    @property
    def turns_head(self) -> bool:
        """Whether the head's rotation is among the controls."""
        return set(HEAD) <= set(self.names)

    @property
    def moves_eyes(self) -> bool:
        """Whether gaze and lids, and with them the mouth, are among the controls; but for older faces also brows."""
        return set(EYES) <= set(self.names)

    @property
    def joint(self) -> int | None:
        """How many leading controls a coverage judges together (``Coverage.joint``)."""
        return len(HEAD) if self.moves_eyes else None

    @property
    def commands(self) -> tuple[str, ...]:
        """The names by which it can be commanded: its controls, and shorthands for head and eyes."""
        return (*self.names, BOTH_EYES, *LOOK) if self.moves_eyes else self.names

    @property
    def rest(self) -> dict[str, float]:
        """Every name in ``commands`` with its value at rest."""
        shorthands = {BOTH_EYES: 1.0, "look_pitch": 0.0, "look_yaw": 0.0, "head_share": 1.0} if self.moves_eyes else {}
        return {control.name: control.at_rest for control in self.controls} | shorthands

    @property
    def low(self) -> NDArray[np.float64]:
        return np.array([control.low for control in self.controls])

    @property
    def high(self) -> NDArray[np.float64]:
        return np.array([control.high for control in self.controls])

    def encode(self, values: ArrayLike) -> NDArray[np.float32]:
        """Values (..., size) in each control's unit → code (..., size); the range maps to [0, 1], linearly."""
        return ((np.asarray(values, dtype=float) - self.low) / (self.high - self.low)).astype(np.float32)

    def decode(self, code: ArrayLike) -> NDArray[np.float64]:
        """Code (..., size) → values (..., size) in each control's unit. The inverse of ``encode``."""
        return np.asarray(np.asarray(code, dtype=float) * (self.high - self.low) + self.low)

    def comparable(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes (n, size or more), rescaled so that in distances one unit of every control counts the same, whatever
        its range. Columns after the controls are unchanged."""
        ranges = (self.high - self.low) / (self.high - self.low).max()
        scale = np.concatenate([ranges, np.ones(codes.shape[1] - self.size)])
        return (codes * scale).astype(np.float32)

    def fitted(self, values: NDArray[np.float64]) -> ControlSpace:
        """The same space with its range fitted to ``values`` (n, size), so that the code fills [0, 1].

        A control that does not move gets a range of 1 unit around its value, never a division by zero.
        """
        low, high = values.min(axis=0), values.max(axis=0)
        still = high - low < 1e-2  # smaller than the rounding below can resolve
        low, high = np.where(still, low - 0.5, low), np.where(still, high + 0.5, high)
        return replace(
            self,
            controls=tuple(
                replace(control, low=round(float(a), 4), high=round(float(b), 4))
                for control, a, b in zip(self.controls, low, high, strict=True)
            ),
        )

    def row(self, pose: Mapping[str, float]) -> list[float]:
        """``pose`` as a list in this space's order; missing controls get their rest value (a rotation 0).

        ``eye_opening`` is a factor for both lids. Raises ``DmsynthError`` for a name that is no control of this space.
        """
        unknown = set(pose) - {*self.names, *((BOTH_EYES,) if self.moves_eyes else ())}
        if unknown:
            raise DmsynthError(f"no control named {', '.join(sorted(unknown))}; this face has {', '.join(self.names)}")
        return [float(self.factor(c.name, pose) * pose.get(c.name, c.at_rest)) for c in self.controls]

    def whole(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows (n, size); of a driver's also from rows of the head alone (n, 3): then the eyes are at rest."""
        if self.moves_eyes and values.shape[1] == len(HEAD):
            rest = [control.at_rest for control in self.controls[len(HEAD) :]]
            return np.concatenate([values, np.tile(rest, (len(values), 1))], axis=1)
        return values

    def factor(self, name: str, values: Mapping[str, T]) -> T | float:
        """What the control ``name`` is multiplied by where ``values`` commands both lids."""
        return values[BOTH_EYES] if name.startswith(f"{BOTH_EYES}_") and BOTH_EYES in values else 1.0

    def check(self, values: NDArray[np.float64]) -> None:
        """Raise ``DmsynthError`` naming the first row of ``values`` (n, size) that is not a number or out of range."""
        bad = ~(np.isfinite(values) & (values >= self.low) & (values <= self.high))
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            control = self.controls[column]
            raise DmsynthError(
                f"{control.name} is {values[row, column]:g} {control.unit} at frame {row}; "
                f"it must lie between {control.low:g} and {control.high:g} {control.unit}"
            )

    def only(self, names: Container[str]) -> ControlSpace:
        """The same space with the controls in ``names`` only."""
        return replace(self, controls=tuple(control for control in self.controls if control.name in names))

    def to_dict(self) -> dict[str, object]:
        return {"name": self.name, "controls": [vars(control) for control in self.controls]}

    @staticmethod
    def from_dict(content: Mapping[str, object]) -> ControlSpace:
        controls = content["controls"]
        assert isinstance(controls, list)
        return replace(CONTROL_SPACES[str(content["name"])], controls=tuple(Control(**control) for control in controls))


CONTROL_SPACES: dict[str, ControlSpace] = {
    space.name: space
    for space in (
        ControlSpace(
            "driver",
            (
                *(Control(name, "°", -90, 90) for name in HEAD),
                Control("gaze_pitch", "°", -40, 40),
                Control("gaze_yaw", "°", -50, 50),
                *(Control(name, "of rest", 0, 1.3, rest=1.0) for name in EYES[2:]),
                Control(MOUTH, "of wide open", 0, 1),
                Control(BROWS, "of raised", -1, 1),
            ),
            labels="commanded",
        ),
        ControlSpace("rotation", tuple(Control(name, "°", -90, 90) for name in HEAD)),
        ControlSpace(
            "position",
            (Control("x", "px", 0, 640, rest=None), Control("y", "px", 0, 480, rest=None)),
            labels="commanded",
        ),
    )
}
"""Every control space by its name. A dataset shows the first of these that it has labels for."""

MEASURED = frozenset((*HEAD, *FEATURES))
"""Controls that a tracker measures."""

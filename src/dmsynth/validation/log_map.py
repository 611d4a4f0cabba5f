"""What the columns of a box's log mean: a YAML file, one for each kind of box (``docs/dms-on-the-bench.md``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dmsynth.support.errors import DmsynthError
from dmsynth.support.yaml_files import checked_yaml, yaml_of, yaml_text
from dmsynth.validation.protocol import ANGLES

Value = bool | int | float | str
TIMING = ("code", "sync", "film")
"""Columns that say when, and nothing that is judged."""
Kind = Literal["distraction", "drowsiness", "sleep", "unresponsive"]


class _Strict(BaseModel):
    """Strict, frozen model: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Column(_Strict):
    """A column of a table, a field of JSON Lines (``head.yaw``), a channel of MDF4, or a ROS topic and its field
    (``/dms/head:yaw``)."""

    column: Annotated[str, Field(min_length=1, max_length=500)]


class TimeColumn(Column):
    unit: Literal["s", "ms", "us", "ns", "iso"] = Field(default="s", description="iso: dates and times, ISO 8601.")


class AngleColumn(Column):
    unit: Literal["deg", "rad"] = "deg"
    sign: Literal[1, -1] = Field(default=1, description="-1: it counts against docs/how-it-works.md#conventions.")


class OpeningColumn(Column):
    unit: Literal["share", "percent"] = Field(default="share", description="Of the opening at rest.")


class StateColumn(Column):
    values: Annotated[list[Value], Field(min_length=1)] = Field(
        default=[True], description="Those that mean that it is so; true is 1, too."
    )


class WarningColumn(Column):
    values: list[Value] | dict[Value, Kind] = Field(
        default_factory=lambda: list[Value]((True,)),
        min_length=1,
        description="Those that mean a warning; with the kind of each, if the box tells kinds.",
    )


class Film(_Strict):
    """How the box's own recording of the play is joined to its log: by the number of a picture, or by the clock."""

    column: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="The number of the recorded picture that an entry is about."
    )
    first: Annotated[int, Field(ge=0)] = Field(default=0, description="The number of the recording's first picture.")
    begins: float | None = Field(
        default=None, description="Instead: when the first picture was taken, seconds of the log's clock."
    )
    uncertainty: Annotated[float, Field(ge=0, le=5)] | None = Field(
        default=None, description="Of ``begins``, seconds: half of a 95 % interval."
    )

    @model_validator(mode="after")
    def _says_one(self) -> Film:
        if (self.column is None) == (self.begins is None):
            raise ValueError("is joined by one: column, the picture's number in the log, or begins, by the log's clock")
        if (self.begins is None) != (self.uncertainty is None):
            raise ValueError("begins goes with its uncertainty in seconds, such as uncertainty: 0.005")
        return self


def _column(given: Any) -> Any:
    """A column's name alone stands for it with everything else as usual."""
    return {"column": given} if isinstance(given, str) else given


Plain = Annotated[Column, BeforeValidator(_column)]
Angle = Annotated[AngleColumn, BeforeValidator(_column)]


class LogMap(_Strict):
    """The meaning of a log's columns, and how its times relate to the pictures."""

    time: Annotated[TimeColumn, BeforeValidator(_column)] | None = Field(
        default=None, description="Needed of tables and JSON Lines; MDF4 and ROS bags have their own times."
    )
    pitch: Angle | None = None
    yaw: Angle | None = None
    roll: Angle | None = None
    gaze_pitch: Angle | None = None
    gaze_yaw: Angle | None = None
    eye_opening: Annotated[OpeningColumn, BeforeValidator(_column)] | None = None
    found: Annotated[StateColumn, BeforeValidator(_column)] | None = Field(
        default=None, description="Whether a face was found; angles beside others are no answers."
    )
    unavailable: Annotated[StateColumn, BeforeValidator(_column)] | None = Field(
        default=None, description="Whether the box tells the driver that it cannot see."
    )
    warning: Annotated[WarningColumn, BeforeValidator(_column)] | None = None
    code: Plain | None = Field(default=None, description="The number read in the time code of a frame.")
    sync: Plain | None = Field(default=None, description="The brightness of the patch, as of a photodiode.")
    film: Annotated[Film, BeforeValidator(_column)] | None = Field(
        default=None, description="How the box's recording of the play is joined, which shows the time code."
    )
    clock: Literal["own", "unix"] = Field(
        default="own", description="unix: times are seconds since 1970 by a clock in step with the player's (PTP, NTP)."
    )
    delay: Annotated[float, Field(ge=0, le=5)] | None = Field(
        default=None,
        description="Seconds, on average, from when the camera takes a picture to the log's entry of the head pose in "
        "it, or of its code or the picture's number; or from the patch to its entry. Needed where head pose alone "
        "aligns. Of no use where a recording runs by the log's clock.",
    )
    uncertainty: Annotated[float, Field(ge=0, le=5)] | None = Field(
        default=None, description="Of the delay or of the unix clock, seconds: half of a 95 % interval."
    )

    @model_validator(mode="after")
    def _says_enough(self) -> LogMap:
        if not any(getattr(self, name) for name in (*ANGLES, "eye_opening", "warning")):
            raise ValueError("names no column that is judged; give warning, or pitch, yaw and roll")
        if self.clock == "unix" and self.uncertainty is None:
            raise ValueError("clock: unix needs the clocks' uncertainty in seconds, such as uncertainty: 0.002")
        if self.delay is not None and self.uncertainty is None:
            raise ValueError("a delay needs its uncertainty in seconds, such as uncertainty: 0.02")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The log's columns by our names, what is judged first."""
        names = (*ANGLES, "eye_opening", "warning", "found", "unavailable", *TIMING)
        given = {name: getattr(self, name) for name in names}
        return {name: each.column for name, each in given.items() if each is not None and each.column is not None}


def read_log_map(path: Path) -> LogMap:
    """A map. ``DmsynthError`` naming the line of the first mistake."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such file; docs/dms-on-the-bench.md shows a map to start from")
    root, content = yaml_of(
        yaml_text(path, "map"), str(path), "map of a log", "docs/dms-on-the-bench.md shows one to start from"
    )
    return checked_yaml(root, content, LogMap, str(path), "map")

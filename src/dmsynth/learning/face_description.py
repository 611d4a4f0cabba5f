"""What the description of a face file may say: the records that its metadata is checked against."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from dmsynth.controls import BROWS, CONTROL_SPACES, HEAD
from dmsynth.controls.response import TERMS
from dmsynth.support.records import Count, Number, Record, Text

_MOST_PIXELS = 2**22  # of a frame
_STEEPEST = 1e3  # degrees of error of a term of the command

Side = Annotated[int, Field(ge=16, le=4096, multiple_of=16)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Row = Annotated[list[Number], Field(max_length=1000)]


class ControlRecord(Record):
    name: Name
    unit: Annotated[str, Field(max_length=20)]
    low: Number
    high: Number
    rest: Number | None = 0.0

    @model_validator(mode="after")
    def _has_a_range(self) -> ControlRecord:
        if self.high - self.low < 1e-6:
            raise ValueError(f"its range from {self.low:g} to {self.high:g} is none")
        return self


class SpaceRecord(Record):
    name: Name
    controls: Annotated[list[ControlRecord], Field(max_length=100)]

    @model_validator(mode="after")
    def _has_its_controls(self) -> SpaceRecord:
        if self.name not in CONTROL_SPACES:
            raise ValueError(f"no control space is named {self.name}; there is {', '.join(CONTROL_SPACES)}")
        names = tuple(control.name for control in self.controls)
        known = CONTROL_SPACES[self.name].names
        if names not in (known, tuple(name for name in known if name != BROWS)):  # learned before brows were one
            raise ValueError(f"{self.name} has the controls {', '.join(known)}")
        return self


class Shape(Record):
    """Arguments of a network; anything else is none of it."""

    model_config = ConfigDict(extra="forbid")

    width: Side
    height: Side
    channels: Literal[1, 3]
    base_channels: Annotated[int, Field(ge=1, le=4096)]

    @model_validator(mode="after")
    def _is_no_wall(self) -> Shape:
        if self.width * self.height > _MOST_PIXELS:
            raise ValueError(f"frames of {self.width}×{self.height} are too large; at most {_MOST_PIXELS} pixels")
        return self


class FrameSize(Record):
    """Size of the source frames, which need not be the network's."""

    width: Annotated[int, Field(ge=16, le=4096)]
    height: Annotated[int, Field(ge=16, le=4096)]
    channels: Literal[1, 3]


class WarpShape(Shape):
    controls: Annotated[int, Field(ge=1, le=1000)]


class AutoencoderShape(Shape):
    latent: Annotated[int, Field(ge=1, le=100_000)]
    given: Annotated[int, Field(ge=0, le=1000)] = 0


class CarriedRecord(Record):
    names: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list)
    explained: Annotated[list[Row], Field(max_length=1000)] = Field(default_factory=list)
    spread: Annotated[list[Annotated[float, Field(gt=0, le=1e6)]], Field(max_length=1000)] = Field(default_factory=list)
    low: Row = Field(default_factory=list)
    high: Row = Field(default_factory=list)


Three = Annotated[list[Number], Field(min_length=3, max_length=3)]


class ResponseRecord(Record):
    """How the drawn head is read."""

    low: Three
    high: Three
    weights: Annotated[list[Row], Field(min_length=len(TERMS), max_length=len(TERMS))]

    @model_validator(mode="after")
    def _is_sensible(self) -> ResponseRecord:
        if any(len(row) != len(HEAD) or max(map(abs, row)) > _STEEPEST for row in self.weights):
            raise ValueError(f"each of its weights is {len(HEAD)} numbers of at most {_STEEPEST:g}")
        return self


class _Settings(Record):
    """What a training was told, as far as it is read again."""

    model_config = ConfigDict(extra="allow")

    labels: Literal["tracked", "commanded", "calibrated"]
    dataset_sha256: Text
    seed: int
    precision: Text


class _About(Record):
    """How a face was made, as far as it is read again. Whose hash it would be or what is trusted it cannot say."""

    dataset: Text
    dataset_sha256: Text
    tracker: Text | None
    consent: Text | None = None
    settings: _Settings
    steps: Count
    train_seconds: Annotated[float, Field(ge=0, le=1e9)]
    machine: dict[str, Any] = Field(default_factory=dict)


class Description(Record):
    """A face file's metadata."""

    shape: dict[str, Any]
    frame: FrameSize | None = None
    control_space: SpaceRecord
    carried: CarriedRecord = CarriedRecord()
    coverage_tolerance: Annotated[float, Field(gt=0, le=1000)]
    response: ResponseRecord | None = None
    about: _About


class PersonRecord(Record):
    """A person of a cast: the description of a face, and which tensors of the file are its own."""

    content: dict[str, Any]
    tensors: dict[Name, Name]


class CastRecord(Record):
    people: Annotated[dict[str, PersonRecord], Field(min_length=1, max_length=1000)]

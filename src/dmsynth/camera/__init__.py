"""The cabin camera as data: where it is, what it sees by, and what its sensor makes of it (``docs/camera.md``).

A camera is a YAML file. Those that come along lie in ``data/cameras``. Every figure in one is named in its ``source``.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dmsynth.controls.pose import angles_from_matrix, rotation_matrix
from dmsynth.support.errors import DmsynthError
from dmsynth.support.yaml_files import checked_yaml, yaml_of, yaml_text

Double = NDArray[np.float64]

Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=20)]
Period = Annotated[float, Field(ge=0.2, le=600)]


class _Strict(BaseModel):
    """Strict, frozen model: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Place(_Strict):
    """Where the camera is: its direction and distance as the driver sees them, looking ahead."""

    at: Literal["column", "cluster", "mirror", "pillar"]
    pitch: Annotated[float, Field(ge=-30, le=30)] = Field(
        default=0.0, description="Degrees above (+) or below the head."
    )
    yaw: Annotated[float, Field(ge=-45, le=45)] = Field(
        default=0.0, description="Degrees towards the right edge (+) or the left of a picture taken from ahead."
    )
    roll: Annotated[float, Field(ge=-30, le=30)] = Field(default=0.0, description="Of the camera, degrees clockwise.")
    distance: Annotated[float, Field(ge=0.3, le=1.5)] = Field(description="From the lens to the head, metres.")
    x: Annotated[float, Field(ge=0.2, le=0.8)] = Field(default=0.5, description="Of the resting face in the frame.")
    y: Annotated[float, Field(ge=0.2, le=0.8)] = Field(
        default=0.5, description="Likewise, from the top; lower where the drawn shoulders would end inside the frame."
    )

    @property
    def rotation(self) -> Double:
        """(3, 3): the camera's right, up and backwards axes in the car's frame (that of ``controls.pose``)."""
        return rotation_matrix(self.pitch, self.yaw, self.roll)


class Lens(_Strict):
    field_of_view: Annotated[float, Field(ge=15, le=120)] = Field(description="Horizontal, degrees.")
    vignetting: Share = Field(default=0.2, description="Share of the light that is lost in the corners.")
    blur: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0, description="Out of focus: standard deviation in pixels."
    )
    dirt: Share = Field(default=0.0, description="How dirty the lens is: 1, nearly all of the light is scattered.")


class Lamp(_Strict):
    """An infrared lamp beside the lens."""

    strength: Strength = Field(description="At the head's distance; 1 fills white pixels in 10 ms.")
    right: Annotated[float, Field(ge=-30, le=30)] = Field(default=0.0, description="Of the lens, centimetres.")
    up: Annotated[float, Field(ge=-30, le=30)] = 0.0
    beam: Annotated[float, Field(ge=5, le=90)] = Field(
        default=30.0, description="Degrees off its axis at which half of the light is left."
    )


class Shadow(_Strict):
    """Shadows, as of trees or pillars, that pass over the face from one side to the other."""

    every: Period = Field(description="Seconds from one to the next.")
    share: Annotated[float, Field(ge=0.05, le=0.95)] = Field(default=0.5, description="Of the time in the shadow.")


class Sun(_Strict):
    """Direct light of the sun from a direction in the car's frame, as the driver sees it."""

    strength: Strength
    yaw: Annotated[float, Field(ge=-180, le=180)] = Field(
        description="Degrees; + towards the right edge of a picture taken from ahead, the driver's left."
    )
    pitch: Annotated[float, Field(ge=0, le=90)] = Field(description="Above the horizon, degrees.")
    shadow: Shadow | None = None


class StreetLamps(_Strict):
    """Lamps beside the road that pass overhead, seen until the roof hides them."""

    strength: Strength
    every: Period = Field(description="Seconds from one to the next.")
    side: Annotated[float, Field(ge=-60, le=60)] = Field(
        default=25.0, description="Degrees to the side at which they pass; + the driver's left."
    )


class Tunnel(_Strict):
    """Drives into a tunnel and out of it, again and again; its own lamps pass inside."""

    every: Period = Field(description="Seconds from one entrance to the next; the first is in the middle of it.")
    inside: Annotated[float, Field(ge=0.1, le=0.9)] = Field(default=0.5, description="Of that time, the share inside.")
    light: Share = Field(default=0.05, description="Of the daylight, what is left inside.")


class Light(_Strict):
    ambient: Strength = Field(default=0.0, description="From all around; 1 fills white pixels in 10 ms.")
    lamp: Lamp | None = None
    sun: Sun | None = None
    street_lamps: StreetLamps | None = None
    tunnel: Tunnel | None = None
    pupil: Annotated[float, Field(ge=2, le=8)] = Field(
        default=4.0, description="Of the driver's eyes, diameter in millimetres; drawn in infrared."
    )


class Sensor(_Strict):
    width: Annotated[int, Field(ge=64, le=3840)]
    height: Annotated[int, Field(ge=64, le=2160)]
    frame_rate: Annotated[float, Field(ge=5, le=120)]
    shutter: Annotated[float, Field(ge=0.01, le=100)] = Field(description="Time of exposure, milliseconds.")
    gain: Annotated[float, Field(ge=0, le=48)] = Field(default=0.0, description="Decibels.")
    full_well: Annotated[float, Field(ge=500, le=100_000)] = Field(description="Electrons that a pixel holds.")
    read_noise: Annotated[float, Field(ge=0, le=100)] = Field(description="Electrons, standard deviation.")
    rolling: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0, description="Milliseconds from the first row to the last; 0: a global shutter."
    )
    adapts: Annotated[float, Field(ge=0.05, le=10)] | None = Field(
        default=None, description="Seconds after which two thirds of a change of light are made up for; none: fixed."
    )
    compression: Annotated[int, Field(ge=0, le=45)] = Field(default=16, description="Of the video: H.264's CRF.")

    @model_validator(mode="after")
    def _within_a_frame(self) -> Sensor:
        longest = 1000 / self.frame_rate
        for name in ("shutter", "rolling"):
            if getattr(self, name) > longest:
                raise ValueError(f"{name} is longer than a frame ({longest:.4g} ms at {self.frame_rate:g} a second)")
        return self


class Camera(_Strict):
    """A camera, its place in the cabin, and the light there."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60, description="The file's name.")]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    source: Annotated[str, Field(min_length=1, description="Where its figures come from.")]
    spectrum: Literal["visible", "infrared"] = Field(description="Infrared: 940 nm.")
    place: Place
    lens: Lens
    light: Light
    sensor: Sensor

    @property
    def identity(self) -> str:
        """Its name, and the beginning of a hash of all that it is."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return f"{self.name} ({hashlib.sha256(content.encode()).hexdigest()[:16]})"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its frames."""
        return self.sensor.width, self.sensor.height

    @property
    def focal_length(self) -> float:
        """In pixels."""
        return float(self.sensor.width / 2 / np.tan(np.radians(self.lens.field_of_view) / 2))

    def in_space(self, x: float, y: float, away: float) -> tuple[float, float, float]:
        """Where a pixel's point at a distance along the axis is: right of the lens, below it, away; in its unit."""
        across, down = x - (self.sensor.width - 1) / 2, y - (self.sensor.height - 1) / 2
        return across * away / self.focal_length, down * away / self.focal_length, away

    def sees(self, poses: Double) -> Double:
        """Poses (n, 3) of the head in the car's frame, pitch, yaw and roll in degrees, as the camera sees them."""
        return angles_from_matrix(self.place.rotation.T @ rotation_matrix(*np.asarray(poses, np.float64).T)) + 0.0

    def in_car(self, poses: Double) -> Double:
        """The inverse of ``sees``: poses (n, 3) that the camera sees, in the car's frame."""
        return angles_from_matrix(self.place.rotation @ rotation_matrix(*np.asarray(poses, np.float64).T)) + 0.0


def parse_camera(text: str, where: str) -> Camera:
    """A camera from YAML. ``DmsynthError`` naming ``where`` and the line of the first mistake."""
    root, content = yaml_of(text, where, "camera", "`dmsynth camera show NAME` prints one to start from")
    return checked_yaml(root, content, Camera, where, "camera")


def read_camera(name: str) -> Camera:
    """An included camera by its name, or a ``.yaml`` file, whose name must be the camera's.

    Raises ``DmsynthError`` for an unknown name and for a file that is no camera.
    """
    path = camera_file(name)
    camera = parse_camera(yaml_text(path, "camera"), str(path))
    if camera.name != path.stem:
        raise DmsynthError(f"{path}: holds the camera {camera.name!r}; name the file {camera.name}.yaml")
    return camera


def camera_file(name: str) -> Path:
    """The file of a camera. ``DmsynthError`` if there is none."""
    known = {path.stem: path for path in cameras()}
    path = known.get(name, Path(name))
    if not path.is_file() or path.suffix not in (".yaml", ".yml"):
        raise DmsynthError(f"{name}: no such camera; give a .yaml file, or one of {', '.join(known)}")
    return path


def cameras() -> list[Path]:
    """The files of the included cameras, sorted by name."""
    found = Path(str(files("dmsynth").joinpath("data/cameras"))).glob("*.yaml")
    return sorted(found, key=lambda path: path.stem)

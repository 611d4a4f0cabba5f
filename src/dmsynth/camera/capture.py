"""Frames of a renderer as a camera takes them: spectrum, things, light, place, optics, shutter, sensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.camera import Camera
from dmsynth.camera.cabin import SIMILAR, Cabin, Cutter
from dmsynth.camera.eyes import with_eyes
from dmsynth.camera.infrared import Look, infrared, to_linear
from dmsynth.camera.light import behind, illuminated, lamp_direction, level
from dmsynth.camera.sensor import Noise, Optics, adapted, expose
from dmsynth.camera.shutter import exposed_over_time, moments
from dmsynth.camera.surface import Surface, head_normals, surface_of
from dmsynth.camera.things import Worn
from dmsynth.camera.view import View
from dmsynth.camera.wardrobe import Wardrobe
from dmsynth.support.parallel import map_ordered
from dmsynth.trackers.gaze import EYE_OUTLINES
from dmsynth.video import Image, to_rgb

Float = NDArray[np.float32]
Double = NDArray[np.float64]

_KEPT = 64  # surfaces of neighbouring frames

LANDMARKS = {
    "left_eye_inner": EYE_OUTLINES["left"]["upper"][0],
    "left_eye_outer": EYE_OUTLINES["left"]["upper"][-1],
    "right_eye_outer": EYE_OUTLINES["right"]["upper"][0],
    "right_eye_inner": EYE_OUTLINES["right"]["upper"][-1],
    "left_iris": EYE_OUTLINES["left"]["iris"][0],
    "right_iris": EYE_OUTLINES["right"]["iris"][0],
    "nose_tip": 1,
    "mouth_left": 291,
    "mouth_right": 61,
    "chin": 152,
    "left_ear": 454,
    "right_ear": 234,
}
"""Points of Face Landmarker's mesh that the ground truth names; left and right are the person's own."""


@dataclass(frozen=True)
class Heads:
    """The head in every frame that a renderer draws.

    Attributes:
        landmarks: (n, 478, 3) float32 in drawn pixels, eyes at rest; ``rest``: (478, 3) of the head at rest.
        rotation: (n, 3, 3); ``at_rest``: (3, 3).
        eyes: (n, 4) what ``controls.EYES`` are.
    """

    landmarks: Float
    rotation: Double
    eyes: Double
    rest: Float
    at_rest: Double


class Capture:
    """A camera before a renderer that draws frames of a size (width, height) at ``times`` (n,), seconds."""

    def __init__(
        self,
        camera: Camera,
        size: tuple[int, int],
        heads: Heads,
        times: Double,
        colour: bool,
        worn: Sequence[Worn] = (),
        seed: int = 0,
    ) -> None:
        self.camera, self._heads, self._times = camera, heads, times
        self._colour = colour and camera.spectrum == "visible"
        self._drawn = with_eyes(heads.landmarks, heads.rotation, heads.eyes)
        self.wardrobe = Wardrobe(worn, self._drawn, heads.landmarks, heads.rotation, times)
        self.view = View.of(camera, size, heads.rest)
        self._on_canvas = self.view.on_canvas(self._drawn)
        self._normals = head_normals(heads.rest, heads.at_rest)
        self._optics = Optics.of(camera, self.view.size, self.view.scale)
        self._rest = surface_of(self.view.on_canvas(heads.rest), heads.at_rest, self._normals, self.view.size)
        self._cabin = Cabin.of(camera, self._rest)
        self._noise = Noise(camera.sensor, 3 if self._colour else 1, seed)
        self._factors = adapted(camera.sensor, level(camera, times))

    def frames(self, images: Iterable[Image]) -> Iterator[Image]:
        """The camera's frames, (height, width) or (height, width, 3) uint8, of the renderer's."""
        each = iter(images)
        first = next(each, None)
        if first is None:
            return
        drawn = surface_of(self._drawn[0], self._heads.rotation[0], self._normals, first.shape[1::-1])
        cutter = Cutter(first, drawn)
        surface_at = lru_cache(maxsize=_KEPT)(self._surface_of)  # not of the capture itself: a circle outlives its use
        yield from map_ordered(
            lambda item: self._taken(*item, cutter, surface_at), self._outlined(chain([first], each), cutter)
        )

    def _outlined(self, images: Iterable[Image], cutter: Cutter) -> Iterator[tuple[int, Image, Float]]:
        """The images with where the driver is likely to be, which is found anew when the head has turned."""
        likely, known = None, np.eye(3)
        for number, (image, rotation) in enumerate(zip(images, self._heads.rotation, strict=True)):
            turned = np.degrees(np.arccos(np.clip((np.trace(rotation.T @ known) - 1) / 2, -1, 1)))
            if likely is None or turned > SIMILAR:
                likely, known = cutter.likely(image), rotation
            yield number, image, likely

    def truth(self) -> pd.DataFrame:
        """One row per frame. What the camera sees, in its pixels (x right, y down, from the centre of the first):

        ``camera``: its name. ``light``: on the face, roughly; 1 fills white pixels in 10 ms. ``exposure``: the factor
        of its automatic exposure. ``face_left``, ``face_top``, ``face_right``, ``face_bottom``: the box of the mesh.
        ``NAME_x``, ``NAME_y`` of ``LANDMARKS`` in pixels, and ``NAME_z`` in centimetres from the lens, along its axis.
        And what ``Wardrobe.truth`` says, when all frames are drawn.
        """
        seen = self.view.in_camera(self._on_canvas)
        columns: dict[str, Any] = {
            "camera": [self.camera.name] * len(seen),
            "light": level(self.camera, self._times),
            "exposure": self._factors,
        }
        low, high = seen[..., :2].min(axis=1), seen[..., :2].max(axis=1)
        columns |= dict(zip((f"face_{side}" for side in ("left", "top", "right", "bottom")),
                            (*low.T, *high.T), strict=True))  # fmt: skip
        away = 100 * self.camera.place.distance + seen[..., 2] / (self._rest.cm / self.view.scale)
        for name, number in LANDMARKS.items():
            columns |= {f"{name}_x": seen[:, number, 0], f"{name}_y": seen[:, number, 1], f"{name}_z": away[:, number]}
        table = pd.DataFrame(columns)
        numbers = table.columns.drop("camera")
        table = table.astype(dict.fromkeys(numbers, float)).round(dict.fromkeys(numbers, 3))
        return pd.concat([table, self.wardrobe.truth()], axis=1)

    def _taken(
        self, number: int, image: Image, likely: Float, cutter: Cutter, surface_at: Callable[[int], Surface]
    ) -> Image:
        time, surface = float(self._times[number]), surface_at(number)
        drawn = self._in_spectrum(number, image)
        driver = cutter.cut_out(image, likely)
        if self.wardrobe.worn:
            dressed = self.wardrobe.put_on(number, drawn, self.camera.spectrum == "infrared")
            drawn, driver = dressed.image, cv2.max(driver, dressed.cover)
        matte = self.view.faded(driver)
        on_seats, outside = behind(self.camera, time)
        around = self._cabin.reflects * np.float32(on_seats) + self._cabin.glows * np.float32(outside)
        before, after = (
            surface_at(other) if 0 <= other < len(self._times) else surface for other in (number - 1, number + 1)
        )
        paths, arrives = moments(surface, before, after, self.camera.sensor), []
        lit = illuminated(self.camera, surface, time, self._colour)
        for colour, light in zip(cv2.split(self.view.placed(drawn)), lit, strict=True):
            scene = to_linear(colour) * light
            scene -= around
            scene *= matte
            scene += around
            arrives.append(self._optics.apply(exposed_over_time(scene, paths)))
        return expose(arrives, self.camera.sensor, float(self._factors[number]), self._noise, number)

    def _in_spectrum(self, number: int, image: Image) -> Image:
        if self.camera.spectrum == "visible":
            return to_rgb(image) if self._colour else image
        pitch, yaw = map(float, self._heads.eyes[number, :2])
        look = Look((pitch, yaw), lamp_direction(self.camera), self.camera.light.pupil)
        return infrared(image, self._drawn[number], self._heads.rotation[number], look)

    def _surface_of(self, number: int) -> Surface:
        return surface_of(self._on_canvas[number], self._heads.rotation[number], self._normals, self.view.size)

"""What lens and sensor make of light: vignetting, a dirty lens, blur, exposure, gain, noise, 8 bits.

Noise is that of the EMVA 1288 model: of photons, which grows with the root of the light, and of reading, both times
the gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import Camera, Sensor
from dmsynth.camera.infrared import to_codes, to_linear
from dmsynth.video import Image

Float = NDArray[np.float32]
Double = NDArray[np.float64]

UNIT = 10.0  # milliseconds in which light of 1 fills a white pixel
_MOST_ADAPTED = 8.0  # times brighter or darker
_NOISE_STEPS = 128  # noise is reckoned in whole numbers, which is quicker
_SPARE = 256  # pixels by which the plate of noise is larger than a frame
_HAZE = 0.06  # of the frame's width: how far dirt scatters light
_SCATTERED = 0.8  # of the light that dirt takes
_DIRT_SEED = 20


@dataclass(frozen=True)
class Optics:
    """A lens in a frame of ``size`` (width, height); ``scale``: pixels of it per pixel of the sensor.

    Attributes:
        kept: (h, w) the share of the light that arrives; ``dirt``: (h, w) the share that dirt takes, None: clean.
    """

    kept: Float
    dirt: Float | None
    blur: float

    @staticmethod
    def of(camera: Camera, size: tuple[int, int], scale: float) -> Optics:
        width, height = size
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
        kept = 1 - np.float32(camera.lens.vignetting / 2) * (x[None] ** 2 + y[:, None] ** 2)
        dirt = _smudges(size) * np.float32(camera.lens.dirt) if camera.lens.dirt else None
        return Optics(kept, dirt, camera.lens.blur * scale)

    def apply(self, light: Float) -> Float:
        """Light (h, w) as it arrives at the sensor."""
        if self.blur > 0.2:
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), self.blur))
        if self.dirt is not None:
            small = cv2.resize(light, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
            hazy = cv2.GaussianBlur(small, (0, 0), _HAZE * light.shape[1] / 8) * np.float32(_SCATTERED)
            haze = cv2.resize(hazy, light.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            light = light + self.dirt * (haze - light)
        return np.asarray(light * self.kept, np.float32)


def _smudges(size: tuple[int, int]) -> Float:
    """(h, w) 0 to 1: finger marks and dust on a lens, out of focus."""
    width, height = size
    random = np.random.default_rng(_DIRT_SEED)
    film = cv2.resize(random.random((5, 8), np.float32), size, interpolation=cv2.INTER_CUBIC)
    marks = np.zeros((height, width), np.float32)
    for _ in range(14):
        middle = (round(random.uniform(0, width)), round(random.uniform(0, height)))
        axes = (round(random.uniform(0.02, 0.09) * width), round(random.uniform(0.02, 0.06) * width))
        one = np.zeros_like(marks)
        cv2.ellipse(one, middle, axes, random.uniform(0, 180), 0, 360, random.uniform(0.3, 0.9), -1, cv2.LINE_AA)
        marks = np.maximum(marks, one)
    marks = cv2.GaussianBlur(marks, (0, 0), 0.012 * width)
    return np.asarray(np.clip(0.35 * film + marks, 0, 1), np.float32)


def adapted(sensor: Sensor, levels: Double) -> Double:
    """Factors (n,) of an automatic exposure at levels (n,) of light, frame by frame: it follows with a delay.

    All 1 for a fixed exposure.
    """
    if sensor.adapts is None:
        return np.ones(len(levels))
    share = 1 - np.exp(-1 / (sensor.adapts * sensor.frame_rate))
    seen, factors = levels[0], np.empty(len(levels))
    for number, now in enumerate(levels):
        seen += share * (now - seen)
        factors[number] = levels[0] / seen
    return np.clip(factors, 1 / _MOST_ADAPTED, _MOST_ADAPTED)


def noise_deviation(sensor: Sensor, gain: float) -> Float:
    """Standard deviation (256,) float32 of the noise at each sRGB code, in codes; none where the pixel is saturated.

    ``gain``: a factor, not decibels.
    """
    codes = np.arange(256)
    light = to_linear(codes.astype(np.uint8)[None])[0].astype(np.float64)  # of white, after the gain
    electrons = light / gain * sensor.full_well
    deviation = np.sqrt(electrons + sensor.read_noise**2) * gain / sensor.full_well
    slope = np.where(light <= 0.0031308, 12.92, 1.055 / 2.4 * np.maximum(light, 1e-9) ** (1 / 2.4 - 1))
    in_codes = 255 * slope * deviation
    in_codes[-1] = 0.0
    return in_codes.astype(np.float32)


class Noise:
    """Noise for frames of a sensor: random windows of one large plate, which is quicker than new noise each time."""

    def __init__(self, sensor: Sensor, channels: int, seed: int) -> None:
        self._seed = seed
        shape = (sensor.height + _SPARE, sensor.width + _SPARE, channels)[: 2 if channels == 1 else 3]
        plate = np.random.default_rng(seed).standard_normal(shape, np.float32)
        self._plate = np.rint(plate * np.float32(_NOISE_STEPS)).astype(np.int16)

    def window(self, number: int) -> NDArray[np.int16]:
        """Normal noise of the deviation ``_NOISE_STEPS`` for a frame of that ``number``: (h, w), or (h, w, 3)."""
        top, left = np.random.default_rng((self._seed, number)).integers(0, _SPARE + 1, 2)
        height, width = (length - _SPARE for length in self._plate.shape[:2])
        return self._plate[top : top + height, left : left + width]


def expose(light: Sequence[Float], sensor: Sensor, factor: float, noise: Noise, number: int) -> Image:
    """A frame of the sensor, (height, width) or (height, width, 3) uint8, from light (h, w) of any size, grey, or each
    of red, green and blue.

    ``factor``: of the automatic exposure; it makes the shutter shorter, or the gain higher.
    """
    gain = 10 ** (sensor.gain / 20) * max(factor, 1.0)
    exposure = sensor.shutter / UNIT * min(factor, 1.0)
    colours = [to_codes(each, exposure * gain) for each in light]  # a full well is white at any gain, 1 or more
    coded = colours[0] if len(colours) == 1 else cv2.merge(colours)
    coded = np.asarray(cv2.resize(coded, (sensor.width, sensor.height), interpolation=cv2.INTER_CUBIC), np.uint8)
    steps = np.rint(noise_deviation(sensor, gain) * np.float32(_NOISE_STEPS)).astype(np.int16)
    grain = cv2.multiply(cv2.LUT(coded, steps), noise.window(number), scale=1 / _NOISE_STEPS**2)
    return np.asarray(cv2.add(coded, grain, dtype=cv2.CV_8U), np.uint8)

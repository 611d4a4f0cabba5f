"""Light in the cabin: from all around, from a lamp beside the lens, of a low sun with passing shadows, of street lamps
and tunnels. Functions of the time and of the driver's surface.

Light is a factor to what the drawn frame shows: 1 fills a white pixel in 10 ms.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dmsynth.camera import Camera, Lamp, StreetLamps, Sun, Tunnel
from dmsynth.camera.surface import Surface
from dmsynth.controls.pose import rotation_matrix

Float = NDArray[np.float32]
Double = NDArray[np.float64]

SUNLIGHT, SODIUM = (1.0, 0.92, 0.78), (1.0, 0.8, 0.52)
"""Red, green and blue of the low sun and of street lamps; ours."""
_BEHIND = 0.45  # metres from the face to what stands behind it; ours
_SPILL = 0.15  # share of a lamp's light that falls beside the driver; ours
_FROM_ABOVE = 0.2  # share of the light from all around that comes from above
_WRAP = 0.12  # light that reaches beyond the edge: the sky around the sun
_LAMP_HEIGHT, _LAMP_SPACING = 8.0, 30.0  # metres: street lamps; ours
_ROOF, _ROOF_EDGE, _ROOF_SLOPE = 50.0, 8.0, 1.0  # degrees of elevation at which the roof hides a lamp; its soft edge;
# and how many degrees sooner that happens a centimetre further up
_RAMP = 0.3  # seconds: into a tunnel and out of it
_TUNNEL_LAMPS = 0.6  # seconds from one lamp in a tunnel to the next
_SHADOW_WIDTH = 40.0  # centimetres from one shadow to the next
_SHADOW_EDGE = 1.5  # centimetres
_SHADOW_CELL = 4  # pixels: their edges are soft
_SHADOW_SLANT = 0.35  # of their edges
_SHADE = 0.12  # of the sun's light, what trees and pillars let through


def daylight(tunnel: Tunnel | None, time: Double) -> Double:
    """Share (n,) of the light outside at times (n,), seconds."""
    if tunnel is None:
        return np.ones(len(time))
    since = (time / tunnel.every - 0.5) % 1.0 * tunnel.every  # seconds since the last entrance
    inside = tunnel.inside * tunnel.every
    dark = _smooth(since / _RAMP) - _smooth((since - inside) / _RAMP)
    own = tunnel.light * (1 + 0.5 * np.cos(2 * np.pi * time / _TUNNEL_LAMPS))
    return np.asarray(1 - dark + dark * own)


def lamp_at(lamps: StreetLamps, time: float) -> tuple[float, float]:
    """Elevation in degrees of the next street lamp, and its light where the roof does not hide it, 0 to 1."""
    ahead = _LAMP_SPACING * (1.0 - time / lamps.every % 1.0)
    elevation = float(np.degrees(np.arctan2(_LAMP_HEIGHT, ahead)))
    nearest = _LAMP_HEIGHT / np.tan(np.radians(_ROOF))
    return elevation, float((_LAMP_HEIGHT**2 + nearest**2) / (_LAMP_HEIGHT**2 + ahead**2))


def level(camera: Camera, times: Double) -> Double:
    """How bright the face is at times (n,), roughly: what an automatic exposure goes by."""
    light = camera.light
    total = light.ambient * daylight(light.tunnel, times)
    if light.lamp:
        total = total + light.lamp.strength
    if light.sun:
        total = total + 0.5 * light.sun.strength * daylight(light.tunnel, times)
    if light.street_lamps:
        total = total + 0.5 * light.street_lamps.strength * np.array(
            [brightness * (elevation < _ROOF) for elevation, brightness in
             (lamp_at(light.street_lamps, float(time)) for time in times)]
        )  # fmt: skip
    return np.maximum(total, 1e-6)


def illuminated(camera: Camera, surface: Surface, time: float, colour: bool) -> list[Float]:
    """The light on the driver: a map (h, w) float32, or one each of red, green and blue in ``colour``."""
    light = camera.light
    outside = float(daylight(light.tunnel, np.array([time]))[0])
    even = light.ambient * outside * (1 - _FROM_ABOVE + _FROM_ABOVE * surface.normals[:, 1])
    if light.lamp:
        even = even + _of_lamp(light.lamp, camera.place.distance, surface)
    lights, tints = [even], [(1.0, 1.0, 1.0)]
    if light.street_lamps:
        lights.append(_of_street_lamps(light.street_lamps, camera, surface, time))
        tints.append(SODIUM)
    if light.sun:
        lights.append(outside * _of_sun(light.sun, camera, surface))
        tints.append(SUNLIGHT)
    maps: Any = surface.spread(np.column_stack(lights))
    if light.sun and light.sun.shadow:
        maps[-1] *= _shadows(light.sun, surface, time)
    if len(maps) == 1:
        return [maps[0]] * (3 if colour else 1)
    shares = np.array(tints if colour else np.ones((len(tints), 1)), np.float32).T
    return [sum(share * each for share, each in zip(own, maps, strict=True)) for own in shares]


def _of_lamp(lamp: Lamp, distance: float, surface: Surface) -> Double:
    """(m,): falls with the square of the distance, with the cosine, and off the lamp's axis."""
    offset = (surface.points - surface.centre) / surface.cm * [1.0, -1.0]
    points = np.column_stack([offset, surface.depth])
    source = np.array([lamp.right, lamp.up, 100 * distance])
    towards = source - points
    away = np.linalg.norm(towards, axis=1)
    cosine = np.clip(np.einsum("mi,mi->m", surface.normals, towards) / away, 0, None)
    axis = source / np.linalg.norm(source)
    angle = np.degrees(np.arccos(np.clip(towards @ axis / away, -1, 1)))
    return np.asarray(lamp.strength * cosine * (100 * distance / away) ** 2 * 0.5 ** ((angle / lamp.beam) ** 2))


def _of_sun(sun: Sun, camera: Camera, surface: Surface) -> Double:
    towards = camera.place.rotation.T @ rotation_matrix(sun.pitch, sun.yaw, 0.0)[:, 2]
    return np.asarray(sun.strength * np.clip((surface.normals @ towards + _WRAP) / (1 + _WRAP), 0, 1))


def _of_street_lamps(lamps: StreetLamps, camera: Camera, surface: Surface, time: float) -> Double:
    """(m,): the light of the next lamp; the roof's shadow comes down over the face as it passes overhead."""
    elevation, brightness = lamp_at(lamps, time)
    towards = camera.place.rotation.T @ rotation_matrix(elevation, lamps.side, 0.0)[:, 2]
    height = (surface.centre[1] - surface.points[:, 1]) / surface.cm
    seen = 1 - _smooth((elevation - _ROOF + _ROOF_SLOPE * height) / _ROOF_EDGE + 0.5)
    cosine = np.clip((surface.normals @ towards + _WRAP) / (1 + _WRAP), 0, 1)
    return np.asarray(lamps.strength * brightness * seen * cosine)


def _shadows(sun: Sun, surface: Surface, time: float) -> Float:
    """(h, w): 1 in the sun; bars of shadow that pass over the face."""
    assert sun.shadow is not None
    width, height = surface.size
    x, y = (np.arange(0, length, _SHADOW_CELL, dtype=np.float32) for length in surface.size)
    across = (x[None] + _SHADOW_SLANT * y[:, None]) / np.float32(surface.cm)
    phase = (across / np.float32(_SHADOW_WIDTH) + np.float32(time / sun.shadow.every % 1.0)) % 1.0
    edge = np.float32(_SHADOW_EDGE / _SHADOW_WIDTH)
    dark = _smooth(phase / edge) - _smooth((phase - np.float32(sun.shadow.share)) / edge)
    cells = np.asarray(1 - (1 - _SHADE) * dark, np.float32)
    large = (cells.shape[1] * _SHADOW_CELL, cells.shape[0] * _SHADOW_CELL)
    return np.asarray(cv2.resize(cells, large, interpolation=cv2.INTER_LINEAR)[:height, :width])


def behind(camera: Camera, time: float) -> tuple[float, float]:
    """The light on the seats behind the driver, and that of the windows, as factors."""
    light = camera.light
    outside = light.ambient * float(daylight(light.tunnel, np.array([time]))[0])
    lamp = 0.0
    if light.lamp:
        lamp = _SPILL * light.lamp.strength * (camera.place.distance / (camera.place.distance + _BEHIND)) ** 2
    return outside + lamp, outside


def lamp_direction(camera: Camera) -> Double:
    """(3,) from the face to the lamp, or to the lens where there is none; the camera's axes."""
    lamp = camera.light.lamp
    aside = (lamp.right, lamp.up) if lamp else (0.0, 0.0)
    towards = np.array([*aside, 100 * camera.place.distance])
    return np.asarray(towards / np.linalg.norm(towards))


def _smooth(share: Any) -> Any:
    """0 below 0, 1 above 1, smooth between."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)

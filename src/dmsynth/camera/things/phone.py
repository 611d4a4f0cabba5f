"""A phone at the ear, in a hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dmsynth.camera.things.canvas import Canvas, Scene, cross, shaded, sheets
from dmsynth.camera.things.flesh import Limb, draw_limbs
from dmsynth.camera.things.hand import FROM_BELOW, MIRROR, SIZE, cloth_of, hand_limbs
from dmsynth.camera.things.head import Double
from dmsynth.datasets.head_shape import LEFT_EAR, RIGHT_EAR

# In the frame of the hand (``hand``), in centimetres: the phone lies in the palm, across the fingers.
_LOW, _HIGH = np.array([-7.5, 5.6, -3.0]), np.array([9.0, 13.3, -2.0])
_ROUND = 0.25  # radius of its edges
_EAR = np.array([-3.6, 9.6, -3.2])  # what lies on the ear
_BENT, _SPREAD = (8.0, 72.0, 34.0), 1.5
_FINGERS_FORWARD = np.radians(58.0)  # from upwards
_OUTSIDE = np.array([0.5, 0.6, -0.8])  # centimetres from the ear's point of the mesh, outwards, up, out of the face
_BODY, _INFRARED_BODY = np.array([0.05, 0.05, 0.06]), 0.1
_ARM = np.array([[0.0, 0.0, 0.0], [-0.2, -7.0, 0.5], [-1.2, -40.0, 4.0]])  # from the wrist, in the head's frame
_ARM_RADII, _SLEEVE_RADII = np.array([2.4, 2.7]), np.array([3.3, 6.0])
_SHADOW, _INTO_SKIN = 0.4, 0.8
"""How dark its shadow is; centimetres by which it may be behind the mesh and is not hidden."""


@dataclass(frozen=True)
class Phone:
    """A phone in a hand. ``left``: at the person's left ear. ``comes``: seconds."""

    left: bool = False
    comes: float = 0.5

    def draw(self, scene: Scene, presence: float) -> None:
        head = scene.head
        mirror = MIRROR if self.left else np.ones(3)
        ear = head.points[LEFT_EAR if self.left else RIGHT_EAR] + _OUTSIDE * [-mirror[0], 1.0, 1.0]
        forward, up = np.sin(_FINGERS_FORWARD), np.cos(_FINGERS_FORWARD)
        axes = np.array([[0.0, -forward, up], [0.0, up, forward], [-1.0, 0.0, 0.0]])  # of the hand, in the head's frame
        away = (1.0 - presence) * FROM_BELOW

        def placed(points: Double) -> Double:
            """Points (..., 3) of the hand in the camera's frame."""
            return np.asarray(head.turned(ear + SIZE * ((points - _EAR) @ axes) * mirror) + away)

        self._slab(scene, placed)
        wrist = (-_EAR * SIZE) @ axes
        arm = head.turned(ear + (wrist + _ARM) * mirror) + away
        fingers = [
            replace(limb, joints=placed(limb.joints), radii=SIZE * limb.radii)
            for limb in hand_limbs(_BENT, _SPREAD, thumb=False)
        ]
        limbs = [Limb(arm[:2], _ARM_RADII, 1.2), *fingers, Limb(arm[1:], _SLEEVE_RADII, 0.05, cloth=cloth_of(scene))]
        draw_limbs(scene, limbs, _SHADOW * presence, _INTO_SKIN)

    def _slab(self, scene: Scene, placed: Callable[[Double], Double]) -> None:
        """The phone itself, with rounded edges; what it shows to the camera is its outside and an edge."""
        (x0, y0, z0), (x1, y1, z1) = _LOW, _HIGH
        rounded = [(y0, z0 + _ROUND), (y0, z1 - _ROUND), (y0 + _ROUND, z1), (y1 - _ROUND, z1), (y1, z1 - _ROUND)]
        rounded += [(y1, z0 + _ROUND), (y1 - _ROUND, z0), (y0 + _ROUND, z0), (y0, z0 + _ROUND)]
        around = np.array([[[x, y, z] for y, z in rounded] for x in np.linspace(x0, x1, 7)])
        ends = [np.stack([around[end, :5], around[end, [8, 7, 6, 5, 4]]]) for end in (0, -1)]
        grids = [around, ends[0][::-1], ends[1]]
        if self.left:
            grids = [grid[:, ::-1] for grid in grids]
        corners, _ = sheets(grids)
        turned = placed(corners)
        normals = cross(turned[:, 2] - turned[:, 0], turned[:, 1] - turned[:, 3])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        seen = scene.head.project(turned)
        canvas = Canvas(scene, seen.reshape(-1, 3))
        if canvas.outside:
            return
        body = np.full(3, _INFRARED_BODY) if scene.infrared else _BODY
        canvas.facets(seen, shaded(normals, body, scene.light, 0.25), inside=True)
        canvas.hide(_INTO_SKIN)
        canvas.blend(shadow=_SHADOW)

"""A hand on the face: at the mouth, at the cheek, before an eye; it comes from below and goes there again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dmsynth.camera.things.canvas import Scene
from dmsynth.camera.things.flesh import Limb, draw_limbs
from dmsynth.controls.pose import rotation_matrix

# A right hand whose back is seen, fingers up, in centimetres: x to the image's right, y from the wrist to the fingers,
# z out of the back of the hand. The thumb is on the image's left.
_KNUCKLES = np.array([[-2.9, 8.9, 0.0], [-0.8, 9.4, 0.2], [1.3, 9.0, 0.1], [3.1, 8.0, -0.2]])
_BONES = np.array([[4.3, 2.5, 2.1], [4.7, 2.9, 2.2], [4.4, 2.7, 2.2], [3.4, 2.0, 1.9]])
_FINGERS = np.array(
    [[0.98, 0.92, 0.82, 0.66], [1.0, 0.94, 0.84, 0.68], [0.95, 0.9, 0.8, 0.64], [0.84, 0.78, 0.7, 0.56]]
)
_WRISTS = np.array([[-1.6, 0.6, 0.0], [-0.5, 0.4, 0.2], [0.6, 0.4, 0.2], [1.6, 0.6, 0.0]])
_PALM = np.array([1.75, 1.08])  # radius of the palm at the wrist and at the knuckles
_THUMB = np.array([[-1.5, 1.5, -0.4], [-4.2, 4.6, -0.6], [-5.6, 7.4, -0.7], [-6.3, 9.9, -0.9]])
_THUMB_RADII = np.array([1.75, 1.3, 1.05, 0.75])
_CLOTH, _INFRARED_CLOTH = (0.09, 0.1, 0.12), (0.35, 0.35, 0.35)
SIZE = 0.86  # times a large man's hand, which the figures above are of
_OF_FINGERS, _OF_THUMB, _OF_PALM, _OF_SLEEVE = 0.7, 0.9, 1.8, 0.05  # centimetres over which limbs run into each other
_FOLLOWS = 0.7  # of the head's turn
FROM_BELOW = np.array([0.0, -32.0, 2.0])  # centimetres: where it comes from
_WRIST = Limb(np.array([[0.0, 3.5, -0.3], [0.0, 0.0, 0.0], [0.0, -7.0, 0.0]]), np.array([1.5, 2.25, 2.7]), _OF_PALM)
_ARM = Limb(np.array([[0.0, -4.5, 0.0], [0.0, -48.0, 4.0]]), np.array([3.5, 6.0]), _OF_SLEEVE, cloth=_CLOTH)
MIRROR = np.array([-1.0, 1.0, 1.0])  # a left hand is a right one in a mirror
_SHADOW, _BEHIND = 0.5, 3.0


@dataclass(frozen=True)
class Hand:
    """A hand that follows the head.

    Attributes:
        at: the point of the face's mesh where it is, of a left hand the mirrored one.
        point: (3,) what of the hand is there; in its frame, see above.
        turned: pitch, yaw and roll of the hand on a face that looks ahead, in degrees.
        bent: how far each joint of a finger is bent, from the knuckles on, in degrees.
        spread: degrees between two fingers.
        beside: it is beside the face, which may hide it, not before it.
        left: it is the person's left hand.
        comes: seconds.
    """

    at: int
    point: tuple[float, float, float]
    turned: tuple[float, float, float]
    bent: tuple[float, float, float]
    spread: float = 3.0
    beside: bool = False
    left: bool = False
    comes: float = 0.4

    def draw(self, scene: Scene, presence: float) -> None:
        head = scene.head
        mirror = MIRROR if self.left else np.ones(3)
        turned = rotation_matrix(*(np.array(self.turned) * [1.0, mirror[0], mirror[0]]))
        rotation = head.partly(_FOLLOWS) @ turned
        place = head.turned(head.points[self.at]) + (1.0 - presence) * FROM_BELOW
        cloth = cloth_of(scene)
        limbs = [
            replace(
                limb,
                joints=place + SIZE * (limb.joints - self.point) * mirror @ rotation.T,
                radii=SIZE * limb.radii,
                cloth=limb.cloth and cloth,
            )
            for limb in (_WRIST, *hand_limbs(self.bent, self.spread), _ARM)
        ]
        draw_limbs(scene, limbs, _SHADOW * presence, _BEHIND if self.beside else None)


def cloth_of(scene: Scene) -> tuple[float, float, float]:
    """Albedo of a sleeve."""
    return _INFRARED_CLOTH if scene.infrared else _CLOTH


def hand_limbs(bent: tuple[float, float, float], spread: float, thumb: bool = True) -> list[Limb]:
    """A right hand in its own frame, joints ``bent`` and fingers ``spread`` by degrees; its ``thumb`` may be hidden."""
    limbs = [Limb(np.stack(ends), _PALM, _OF_PALM) for ends in zip(_WRISTS, _KNUCKLES, strict=True)]
    if thumb:
        limbs.append(Limb(_THUMB, _THUMB_RADII, _OF_THUMB, nail=True))
    for number, (knuckle, bones, radii) in enumerate(zip(_KNUCKLES, _BONES, _FINGERS, strict=True)):
        aside = np.radians(spread * (number - 1.3))
        down = np.radians(np.cumsum(bent))
        ways = np.column_stack([np.sin(aside) * np.cos(down), np.cos(aside) * np.cos(down), -np.sin(down)])
        joints = knuckle + np.concatenate([np.zeros((1, 3)), np.cumsum(bones[:, None] * ways, axis=0)])
        limbs.append(Limb(joints, radii, _OF_FINGERS, nail=True))
    return limbs

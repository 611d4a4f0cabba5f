"""A portrait photo cut into layers: the head with a soft matte, the plate behind it, and the back of the head."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dmsynth.datasets.head_shape import NECK_LENGTH, HeadShape
from dmsynth.datasets.matting import guided_filter, person_mask

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def head_mask(image: Bytes, shape: HeadShape) -> Float:
    """Face, hair, ears and neck of a geometry-size image as (h, w) float32 0 or 1."""
    gap = distance_transform_edt(~shape.face) / shape.cm
    labels = np.full(shape.face.shape, cv2.GC_PR_BGD, np.uint8)
    skull = (shape.side / 9.5) ** 2 + ((shape.up - 2.5) / 12.0) ** 2 < 1.0
    labels[skull] = cv2.GC_PR_FGD
    neck = (np.abs(shape.side) < 4.5) & (shape.up < shape.chin_up) & (shape.up > shape.chin_up - 3.0)
    labels[neck] = cv2.GC_PR_FGD
    collar = (np.abs(shape.side) < 4.5) & (shape.up < shape.chin_up - 0.5) & ~shape.face
    is_skin = _is_like(cv2.blur(image, (3, 3)).astype(np.float32), shape.skin_colour(image))
    labels[collar & ~is_skin] = cv2.GC_BGD
    labels[(gap > 16.0) | (shape.up < shape.chin_up - NECK_LENGTH)] = cv2.GC_BGD
    person = person_mask(image)
    if person is not None:
        labels[person < 0.2] = cv2.GC_BGD
        labels[(person > 0.7) & (shape.up > shape.chin_up + 4.0) & (gap < 14.0)] = cv2.GC_FGD
    scalp = (shape.side / 6.5) ** 2 + ((shape.up - 3.0) / 8.5) ** 2 < 1.0
    labels[shape.face | (scalp & (shape.up > 3.0))] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    mask = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3)))
    _, parts = cv2.connectedComponents(mask)
    mask = (parts == np.bincount(parts[shape.face]).argmax()).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5))), np.float32)


def refine_matte(mask: Float, image: Bytes) -> Float:
    """Soft matte (H, W) float32 0..1 whose edge follows the image's."""
    large = _enlarge(mask, image)
    radius = max(2, image.shape[1] // 80)
    matte = guided_filter(image.astype(np.float32), large, radius, (0.02 * 255) ** 2)
    return np.asarray(np.clip((matte - 0.1) / 0.8, 0.0, 1.0), np.float32)


def _enlarge(small: Float, image: Bytes) -> Float:
    """A geometry-size map at the size of the image."""
    return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def fill_behind(image: Bytes, matte: Float, in_frame: Mask, shape: HeadShape) -> Bytes:
    """Image (H, W, 3) uint8 without the head: background and, up to the ears, the neck."""
    reach = 2 * (image.shape[1] // 100) + 1
    above_neck = _enlarge((shape.up > shape.chin_up - 0.6 * shape.neck_length).astype(np.float32), image)
    hole = cv2.dilate(above_neck * matte, np.ones((reach, reach))) * above_neck
    column, seen = shape.neck_column()
    over_collar = _enlarge((shape.up > shape.chin_up + 1.0).astype(np.float32), image)
    neck = _enlarge(column, image) * np.maximum(over_collar, matte)
    plain = image.astype(np.float32)
    cheek = shape.skin_colour(cv2.resize(image, shape.size, interpolation=cv2.INTER_AREA))
    seen_neck = (_enlarge(seen, image) > 0.5) & (matte > 0.95) & _is_like(plain, cheek)
    if seen_neck.mean() < 3e-4:  # hidden by a collar, a beard or the frame
        plain_skin = np.broadcast_to(0.8 * cheek, image.shape).astype(np.float32)
        seen_neck = np.ones_like(seen_neck)
    else:
        plain_skin = plain
    skin = _push_pull(plain_skin, seen_neck.astype(np.float32))
    skin *= _enlarge(shape.neck_shade(), image)[..., None]
    behind = _with_grain(plain, (np.maximum(hole, neck * matte) < 0.05) & in_frame)
    behind = behind + neck[..., None] * (skin - behind)
    soft = cv2.blur(np.clip(hole * 4.0, 0.0, 1.0), (5, 5))[..., None]
    return np.asarray(np.clip(np.rint(plain + soft * (behind - plain)), 0, 255), np.uint8)


def _is_like(image: Float, colour: Double) -> Mask:
    """Pixels of a colour's hue that are not much darker or brighter."""
    brightness = image.sum(2) / colour.sum()
    hue_gap = np.abs(image / np.maximum(image.sum(2, keepdims=True), 1.0) - colour / colour.sum()).max(2)
    return np.asarray((brightness > 0.4) & (brightness < 1.4) & (hue_gap < 0.06))


def _with_grain(image: Float, valid: Mask, most: float = 6.0) -> Float:
    """Invalid pixels filled smoothly, plus the fine detail, up to ± most, found mirrored across the hole's edge."""
    smooth = _push_pull(image, valid.astype(np.float32))
    detail = np.clip(image - cv2.GaussianBlur(smooth, (0, 0), image.shape[1] / 200), -most, most)
    detail[~valid] = 0.0
    rows, columns = np.indices(valid.shape)
    edge_rows, edge_columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    mirror_x = (2 * edge_columns - columns).astype(np.float32)
    mirror_y = (2 * edge_rows - rows).astype(np.float32)
    mirrored = cv2.remap(detail, mirror_x, mirror_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.where(valid[..., None], image, smooth + mirrored)


def _push_pull(image: Float, valid: Float) -> Float:
    """Fill where valid is 0: averages of ever coarser neighbourhoods."""
    if min(valid.shape) <= 2:
        total = max(float(valid.sum()), 1e-6)
        return np.where(valid[..., None] > 0, image, (image * valid[..., None]).sum((0, 1)) / total)
    weighted = cv2.pyrDown(np.dstack([image * valid[..., None], valid]))
    cover = weighted[..., 3:]
    known = (cover[..., 0] > 0.01).astype(np.float32)
    coarse = _push_pull(weighted[..., :3] / np.maximum(cover, 1e-6), known)
    up = cv2.pyrUp(coarse, dstsize=valid.shape[::-1])
    return np.asarray(image * valid[..., None] + up * (1.0 - valid[..., None]))


def layer_with_matte(image: Bytes, matte: Float, plate: Bytes) -> Bytes:
    """Head layer (H, W, 4) uint8: colours without the old background's share at the edge, and the matte."""
    alpha = matte[..., None]
    size = (image.shape[1] // 21, image.shape[1] // 21)
    own = cv2.blur(image * alpha, size) / np.maximum(cv2.blur(matte, size)[..., None], 1e-3)
    own = own + alpha * (image - alpha * own - (1.0 - alpha) * plate)
    own = np.where(alpha > 0.98, image, own)
    return np.asarray(np.clip(np.rint(np.dstack([own, matte * 255.0])), 0, 255), np.uint8)


def back_of_head(image: Bytes, matte: Float, shape: HeadShape) -> Bytes:
    """Texture (H, W, 3) uint8 of the back of the head: hair above, skin of the nape below.

    Next to the outline it is what the photo shows there, as if mirrored to the far side; the face is replaced.
    """
    plain = image.astype(np.float32)
    cheek = shape.skin_colour(cv2.resize(image, shape.size, interpolation=cv2.INTER_AREA))
    grown = cv2.dilate(shape.face.astype(np.float32), np.ones((3, 3)), iterations=max(1, round(0.3 * shape.cm)))
    reach = 2 * (image.shape[1] // 150) + 1
    solid = cv2.erode(matte, np.ones((reach, reach))) > 0.95
    outside = solid & (_enlarge(grown, image) < 0.5)
    is_skin = _is_like(plain, cheek)
    up, side = (_enlarge(part.astype(np.float32), image) for part in (shape.up, shape.side))
    not_skin = cv2.erode((~is_skin).astype(np.uint8), np.ones((reach, reach))) > 0
    # Well above the ears all is hair, or a bald scalp; below them hair and ears are told apart by colour.
    hair = outside & ((up > 4.0) | (not_skin & (up > shape.chin_up)))
    if not hair.any():
        hair = solid & (up > 2.0)
    hairs = _with_grain(plain, hair, 40.0)
    skin = outside & is_skin & (up < shape.chin_up)
    if skin.mean() < 3e-4:  # hidden by a collar, a beard or the frame
        skins = np.broadcast_to(0.8 * cheek, image.shape).astype(np.float32)
    else:
        skins = _push_pull(plain, skin.astype(np.float32))
    shadow = np.clip((up - shape.chin_up) / 6.0, 0.0, 1.0)[..., None]  # of jaw and hair
    skins = skins * (1.0 - 0.3 * shadow)
    # The hairline runs between what is known to be hair and skin.
    scalp = ~hair & (up > -1.0)
    nape = ~hair & (up < shape.chin_up + 2.0) & (np.abs(side) < 5.0)
    known = (hair | skin | scalp | nape).astype(np.float32)
    share = _push_pull(np.dstack([(hair | scalp).astype(np.float32)] * 3), known)[..., :1]
    share = np.clip(0.5 + 3.0 * (share - 0.5), 0.0, 1.0)
    return np.asarray(np.clip(np.rint(skins + share * (hairs - skins)), 0, 255), np.uint8)

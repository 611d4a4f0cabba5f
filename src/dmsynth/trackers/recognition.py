"""Face recognition, as a second opinion on identity: dlib's network (King 2017), which gives a face as 128 numbers; two
pictures of one person lie within 0.6 of each other. It is used where it is installed, by nobody's wish alone:

    pip install dlib-bin face_recognition_models
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsynth.trackers.face import Face
from dmsynth.video import Image, to_rgb

SAME = 0.6
"""The distance below which two faces are of one person, by dlib's own documentation."""
_NETWORK, _LANDMARKS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"


def is_at_hand() -> bool:
    """Whether both packages are installed."""
    return find_spec("dlib") is not None and _models() is not None


def described(faces: Iterable[tuple[Image, Face]]) -> NDArray[np.float64]:
    """(n, 128): what the network makes of faces in pictures, grey or RGB uint8. Call it where ``is_at_hand``."""
    dlib, network, landmarks = _opened()
    rows = []
    for image, face in faces:
        picture = np.ascontiguousarray(to_rgb(image))
        points = landmarks(picture, dlib.rectangle(*(round(edge) for edge in face.box)))
        rows.append(np.array(network.compute_face_descriptor(picture, points)))
    return np.array(rows).reshape(-1, 128)


def _models() -> Path | None:
    """The folder of the weights; the package itself is not imported, it needs a part of setuptools that is gone."""
    found = find_spec("face_recognition_models")
    places = list(found.submodule_search_locations or []) if found else []
    folder = Path(places[0]) / "models" if places else None
    return folder if folder and all((folder / name).is_file() for name in (_NETWORK, _LANDMARKS)) else None


@lru_cache(maxsize=1)
def _opened() -> tuple[Any, Any, Any]:
    dlib, folder = importlib.import_module("dlib"), _models()
    assert folder is not None
    network = dlib.face_recognition_model_v1(str(folder / _NETWORK))
    return dlib, network, dlib.shape_predictor(str(folder / _LANDMARKS))

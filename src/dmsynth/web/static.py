"""``dmsynth export FACE --web DIR``: a static web page that steers a face in the browser, without a server."""

from __future__ import annotations

import base64
import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from dmsynth.controls.response import MOST, ROUNDS, STEP, TERMS, UNIT
from dmsynth.steering import SteerableFace
from dmsynth.steering.export import export_halves
from dmsynth.steering.provenance import consent_of
from dmsynth.support.errors import DmsynthError
from dmsynth.support.version import __version__
from dmsynth.web.description import description
from dmsynth.web.runtime import LOADER, PACKAGE, SCRIPT, VERSION, WASM, runtime_files

_MARK = "dmsynth-face.json"  # marks every exported folder
_ASSETS = ("steerer.js", "steerer.css", "static.js")
_PAGE = ("index.html", "face.js", "runtime.js", "ort.js", *_ASSETS, _MARK)  # all that an export writes


def export_web(face: SteerableFace, out: Path, name: str) -> Path:
    """Write a folder that can be mailed or put on any web server; returns its ``index.html``.

    It also opens from disk: networks, source frames and the runtime are embedded in scripts, because a page opened from
    disk can load only scripts. ``face.js`` holds the face, ``runtime.js`` and ``ort.js`` ONNX Runtime Web.

    Args:
        out: a new or empty folder, or one of an earlier export, whose files are replaced; other files in it are kept.
        name: the face's name on the page.

    Raises:
        DmsynthError: a folder that holds something else; packages, or the runtime, that are not installed.
    """
    if out.exists() and not (out / _MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DmsynthError(f"{out}: holds something else; give a new folder, or one of an earlier export")
    runtime = runtime_files()
    partial = out.resolve().with_name(f".{out.resolve().name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        _write(face, partial, name, runtime)
        out.mkdir(exist_ok=True)
        for file in _PAGE:  # the mark last: a folder that has it is complete
            (partial / file).replace(out / file)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out / "index.html"


def _write(face: SteerableFace, folder: Path, name: str, runtime: dict[str, Path]) -> None:
    face = face.as_learned()
    encode, steer = folder / "encode.onnx", folder / "steer.onnx"
    export_halves(face, encode, steer)
    trained = face.trained
    about = description(face, name) | {
        "source_codes": trained.source_codes.astype(float).round(6).tolist(),
        "carried": trained.source_codes[0, trained.space.size :][: trained.carried.size].astype(float).tolist(),
        "response": trained.response
        and trained.response.to_dict() | {"terms": TERMS, "unit": UNIT, "rounds": ROUNDS, "step": STEP, "most": MOST},
        "scale": trained.space.comparable(np.ones((1, trained.source_codes.shape[1]), np.float32))[0].tolist(),
    }
    content = {"description": about, "sources": _in_text(_stacked(trained.sources))}
    content |= {"encode": _in_text(encode.read_bytes()), "steer": _in_text(steer.read_bytes())}
    _script(folder / "face.js", "dmsynthFace", content)
    _script(
        folder / "runtime.js",
        "dmsynthRuntime",
        {"loader": _in_text(runtime[LOADER].read_bytes()), "wasm": _in_text(runtime[WASM].read_bytes())},
    )
    for path in (encode, steer):
        path.unlink()
    script = runtime[SCRIPT].read_text("utf-8")
    licence = f"/* {PACKAGE} {VERSION}, Copyright (c) Microsoft Corporation, MIT licence */\n"
    (folder / "ort.js").write_text(licence + script.partition("\n//# sourceMappingURL")[0], "utf-8")
    for asset in _ASSETS:
        (folder / asset).write_text(_asset(asset), "utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_asset("static.html"))
    made = f"Made by dmsynth {__version__} with the model {trained.model}."
    (folder / "index.html").write_text(page.render(name=name, consent=consent_of(trained.about), about=made), "utf-8")
    (folder / _MARK).write_text(json.dumps({"name": name, "version": __version__}) + "\n", "utf-8")


def _asset(name: str) -> str:
    return files("dmsynth.web").joinpath(name).read_text("utf-8")


def _script(path: Path, variable: str, content: object) -> None:
    path.write_text(f"window.{variable} = {json.dumps(content)};\n", "utf-8")


def _in_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _stacked(sources: NDArray[np.uint8]) -> bytes:
    """Frames (s, h, w) or (s, h, w, 3) stacked vertically as one PNG."""
    stack = np.concatenate(list(sources), axis=0)
    done, png = cv2.imencode(".png", stack if stack.ndim == 2 else cv2.cvtColor(stack, cv2.COLOR_RGB2BGR))
    assert done
    return png.tobytes()

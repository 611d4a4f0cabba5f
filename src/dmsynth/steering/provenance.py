"""Where a synthetic video comes from: its metadata and a file beside it say it, lest anybody take it for real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dmsynth.learning.face_file import TrainedFace, fingerprint_of, located
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import sha256_of, write_json
from dmsynth.support.records import Record, Sha256, Text, checked, content_of, json_of, printable
from dmsynth.support.version import __version__
from dmsynth.video import read_metadata

NO_CONSENT = "none recorded"
_MAKE_AGAIN = "make the video again"


@dataclass(frozen=True)
class Provenance:
    """Where a synthetic video comes from.

    Attributes:
        kind: ``rendered`` (every frame is synthetic) or ``edited`` (a recording, in parts).
        made_by: program and version.
        face: name of the face's file, or of the folder of LivePortrait; ``face_sha256`` as the function says.
        dataset_sha256: of the frames that it learned from.
        consent: who may be shown and on what consent, as recorded at import.
        effects: camera effects and their strengths (``video.effects``), such as ``blur=1.5, noise=4``; empty: none.
        camera: the camera's name and the beginning of its hash (``camera.Camera``); empty: none.
        worn: things on the face and their seconds, such as ``glasses, mask=2:5``; empty: none.
        synthetic: always true.
    """

    kind: str
    made_by: str
    face: str
    face_sha256: str
    dataset_sha256: str
    consent: str = NO_CONSENT
    effects: str = ""
    camera: str = ""
    worn: str = ""
    synthetic: bool = True

    @staticmethod
    def of(path: Path, face: TrainedFace, kind: str, effects: Sequence[tuple[str, float]] = ()) -> Provenance:
        """Of what the face at ``path`` renders, with camera effects (name, strength)."""
        return Provenance(
            kind=kind,
            made_by=f"dmsynth {__version__}",
            face=printable(path.resolve().name),
            face_sha256=face_sha256(path, face),
            dataset_sha256=str(face.about.get("settings", {}).get("dataset_sha256") or "unknown"),
            consent=printable(consent_of(face.about)),
            effects=", ".join(f"{name}={strength:g}" for name, strength in effects),
        )

    @staticmethod
    def of_recording(drive: Path) -> Provenance:
        """Of a recording that is edited without a face: only its own pixels are moved."""
        content = sha256_of(drive)
        return Provenance(
            "edited", f"dmsynth {__version__}", f"none, eyes of {printable(drive.name)}", content, content
        )

    def in_words(self) -> str:
        return (
            f"Synthetic video, {self.kind} by {self.made_by} from the face {self.face} ({self.face_sha256[:16]}); "
            f"consent: {self.consent}"
            + (f"; camera effects: {self.effects}" if self.effects else "")
            + (f"; camera: {self.camera}" if self.camera else "")
            + (f"; worn: {self.worn}" if self.worn else "")
        )

    def metadata(self) -> dict[str, str]:
        """For a video file: to people in ``title`` and ``comment``, to programs in ``description``."""
        return {
            "title": "Synthetic video, no recording",
            "comment": self.in_words(),
            "description": json.dumps({"dmsynth": asdict(self)}, ensure_ascii=False),
        }

    def write_beside(self, video: Path) -> None:
        """The same as ``VIDEO.provenance.json``, with the video's hash."""
        write_json(sidecar_of(video), asdict(self) | {"video": printable(video.name), "video_sha256": sha256_of(video)})


class _Embedded(Record):
    """A ``Provenance``, as it is read back."""

    kind: Literal["rendered", "edited"]
    made_by: Text
    face: Text
    face_sha256: Text
    dataset_sha256: Text
    consent: Text
    effects: Text = ""  # unknown to earlier versions, as are camera and things
    camera: Text = ""
    worn: Text = ""
    synthetic: Literal[True]


class _Sidecar(_Embedded):
    """The same beside a video."""

    video_sha256: Sha256


@dataclass(frozen=True)
class Found:
    """What ``read_provenance`` found, and what speaks against it."""

    provenance: Provenance
    where: list[str]
    doubts: list[str]


def face_sha256(path: Path, face: TrainedFace) -> str:
    """What renders, as a hash: of the face's file; where it comes from no such file, what it says of itself (of
    LivePortrait's weights and its source picture)."""
    if face.about.get("sha256"):
        return str(face.about["sha256"])
    return sha256_of(path) if located(path)[1] is None else fingerprint_of(path)


def consent_of(about: dict[str, Any]) -> str:
    """What a face's or a dataset's description says of consent."""
    return str(about.get("consent") or NO_CONSENT)


def sidecar_of(video: Path) -> Path:
    return video.with_suffix(".provenance.json")


def read_provenance(video: Path) -> Found:
    """Where a video says that it comes from, in its metadata and beside it.

    Raises ``DmsynthError`` if it says nothing, which does not mean that it is real.
    """
    inside = _inside(read_metadata(video))
    sidecar, doubts = sidecar_of(video), []
    beside, told = None, None
    if sidecar.is_file():
        try:
            beside = checked(content_of(sidecar, _MAKE_AGAIN), _Sidecar, str(sidecar), _MAKE_AGAIN)
            told = Provenance(**beside.model_dump(exclude={"video_sha256"}))
        except DmsynthError as error:
            doubts.append(str(error))
    found = inside or told
    if found is None:
        damaged = f" ({doubts[0]})" if doubts else ""
        raise DmsynthError(
            f"{video}: neither its metadata nor a {sidecar.name} says where it comes from; that does not make it real"
            f"{damaged}"
        )
    if inside is None:
        doubts.append("its metadata say nothing: it was encoded again, or they were removed")
    if beside is not None and beside.video_sha256 != sha256_of(video):
        doubts.append(f"it is not the video that {sidecar.name} describes: it was changed or replaced")
    if inside and told and inside != told:
        doubts.append(f"its metadata and {sidecar.name} disagree")
    where = (["metadata"] if inside else []) + ([sidecar.name] if told else [])
    return Found(found, where, doubts)


def _inside(metadata: dict[str, str]) -> Provenance | None:
    """None if nothing is said, or what is said is damaged."""
    try:
        content = json_of(metadata.get("description", ""), "", "")
        told = checked(content["dmsynth"], _Embedded, "", "")
    except (DmsynthError, TypeError, KeyError):
        return None
    return Provenance(**told.model_dump())

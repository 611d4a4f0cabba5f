"""The synthetic drivers of a validation: one face, or the persons of a cast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmsynth.steering import FACE, FaceSpec, SteerableFace, opened
from dmsynth.steering.provenance import consent_of, face_sha256
from dmsynth.support.errors import DmsynthError
from dmsynth.validation.rendering import why_not
from dmsynth.validation.scenarios import Scenario


@dataclass(frozen=True)
class Driver:
    """A synthetic driver.

    Attributes:
        person: name in the cast; None: the single face of a validation.
        sha256: of the face, when it was opened.
    """

    person: str | None
    spec: FaceSpec
    face: SteerableFace
    sha256: str

    def about(self) -> dict[str, Any]:
        """Who it is, for ``results.json``."""
        about = self.face.trained.about
        named = {"name": self.face.path.name} if self.person is None else {"name": self.person}
        return named | {
            "sha256": self.sha256,
            "consent": consent_of(about),
            "tracker": about.get("tracker"),
            "dataset_sha256": about.get("settings", {}).get("dataset_sha256"),
        } | ({} if self.person is None else {"face": self.face.path.name})  # fmt: skip

    def folder(self, parent: Path) -> Path:
        """Where files of this driver lie, one per scenario."""
        return parent / self.person if self.person else parent

    def check_unchanged(self) -> None:
        """``DmsynthError`` if the face is not the one that was opened."""
        if face_sha256(self.face.path, self.face.trained) != self.sha256:
            raise DmsynthError(f"{self.face.path}: changed while scenarios were rendered; run the same command again")


def open_drivers(face: FaceSpec | Mapping[str, FaceSpec], scenarios: Sequence[Scenario]) -> list[Driver]:
    """The synthetic drivers that a validation plays: of one face, or of each person.

    Raises:
        DmsynthError: a face that cannot be opened or does not turn its head, none that can play any of the scenarios,
            one face under two names. Of a cast, the message names the person.
    """
    if isinstance(face, FaceSpec):
        drivers = [_open(None, face)]
    else:
        drivers = []
        for person, spec in face.items():
            try:
                drivers.append(_open(person, spec))
            except DmsynthError as error:
                raise DmsynthError(f"{person}: {error}") from None
            same = next((each.person for each in drivers[:-1] if _is_one(each, drivers[-1])), None)
            if same is not None:
                raise DmsynthError(
                    f"{person}: has the face of {same} (SHA-256 {drivers[-1].sha256[:16]}…): one driver under two "
                    "names would count twice; remove one from the cast"
                )
    if all(why_not(scenario, driver.face) for scenario in scenarios for driver in drivers):
        who = drivers[0].person or drivers[0].spec.face
        raise DmsynthError(f"{who}: {why_not(scenarios[0], drivers[0].face)}")
    return drivers


def _is_one(driver: Driver, other: Driver) -> bool:
    """Whether two drivers are one face, in files of whatever kind."""
    prints = [each.face.trained.about.get("fingerprint") for each in (driver, other)]
    return driver.sha256 == other.sha256 or (prints[0] is not None and prints[0] == prints[1])


def _open(person: str | None, spec: FaceSpec) -> Driver:
    if spec.kind == FACE and spec.source is not None:
        raise DmsynthError(
            f"--source {spec.source}: scenarios are played from the face's own source frames; leave it out"
        )
    face = opened(spec)
    if not face.trained.space.turns_head:
        steers = ", ".join(face.trained.space.names)
        raise DmsynthError(f"{spec.face}: steers {steers}; scenarios need a face that turns its head")
    return Driver(person, spec, face, face_sha256(face.path, face.trained))

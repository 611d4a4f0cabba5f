"""One folder in which faces are made: what people bring, what is learned, what is rendered and judged.

uploads/      recordings, portraits and scenarios that were brought, under names of our own
datasets/     made from them
trainings/    run folders; a finished one is a face
videos/       steered
scenarios/    written here
results/      validations
jobs/         long work (``dmsynth.jobs``)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dmsynth.errors import DmsynthError
from dmsynth.files import replacing, sha256_of
from dmsynth.jobs import Job, find_jobs
from dmsynth.pictures import read_image
from dmsynth.validation.scenario_files import library, parse_scenario
from dmsynth.video import check_whole, probe_video, write_image

LARGEST = {"recording": 150 * 2**20, "portrait": 20 * 2**20, "scenario": 100_000}  # bytes
KINDS = ("uploads", "datasets", "trainings", "videos", "scenarios", "results", "jobs")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Workspace:
    """The folder, and what is in it by the names that people see.

    Attributes:
        root: everything is read from and written to this folder only.
        brought: faces from elsewhere that whoever opened it named, by name.
    """

    root: Path
    brought: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # jobs remember paths, and go on from wherever the workspace is opened next
        object.__setattr__(self, "root", self.root.expanduser().resolve())
        object.__setattr__(self, "brought", {name: path.resolve() for name, path in self.brought.items()})
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)

    def faces(self) -> dict[str, Path]:
        """Faces that were brought, ``starter``, and every finished training."""
        trained = self._with("trainings", "face.safetensors")
        faces = {name: folder / "face.safetensors" for name, folder in trained.items()}
        return {**self.brought, "starter": Path("starter"), **faces}

    def face(self, name: str) -> Path:
        """The file of a face by its name; ``DmsynthError`` if there is no such face."""
        faces = self.faces()
        if name not in faces:
            raise DmsynthError(f"{name}: no such face; there is {', '.join(faces)}")
        return faces[name]

    def datasets(self) -> dict[str, Path]:
        return self._with("datasets", "manifest.json")

    def results(self) -> dict[str, Path]:
        """Folders of validations that are done."""
        return self._with("results", "results.json")

    def scenarios(self) -> dict[str, Path]:
        """Those that come along, and those written here."""
        own = {path.stem: path for path in sorted((self.root / "scenarios").glob("*.yaml"))}
        return own | {path.stem: path for path in library()}

    def scenario_file(self, name: str) -> Path:
        """Where a scenario of this name is kept. ``DmsynthError`` for a name that would hide one that comes along."""
        if name in {path.stem for path in library()}:
            raise DmsynthError(f"{name}: a scenario of this name comes along; give yours another")
        return self.root / "scenarios" / f"{name}.yaml"

    def job(self, name: str | None) -> Job | None:
        """A job by its folder's name; None if there is none."""
        known = name is not None and slug(name) == name
        return next((job for job in find_jobs(self.root / "jobs") if known and job.folder.name == name), None)

    def jobs(self, kind: str) -> list[Job]:
        """The jobs of a kind, the newest first."""
        return [job for job in find_jobs(self.root / "jobs") if job.about["kind"] == kind]

    def _with(self, kind: str, file: str) -> dict[str, Path]:
        """Folders of a kind that hold ``file``, by name."""
        folders = sorted((self.root / kind).iterdir(), key=lambda folder: folder.name)
        return {folder.name: folder for folder in folders if not folder.is_symlink() and (folder / file).is_file()}

    def new(self, kind: str, name: str = "", suffix: str = "") -> Path:
        """A path in the folder ``kind`` that is not taken, nor about to be; ``name`` is a wish."""
        wish = slug(name) or kind.rstrip("s")
        taken = {re.sub(r"\.partial$", "", path.name) for path in (self.root / kind).iterdir()}
        number, path = 1, f"{wish}{suffix}"
        while path in taken or Path(path).stem in self._reserved(kind):
            number += 1
            path = f"{wish}-{number}{suffix}"
        return self.root / kind / path

    def _reserved(self, kind: str) -> set[str]:
        return {"starter", *self.brought} if kind == "trainings" else set()

    def inside(self, path: Path | str) -> Path:
        """``path``, resolved; ``DmsynthError`` unless it lies in the workspace, links followed."""
        try:
            resolved = (self.root / path).resolve()
        except (ValueError, OSError):  # a NUL in it, or longer than a path may be
            raise DmsynthError("this is no path; check it") from None
        if not resolved.is_relative_to(self.root.resolve()):
            raise DmsynthError(f"{Path(path).name}: lies outside the workspace")
        return resolved

    def take(self, brought: Path, kind: str) -> Path:
        """Keep a file that somebody brought, if it is a ``recording``, a ``portrait`` or a ``scenario``, judged by what
        is in it; returns where. ``DmsynthError`` for anything else, or one too large."""
        name, largest = brought.name, LARGEST[kind]
        if brought.stat().st_size > largest:
            size = f"{largest / 2**20:.0f} MB" if largest >= 2**20 else f"{largest // 1000} kB"
            raise DmsynthError(f"{name}: is too large; a {kind} has at most {size}")
        if kind == "recording":
            with _called(brought):
                probe_video(brought)
                check_whole(brought)
            kept = self.root / "uploads" / f"{slug(brought.stem) or 'recording'}-{sha256_of(brought)[:8]}.mp4"
            with replacing(kept) as temporary:
                shutil.copyfile(brought, temporary)
        elif kind == "portrait":
            with _called(brought):
                picture = read_image(brought)
            kept = self.root / "uploads" / f"{slug(brought.stem) or 'portrait'}-{sha256_of(brought)[:8]}.png"
            with replacing(kept) as temporary:
                write_image(temporary, picture)
        else:
            try:
                text = brought.read_text("utf-8")
            except UnicodeDecodeError:
                raise DmsynthError(f"{name}: is no text; a scenario is a YAML file") from None
            kept = self.scenario_file(parse_scenario(text, name).name)
            with replacing(kept) as temporary:
                temporary.write_text(text, "utf-8")
        return kept


@contextmanager
def _called(brought: Path) -> Iterator[None]:
    """What is wrong with a file, by the name that whoever brought it knows."""
    try:
        yield
    except DmsynthError as error:
        raise DmsynthError(str(error).replace(str(brought), brought.name)) from None


def slug(text: str) -> str:
    """Letters, digits and dashes of ``text``: a name that is safe on every disk."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-")

"""The cockpit's workspace: one folder with uploads and everything made from them.

uploads/      recordings and portraits that were uploaded, renamed, or recorded here
datasets/     made from them
trainings/    run folders; a finished one is a face
videos/       steered
scenarios/    uploaded, or written here
results/      validations
jobs/         background jobs (``dmsynth.cockpit.jobs``)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dmsynth.cockpit.jobs import Job, find_jobs, make_job
from dmsynth.learning.face_file import people_of
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import replacing, sha256_of, wait_for_lock
from dmsynth.validation.scenario_files import library, parse_scenario, read_scenario
from dmsynth.video import check_whole, probe_video, write_image
from dmsynth.video.pictures import read_image

LARGEST = {"recording": 150 * 2**20, "portrait": 20 * 2**20, "scenario": 100_000}  # bytes
KINDS = ("uploads", "datasets", "trainings", "videos", "scenarios", "results", "jobs")
PORTRAIT = "posed:portrait"  # the face of the portrait that comes with dmsynth
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Workspace:
    """The folder, and its contents by their displayed names.

    Attributes:
        root: everything is read from and written to this folder only.
        brought: faces from elsewhere, given when the workspace was opened, by name.
    """

    root: Path
    brought: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # jobs store paths, which must stay valid if the workspace is opened from another folder
        object.__setattr__(self, "root", self.root.expanduser().resolve())
        object.__setattr__(self, "brought", {name: path.resolve() for name, path in self.brought.items()})
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)

    def trained(self) -> dict[str, Path]:
        """The ``brought`` faces, ``starter``, and every finished training; of a cast everybody in it."""
        trained = self._with("trainings", "face.safetensors")
        files = {name: folder / "face.safetensors" for name, folder in trained.items()}
        return {**_everybody(self.brought), "starter": Path("starter"), **_everybody(files)}

    def faces(self) -> dict[str, Path]:
        """Whatever can be steered: the ``trained`` faces, the portrait that comes with dmsynth, and uploaded pictures,
        posed. The path is what ``steering.FaceSpec`` calls a face: a file, ``starter`` or ``posed:PICTURE``."""
        pictures = sorted((self.root / "uploads").glob("*.png"))
        posed = {f"posed:{file.stem}": Path(f"posed:{file}") for file in pictures if not file.is_symlink()}
        return {**self.trained(), PORTRAIT: Path(PORTRAIT), **posed}

    def face(self, name: str) -> Path:
        """The path of a face by its name (``faces``); ``DmsynthError`` if there is no such face."""
        faces = self.faces()
        if name not in faces:
            raise DmsynthError(f"{name}: no such face; there is {', '.join(faces)}")
        return faces[name]

    def datasets(self) -> dict[str, Path]:
        return self._with("datasets", "manifest.json")

    def results(self) -> dict[str, Path]:
        """Folders of finished validations."""
        return self._with("results", "results.json")

    def scenarios(self) -> dict[str, Path]:
        """The included scenarios, and those of this workspace."""
        own = {path.stem: path for path in sorted((self.root / "scenarios").glob("*.yaml"))}
        return own | {path.stem: path for path in library()}

    def scenario_file(self, name: str) -> Path:
        """Path of a scenario of this name. ``DmsynthError`` for the name of an included scenario."""
        if name in {path.stem for path in library()}:
            raise DmsynthError(f"{name}: a scenario of this name comes along; give yours another")
        return self.root / "scenarios" / f"{name}.yaml"

    def groups(self) -> dict[str, list[str]]:
        """Names of scenarios by their group; unreadable ones are skipped."""
        groups: dict[str, list[str]] = {}
        for name, path in self.scenarios().items():
            with suppress(DmsynthError, OSError):
                groups.setdefault(read_scenario(path).group, []).append(name)
        return dict(sorted(groups.items()))

    def job(self, name: str | None) -> Job | None:
        """A job by its folder's name; None if there is none."""
        return next((job for job in self._jobs() if job.folder.name == name), None)

    def jobs(self, kind: str) -> list[Job]:
        """The jobs of a kind, newest first."""
        return [job for job in self._jobs() if job.about["kind"] == kind]

    def _jobs(self) -> list[Job]:
        """The readable jobs with outputs in this workspace."""
        return [job for job in find_jobs(self.root / "jobs") if (outs := outs_of(job)) and all(map(self._has, outs))]

    def _has(self, path: str) -> bool:
        with suppress(DmsynthError):
            return self.inside(path) != self.root
        return False

    def _with(self, kind: str, file: str) -> dict[str, Path]:
        """Folders of a kind that hold ``file``, by name."""
        folders = sorted((self.root / kind).iterdir(), key=lambda folder: folder.name)
        return {folder.name: folder for folder in folders if not folder.is_symlink() and (folder / file).is_file()}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the workspace's lock, while names are chosen and jobs are started; other threads and processes wait. The
        lock is released when its process ends, however it ends."""
        with (self.root / "jobs" / ".lock").open("ab") as file:
            wait_for_lock(file)
            yield

    def begin_training(
        self,
        dataset: str | None,
        model: str,
        seconds: float | None = None,
        others: Sequence[str] = (),
        begin: str | None = None,
    ) -> Job:
        """Train a face on a dataset in a background job, until it stops improving or for ``seconds``. Of two
        simultaneous equal requests (two pages, a double click) one is refused.

        Args:
            others: further datasets: the training is a cast's.
            begin: a trained face to begin from.

        Raises:
            DmsynthError: no such dataset or face; the same training is running.
        """
        known, trained = self.datasets(), self.trained()
        if dataset not in known:
            raise DmsynthError("choose a dataset to learn from; import one if there is none")
        others = [other for other in others if other != dataset]
        gone = [other for other in others if other not in known] + ([begin] if begin and begin not in trained else [])
        if gone:
            raise DmsynthError(f"{gone[0]}: is not here any more; choose again")
        if others and begin:
            raise DmsynthError("a cast begins from nothing; leave out the further datasets, or what to begin from")
        command = ["train", *(str(known[name]) for name in (dataset, *others)), "--model", model]
        command += ["--from", str(trained[begin])] if begin else []
        command += ["--max-time", f"{seconds:g}s"] if seconds else []
        with self.alone():
            begun = (job for job in self.jobs("training") if job.about["commands"][0][:-1] == [*command, "--out"])
            if any(job.is_alive() for job in begun):
                raise DmsynthError(f"{dataset}: this training is running already; stop it first, or let it end")
            out = self.new("trainings", "cast" if others else dataset)
            commands = [[*command, "--out", str(out)]]
            job = make_job(
                self.new("jobs", "training"), f"Training {out.name}", "training", commands, {"out": str(out)}
            )
            job.start()
            return job

    def begin_face(self, recording: Path, name: str, consent: str, widened: bool) -> Job:
        """Import a ``recording`` of a person by ``name`` and train a face on it, beginning from the starter, in one
        background job. ``consent`` goes into the dataset, the face, and every video of it; ``widened`` as for
        ``datasets.recording.import_recordings``, and half of the time."""
        with self.alone():
            dataset, out = self.new("datasets", name), self.new("trainings", name)
            widen = "--widen" if widened else "--no-widen"
            commands = [
                ["dataset", "recording", str(dataset), str(recording), "--consent", consent, widen],
                ["train", str(dataset), "--from", "starter", "--out", str(out)],
                ["dataset", "info", str(dataset)],
            ]
            note = {"out": str(out), "outs": [str(dataset)]}
            job = make_job(self.new("jobs", "training"), f"A face of {name}", "training", commands, note)
            job.start()
            return job

    def new(self, kind: str, name: str = "", suffix: str = "") -> Path:
        """A path in the folder ``kind`` that is not used yet, nor will be by a job; ``name`` is the preferred name.
        Call it while holding the lock (``alone``)."""
        wish = slug(name) or kind.rstrip("s")
        taken = {re.sub(r"\.partial$", "", path.name) for path in (self.root / kind).iterdir()}
        for job in self._jobs():
            taken |= {Path(out).name for out in outs_of(job) if Path(out).parent.name == kind}
        number, path = 1, f"{wish}{suffix}"
        while path in taken or Path(path).stem in self._reserved(kind):
            number += 1
            path = f"{wish}-{number}{suffix}"
        return self.root / kind / path

    def _reserved(self, kind: str) -> set[str]:
        return {"starter", *self.brought} if kind == "trainings" else set()

    def inside(self, path: Path | str) -> Path:
        """``path``, resolved; ``DmsynthError`` unless it lies in the workspace after following links."""
        try:
            resolved = (self.root / path).resolve()
        except (ValueError, OSError):  # contains a NUL, or is too long
            raise DmsynthError("this is no path; check it") from None
        if not resolved.is_relative_to(self.root.resolve()):
            raise DmsynthError(f"{Path(path).name}: lies outside the workspace")
        return resolved

    def take(self, upload: Path, kind: str) -> Path:
        """Store an uploaded file if its content is a valid ``recording``, ``portrait`` or ``scenario``; returns its
        path, the same for the same content and name. ``DmsynthError`` for anything else, or if it is too large."""
        name, largest = upload.name, LARGEST[kind]
        if upload.stat().st_size > largest:
            size = f"{largest / 2**20:.0f} MB" if largest >= 2**20 else f"{largest // 1000} kB"
            raise DmsynthError(f"{name}: is too large; a {kind} has at most {size}")
        if kind == "recording":
            with _original_name(upload):
                probe_video(upload)
                check_whole(upload)
            kept = self.root / "uploads" / f"{slug(upload.stem) or 'recording'}-{sha256_of(upload)[:8]}.mp4"
            with replacing(kept) as temporary:
                shutil.copyfile(upload, temporary)
        elif kind == "portrait":
            with _original_name(upload):
                picture = read_image(upload)
            kept = self.root / "uploads" / f"{slug(upload.stem) or 'portrait'}-{sha256_of(upload)[:8]}.png"
            with replacing(kept) as temporary:
                write_image(temporary, picture)
        else:
            try:
                text = upload.read_text("utf-8")
            except UnicodeDecodeError:
                raise DmsynthError(f"{name}: is no text; a scenario is a YAML file") from None
            kept = self.scenario_file(parse_scenario(text, name).name)
            with replacing(kept) as temporary:
                temporary.write_text(text, "utf-8")
        return kept


def _everybody(files: dict[str, Path]) -> dict[str, Path]:
    """Faces by name: of a cast's file everybody in it, ``NAME#PERSON``."""
    faces: dict[str, Path] = {}
    for name, file in files.items():
        people = _people(file, file.stat().st_mtime_ns) if file.is_file() else ()
        faces |= {f"{name}#{person}": Path(f"{file}#{person}") for person in people} or {name: file}
    return faces


@lru_cache(maxsize=200)
def _people(file: Path, changed: int) -> tuple[str, ...]:
    """The names in a cast's file; none of a single face, or of one that cannot be read."""
    try:
        return tuple(people_of(file))
    except DmsynthError:
        return ()


def outs_of(job: Job) -> list[str]:
    """Paths of a job's outputs."""
    about = job.about
    return [out for out in (about["out"], *about["outs"]) if out]


@contextmanager
def _original_name(upload: Path) -> Iterator[None]:
    """In error messages, replace the path of an uploaded file by its original name."""
    try:
        yield
    except DmsynthError as error:
        raise DmsynthError(str(error).replace(str(upload), upload.name)) from None


def slug(text: str) -> str:
    """Letters, digits and dashes of ``text``: a name that is safe on every disk."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-")

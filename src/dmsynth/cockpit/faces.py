"""The tab in which recordings become datasets, and datasets become faces."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio

from dmsynth.cockpit.job_panel import JobPanel, begin_job, place
from dmsynth.cockpit.jobs import Job
from dmsynth.cockpit.showing import job_in_html, keep_fresh, picture_in_html, plain, sentences
from dmsynth.cockpit.workspace import Workspace, outs_of
from dmsynth.datasets.dataset import open_dataset
from dmsynth.report.figures import loss_curves
from dmsynth.steering.provenance import consent_of
from dmsynth.support.errors import DmsynthError
from dmsynth.video.pictures import is_picture

_PICTURES = {"contact-sheet.png": "frames", "coverage.png": "coverage", "marginals.png": "distributions"}
_SIZES = {"about 640×480": "", "512×512": "512x512", "640×480": "640x480", "480×640": "480x640", "320×240": "320x240"}
_MODELS = {"SwapWarp": "swapwarp", "the thesis's": "rotation"}
_NOTHING = "nothing"
_NO_DATASET = '<p class="cockpit-note">No dataset yet: bring a recording.</p>'


def tab(workspace: Workspace, page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``; a training that runs, or ran last, is shown when it is opened."""
    gradio.HTML(
        apply_default_css=False,
        value='<p class="cockpit-links"><a href="/record">Record yourself</a> with this machine\'s camera: everything '
        "below is done by itself.</p>",
    )
    gradio.Markdown("**1. Bring** recordings of one person, or one portrait → a dataset.")
    dataset = _bring(_Datasets(workspace), page)
    gradio.Markdown(
        "**2. Train** a dataset in the background → a face; several → a cast. It goes on when this page is closed."
    )
    _train(_Trainings(workspace), page, dataset)


def _bring(datasets: _Datasets, page: gradio.Blocks) -> gradio.Dropdown:
    """Lay out the upper half; returns where a dataset is chosen."""
    panel = JobPanel(datasets.workspace, "import")
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=4):
            files = gradio.File(
                label="Recordings (.mp4, .mov, .mkv) or one portrait", file_count="multiple", height=150,
                elem_id="cockpit-recordings",
            )  # fmt: skip
            with gradio.Row():
                name = gradio.Textbox(
                    label="Name", placeholder="driver-1", max_length=40, min_width=160, elem_id="cockpit-name"
                )
                size = gradio.Dropdown(
                    list(_SIZES), value=next(iter(_SIZES)), label="Size", min_width=160, elem_id="cockpit-size"
                )
            consent = gradio.Textbox(
                label="Consent", placeholder="who may be shown, on what consent", max_length=200,
                elem_id="cockpit-consent",
            )  # fmt: skip
            with gradio.Row():
                bring = gradio.Button("Import", size="md", min_width=90, variant="primary", elem_id="cockpit-import")
                place(*panel.buttons.values())
            place(panel.state)
        with gradio.Column(scale=6):
            dataset = gradio.Dropdown(datasets.names(), value=None, label="Dataset", elem_id="cockpit-dataset")
            about = gradio.Markdown(_NO_DATASET)
            gallery = gradio.Gallery(
                label="Frames, coverage, distributions", show_label=False, columns=3, height=230,
                object_fit="contain", visible=False, elem_id="cockpit-pictures",
            )  # fmt: skip

    panel.connect(bring, datasets.begin, [files, name, size, consent], [dataset], datasets.made)
    panel.find_again(page, done=False)
    page.load(datasets.first, None, dataset)
    dataset.focus(lambda: gradio.update(choices=datasets.names()), None, dataset)
    dataset.change(datasets.opened, dataset, [about, gallery])
    return dataset


def _train(trainings: _Trainings, page: gradio.Blocks, dataset: gradio.Dropdown) -> None:
    """Lay out the lower half."""
    panel = JobPanel(trainings.workspace, "training", trainings.said, choose="Training")
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=4):
            with gradio.Row():
                model = gradio.Dropdown(list(_MODELS), value=next(iter(_MODELS)), label="Model")
                longest = gradio.Number(
                    label="Seconds (0: until no better)", value=0, minimum=0, maximum=1e6, elem_id="cockpit-seconds"
                )
            others = gradio.Dropdown(
                [], value=[], multiselect=True, label="With further datasets: a cast", elem_id="cockpit-others"
            )
            begin = gradio.Dropdown(
                [_NOTHING], value=_NOTHING, label="Begin from: half a minute is enough then", elem_id="cockpit-begin"
            )
            train = gradio.Button("Train", size="md", min_width=90, variant="primary", elem_id="cockpit-train")
            place(panel.which, panel.state)
            with gradio.Row():
                place(*panel.buttons.values())
        with gradio.Column(scale=6):
            preview = gradio.HTML(apply_default_css=False, elem_id="cockpit-preview")
            curves = gradio.HTML(apply_default_css=False, elem_id="cockpit-curves")

    known = trainings.workspace
    keep_fresh(page, {others: known.datasets, begin: lambda: [_NOTHING, *known.trained()]})
    asked = [dataset, model, longest, others, begin]
    panel.connect(train, trainings.begin, asked, [preview, curves], trainings.pictures)
    panel.find_again(page)


@dataclass(frozen=True)
class _Datasets:
    """What the upper half does."""

    workspace: Workspace

    def names(self) -> list[str]:
        return list(self.workspace.datasets())

    def first(self) -> Any:
        names = self.names()
        return gradio.update(choices=names, value=names[0] if names else None)

    def begin(self, files: list[str] | None, name: str, size: str, consent: str) -> Job:
        if not files:
            raise DmsynthError("bring a recording or a portrait first")
        if size not in _SIZES:
            raise DmsynthError(f"{size}: no such size")
        kept = _kept(self.workspace, [Path(file) for file in files])
        with self.workspace.alone():
            out = self.workspace.new("datasets", name or Path(files[0]).stem)
            commands = _import(kept, out, _SIZES[size], consent.strip())
            return begin_job(self.workspace, "import", f"Importing {out.name}", commands, {"out": str(out)})

    def made(self, job: Job | None) -> tuple[Any]:
        """A dataset is chosen when its import is done."""
        if job is None or job.state != "done":
            return (gradio.skip(),)
        return (gradio.update(choices=self.names(), value=Path(outs_of(job)[0]).name),)

    @sentences
    def opened(self, name: str | None) -> tuple[Any, Any]:
        if not name:
            return _NO_DATASET, gradio.update(visible=False)
        known = self.workspace.datasets()
        if name not in known:
            raise DmsynthError(f"{name}: no such dataset")
        pictures = [(known[name] / "info" / file, words) for file, words in _PICTURES.items()]
        there = [(str(file), words) for file, words in pictures if file.is_file()]
        return dataset_in_words(known[name]), gradio.update(value=there, visible=bool(there))


@dataclass(frozen=True)
class _Trainings:
    """What the lower half does."""

    workspace: Workspace

    def begin(
        self, dataset: str | None, model: str, seconds: float | None, others: list[str] | None, begin: str | None
    ) -> Job:
        if model not in _MODELS:
            raise DmsynthError(f"{model}: no such model")
        begin = None if begin == _NOTHING else begin
        return self.workspace.begin_training(dataset, _MODELS[model], seconds, others or (), begin)

    def said(self, job: Job | None) -> str:
        if job is None:
            return '<p class="cockpit-note">No training yet.</p>'
        if job.state != "done":
            return job_in_html(job)
        name = escape(Path(outs_of(job)[0]).name)
        return f'{job_in_html(job)}<p class="cockpit-note">The face <b>{name}</b> can be steered now.</p>'

    def pictures(self, job: Job | None) -> tuple[str, str]:
        """The last preview, and the losses so far."""
        if job is None:
            return "", ""
        run = Path(outs_of(job)[0])
        _draw_losses(run)
        preview = "The same frames each time: sources, targets, sources steered to the targets"
        return (
            picture_in_html(self.workspace, run / "preview.png", preview),
            picture_in_html(self.workspace, run / "losses.png", "Losses: the lower, the better"),
        )


def _kept(workspace: Workspace, files: list[Path]) -> list[Path]:
    """Files that were brought, recordings or one portrait, kept in the workspace."""
    pictures = [file for file in files if is_picture(file)]
    if pictures and len(files) > 1:
        raise DmsynthError("bring either recordings, or one portrait alone")
    return [workspace.take(file, "portrait" if pictures else "recording") for file in files]


def _import(kept: list[Path], out: Path, size: str, consent: str) -> list[list[str]]:
    """The commands that make a dataset, and its pictures, of what was brought and kept."""
    command = ["dataset", "photo" if is_picture(kept[0]) else "recording", str(out), *map(str, kept)]
    command += ["--size", size] if size else []
    command += ["--consent", consent] if consent else []
    return [command, ["dataset", "info", str(out)]]


def _draw_losses(run: Path) -> None:
    """``losses.png`` in a run folder, drawn anew when there are new ones."""
    noted = [table.stat().st_mtime for table in (run / "live.csv", run / "curves.csv") if table.is_file()]
    picture = run / "losses.png"
    if noted and (not picture.is_file() or picture.stat().st_mtime < max(noted)):
        with suppress(OSError, ValueError):  # a line that is being written
            loss_curves(run, picture)


def dataset_in_words(folder: Path) -> str:
    """How many frames of what size, which were left out and why, and on whose consent."""
    dataset = open_dataset(folder)
    width, height = dataset.size
    parts = [f"{len(dataset.split(split))} {split}" for split in ("train", "validation", "test")]
    left_out = dataset.manifest.get("left_out") or {}
    reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items()) or "none"
    space, labels = dataset.about
    values = dataset.controls(space, labels)
    spans = ", ".join(
        f"{c.name} {low:+.0f} to {high:+.0f} {c.unit}"
        for c, low, high in zip(space.controls, values.min(axis=0), values.max(axis=0), strict=True)
    )
    return (
        f"**{plain(folder.name)}**: {len(dataset)} frames of {width}×{height} ({', '.join(parts)}). {spans}.\n\n"
        f"Left out: {plain(reasons)}. Consent: {plain(consent_of(dataset.manifest))}."
    )

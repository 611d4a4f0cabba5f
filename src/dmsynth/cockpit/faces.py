"""The tab in which recordings become datasets, and datasets become faces."""

from __future__ import annotations

from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import gradio

from dmsynth.cockpit.jobs import make_job
from dmsynth.cockpit.showing import TICK, buttons, job_in_html, picture_in_html, plain, sentences, stop_and_go_on
from dmsynth.cockpit.workspace import Workspace, outs_of
from dmsynth.datasets.dataset import open_dataset
from dmsynth.report.figures import loss_curves
from dmsynth.steering.provenance import consent_of
from dmsynth.support.errors import DmsynthError
from dmsynth.video.pictures import is_picture

_PICTURES = {"contact-sheet.png": "frames", "coverage.png": "coverage", "marginals.png": "distributions"}
_SIZES = {"about 320×240": "", "256×256": "256x256", "320×240": "320x240", "240×320": "240x320", "480×368": "480x368"}
_MODELS = {"SwapWarp": "swapwarp", "the thesis's": "rotation"}


def tab(workspace: Workspace, page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``; a training that runs, or ran last, is shown when it is opened."""
    gradio.Markdown("**1. Bring** recordings of one person, or one portrait → a dataset.")
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
                label="Consent",
                placeholder="who may be shown, on what consent",
                max_length=200,
                elem_id="cockpit-consent",
            )
            with gradio.Row():
                bring = gradio.Button("Import", size="md", min_width=90, variant="primary", elem_id="cockpit-import")
                stop_import = gradio.Button(
                    "Stop", size="md", min_width=90, interactive=False, elem_id="cockpit-stop-import"
                )
                resume_import = gradio.Button(
                    "Go on", size="md", min_width=90, interactive=False, elem_id="cockpit-resume-import"
                )
            importing = gradio.HTML(apply_default_css=False)
        with gradio.Column(scale=6):
            dataset = gradio.Dropdown(
                list(workspace.datasets()), value=None, label="Dataset", elem_id="cockpit-dataset"
            )
            about = gradio.Markdown('<p class="cockpit-note">No dataset yet: bring a recording.</p>')
            gallery = gradio.Gallery(
                label="Frames, coverage, distributions", show_label=False, columns=3, height=230,
                object_fit="contain", visible=False, elem_id="cockpit-pictures",
            )  # fmt: skip
    gradio.Markdown("**2. Train** a dataset in the background → a face. It goes on when this page is closed.")
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=4):
            with gradio.Row():
                model = gradio.Dropdown(list(_MODELS), value=next(iter(_MODELS)), label="Model")
                longest = gradio.Number(
                    label="Seconds (0: until no better)", value=0, minimum=0, maximum=1e6,
                    elem_id="cockpit-seconds",
                )  # fmt: skip
            train = gradio.Button("Train", size="md", min_width=90, variant="primary", elem_id="cockpit-train")
            training = gradio.Dropdown(_titles(workspace), value=None, label="Training", elem_id="cockpit-training")
            state = gradio.HTML(apply_default_css=False, value='<p class="cockpit-note">No training yet.</p>')
            with gradio.Row():
                stop = gradio.Button(
                    "Stop", size="md", min_width=90, interactive=False, elem_id="cockpit-stop-training"
                )
                resume = gradio.Button(
                    "Go on", size="md", min_width=90, interactive=False, elem_id="cockpit-resume-training"
                )
        with gradio.Column(scale=6):
            preview = gradio.HTML(apply_default_css=False, elem_id="cockpit-preview")
            curves = gradio.HTML(apply_default_css=False, elem_id="cockpit-curves")
    import_job = gradio.State(None)
    timer, watch = gradio.Timer(TICK, active=False), gradio.Timer(TICK, active=False)

    @sentences
    def imported(files: list[str] | None, name: str, size: str, consent: str) -> tuple[Any, ...]:
        if not files:
            raise DmsynthError("bring a recording or a portrait first")
        if size not in _SIZES:
            raise DmsynthError(f"{size}: no such size")
        kept = _kept(workspace, [Path(file) for file in files])
        with workspace.alone():
            out = workspace.new("datasets", name or Path(files[0]).stem)
            commands = _import(kept, out, _SIZES[size], consent.strip())
            job = make_job(
                workspace.new("jobs", "import"), f"Importing {out.name}", "import", commands, {"out": str(out)}
            )
            job.start()
        return job.folder.name, *looked(job.folder.name)

    def looked(which: str | None) -> tuple[Any, ...]:
        job = workspace.job(which)
        choice: Any = gradio.skip()
        if job is not None and job.state == "done":
            choice = gradio.update(choices=list(workspace.datasets()), value=Path(outs_of(job)[0]).name)
        return (
            gradio.Timer(active=job is not None and job.state == "running"),
            job_in_html(job),
            *buttons(job),
            choice,
        )

    @sentences
    def opened(name: str | None) -> tuple[Any, Any]:
        if not name:
            return '<p class="cockpit-note">No dataset yet: bring a recording.</p>', gradio.update(visible=False)
        known = workspace.datasets()
        if name not in known:
            raise DmsynthError(f"{name}: no such dataset")
        pictures = [(known[name] / "info" / file, words) for file, words in _PICTURES.items()]
        there = [(str(file), words) for file, words in pictures if file.is_file()]
        return dataset_in_words(known[name]), gradio.update(value=there, visible=bool(there))

    @sentences
    def begun(name: str | None, model: str, seconds: float | None) -> tuple[Any, ...]:
        if model not in _MODELS:
            raise DmsynthError(f"{model}: no such model")
        job = workspace.begin_training(name, _MODELS[model], seconds)
        return gradio.update(choices=_titles(workspace), value=job.folder.name), *watched(job.folder.name)

    def watched(which: str | None) -> tuple[Any, ...]:
        job = workspace.job(which)
        if job is None:
            return gradio.Timer(active=False), '<p class="cockpit-note">No training yet.</p>', *buttons(None), "", ""
        out, state = Path(outs_of(job)[0]), job.state
        note = job_in_html(job)
        if state == "done":
            note += f'<p class="cockpit-note">The face <b>{escape(out.name)}</b> can be steered now.</p>'
        _draw_losses(out)
        return (
            gradio.Timer(active=state == "running"),
            note,
            *buttons(job),
            picture_in_html(
                workspace,
                out / "preview.png",
                "The same frames each time: sources, targets, sources steered to the targets",
            ),
            picture_in_html(workspace, out / "losses.png", "Losses: the lower, the better"),
        )

    def listed() -> tuple[Any, ...]:
        trainings, datasets = _titles(workspace), list(workspace.datasets())
        newest = trainings[0][1] if trainings else None
        imports = workspace.jobs("import")
        last = imports[0].folder.name if imports and imports[0].state != "done" else None
        *shown, _ = looked(last)
        return (
            last,
            *shown,
            gradio.update(choices=datasets, value=datasets[0] if datasets else None),
            gradio.update(choices=trainings, value=newest),
            *watched(newest),
        )

    seen = [watch, state, stop, resume, preview, curves]
    brought = [timer, importing, stop_import, resume_import]
    page.load(listed, None, [import_job, *brought, dataset, training, *seen])
    bring.click(imported, [files, name, size, consent], [import_job, *brought, dataset])
    for button, press in zip((stop_import, resume_import), stop_and_go_on(workspace, looked), strict=True):
        button.click(press, import_job, [*brought, dataset])
    timer.tick(looked, import_job, [*brought, dataset])
    dataset.focus(lambda: gradio.update(choices=list(workspace.datasets())), None, dataset)
    dataset.change(opened, dataset, [about, gallery])
    train.click(begun, [dataset, model, longest], [training, *seen])
    training.focus(lambda: gradio.update(choices=_titles(workspace)), None, training)
    training.input(watched, training, seen)
    for button, press in zip((stop, resume), stop_and_go_on(workspace, watched), strict=True):
        button.click(press, training, seen)
    watch.tick(watched, training, seen)


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


def _titles(workspace: Workspace) -> list[tuple[str, str]]:
    """Trainings for a dropdown, the newest first: the face's name, and the job's folder."""
    return [(Path(outs_of(job)[0]).name, job.folder.name) for job in workspace.jobs("training")]

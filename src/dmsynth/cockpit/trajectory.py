"""The tab in which a motion is drawn: as a table of moves and holds, or with the pad, and rendered or kept."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio
import numpy as np
import pandas as pd

from dmsynth.cockpit.jobs import Job, make_job
from dmsynth.cockpit.showing import TICK, job_in_html, plain, sentences
from dmsynth.cockpit.workspace import Workspace, outs_of, slug
from dmsynth.controls import CONTROL_SPACES, ControlSpace
from dmsynth.motion.trajectory import Motion, Trajectory, as_sweeps, in_words, parse_motions
from dmsynth.report.figures import motion_curves
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import json_of
from dmsynth.validation.scenario_files import read_scenario, write_scenario

RATE = 25.0
_BEGIN = [["move", None, 25, None, 1.0], ["hold", None, None, None, 0.5], ["move", -8, -25, None, 1.5],
          ["move", 0, 0, 0, 1.0]]  # fmt: skip
_HEADERS = ["motion", "pitch", "yaw", "roll", "seconds"]


def tab(workspace: Workspace, page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``."""
    job = gradio.State(None)
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=5):
            faces = list(workspace.faces())
            face = gradio.Dropdown(faces, value=faces[0], label="Face")
            moves = gradio.Dataframe(
                value=_BEGIN, headers=_HEADERS, datatype=["str", "number", "number", "number", "number"],
                label="Moves: move (as a head does), sweep (at constant speed) or hold; an empty cell keeps its value",
                row_count=4, interactive=True, elem_id="cockpit-moves",
            )  # fmt: skip
            with gradio.Row():
                draw = gradio.Button(
                    "Show and play", size="md", min_width=90, variant="primary", elem_id="cockpit-draw"
                )
                record = gradio.Button("● Record the pad", size="md", min_width=90, elem_id="cockpit-record")
                stop = gradio.Button("■ Stop recording", size="md", min_width=90, elem_id="cockpit-stop")
            with gradio.Row():
                known = gradio.Dropdown(
                    list(workspace.scenarios()), value=None, label="Load a scenario", elem_id="cockpit-known"
                )
                own = gradio.File(
                    label="or a scenario file",
                    file_types=[".yaml", ".yml"],
                    height=120,
                    elem_id="cockpit-scenario-file",
                )
            with gradio.Row():
                name = gradio.Textbox(label="Name", value="my-motion", max_length=40)
                save = gradio.Button("Save as a scenario", size="md", min_width=90)
                render = gradio.Button("Render the video", size="md", min_width=90, elem_id="cockpit-render")
                cancel = gradio.Button("Cancel", size="md", min_width=90, visible=False)
            said = gradio.Markdown()
        with gradio.Column(scale=6):
            panel = f'<div id="cockpit-trajectory" class="cockpit-panel" data-face="{escape(faces[0])}"></div>'
            gradio.HTML(apply_default_css=False, value=panel)
            gradio.Markdown("The motion. Grey: outside the face's coverage.")
            curve = gradio.Image(label="The motion", show_label=False, buttons=[], type="filepath", height=270)
    status = gradio.HTML(apply_default_css=False)
    with gradio.Row():
        video = gradio.Video(label="Rendered", visible=False)
        files = gradio.File(label="Video, table and provenance", visible=False, file_count="multiple")
    played, taken = gradio.Textbox(visible=False), gradio.Textbox(visible=False)
    timer = gradio.Timer(TICK, active=False)

    @sentences
    def shown(face: str, rows: pd.DataFrame) -> tuple[str, str]:
        steerable = load_face(workspace.face(face))
        motion = _motion(steerable, motions_of(rows))
        return _curve(workspace, steerable, motion), json.dumps({"rows": motion.values.tolist(), "rate": RATE})

    @sentences
    def recorded(text: str) -> list[list[Any]]:
        try:
            taken = np.array(json_of(text or "[]", "the recording", "record it anew"), dtype=float)
        except (ValueError, TypeError, OverflowError):
            raise DmsynthError("this is no recording of the pad") from None
        if taken.size < 2:
            raise DmsynthError("nothing was recorded: press Record, drag on the pad, press Stop")
        if taken.ndim != 2 or taken.shape[1] != 4:
            raise DmsynthError("only a face that turns its head can be recorded: choose one")
        motion = Trajectory(("pitch", "yaw", "roll"), taken[:, 0] - taken[0, 0], taken[:, 1:4])
        return rows_of(as_sweeps(motion))

    @sentences
    def loaded(name: str | None) -> tuple[Any, Any]:
        if not name:
            return gradio.skip(), gradio.skip()
        scenarios = workspace.scenarios()
        if name not in scenarios:
            raise DmsynthError(f"{name}: no such scenario")
        scenario = read_scenario(scenarios[name])
        return rows_of(scenario.motions()), f"**{plain(scenario.title)}** — {plain(scenario.source)}"

    @sentences
    def brought(path: str | None) -> tuple[Any, Any, Any]:
        if not path:
            return gradio.skip(), gradio.skip(), gradio.skip()
        kept = workspace.take(Path(path), "scenario")
        return *loaded(kept.stem), gradio.update(choices=list(workspace.scenarios()), value=kept.stem)

    @sentences
    def saved(name: str, rows: pd.DataFrame) -> tuple[str, Any]:
        stem = _named(name)
        write_scenario(workspace.scenario_file(stem), name.strip(), motions_of(rows), RATE)
        return f"Saved as the scenario **{stem}**.", gradio.update(choices=list(workspace.scenarios()))

    @sentences
    def begun(face: str, name: str, rows: pd.DataFrame) -> tuple[Any, ...]:
        motions = motions_of(rows)
        _motion(load_face(workspace.face(face)), motions)  # what is wrong shall be said now
        command = ["steer", str(workspace.face(face)), "--trajectory", in_words(motions), "--frame-rate", f"{RATE:g}"]
        with workspace.alone():
            out = workspace.new("videos", _named(name), ".mp4")
            command += ["--out", str(out)]
            title = f"Rendering {out.stem}"
            job = make_job(workspace.new("jobs", "render"), title, "render", [command], {"out": str(out)})
            job.start()
        shut = gradio.update(visible=False)
        return job, gradio.Timer(active=True), job_in_html(job), gradio.update(visible=True), shut, shut

    def looked(job: Job | None) -> tuple[Any, ...]:
        running = job is not None and job.state == "running"
        if job is None or job.state != "done":
            skip = gradio.skip()
            return gradio.Timer(active=running), job_in_html(job), gradio.update(visible=running), skip, skip
        out = Path(outs_of(job)[0])
        kept = [str(path) for path in (out, out.with_suffix(".parquet"), out.with_suffix(".provenance.json"))]
        shown = gradio.update(value=str(out), visible=True)
        return (
            gradio.Timer(active=False),
            job_in_html(job),
            gradio.update(visible=False),
            shown,
            gradio.update(value=kept, visible=True),
        )

    def cancelled(job: Job | None) -> str:
        if job is not None:
            job.stop()
        return job_in_html(job)

    def listed() -> tuple[Any, Any]:
        return gradio.update(choices=list(workspace.faces())), gradio.update(choices=list(workspace.scenarios()))

    page.load(listed, None, [face, known])
    face.focus(lambda: gradio.update(choices=list(workspace.faces())), None, face)
    face.change(None, face, None, js="(name) => { window.dmsynthCockpit.show(name); }")
    draw.click(shown, [face, moves], [curve, played]).then(
        None, played, None, js="(text) => { window.dmsynthCockpit.play(text); }"
    )
    record.click(None, None, None, js="() => { window.dmsynthCockpit.record(); }")
    stop.click(recorded, taken, moves, js="() => [window.dmsynthCockpit.recorded()]")
    known.input(loaded, known, [moves, said])
    own.upload(brought, own, [moves, said, known])
    save.click(saved, [name, moves], [said, known])
    render.click(begun, [face, name, moves], [job, timer, status, cancel, video, files])
    cancel.click(cancelled, job, status)
    timer.tick(looked, job, [timer, status, cancel, video, files])


def motions_of(rows: pd.DataFrame) -> list[Motion]:
    """The table as motions; rows without a motion are left out. ``DmsynthError`` naming the row that is none."""
    result = []
    for number, row in enumerate(rows.itertuples(index=False), 1):
        kind = str(row[0] or "").strip().lower()
        if not kind or kind == "nan":
            continue
        try:
            pose = {name: float(value) for name, value in zip(_HEADERS[1:4], row[1:4], strict=True) if _given(value)}
            seconds = float(row[4])
        except (TypeError, ValueError):
            raise DmsynthError(f"row {number}: angles and seconds are numbers") from None
        if not np.isfinite([seconds, *pose.values()]).all():
            raise DmsynthError(f"row {number}: give the seconds that it lasts")
        result.append(Motion(kind, seconds, {} if kind == "hold" else pose))
    if not result:
        raise DmsynthError("the table is empty: write a move, such as move, yaw 20, 1 second")
    return result


def _given(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and np.isnan(value))


def rows_of(motions: list[Motion]) -> list[list[Any]]:
    """Motions as rows of the table."""
    return [[m.kind, *(m.pose.get(name) for name in _HEADERS[1:4]), round(m.seconds, 3)] for m in motions]


def _motion(face: SteerableFace, motions: list[Motion]) -> Trajectory:
    """The motions frame by frame; ``DmsynthError`` for what a face cannot be asked for."""
    space: ControlSpace = face.trained.space
    motion = parse_motions(in_words(motions), space.names, RATE)
    CONTROL_SPACES[space.name].check(motion.in_space(space).values)
    return motion


def _named(name: str) -> str:
    stem = slug(name)
    if not stem:
        raise DmsynthError("give it a name of letters and digits")
    return stem


def _curve(workspace: Workspace, face: SteerableFace, motion: Trajectory) -> str:
    space: ControlSpace = face.trained.space
    values = motion.in_space(space).values
    covered = np.ones(len(values), bool)
    covered[face.outside_coverage(values)] = False
    path = workspace.root / "uploads" / ".gradio" / f"curve-{abs(hash(values.tobytes()))}.png"
    motion_curves(motion.times, values, covered, space, path)
    return str(path)

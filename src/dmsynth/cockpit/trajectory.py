"""The tab in which a motion is drawn: as a table of moves and holds, or with the pad, and rendered or kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio
import numpy as np
import pandas as pd

from dmsynth.cockpit.job_panel import JobPanel, begin_job, place
from dmsynth.cockpit.jobs import Job
from dmsynth.cockpit.showing import keep_fresh, plain, sentences
from dmsynth.cockpit.workspace import Workspace, outs_of, slug
from dmsynth.controls import CONTROL_SPACES, HEAD, ControlSpace
from dmsynth.motion.driving import from_motions
from dmsynth.motion.trajectory import Motion, Trajectory, as_sweeps, in_words
from dmsynth.report.figures import motion_curves
from dmsynth.steering import SteerableFace, load_face
from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import json_of
from dmsynth.validation.scenario_files import read_scenario, write_scenario

RATE = 25.0
_BEGIN = [["move", None, 25, None, 1.0], ["hold", None, None, None, 0.5], ["move", -8, -25, None, 1.5],
          ["move", 0, 0, 0, 1.0]]  # fmt: skip
_HEADERS = ["motion", *HEAD, "seconds"]


def tab(workspace: Workspace, page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``."""
    panel = JobPanel(workspace, "render", cancel=True)
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
                    label="or a scenario file", file_types=[".yaml", ".yml"], height=120,
                    elem_id="cockpit-scenario-file",
                )  # fmt: skip
            with gradio.Row():
                name = gradio.Textbox(label="Name", value="my-motion", max_length=40)
                save = gradio.Button("Save as a scenario", size="md", min_width=90)
                render = gradio.Button("Render the video", size="md", min_width=90, elem_id="cockpit-render")
                place(*panel.buttons.values())
            said = gradio.Markdown()
        with gradio.Column(scale=6):
            steerer = f'<div id="cockpit-trajectory" class="cockpit-panel" data-face="{escape(faces[0])}"></div>'
            gradio.HTML(apply_default_css=False, value=steerer)
            gradio.Markdown("The motion. Grey: outside the face's coverage.")
            curve = gradio.Image(label="The motion", show_label=False, buttons=[], type="filepath", height=270)
    place(panel.state)
    with gradio.Row():
        video = gradio.Video(label="Rendered", visible=False)
        files = gradio.File(label="Video, table and provenance", visible=False, file_count="multiple")
    played, taken = gradio.Textbox(visible=False), gradio.Textbox(visible=False)

    motions = _Motions(workspace)
    keep_fresh(page, {face: workspace.faces, known: workspace.scenarios})
    face.change(None, face, None, js="(name) => { window.dmsynthCockpit.show(name); }")
    draw.click(motions.drawn, [face, moves], [curve, played]).then(
        None, played, None, js="(text) => { window.dmsynthCockpit.play(text); }"
    )
    record.click(None, None, None, js="() => { window.dmsynthCockpit.record(); }")
    stop.click(motions.recorded, taken, moves, js="() => [window.dmsynthCockpit.recorded()]")
    known.input(motions.loaded, known, [moves, said])
    own.upload(motions.brought, own, [moves, said, known])
    save.click(motions.saved, [name, moves], [said, known])
    panel.connect(render, motions.render, [face, name, moves], [video, files], _rendered)


@dataclass(frozen=True)
class _Motions:
    """What the tab does."""

    workspace: Workspace

    @sentences
    def drawn(self, face: str, rows: pd.DataFrame) -> tuple[str, str]:
        steerable = load_face(self.workspace.face(face))
        motion = _motion(steerable, motions_of(rows))
        return _curve(self.workspace, steerable, motion), json.dumps({"rows": motion.values.tolist(), "rate": RATE})

    @sentences
    def recorded(self, text: str) -> list[list[Any]]:
        try:
            taken = np.array(json_of(text or "[]", "the recording", "record it anew"), dtype=float)
        except (ValueError, TypeError, OverflowError):
            raise DmsynthError("this is no recording of the pad") from None
        if taken.size < 2:
            raise DmsynthError("nothing was recorded: press Record, drag on the pad, press Stop")
        if taken.ndim != 2 or taken.shape[1] != 4:
            raise DmsynthError("only a face that turns its head can be recorded: choose one")
        motion = Trajectory(HEAD, taken[:, 0] - taken[0, 0], taken[:, 1:4])
        return rows_of(as_sweeps(motion))

    @sentences
    def loaded(self, name: str | None) -> tuple[Any, Any]:
        if not name:
            return gradio.skip(), gradio.skip()
        scenarios = self.workspace.scenarios()
        if name not in scenarios:
            raise DmsynthError(f"{name}: no such scenario")
        scenario = read_scenario(scenarios[name])
        if scenario.moves_eyes:
            raise DmsynthError(f"{name}: moves the eyes, which this table does not show; play it under Validate")
        return rows_of(scenario.motions()), f"**{plain(scenario.title)}** — {plain(scenario.source)}"

    @sentences
    def brought(self, path: str | None) -> tuple[Any, Any, Any]:
        if not path:
            return gradio.skip(), gradio.skip(), gradio.skip()
        kept = self.workspace.take(Path(path), "scenario")
        return *self.loaded(kept.stem), gradio.update(choices=list(self.workspace.scenarios()), value=kept.stem)

    @sentences
    def saved(self, name: str, rows: pd.DataFrame) -> tuple[str, Any]:
        stem = _named(name)
        write_scenario(self.workspace.scenario_file(stem), name.strip(), motions_of(rows), RATE)
        return f"Saved as the scenario **{stem}**.", gradio.update(choices=list(self.workspace.scenarios()))

    def render(self, face: str, name: str, rows: pd.DataFrame) -> Job:
        motions, file = motions_of(rows), self.workspace.face(face)
        _motion(load_face(file), motions)  # what is wrong shall be said now
        command = ["steer", str(file), "--trajectory", in_words(motions), "--frame-rate", f"{RATE:g}"]
        with self.workspace.alone():
            out = self.workspace.new("videos", _named(name), ".mp4")
            command += ["--out", str(out)]
            return begin_job(self.workspace, "render", f"Rendering {out.stem}", [command], {"out": str(out)})


def _rendered(job: Job | None) -> tuple[Any, Any]:
    """The video and its files, once they are there."""
    if job is None or job.state != "done":
        return gradio.update(visible=False), gradio.update(visible=False)
    out = Path(outs_of(job)[0])
    files = [str(path) for path in (out, out.with_suffix(".parquet"), out.with_suffix(".provenance.json"))]
    return gradio.update(value=str(out), visible=True), gradio.update(value=files, visible=True)


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
    motion = from_motions(in_words(motions), space, RATE)
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

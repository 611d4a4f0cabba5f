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
from dmsynth.cockpit.live import LiveServer
from dmsynth.cockpit.showing import keep_fresh, plain, sentences
from dmsynth.cockpit.workspace import Workspace, outs_of, slug
from dmsynth.controls import CONTROL_SPACES, HEAD, ControlSpace
from dmsynth.motion.trajectory import Motion, Trajectory, as_settings, as_sweeps, from_pad, in_words, settings
from dmsynth.report.figures import motion_curves
from dmsynth.steering import Command, FaceSpec, SteerableFace, commanded
from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import json_of
from dmsynth.validation.scenario_files import read_scenario, write_scenario

RATE = 25.0
_BEGIN = [["move", None, 25, None, "", 1.0], ["hold", None, None, None, "", 0.5], ["move", -8, -25, None, "", 1.5],
          ["move", 0, 0, 0, "", 1.0]]  # fmt: skip
_HEADERS = ["motion", *HEAD, "eyes", "seconds"]
_LABEL = (
    "Moves: move (as a head does), sweep (at constant speed) or hold; an empty cell keeps its value. Eyes such as "
    "gaze_yaw=-20 eye_opening=0.2, or look_yaw=40 head_share=0.6"
)


def tab(live_server: LiveServer, page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``."""
    workspace = live_server.workspace
    panel = JobPanel(workspace, "render", cancel=True)
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=5):
            faces = list(workspace.faces())
            face = gradio.Dropdown(faces, value=faces[0], label="Face", elem_id="cockpit-motion-face")
            moves = gradio.Dataframe(
                value=_BEGIN, headers=_HEADERS, datatype=["str", "number", "number", "number", "str", "number"],
                label=_LABEL, column_widths=["16%", "13%", "13%", "13%", "30%", "15%"], wrap=True,
                row_count=4, interactive=True, elem_id="cockpit-moves",
            )  # fmt: skip
            with gradio.Row():
                natural = gradio.Checkbox(
                    label="Natural eyes", info="blinks and glances, where the moves say nothing",
                    elem_id="cockpit-natural",
                )  # fmt: skip
                seed = gradio.Number(label="Their seed", value=1, minimum=0, maximum=1e9, precision=0, min_width=90)
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

    motions = _Motions(live_server)
    asked = [face, moves, natural, seed]
    keep_fresh(page, {face: workspace.faces, known: workspace.scenarios})
    face.change(None, face, None, js="(name) => { window.dmsynthCockpit.show(name); }")
    draw.click(motions.drawn, asked, [curve, played]).then(
        None, played, None, js="(text) => { window.dmsynthCockpit.play(text); }"
    )
    record.click(None, None, None, js="() => { window.dmsynthCockpit.record(); }")
    stop.click(motions.recorded, [taken, face], moves, js="(_, face) => [window.dmsynthCockpit.recorded(), face]")
    known.input(motions.loaded, known, [moves, said])
    own.upload(motions.brought, own, [moves, said, known])
    save.click(motions.saved, [name, moves], [said, known])
    panel.connect(render, motions.render, [name, *asked], [video, files], _rendered)


@dataclass(frozen=True)
class _Motions:
    """What the tab does."""

    live_server: LiveServer

    @property
    def workspace(self) -> Workspace:
        return self.live_server.workspace

    @sentences
    def drawn(self, face: str, rows: pd.DataFrame, natural: bool, seed: float | None) -> tuple[str, str]:
        steerable = self.live_server.face(face).face
        motion = self._motion(face, _command(rows, natural, seed))
        return _curve(self.workspace, steerable, motion), json.dumps({"rows": motion.values.tolist(), "rate": RATE})

    def _motion(self, face: str, command: Command) -> Trajectory:
        """The face's controls frame by frame; ``DmsynthError`` for what it cannot be asked for."""
        steerable, spec = self.live_server.face(face).face, FaceSpec.of(self.workspace.face(face))
        space: ControlSpace = steerable.trained.space
        motion = commanded(steerable, spec, command).in_space(space)
        CONTROL_SPACES[space.name].check(motion.values)
        return motion

    @sentences
    def recorded(self, text: str, face: str) -> list[list[Any]]:
        try:
            taken = np.array(json_of(text or "[]", "the recording", "record it anew"), dtype=float)
        except (ValueError, TypeError, OverflowError):
            raise DmsynthError("this is no recording of the pad") from None
        space = self.live_server.face(face).face.trained.space
        if not space.turns_head:
            raise DmsynthError("only a face that turns its head can be recorded: choose one")
        return rows_of(as_sweeps(from_pad(taken, space)))

    @sentences
    def loaded(self, name: str | None) -> tuple[Any, Any]:
        if not name:
            return gradio.skip(), gradio.skip()
        scenarios = self.workspace.scenarios()
        if name not in scenarios:
            raise DmsynthError(f"{name}: no such scenario")
        scenario = read_scenario(scenarios[name])
        added = scenario.eyes is not None or scenario.talking is not None
        without = ". Here without its natural eyes and talking, which Validate plays" if added else ""
        return rows_of(scenario.motions()), f"**{plain(scenario.title)}** — {plain(scenario.source)}{without}"

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

    def render(self, name: str, face: str, rows: pd.DataFrame, natural: bool, seed: float | None) -> Job:
        asked, spec = _command(rows, natural, seed), FaceSpec.of(self.workspace.face(face))
        self._motion(face, asked)  # what is wrong shall be said now
        command = ["steer", str(spec.where), "--trajectory", asked.trajectory, "--frame-rate", f"{RATE:g}"]
        command += ["--renderer", spec.kind]
        command += [] if asked.natural_eyes is None else ["--natural-eyes", str(asked.natural_eyes)]
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
    """The table as motions; rows without a motion are left out. Eyes are in words (``motion.trajectory.settings``).
    ``DmsynthError`` naming the row that is none."""
    result = []
    for number, row in enumerate(rows.itertuples(index=False), 1):
        kind = str(row[0] or "").strip().lower()
        if not kind or kind == "nan":
            continue
        try:
            pose = {name: float(value) for name, value in zip(HEAD, row[1:4], strict=True) if _given(value)}
            seconds = float(row[5])
        except (TypeError, ValueError):
            raise DmsynthError(f"row {number}: angles and seconds are numbers") from None
        try:
            pose |= settings(str(row[4])) if _given(row[4]) else {}
        except DmsynthError as error:
            raise DmsynthError(f"row {number}: {error}") from None
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
    return [
        [
            m.kind,
            *(m.pose.get(name) for name in HEAD),
            as_settings({name: value for name, value in m.pose.items() if name not in HEAD}),
            round(m.seconds, 3),
        ]
        for m in motions
    ]


def _command(rows: pd.DataFrame, natural: bool, seed: float | None) -> Command:
    """What the table and the choice of ``natural`` eyes ask for."""
    return Command(in_words(motions_of(rows)), RATE, natural_eyes=int(seed or 0) if natural else None)


def _named(name: str) -> str:
    stem = slug(name)
    if not stem:
        raise DmsynthError("give it a name of letters and digits")
    return stem


def _curve(workspace: Workspace, face: SteerableFace, motion: Trajectory) -> str:
    space: ControlSpace = face.trained.space
    values = motion.values
    covered = np.ones(len(values), bool)
    covered[face.outside_coverage(values)] = False
    path = workspace.root / "uploads" / ".gradio" / f"curve-{abs(hash(values.tobytes()))}.png"
    motion_curves(motion.times, values, covered, space, path)
    return str(path)

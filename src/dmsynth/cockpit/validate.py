"""The tab in which a DMS is put before scenarios, and two versions of it are compared."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio
import pandas as pd
import yaml

from dmsynth.cockpit.job_panel import JobPanel, begin_job, place
from dmsynth.cockpit.jobs import Job
from dmsynth.cockpit.showing import job_in_html, keep_fresh, plain, sentences
from dmsynth.cockpit.workspace import Workspace, outs_of, slug
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import write_text
from dmsynth.trackers.openpilot import is_at_hand
from dmsynth.validation.compare import compare, read_results

_NO_VALIDATION = '<p class="cockpit-note">Choose scenarios and a DMS, then run.</p>'
_NO_RESULT = '<p class="cockpit-note">No result chosen.</p>'


def tab(workspace: Workspace, registered: dict[str, str], page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``. ``registered``: DMSs by name, command lines that whoever started the cockpit
    named; a page itself runs nobody's programs."""
    _validate(_Validations(workspace, registered), page)
    gradio.Markdown("**Compare** version A of a DMS with version B on the same scenarios.")
    with gradio.Row():
        a = gradio.Dropdown(list(workspace.results()), value=None, label="A")
        b = gradio.Dropdown(list(workspace.results()), value=None, label="B")
        against = gradio.Button("Compare", size="md", min_width=90, elem_id="cockpit-compare")
    words = gradio.Markdown()
    table = gradio.Dataframe(visible=False, interactive=False, wrap=True)

    keep_fresh(page, {a: workspace.results, b: workspace.results})
    against.click(sentences(partial(_compared, workspace)), [a, b], [words, table])


def _validate(validations: _Validations, page: gradio.Blocks) -> None:
    """Lay out how a DMS is validated, and its report read."""
    workspace = validations.workspace
    panel = JobPanel(workspace, "validation", lambda job: job_in_html(job) or _NO_VALIDATION)
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=4):
            groups = gradio.Dropdown(["all", *workspace.groups()], value=None, label="Choose a group of scenarios")
            scenarios = gradio.Dropdown(
                list(workspace.scenarios()), value=[], multiselect=True, label="Scenarios", elem_id="cockpit-scenarios"
            )
            dmss = gradio.CheckboxGroup(validations.dmss(), value=["reference"], label="DMS under test")
            faces = list(workspace.faces())
            face = gradio.Dropdown(
                faces, value=[faces[0]], multiselect=True, label="Driver; several are a cast", elem_id="cockpit-driver"
            )
            with gradio.Row():
                run = gradio.Button("Run", size="md", min_width=90, variant="primary", elem_id="cockpit-run")
                place(*panel.buttons.values())
            place(panel.state)
        with gradio.Column(scale=7):
            with gradio.Row():
                result = gradio.Dropdown(
                    list(workspace.results()), value=None, label="Result", elem_id="cockpit-result"
                )
                download = gradio.File(label="Everything, with the ground truth (.zip)", visible=False, height=120)
            report = gradio.HTML(_NO_RESULT, apply_default_css=False, elem_id="cockpit-report")

    keep_fresh(page, {scenarios: workspace.scenarios, face: workspace.faces, result: workspace.results})
    groups.input(validations.in_group, groups, scenarios)
    panel.connect(run, validations.begin, [scenarios, dmss, face], [result], validations.result)
    panel.find_again(page)
    result.change(validations.report, result, [report, download])


@dataclass(frozen=True)
class _Validations:
    """What the upper half does."""

    workspace: Workspace
    registered: dict[str, str]

    def dmss(self) -> list[str]:
        """What can be put to the test: what comes along and can run here, and what was named at the start."""
        return ["reference", *(["openpilot"] if is_at_hand() else []), *self.registered]

    def in_group(self, group: str | None) -> Any:
        if not group:
            return gradio.skip()
        return list(self.workspace.scenarios()) if group == "all" else self.workspace.groups().get(group, [])

    def begin(self, names: list[str], dmss: list[str], faces: list[str]) -> Job:
        known = self.workspace.scenarios()
        if not names or not dmss or not faces:
            raise DmsynthError("choose at least one scenario, one DMS and one driver")
        if set(names) - set(known) or set(dmss) - set(self.dmss()):
            raise DmsynthError("a scenario or DMS is not here any more; choose again")
        drivers = [str(self.workspace.face(face)) for face in faces]
        asked = ["validate", *(str(known[name]) for name in names)]
        videos = str(self.workspace.root / "videos" / "scenarios")
        commands, outs = [], []
        title = f"Validating {', '.join(dmss)} on {len(names)} scenario{'s' if len(names) > 1 else ''}"
        with self.workspace.alone():
            for dms in dmss:
                out = self.workspace.new("results", f"{dms}-{len(names)}-scenarios")
                out.mkdir()  # the name is taken
                outs.append(str(out))
                who = ["--face", drivers[0]] if len(drivers) == 1 else ["--cast", str(_cast_file(out, faces, drivers))]
                dms = self.registered.get(dms, dms)
                commands.append([*asked, *who, "--out", str(out), "--dms", dms, "--videos", videos])
            return begin_job(self.workspace, "validation", title, commands, {"outs": outs})

    def result(self, job: Job | None) -> tuple[Any]:
        """A result is chosen when its validation is done."""
        if job is None or job.state != "done":
            return (gradio.skip(),)
        return (gradio.update(choices=list(self.workspace.results()), value=Path(outs_of(job)[-1]).name),)

    @sentences
    def report(self, name: str | None) -> tuple[Any, Any]:
        if not name:
            return _NO_RESULT, gradio.update(visible=False)
        folder = _result(self.workspace, name)
        return _report_in_html(name), gradio.update(value=_packed(self.workspace, folder), visible=True)


def _cast_file(folder: Path, names: list[str], drivers: list[str]) -> Path:
    """A cast of some of the workspace's faces, written to a result's folder."""
    persons: dict[str, str] = {}
    for name, driver in zip(names, drivers, strict=True):
        wish = slug(name.rpartition("#")[2].removeprefix("posed:")) or "driver"
        free = (f"{wish[:36]}{f'-{n}' if n > 1 else ''}" for n in itertools.count(1))
        persons[next(each for each in free if each not in persons)] = driver
    path = folder / "cast.yaml"
    write_text(path, yaml.safe_dump({"persons": persons}, sort_keys=False))
    return path


def _report_in_html(name: str) -> str:
    """A result's report in a frame, and what can be downloaded."""
    address = f"/files/results/{quote(name)}"
    links = (
        f'<a href="{address}/{file}" download="{escape(name)}{Path(file).suffix}">{words}</a>'
        for file, words in (("report.html", "the report"), ("junit.xml", "JUnit"), ("results.json", "results"))
    )
    return (
        f'<p class="cockpit-links">Download {" · ".join(links)}</p>'
        f'<iframe class="cockpit-report" sandbox="allow-popups" title="Report of {escape(name)}" '
        f'src="{address}/report.html"></iframe>'
    )


def _compared(workspace: Workspace, first: str | None, second: str | None) -> tuple[Any, Any]:
    """Two results against each other: in sentences, and as a table."""
    if not first or not second:
        raise DmsynthError("choose two results, A and B")
    both = compare(read_results(_result(workspace, first)), read_results(_result(workspace, second)))
    rows = [
        {
            "figure": row.metric + (f" ({row.unit.strip()})" if row.unit else ""),
            "n": row.scenarios,
            "A": f"{row.a:.2f}",
            "B": f"{row.b:.2f}",
            "B − A": f"{row.difference:+.2f}",
            "95 % interval": "–" if row.interval is None else f"{row.interval[0]:+.2f} … {row.interval[1]:+.2f}",
            "p, corrected": f"{row.p_corrected:.4f}",
            "B is": row.verdict,
        }
        for row in both.differences
    ]
    said = [both.in_words(), *(row.in_words() for row in both.differences)]
    text = f"A: {plain(both.a)}  \nB: {plain(both.b)}\n\n" + "\n".join(f"- {plain(each)}" for each in said)
    return text, gradio.update(value=pd.DataFrame(rows), visible=bool(rows))


def _result(workspace: Workspace, name: str) -> Path:
    known = workspace.results()
    if name not in known:
        raise DmsynthError(f"{name}: no such result")
    return known[name]


def _packed(workspace: Workspace, folder: Path) -> str:
    """A result as one archive, without the videos."""
    base = workspace.root / "uploads" / ".gradio" / folder.name
    base.parent.mkdir(parents=True, exist_ok=True)
    return shutil.make_archive(str(base), "zip", folder)

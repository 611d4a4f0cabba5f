"""The tab in which a DMS is put before scenarios, and two versions of it are compared."""

from __future__ import annotations

import shutil
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio
import pandas as pd

from dmsynth.cockpit.jobs import make_job
from dmsynth.cockpit.showing import TICK, buttons, job_in_html, plain, sentences, stop_and_go_on
from dmsynth.cockpit.workspace import Workspace, outs_of
from dmsynth.support.errors import DmsynthError
from dmsynth.trackers.openpilot import is_at_hand
from dmsynth.validation.compare import compare, read_results


def tab(workspace: Workspace, registered: dict[str, str], page: gradio.Blocks) -> None:
    """Lay out the tab of a ``page``. ``registered``: DMSs by name, command lines that whoever started the cockpit
    named; a page itself runs nobody's programs."""
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=4):
            groups = gradio.Dropdown(["all", *workspace.groups()], value=None, label="Choose a group of scenarios")
            scenarios = gradio.Dropdown(
                list(workspace.scenarios()), value=[], multiselect=True, label="Scenarios", elem_id="cockpit-scenarios"
            )
            dmss = gradio.CheckboxGroup(_dmss(registered), value=["reference"], label="DMS under test")
            faces = list(workspace.faces())
            face = gradio.Dropdown(faces, value=faces[0], label="Driver")
            with gradio.Row():
                run = gradio.Button("Run", size="md", min_width=90, variant="primary", elem_id="cockpit-run")
                stop = gradio.Button("Stop", size="md", min_width=90, interactive=False)
                resume = gradio.Button("Go on", size="md", min_width=90, interactive=False)
            status = gradio.HTML(
                apply_default_css=False, value='<p class="cockpit-note">Choose scenarios and a DMS, then run.</p>'
            )
        with gradio.Column(scale=7):
            with gradio.Row():
                result = gradio.Dropdown(
                    list(workspace.results()), value=None, label="Result", elem_id="cockpit-result"
                )
                download = gradio.File(label="Everything, with the ground truth (.zip)", visible=False, height=120)
            report = gradio.HTML(
                apply_default_css=False, value='<p class="cockpit-note">No result chosen.</p>', elem_id="cockpit-report"
            )
    gradio.Markdown("**Compare** version A of a DMS with version B on the same scenarios.")
    with gradio.Row():
        a = gradio.Dropdown(list(workspace.results()), value=None, label="A")
        b = gradio.Dropdown(list(workspace.results()), value=None, label="B")
        against = gradio.Button("Compare", size="md", min_width=90, elem_id="cockpit-compare")
    words = gradio.Markdown()
    table = gradio.Dataframe(visible=False, interactive=False, wrap=True)
    which, timer = gradio.State(None), gradio.Timer(TICK, active=False)

    @sentences
    def begun(names: list[str], chosen: list[str], face: str) -> tuple[Any, ...]:
        known, offered = workspace.scenarios(), dict.fromkeys(_dmss(registered))
        if not names or not chosen:
            raise DmsynthError("choose at least one scenario and one DMS")
        if set(names) - set(known) or set(chosen) - set(offered):
            raise DmsynthError("a scenario or DMS is not here any more; choose again")
        driver = str(workspace.face(face))
        commands, outs = [], []
        title = f"Validating {', '.join(chosen)} on {len(names)} scenario{'s' if len(names) > 1 else ''}"
        with workspace.alone():
            for dms in chosen:
                out = workspace.new("results", f"{dms}-{len(names)}-scenarios")
                command = ["validate", *(str(known[name]) for name in names), "--face", driver, "--out", str(out)]
                command += ["--dms", registered.get(dms, dms), "--videos", str(workspace.root / "videos" / "scenarios")]
                commands.append(command)
                out.mkdir()  # the name is taken
                outs.append(str(out))
            job = make_job(workspace.new("jobs", "validation"), title, "validation", commands, {"outs": outs})
            job.start()
        return job.folder.name, *watched(job.folder.name)

    def watched(name: str | None) -> tuple[Any, ...]:
        job = workspace.job(name)
        if job is None:
            skip = gradio.skip()
            return gradio.Timer(active=False), skip, skip, skip, skip
        state = job.state
        done: Any = gradio.skip()
        if state == "done":
            done = gradio.update(choices=list(workspace.results()), value=Path(outs_of(job)[-1]).name)
        return (
            gradio.Timer(active=state == "running"),
            job_in_html(job),
            *buttons(job),
            done,
        )

    @sentences
    def opened(name: str | None) -> tuple[Any, Any]:
        if not name:
            return '<p class="cockpit-note">No result chosen.</p>', gradio.update(visible=False)
        folder = _result(workspace, name)
        address = f"/files/results/{quote(name)}"
        links = (
            f'<a href="{address}/{file}" download="{escape(name)}{Path(file).suffix}">{words}</a>'
            for file, words in (("report.html", "the report"), ("junit.xml", "JUnit"), ("results.json", "results"))
        )
        frame = (
            f'<p class="cockpit-links">Download {" · ".join(links)}</p>'
            f'<iframe class="cockpit-report" sandbox="allow-popups" title="Report of {escape(name)}" '
            f'src="{address}/report.html"></iframe>'
        )
        return frame, gradio.update(value=_packed(workspace, folder), visible=True)

    @sentences
    def compared(first: str | None, second: str | None) -> tuple[Any, Any]:
        if not first or not second:
            raise DmsynthError("choose two results, A and B")
        both = compare(read_results(_result(workspace, first)), read_results(_result(workspace, second)))
        sentences = [both.in_words(), *(row.in_words() for row in both.differences)]
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
        text = f"A: {plain(both.a)}  \nB: {plain(both.b)}\n\n" + "\n".join(
            f"- {plain(sentence)}" for sentence in sentences
        )
        return text, gradio.update(value=pd.DataFrame(rows), visible=bool(rows))

    def chosen(group: str | None) -> Any:
        if not group:
            return gradio.skip()
        return list(workspace.scenarios()) if group == "all" else workspace.groups().get(group, [])

    def listed() -> tuple[Any, ...]:
        newest, results = _newest(workspace), gradio.update(choices=list(workspace.results()))
        *shown, done = watched(newest)
        known = gradio.update(choices=list(workspace.scenarios()))
        drivers = gradio.update(choices=list(workspace.faces()))
        return known, drivers, results, results, newest, *shown, done if "value" in done else results

    seen = [timer, status, stop, resume, result]
    page.load(listed, None, [scenarios, face, a, b, which, *seen])
    groups.input(chosen, groups, scenarios)
    scenarios.focus(lambda: gradio.update(choices=list(workspace.scenarios())), None, scenarios)
    face.focus(lambda: gradio.update(choices=list(workspace.faces())), None, face)
    run.click(begun, [scenarios, dmss, face], [which, *seen])
    for button, press in zip((stop, resume), stop_and_go_on(workspace, watched), strict=True):
        button.click(press, which, seen)
    timer.tick(watched, which, seen)
    result.change(opened, result, [report, download])
    for choice in (result, a, b):
        choice.focus(lambda: gradio.update(choices=list(workspace.results())), None, choice)
    against.click(compared, [a, b], [words, table])


def _dmss(registered: dict[str, str]) -> list[str]:
    """What can be put to the test: what comes along and can run here, and what was named at the start."""
    return ["reference", *(["openpilot"] if is_at_hand() else []), *registered]


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


def _newest(workspace: Workspace) -> str | None:
    """The newest validation, found again after a restart."""
    jobs = workspace.jobs("validation")
    return jobs[0].folder.name if jobs else None

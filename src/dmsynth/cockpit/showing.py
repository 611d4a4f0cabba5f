"""How the tabs show things: jobs as text with a bar, errors as sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial, wraps
from html import escape
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import gradio

from dmsynth.cockpit.jobs import Job
from dmsynth.cockpit.workspace import Workspace
from dmsynth.support.errors import DmsynthError, explain_os_error

R = TypeVar("R")


def sentences(function: Callable[..., R]) -> Callable[..., R]:
    """What is wrong, as a sentence on the page instead of a traceback in the log; everything else stays as it was."""

    @wraps(function)
    def guarded(*arguments: Any) -> R:
        try:
            return function(*arguments)
        except (DmsynthError, OSError) as error:
            message = str(error) if isinstance(error, DmsynthError) else explain_os_error(error)
            gradio.Warning(escape(message), duration=None, title="That did not work")
            nothing: Any = gradio.skip()
            return nothing

    return guarded


def plain(text: str) -> str:
    """Words of others for a Markdown text, in which they stay words: no links, no pictures from elsewhere."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def job_in_html(job: Job | None, resumes: bool = True) -> str:
    """A job's title, state, bar, and what went wrong. ``resumes``: a stopped one can go on."""
    if job is None:
        return ""
    state, about = job.state, job.about
    said = {
        "running": "running",
        "done": "done",
        "stopped": "stopped; it can go on" if resumes else "cancelled",
        "interrupted": "interrupted; it can go on" if resumes else "interrupted; start it again",
        "failed": "failed",
    }[state]
    body = f'<span class="cockpit-state" role="status">{said}</span><b>{escape(about["title"])}</b>'
    seen = job.progress
    if state == "running":
        total, done = seen.get("total"), seen.get("done") or 0
        share = f' value="{done / total:.3f}"' if total else ""
        body += f'<progress max="1"{share} aria-label="progress"></progress>'
        body += f"<div>{escape(_in_words(seen)) or 'starting …'}</div>"
    elif state == "failed":
        body += f'<div class="cockpit-error" role="alert">{escape(job.error)}</div>'
    return f'<div class="cockpit-job">{body}</div>'


def picture_in_html(workspace: Workspace, file: Path, words: str) -> str:
    """A picture of the workspace with what it shows in words; nothing if it is not there. Another one of the same name
    is another text, so a page loads it again then and only then."""
    if not file.is_file():
        return ""
    address = f"/files/{quote(str(file.relative_to(workspace.root)))}?{file.stat().st_mtime_ns}"
    return (
        f'<figure class="cockpit-picture"><img src="{address}" alt="{escape(words)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def keep_fresh(page: gradio.Blocks, choices: dict[gradio.Dropdown, Callable[[], Iterable[str]]]) -> None:
    """Dropdowns offer what there is when the ``page`` is opened, and whenever one of them is."""

    def offered(*dropdowns: gradio.Dropdown) -> dict[gradio.Dropdown, Any]:
        return {dropdown: gradio.update(choices=list(choices[dropdown]())) for dropdown in dropdowns}

    page.load(partial(offered, *choices), None, list(choices))
    for dropdown in choices:
        dropdown.focus(partial(offered, dropdown), None, dropdown)


def _in_words(seen: dict[str, Any]) -> str:
    if not seen:
        return ""
    total, left = seen.get("total"), seen.get("left")
    share = f"{100 * seen['done'] / total:.0f} %" if total else f"{seen['done']:g} done"
    words, rate = [str(seen["title"]), share], float(seen["rate"])
    if rate:
        words.append(f"{rate:.1f} a second" if rate >= 0.5 else f"{60 * rate:.1f} a minute")
    if left is not None:
        words.append(f"{timedelta(seconds=max(0, round(min(left, 1e8))))} left")
    return " · ".join(words)

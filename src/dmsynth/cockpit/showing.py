"""How the tabs show things: jobs as text with a bar, errors as sentences."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from html import escape
from typing import Any, TypeVar

import gradio

from dmsynth.errors import DmsynthError, explain_os_error
from dmsynth.jobs import Job

R = TypeVar("R")
TICK = 1.5  # seconds between two looks at what runs


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


def job_in_html(job: Job | None) -> str:
    """A job's title, state, bar, and what went wrong."""
    if job is None:
        return ""
    state, about = job.state, job.about
    said = {
        "running": "running",
        "done": "done",
        "stopped": "stopped; it can go on",
        "interrupted": "interrupted; it can go on",
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


def _in_words(seen: dict[str, Any]) -> str:
    if not seen:
        return ""
    total, left = seen.get("total"), seen.get("left")
    share = f"{100 * seen['done'] / total:.0f} %" if total else f"{seen['done']:g} done"
    words, rate = [str(seen["title"]), share], float(seen["rate"])
    if rate:
        words.append(f"{rate:.1f} a second" if rate >= 0.5 else f"{60 * rate:.1f} a minute")
    if left is not None:
        words.append(f"{timedelta(seconds=max(0, round(left)))} left")
    return " · ".join(words)

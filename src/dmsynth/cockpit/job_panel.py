"""Long work on the page: what a job says, the buttons that start it, stop it and let it go on, which job is watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio
from gradio.components import Component

from dmsynth.cockpit.jobs import Job, make_job
from dmsynth.cockpit.showing import job_in_html, sentences
from dmsynth.cockpit.workspace import Workspace, outs_of

_TICK = 1.5  # seconds between two looks at a job that runs
# What the buttons do, and the states of a job in which they can be pressed.
_BUTTONS: dict[str, tuple[Callable[[Job], None], tuple[str, ...]]] = {
    "stop": (Job.stop, ("running",)),
    "resume": (Job.start, ("stopped", "interrupted", "failed")),
}


class JobPanel:
    """The jobs of one kind on a page, one of them watched. A tab ``place``s ``state`` and ``buttons`` where it wants
    them, and ``connect``s them at its end.

    Attributes:
        state: the watched job in words, with a bar.
        buttons: *Stop* and *Go on*, or *Cancel*.
        which: holds the name of the watched job's folder: for this page alone, or a dropdown that the tab places.
    """

    def __init__(
        self,
        workspace: Workspace,
        kind: str,
        say: Callable[[Job | None], str] | None = None,
        choose: str = "",
        cancel: bool = False,
    ) -> None:
        """Make what the tab places.

        Args:
            kind: of the jobs (``Workspace.jobs``).
            say: a job in HTML, or what is said while there is none.
            choose: label of a dropdown of these jobs; without one, the job that was started last is watched.
            cancel: these jobs do not go on, and their one button is there only while one runs.
        """
        say = say or partial(job_in_html, resumes=not cancel)
        self._workspace, self._kind, self._say = workspace, kind, say
        self._pressable_is = "visible" if cancel else "interactive"
        off: dict[str, Any] = {self._pressable_is: False}
        words = {"stop": "Cancel"} if cancel else {"stop": "Stop", "resume": "Go on"}
        self.buttons = {
            does: gradio.Button(word, size="md", min_width=90, elem_id=f"cockpit-{does}-{kind}", render=False, **off)
            for does, word in words.items()
        }
        self.state = gradio.HTML(say(None), apply_default_css=False, render=False)
        self.which: gradio.Dropdown | gradio.State = (
            gradio.Dropdown(self._titles(), value=None, label=choose, elem_id=f"cockpit-{kind}", render=False)
            if choose
            else gradio.State(None, render=False)
        )
        self._timer = gradio.Timer(_TICK, active=False, render=False)

    def connect(
        self,
        start: gradio.Button,
        begin: Callable[..., Job],
        asked: Sequence[Component],
        also: Sequence[Component],
        show: Callable[[Job | None], tuple[Any, ...]],
    ) -> None:
        """Let the buttons and the timer do their work.

        Args:
            start: the button that begins a job.
            begin: begins it, given the values of ``asked``.
            also: what else is shown of the watched job.
            show: what ``also`` shows of it, in that order.
        """
        self._show = show
        self._seen = [self._timer, self.state, *self.buttons.values(), *also]
        place(self._timer)
        start.click(sentences(partial(self._begun, begin)), asked, [self.which, *self._seen])
        for does, button in self.buttons.items():
            button.click(sentences(partial(self._pressed, does)), self.which, self._seen)
        self._timer.tick(self._looked, self.which, self._seen)
        if isinstance(self.which, gradio.Dropdown):
            self.which.focus(lambda: gradio.update(choices=self._titles()), None, self.which)
            self.which.input(self._looked, self.which, self._seen)
        else:
            place(self.which)

    def find_again(self, page: gradio.Blocks, done: bool = True) -> None:
        """Watch the newest job when the connected ``page`` is opened; one that is ``done`` only if told so."""

        def found() -> tuple[Any, ...]:
            newest = next(iter(self._workspace.jobs(self._kind)), None)
            if newest is not None and newest.state == "done" and not done:
                newest = None
            return self._watched(newest)

        page.load(found, None, [self.which, *self._seen])

    def _begun(self, begin: Callable[..., Job], *asked: Any) -> tuple[Any, ...]:
        return self._watched(begin(*asked))

    def _pressed(self, does: str, name: str | None) -> tuple[Any, ...]:
        if (job := self._workspace.job(name)) is not None:
            _BUTTONS[does][0](job)
        return self._looked(name)

    def _looked(self, name: str | None) -> tuple[Any, ...]:
        return self._shown(self._workspace.job(name))

    def _watched(self, job: Job | None) -> tuple[Any, ...]:
        """Another job than so far: for ``which``, and what is seen of it."""
        name: Any = None if job is None else job.folder.name
        if isinstance(self.which, gradio.Dropdown):
            name = gradio.update(choices=self._titles(), value=name)
        return name, *self._shown(job)

    def _shown(self, job: Job | None) -> tuple[Any, ...]:
        """What is seen of a job: for ``_seen``, in that order."""
        # The state is read first: a job that ends while the rest is read is looked at once more.
        state = "" if job is None else job.state
        buttons = [self._button(state in _BUTTONS[does][1]) for does in self.buttons]
        return gradio.Timer(active=state == "running"), self._say(job), *buttons, *self._show(job)

    def _button(self, pressable: bool) -> Any:
        change: dict[str, Any] = {self._pressable_is: pressable}
        return gradio.update(**change)

    def _titles(self) -> list[tuple[str, str]]:
        """The jobs for a dropdown, the newest first: what each makes, and its folder."""
        return [(Path(outs_of(job)[0]).name, job.folder.name) for job in self._workspace.jobs(self._kind)]


def place(*components: Component) -> None:
    """Lay out, here in the page, components that were made with ``render=False``."""
    for component in components:
        component.render()  # type: ignore[no-untyped-call]


def begin_job(
    workspace: Workspace, kind: str, title: str, commands: Sequence[Sequence[str]], note: dict[str, Any]
) -> Job:
    """Make a job (``make_job``) in the workspace, and start it. Whoever calls holds the workspace ``alone``."""
    job = make_job(workspace.new("jobs", kind), title, kind, commands, note)
    job.start()
    return job

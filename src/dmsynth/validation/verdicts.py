"""Verdicts: a DMS's answers about a scenario, compared with the command and the expectations.

Frames rendered outside the face's coverage never count for or against a DMS: there the verdict is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmsynth.controls import EYES
from dmsynth.controls.pose import angle_difference, rotation_matrix
from dmsynth.motion.eyes import CLOSED, line_of_sight
from dmsynth.validation.dms import Answer, DmsRun
from dmsynth.validation.scenarios import Scenario, Window

Outcome = Literal["pass", "fail", "inconclusive"]
AXES = ("pitch", "yaw", "roll")
GAZE = ("gaze_pitch", "gaze_yaw")
OPENING = "eye_opening"
MEASURED = (*AXES, *GAZE, OPENING)
"""What a DMS may answer beside warnings."""
BANDS = ((0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 90.0))
"""Angle bands: |command| in degrees from, to."""
OPENINGS = ((0.0, CLOSED), (CLOSED, 0.8), (0.8, 3.0))
"""Bands of the eyes' opening: closed, narrow, open."""

_LOOKS_BACK = 30.0  # seconds before a warning that can cause it: Euro NCAP's window for repeated short glances
_ENOUGH = 0.5  # share of frames that must be trusted for a measurement to be judged at all
_RECOVERY = 1.0  # seconds after untrusted frames in which a DMS that lost the face there may not have found it again
_LAGS = np.arange(-0.2, 1.5, 0.01)  # seconds that are tried
_RAMP = 0.99  # autocorrelation of the motion at half a second; above it no lag can be measured
_MOVES = 10.0  # degrees that an axis must move for a lag and a gain to be measured on it
_LIDS_MOVE = 0.3  # likewise, of the opening at rest


@dataclass(frozen=True)
class WarningResult:
    """The result for an expected warning. Times are seconds in the video.

    Attributes:
        since, opens, closes: reference time of the latency, and the window in which the warning had to begin.
        onset: when it began; None if it never did.
        latency: onset − since.
        outcome: ``in time``, ``early``, ``late``, ``missed``, or ``other kind`` (one of another kind than asked for
            came in its place).
        trusted: whether the frames before it lie within the face's coverage.
        asked, kind: the kind asked for, and the one that came; None: any, and not told.
    """

    since: float
    opens: float
    closes: float
    onset: float | None
    latency: float | None
    outcome: Literal["in time", "early", "late", "missed", "other kind"]
    trusted: bool
    asked: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class ToldResult:
    """Whether a DMS told that it cannot see while the view was blocked. Times are seconds in the video.

    Attributes:
        since, due, until: the view is blocked from ``since`` until ``until``; it had to tell by ``due``.
        onset: when it told; ``since`` if it had told before. None if it never did.
        delay: onset − since.
    """

    since: float
    due: float
    until: float
    onset: float | None
    delay: float | None
    outcome: Literal["in time", "late", "never"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scenario, with all measurements.

    Attributes:
        outcome: ``fail`` for a definite failure; else ``inconclusive`` if something could not be judged; else ``pass``.
        reasons: why it is no ``pass``, in words.
        problem: how the DMS failed, if it did.
        warnings: one for each expected window.
        false_alarms: onsets of unexpected warnings.
        doubtful_alarms: the same after untrusted frames: not counted.
        errors: error against the command by axis, over trusted frames: ``mae``, ``bias``, ``rms``, ``frames``, and
            ``bands`` with the same by |command|; ``gain`` and ``lag`` (seconds) of the answer, None if the command
            hardly moves; ``available``, share of the frames. Of head pose, line of sight (``gaze_pitch``,
            ``gaze_yaw``, in the camera's frame) and ``eye_opening``; the latter two if the face moves its eyes.
        availability: share of the trusted frames with an answer (with a head pose, if the DMS ever gives one) that
            does not tell that it cannot see; but for the second after untrusted frames, in which it may have lost the
            face, and for frames in which the view is blocked.
        unavailable: share of the trusted frames in which it tells that it cannot see.
        told: one for each time that the view is blocked.
        told_wrongly: when it began to tell so, or still did, although it could see; judged in scenarios that block the
            view only.
        lag: seconds by which its head pose follows the command; None if the motion is too small.
        trusted: share of the frames within the face's coverage.
        no_answers, first_no_answer: output lines that are no answers (``DmsRun``). They do not affect the outcome.
        time_uncertainty: half of the 95 % interval of the answers' times, seconds; None: they are exact. What lies
            within it of a limit cannot be judged.
    """

    outcome: Outcome
    reasons: list[str]
    problem: str | None = None
    warnings: list[WarningResult] = field(default_factory=list)
    false_alarms: list[float] = field(default_factory=list)
    doubtful_alarms: list[float] = field(default_factory=list)
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    availability: float | None = None
    unavailable: float = 0.0
    told: list[ToldResult] = field(default_factory=list)
    told_wrongly: list[float] = field(default_factory=list)
    lag: float | None = None
    trusted: float = 1.0
    no_answers: int = 0
    first_no_answer: str | None = None
    time_uncertainty: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Findings:
    """Collects reasons against a pass."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.doubts: list[str] = []

    @property
    def outcome(self) -> Outcome:
        return "fail" if self.failures else "inconclusive" if self.doubts else "pass"


def judge(scenario: Scenario, table: pd.DataFrame, run: DmsRun) -> Verdict:
    """Judge a DMS's answers about a scenario.

    Args:
        table: the command for each frame: ``time``, ``pitch``, ``yaw``, ``roll``, ``covered`` and of a face that moves
            them, the eyes, as ``steer_to_video`` writes it.
        run: the DMS's answers.
    """
    found = _Findings()
    if run.problem and not run.tested:
        return Verdict("inconclusive", [run.problem], run.problem, trusted=float(table["covered"].mean()))
    if run.problem:
        found.failures.append(f"the DMS {run.problem}")
    times, covered = table["time"].to_numpy(dtype=float), table["covered"].to_numpy(dtype=bool)
    poses = align(times, run.answers)
    wanted = commands(table)
    clear = covered & ~_inside(times, scenario.blocked)
    errors = {axis: error for axis in wanted if (error := _errors(wanted, poses, axis, clear, table)) is not None}
    answerable = clear & ~_just_after(~clear, times)
    answerable = answerable if answerable.any() else clear
    availability = float(poses["answered"].to_numpy(dtype=bool)[answerable].mean()) if clear.any() else None
    unavailable = float(poses["unavailable"].to_numpy(dtype=bool)[covered].mean()) if covered.any() else 0.0
    lag = measure_lag(table, poses, clear)
    warnings: list[WarningResult] = []
    alarms: list[float] = []
    doubtful: list[float] = []
    if scenario.warnings != "ignore":
        warnings, alarms, doubtful = _judge_warnings(scenario, table, run.answers, found)
        if not scenario.windows and not covered.all():
            found.doubts.append(
                f"{int((~covered).sum())} of {len(covered)} frames lie outside the face's coverage: silence there says "
                "nothing"
            )
    uncertainty = time_uncertainty(run.answers)
    told, wrongly = _judge_told(scenario, poses, times, covered, uncertainty or 0.0, found)
    _judge_requirements(scenario, covered, errors, availability, lag, uncertainty or 0.0, found)
    return Verdict(
        found.outcome, found.failures + found.doubts, run.problem, warnings, alarms, doubtful, errors, availability,
        unavailable, told, wrongly, lag, float(covered.mean()), run.no_answers, run.first_no_answer, uncertainty,
    )  # fmt: skip


# --- warnings ------------------------------------------------------------------------------------------------------


def time_uncertainty(answers: Sequence[Answer]) -> float | None:
    """The largest uncertainty of the answers' times, seconds; None if all are exact."""
    told = [answer.time_uncertainty for answer in answers if answer.time_uncertainty is not None]
    return max(told, default=None)


def warning_onsets(answers: Sequence[Answer], kind: str | None = None) -> list[tuple[float, float]]:
    """Begin and end of every warning in seconds, of one ``kind`` or of any; one that is still on ends at infinity."""
    stretches: list[tuple[float, float]] = []
    begun: float | None = None
    for answer in answers:
        on = answer.warning and (kind is None or answer.warning_kind == kind)
        if on and begun is None:
            begun = answer.time
        elif not on and begun is not None:
            stretches.append((begun, answer.time))
            begun = None
    return stretches + ([(begun, np.inf)] if begun is not None else [])


def _judge_warnings(
    scenario: Scenario, table: pd.DataFrame, answers: Sequence[Answer], found: _Findings
) -> tuple[list[WarningResult], list[float], list[float]]:
    stretches = warning_onsets(answers)
    times, covered = table["time"].to_numpy(dtype=float), table["covered"].to_numpy(dtype=bool)
    half_frame = 0.5 / scenario.video_rate
    marks, uncertain = scenario.marks, time_uncertainty(answers) or 0.0

    def trusted(begin: float, end: float) -> bool:
        return bool(covered[(times >= begin - half_frame) & (times <= end + half_frame)].all())

    results, taken = [], set()
    for window in scenario.windows:
        until = marks[window.until] if window.until else scenario.seconds
        result, own = _judge_window(window, marks[window.since], until, answers, half_frame, trusted)
        results.append(result)
        taken |= own
        told = f"the warning due {window.latest:g} s after {result.since:.2f} s"
        limits = (result.opens - half_frame, result.closes + half_frame)
        onsets = [begin for begin, _ in stretches] if result.onset is None else [result.onset]
        near = [begin for begin in onsets if uncertain and min(abs(begin - each) for each in limits) <= uncertain]
        if not result.trusted:
            found.doubts.append(f"{told} cannot be judged: frames outside the face's coverage lead up to it")
        elif near:
            after = f"{near[0] - result.since:.2f} s ± {uncertain:.2f} s"
            found.doubts.append(f"{told} came after {after}, too near to a limit to be judged")
        elif result.outcome == "missed":
            found.failures.append(f"{told} never came")
        elif result.outcome == "late":
            found.failures.append(f"{told} came after {result.latency:.2f} s")
        elif result.outcome == "early":
            found.failures.append(f"{told} came after {result.latency:.2f} s, too early")
        elif result.outcome == "other kind":
            found.failures.append(f"{told} came after {result.latency:.2f} s as {result.kind}, not as {result.asked}")
    others = [begin for begin, _ in stretches if begin not in taken]
    ends = [
        (r.opens, max(r.closes, marks.get(w.until or "", r.closes)))
        for r, w in zip(results, scenario.windows, strict=True)
    ]
    unclear = [
        begin for begin in others if uncertain and any(abs(begin - end) <= uncertain for pair in ends for end in pair)
    ]
    others = [begin for begin in others if begin not in unclear]
    alarms = [begin for begin in others if trusted(begin - _LOOKS_BACK, begin)]
    doubtful = [begin for begin in others if begin not in alarms]
    if unclear:
        found.doubts.append(
            f"the alarm at {', '.join(f'{time:.2f} s' for time in unclear)} is not counted: within the uncertainty of "
            f"its time, ± {uncertain:.2f} s, a warning was due"
        )
    if alarms:
        found.failures.append(f"false alarm at {', '.join(f'{time:.2f} s' for time in alarms)}")
    if doubtful:
        found.doubts.append(
            f"the alarm at {', '.join(f'{time:.2f} s' for time in doubtful)} is not counted: frames outside the face's "
            "coverage came before it"
        )
    return results, alarms, doubtful + unclear


def _judge_window(
    window: Window,
    since: float,
    until: float,
    answers: Sequence[Answer],
    half_frame: float,
    trusted: Callable[[float, float], bool],
) -> tuple[WarningResult, set[float]]:
    """The result, and the onsets that belong to this window.

    A DMS that tells kinds may begin with a milder one: asked for sleep, it is judged by when its warning becomes one of
    sleep. A DMS that tells none is judged by when its warning begins.
    """
    opens, closes = since + window.earliest, since + window.latest

    def near(stretches: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
        inside = [begin for begin, _ in stretches if opens - half_frame <= begin <= max(closes, until) + half_frame]
        early = [begin for begin, end in stretches if begin < opens - half_frame and end > opens and begin >= since - 1]
        return inside, early

    inside, early = near(warning_onsets(answers))
    own = {*inside, *early}
    asked = window.kind if any(answer.warning_kind for answer in answers if answer.warning) else None
    other = (early or inside)[:1]  # a warning of any kind
    if asked:
        inside, early = near(warning_onsets(answers, asked))
    outcome: Literal["in time", "early", "late", "missed", "other kind"]
    if early:
        onset, outcome = early[-1], "early"
    elif inside:
        onset, outcome = inside[0], "in time" if inside[0] <= closes + half_frame else "late"
    elif asked and other:
        onset, outcome = other[0], "other kind"
    else:
        onset, outcome = None, "missed"
    result = WarningResult(
        since, opens, closes, onset, None if onset is None else onset - since, outcome,
        trusted(since - 1, closes if onset is None else min(onset, closes)), window.kind, _kind_at(answers, onset),
    )  # fmt: skip
    return result, own


def _kind_at(answers: Sequence[Answer], onset: float | None) -> str | None:
    return next((answer.warning_kind for answer in answers if answer.time == onset), None)


# --- telling that it cannot see --------------------------------------------------------------------------------------


def _judge_told(
    scenario: Scenario,
    poses: pd.DataFrame,
    times: NDArray[np.float64],
    covered: NDArray[np.bool_],
    uncertain: float,
    found: _Findings,
) -> tuple[list[ToldResult], list[float]]:
    """One result for each time that the view is blocked, and when it told so although it could see. Frames outside the
    coverage do not count against it: there it may see nothing. Nor does what its ``uncertain`` time may explain."""
    if not scenario.unavailable:
        return [], []
    tells = poses["unavailable"].to_numpy(dtype=bool)
    half_frame = 0.5 / scenario.video_rate
    results, may = [], ~covered | _just_after(~covered, times)
    for blocked, (since, until) in zip(scenario.unavailable, scenario.blocked, strict=True):
        spare = half_frame + uncertain
        may |= _inside(times, [(since - spare, until + blocked.back + spare)])
        due = since + blocked.within
        onset = next((max(float(each), since) for each in times[tells & _inside(times, [(since, until)])]), None)
        in_time = onset is not None and onset <= due + half_frame
        results.append(
            ToldResult(
                since, due, until, onset, None if onset is None else onset - since,
                "in time" if in_time else "never" if onset is None else "late",
            )
        )  # fmt: skip
        said = f"it cannot see from {since:.2f} s on, and has to tell within {blocked.within:g} s"
        if onset is None:
            found.failures.append(f"{said}: it never did")
        elif uncertain and abs(onset - due - half_frame) <= uncertain:
            found.doubts.append(
                f"{said}: it did after {onset - since:.2f} s ± {uncertain:.2f} s, too near to the limit to be judged"
            )
        elif not in_time:
            found.failures.append(f"{said}: it did after {onset - since:.2f} s")
    wrongly = [float(times[begin]) for begin in np.flatnonzero(np.diff((tells & ~may).astype(int), prepend=0) == 1)]
    if wrongly:
        at = ", ".join(f"{time:.2f} s" for time in wrongly)
        found.failures.append(f"it told that it cannot see at {at}, although it could")
    return results, wrongly


def _inside(times: NDArray[np.float64], stretches: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """(n,) which times lie within one of the stretches, from … until, in seconds."""
    return np.array([any(begin <= time <= end for begin, end in stretches) for time in times], dtype=bool)


# --- head pose and eyes --------------------------------------------------------------------------------------------


def commands(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """What was commanded, each (n,), by the names of an answer: head pose in degrees and, if the face moves its eyes,
    the line of sight in the camera's frame in degrees, and the mean opening of both eyes. Where a camera has a place in
    the car, angles are as it sees them: a DMS is told no other frame."""
    seen = "camera_" if "camera_yaw" in table.columns else ""
    found = {axis: table[f"{seen}{axis}"].to_numpy(dtype=float) for axis in AXES}
    if set(EYES) <= set(table.columns):
        eyes = {name: table[name].to_numpy(dtype=float) for name in EYES}
        head = rotation_matrix(*(found[axis] for axis in AXES))
        found["gaze_yaw"], found["gaze_pitch"] = line_of_sight(head, eyes["gaze_yaw"], eyes["gaze_pitch"])
        found[OPENING] = (eyes["eye_opening_left"] + eyes["eye_opening_right"]) / 2
    return found


def align(times: NDArray[np.float64], answers: Sequence[Answer]) -> pd.DataFrame:
    """The answer nearest to each of ``times`` (n,): columns ``answered``, ``MEASURED``, ``warning``, ``unavailable``.

    An answer is valid for this DMS's usual interval between answers, so that a DMS that answers ten times a second is
    available all the time, and one that skips answers is not.
    """
    empty = pd.DataFrame(
        {"answered": np.zeros(len(times), dtype=bool), **dict.fromkeys(MEASURED, np.nan)}
        | dict.fromkeys(("warning", "unavailable"), False)
    )
    if not answers or not len(times):
        return empty
    when = np.array([answer.time for answer in answers])
    usual = _usual_interval(when)
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    right = np.clip(np.searchsorted(when, times), 1, len(when) - 1) if len(when) > 1 else np.zeros(len(times), int)
    nearest = np.where(np.abs(when[right] - times) < np.abs(when[right - 1] - times), right, np.maximum(right - 1, 0))
    near = np.abs(when[nearest] - times) <= max(usual, frame) / 2 + 1e-6
    poses = {
        axis: np.array([np.nan if (value := getattr(answer, axis)) is None else value for answer in answers])
        for axis in MEASURED
    }
    gives_pose = any(np.isfinite(poses[axis]).any() for axis in AXES)
    result = pd.DataFrame({axis: np.where(near, values[nearest], np.nan) for axis, values in poses.items()})
    for name in ("warning", "unavailable"):
        result[name] = np.array([getattr(answer, name) for answer in answers])[nearest] & near
    has_pose = result[list(AXES)].notna().any(axis=1).to_numpy()
    result["answered"] = near & (has_pose | (not gives_pose)) & ~result["unavailable"].to_numpy()
    return result


def _usual_interval(when: NDArray[np.float64]) -> float:
    """Seconds: the median, and twice the spread of a DMS whose answers come irregularly, as those of a log do."""
    if len(when) < 2:
        return 0.0
    steps = np.diff(when)
    median = float(np.median(steps))
    return median + 2 * 1.4826 * float(np.median(np.abs(steps - median)))


def _errors(
    wanted: dict[str, NDArray[np.float64]],
    poses: pd.DataFrame,
    axis: str,
    covered: NDArray[np.bool_],
    table: pd.DataFrame,
) -> dict[str, Any] | None:
    """Error statistics of an axis; None if the DMS does not report it. Where the eyes are closed there is no gaze."""
    command, answer = wanted[axis], poses[axis].to_numpy(dtype=float)
    counts = covered & (wanted[OPENING] > CLOSED) if axis in GAZE else covered
    usable = counts & np.isfinite(answer)
    if not usable.any():
        return None
    is_angle = axis != OPENING
    error = answer[usable] - command[usable]
    error = angle_difference(error, 0) if is_angle else error
    size = np.abs(command[usable])
    bands = [
        {"from": low, "to": high} | _figures(error[(size >= low) & (size < high)])
        for low, high in (BANDS if is_angle else OPENINGS)
        if ((size >= low) & (size < high)).any()
    ]
    times, moves = table["time"].to_numpy(dtype=float), _MOVES if is_angle else _LIDS_MOVE
    gain = None
    if np.ptp(command[usable]) >= moves:
        slope = np.polyfit(command[usable], command[usable] + error, 1)[0]
        gain = round(float(slope), 3)
    return _figures(error) | {
        "bands": bands,
        "gain": gain,
        "lag": _lag(times, command, answer, usable, moves),
        "available": float(np.isfinite(answer[counts]).mean()),
    }


def _figures(error: NDArray[np.float64]) -> dict[str, float]:
    return {
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "rms": float(np.sqrt(np.square(error).mean())),
        "frames": len(error),
    }


def measure_lag(table: pd.DataFrame, poses: pd.DataFrame, covered: NDArray[np.bool_]) -> float | None:
    """Lag in seconds of the answered head pose behind the command: the maximum of their cross-correlation, on the axis
    that moves most. None if no axis moves enough, if the motion is a steady ramp, or if there are too few answers."""
    times = table["time"].to_numpy(dtype=float)
    axis = max(AXES, key=lambda name: float(np.ptp(table[name].to_numpy(dtype=float))))
    command, answer = table[axis].to_numpy(dtype=float), poses[axis].to_numpy(dtype=float)
    return _lag(times, command, answer, covered & np.isfinite(answer), _MOVES)


def _lag(
    times: NDArray[np.float64],
    command: NDArray[np.float64],
    answer: NDArray[np.float64],
    usable: NDArray[np.bool_],
    moves: float,
) -> float | None:
    """Seconds by which an ``answer`` (n,) follows the ``command`` (n,) where it is ``usable``; None if the command
    moves by less than ``moves`` there."""
    if usable.sum() < 20 or np.ptp(command[usable]) < moves or np.ptp(answer[usable]) < 1e-6:
        return None
    at, said = times[usable], answer[usable]
    if np.corrcoef(command[usable], np.interp(at - 0.5, times, command))[0, 1] > _RAMP:
        return None
    matches = []
    for lag in _LAGS:
        shifted = np.interp(at - lag, times, command)
        matches.append(abs(np.corrcoef(shifted, said)[0, 1]) if np.ptp(shifted) > 1e-6 else 0.0)
    return round(float(_LAGS[int(np.argmax(matches))]), 3)


def _just_after(untrusted: NDArray[np.bool_], times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which frames come at most ``_RECOVERY`` after an untrusted one."""
    last = np.maximum.accumulate(np.where(untrusted, times, -np.inf))
    return np.asarray(times - last <= _RECOVERY)


def _judge_requirements(
    scenario: Scenario,
    covered: NDArray[np.bool_],
    errors: dict[str, dict[str, Any]],
    availability: float | None,
    lag: float | None,
    uncertain: float,
    found: _Findings,
) -> None:
    require = scenario.require
    if not (require.availability or require.mean_error or require.lag):
        return
    if covered.mean() < _ENOUGH:
        found.doubts.append(f"only {100 * covered.mean():.0f} % of the frames lie within the face's coverage")
        return
    if not covered.all():
        found.doubts.append(f"{100 * (1 - covered.mean()):.0f} % of the frames lie outside the face's coverage")
    if require.availability and (availability or 0.0) < require.availability:
        share = 100 * (availability or 0.0)
        found.failures.append(f"answers for {share:.1f} % of the time; {100 * require.availability:g} % are required")
    for axis, most in require.mean_error.items():
        if axis not in errors:
            found.doubts.append(f"it says nothing of {axis}")
        elif errors[axis]["mae"] > most:
            off, unit = errors[axis]["mae"], "" if axis == OPENING else "°"
            said = f"{off:.2f}" if axis == OPENING else f"{off:.1f}"
            found.failures.append(f"{axis} is off by {said}{unit} on average; {most:g}{unit} are allowed")
    if require.lag and lag is not None and uncertain and abs(lag - require.lag) <= uncertain:
        found.doubts.append(f"its head pose lags by {lag:.2f} s ± {uncertain:.2f} s; {require.lag:g} s are allowed")
    elif require.lag and lag is not None and lag > require.lag:
        found.failures.append(f"its head pose lags by {lag:.2f} s; {require.lag:g} s are allowed")

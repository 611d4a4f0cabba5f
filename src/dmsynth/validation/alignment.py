"""How a log's clock runs beside that of the play: offset and drift, with what is left uncertain.

By the first of these that there is: the brightness of the patch (``sync``), the numbers in the box's recording of the
play (``film``), the numbers in the time code (``code``), a clock in step with the player's (``unix``), or its head
pose, at the place where it fits the command best (``pose``).

Each but the clock in step fits a straight line through pairs of times, or the whole motion, robustly: what does not
fit weighs little. The uncertainty is that of a sandwich estimate with the residuals of two seconds taken together
(Liang and Zeger 1986), because errors of a tracker beside each other are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.optimize import least_squares
from scipy.signal import correlate
from scipy.stats import t as student

from dmsynth.playing.marks import patch_is_white
from dmsynth.support.errors import DmsynthError
from dmsynth.validation.box_logs import Signal
from dmsynth.validation.log_map import LogMap
from dmsynth.validation.verdicts import AXES

Double = NDArray[np.float64]

DRIFT = 100e-6
"""How much two quartz clocks usually differ, as a standard deviation: what is known of a play too short to tell."""
_MOST_DRIFT = 500e-6
_GRID = 25.0  # a second: of the first search
_MISFIT = 0.1  # seconds at either end of the play that a drift between two of the search may cause
_BLOCK = 2.0  # seconds of residuals that count as one
_OUTLIERS = 5  # answers of which the search takes the middle one: a few wrong ones hide no motion
_LEAST = 0.5  # of the motion that has to be in both
_GOOD = 0.5  # of the answers' variance that the command has to explain
_ALIKE = 0.95  # a second place that explains this share of what the best does is as good
_APART = 1.0  # seconds between two places at least
_MOVES = 3.0  # degrees, standard deviation: an axis that moves less says nothing of its sign
_LEAST_NOISE = 0.05  # degrees: a log rounds its angles
_STEP = 0.02  # seconds: of derivatives
_SURE = 0.05  # of a sample: nearer than that nobody knows how alike edges are off
_EXCERPT = 60.0  # seconds in which drift can be left out


@dataclass(frozen=True)
class Alignment:
    """Play time = ``offset`` + t + ``drift`` · t, for t = log time − ``reference``; seconds.

    Attributes:
        by: ``sync``, ``film``, ``code``, ``unix`` or ``pose``.
        covariance: (2, 2) of offset and drift. ``quantile``: half of a 95 % interval is this many standard deviations.
        systematic: half of a 95 % interval of what more data do not reduce, seconds.
        explained: of ``pose``: the share of the answers' variance that the command explains; else None.
        used: entries of the log that it rests on.
    """

    by: str
    reference: float
    offset: float
    drift: float
    covariance: Double
    quantile: float
    systematic: float
    used: int
    explained: float | None = None

    def to_play(self, times: Double) -> Double:
        """Play times (n,) of log times (n,)."""
        since = times - self.reference
        return self.offset + since * (1 + self.drift)

    def uncertainty(self, moments: Double) -> Double:
        """Half of the 95 % interval at play times (n,), (n,) seconds."""
        design = np.stack([np.ones_like(moments), moments - self.offset], axis=1)
        variance = np.einsum("ni,ij,nj->n", design, self.covariance, design)
        return np.hypot(self.quantile * np.sqrt(np.maximum(variance, 0)), self.systematic)

    def in_words(self) -> str:
        drift = self.quantile * float(np.sqrt(max(self.covariance[1, 1], 0)))
        told = "" if self.explained is None else f", {100 * self.explained:.0f} % of the pose's variance explained"
        return (
            f"aligned by {self.by} with {self.used} entries: the log's clock differs by {1e6 * self.drift:+.0f} ppm "
            f"(± {1e6 * drift:.0f}){told}"
        )


def align_log(signals: Mapping[str, Signal], play: pd.DataFrame, meaning: LogMap, where: str) -> Alignment:
    """The alignment of a log's ``signals`` with a ``play``, as ``read_play`` gives it. ``where`` names the log.

    Raises:
        DmsynthError: nothing to align by; a log that fits nowhere, at two places, or with an axis the other way round;
            head pose alone, and a delay that is not known.
    """
    uncertainty = meaning.uncertainty or 0.0
    if "sync" in signals:
        found = _by_sync(signals["sync"], play, where)
    elif meaning.film and meaning.film.begins is not None:
        return _by_film(signals["film"], play, meaning.film.uncertainty or 0.0, where)
    elif "film" in signals or "code" in signals:
        by = "film" if "film" in signals else "code"
        found = _by_code(by, signals[by], play, where)
    elif meaning.clock == "unix":
        first = next(iter(signals.values())).times
        ahead = float((play["unix"] - play["real"]).median())
        if not (first[0] - ahead < play["real"].iloc[-1] and first[-1] - ahead > 0):
            raise DmsynthError(f"{where}: was not recorded during the play, by its clock; check it, or clock: unix")
        return Alignment("unix", ahead, 0.0, 0.0, np.zeros((2, 2)), 0.0, uncertainty, len(first))
    else:
        if meaning.delay is None:
            raise DmsynthError(
                f"{where}: head pose alone cannot tell the DMS's delay from its clock; log the patch or a time code, "
                "or add delay and uncertainty (s) to the map"
            )
        found = _by_pose(signals, play, where)
    systematic = float(np.hypot(found.systematic, uncertainty))
    return replace(found, offset=found.offset + (meaning.delay or 0.0), systematic=systematic)


# --- by pairs of times ---------------------------------------------------------------------------------------------


def _by_film(film: Signal, play: pd.DataFrame, uncertainty: float, where: str) -> Alignment:
    """By the pictures of a recording that runs by the log's clock: nothing of the box's delay is in them.

    A picture lies anywhere in the display of its frame. If the camera runs in step with the play, all lie alike, and
    are seen to differ less than by a frame; where they differ, the line through their middles is that much surer.
    """
    found = _by_code("film", film, play, where)
    shown = pd.Series(play["real"].to_numpy(float), index=play["number"].to_numpy(float))
    real = shown.reindex(film.values.astype(float)).to_numpy(float)
    inside = found.to_play(film.times) - real
    early, late = np.nanpercentile(inside, [5, 95])
    half = found.systematic
    left = max(half - float(late - early) / 2, 0.0)
    return replace(found, systematic=float(np.hypot(left, uncertainty)))


def _by_code(by: str, code: Signal, play: pd.DataFrame, where: str) -> Alignment:
    shown = pd.Series(play["real"].to_numpy(float), index=play["number"].to_numpy(float))
    real = shown.reindex(code.values.astype(float)).to_numpy(float)
    usable = np.isfinite(real)
    if usable.sum() < 2:
        raise DmsynthError(f"{where}: no two numbers of its time code are frames of this play; give the play's own log")
    half = _half_a_frame(play)
    return _line(by, code.times[usable], real[usable] + half, half)


def _half_a_frame(play: pd.DataFrame) -> float:
    """Seconds: a camera may take a frame at any moment of its display; in the middle of it on average."""
    return float(np.median(np.diff(play["real"]))) / 2


def _by_sync(sync: Signal, play: pd.DataFrame, where: str) -> Alignment:
    usable = np.isfinite(sync.values.astype(float))
    times, bright = sync.times[usable], sync.values[usable].astype(float)
    low, high = np.percentile(bright, [10, 90]) if len(bright) else (0, 0)
    white = bright > (low + high) / 2
    real, patch = play["real"].to_numpy(float), patch_is_white(play["number"].to_numpy(int))
    rises = np.flatnonzero(np.diff(white.astype(int)))
    if len(rises) < 10:
        raise DmsynthError(
            f"{where}: its sync flips {len(rises)} times; place the sensor on the patch, or correct the map"
        )
    edges = (times[rises] + times[rises + 1]) / 2
    flips = real[1:][np.diff(patch.astype(int)) != 0]
    sampled = float(np.median(np.diff(times)))
    rate = 4 / float(np.median(np.diff(real)))
    level = np.where(patch, 1.0, -1.0)
    best: tuple[float, float, float] = (-np.inf, 0.0, 0.0)
    for begin in real[0] + np.ptp(real) * np.array([0, 0.25, 0.5, 0.75]):
        part = (real >= begin) & (real < begin + _EXCERPT)
        at = np.arange(real[part][0], real[part][-1], 1 / rate)
        held = level[part][np.searchsorted(real[part], at, side="right") - 1]
        shift, fits = _matching(times - times[0], np.where(white, 1.0, -1.0), held, rate)
        best = max(best, (fits, float(at[0] - times[0] - shift), float(begin)))
    if best[0] < _GOOD:
        raise DmsynthError(
            f"{where}: its sync is not that of this play ({100 * (1 + best[0]) / 2:.0f} % of it agree); give that one's"
        )
    start = Alignment("sync", 0.0, best[1], 0.0, np.zeros((2, 2)), 0, 0, 0)
    return _outwards(edges, flips, start, best[2], 2 / rate + sampled, sampled)


def _matching(times: Double, level: Double, held: Double, rate: float) -> tuple[float, float]:
    """Where entries fit a sequence best: its beginning in the log, in seconds, and the share that agrees less the rest.

    Args:
        times, level: (n,) of the entries: seconds after the first, and 1 or −1.
        held: (m,) the sequence, 1 or −1, ``rate`` values a second.
    """
    entries, counts = (np.zeros(int(times[-1] * rate) + 2) for _ in range(2))
    place = np.round(times * rate).astype(int)
    np.add.at(entries, place, level)
    np.add.at(counts, place, 1.0)
    inside = correlate(counts, np.ones_like(held), method="fft")
    agree = correlate(entries, held, method="fft") / np.maximum(inside, 1.0)
    agree = np.where(inside > _LEAST * inside.max(), agree, -1.0)
    best = int(np.argmax(agree))
    return (best - len(held) + 1) / rate, float(agree[best])


def _outwards(edges: Double, flips: Double, found: Alignment, begin: float, near: float, sampled: float) -> Alignment:
    """The line through ``edges`` in the log and ``flips`` in the play, each with the nearest, from the excerpt that
    begins at ``begin`` (play time) outwards: each line finds more of its pairs.

    An edge lies anywhere between two samples, ``sampled`` seconds apart. If they run in step with the frames, all edges
    are off alike, and are seen to differ less than by that.
    """
    reach = _EXCERPT
    while True:
        at = found.to_play(edges)
        right = np.clip(np.searchsorted(flips, at), 1, len(flips) - 1)
        nearest = np.where(flips[right] - at < at - flips[right - 1], flips[right], flips[right - 1])
        pairs = (np.abs(nearest - at) < near) & (np.abs(at - begin) < reach)
        found = _line("sync", edges[pairs], nearest[pairs], 0.0)
        early, late = np.percentile(nearest[pairs] - found.to_play(edges[pairs]), [5, 95])
        found = replace(found, systematic=max(sampled - (late - early), _SURE * sampled) / 2)
        if reach > np.ptp(flips):
            return found
        reach *= 3


def _line(by: str, times: Double, moments: Double, systematic: float) -> Alignment:
    """A straight line from log ``times`` (n,) to play ``moments`` (n,)."""
    reference = float(np.median(times))
    since = times - reference
    ahead = moments - since
    chosen = np.unique(np.linspace(0, len(since) - 1, 300).astype(int))
    centre = float(np.median(ahead[chosen]))
    scale = max(1.4826 * float(np.median(np.abs(np.diff(ahead)))), 1e-4) if len(ahead) > 2 else 1e-3
    design = np.stack([np.ones_like(since), since], axis=1)

    def residuals(line: Double) -> Double:
        return np.asarray((design @ line + centre - ahead) / scale)

    line = _fitted(residuals, np.zeros(2))
    covariance, quantile = _sandwich(residuals(line), design / scale, times)
    offset, drift = float(line[0]) + centre, float(line[1])
    return Alignment(by, reference, offset, drift, covariance, quantile, systematic, len(times))


def _fitted(residuals: Callable[[Double], Double], start: Double) -> Double:
    """The robust least-squares solution; the second parameter is a drift, of which ``DRIFT`` is known beforehand."""

    def with_drift(parameters: Double) -> Double:
        return np.append(residuals(parameters), parameters[1] / DRIFT)

    scales = np.ones_like(start)
    scales[1] = 1e-4
    return np.asarray(least_squares(with_drift, start, loss="soft_l1", x_scale=scales).x)


def _sandwich(residuals: Double, design: Double, times: Double) -> tuple[Double, float]:
    """The covariance of offset and drift, the first two columns of the ``design`` (n, p), and the quantile.

    ``residuals`` (n,) have a scale of about 1; ``design`` holds their derivatives.
    """
    weights = 1 / np.sqrt(1 + residuals**2)  # soft_l1's
    known = np.zeros((design.shape[1], design.shape[1]))
    known[1, 1] = DRIFT**-2
    bread = np.linalg.pinv(design.T @ (weights[:, None] * design) + known)
    scores = (weights * residuals)[:, None] * design
    _, block = np.unique(np.floor(times / _BLOCK), return_inverse=True)
    count = int(block.max()) + 1
    sums = np.stack([np.bincount(block, each, count) for each in scores.T], axis=1)
    covariance = bread @ (sums.T @ sums * count / max(count - 1, 1) + known) @ bread
    return covariance[:2, :2], float(student.ppf(0.975, max(count - 2, 1)))


# --- by head pose --------------------------------------------------------------------------------------------------


def _by_pose(signals: Mapping[str, Signal], play: pd.DataFrame, where: str) -> Alignment:
    real = play["real"].to_numpy(float)
    commands = {axis: play[axis].to_numpy(float) for axis in AXES if axis in signals}
    commands = {axis: values for axis, values in commands.items() if np.isfinite(values).sum() > 1}
    found = {axis: _kept(signals, axis) for axis in commands}
    found = {axis: signal for axis, signal in found.items() if len(signal.times) > 1}
    if not found:
        raise DmsynthError(
            f"{where}: has nothing to be aligned by; map a head pose, a time code or sync, or clock: unix"
        )
    if max(float(np.nanstd(commands[axis])) for axis in found) < _MOVES:
        raise DmsynthError(
            f"{where}: the head hardly moves in this play; play a scenario in which it turns, such as pose-yaw"
        )
    moment, drift, at = _searched(found, commands, real, where)
    motion = _Motion.of(found, commands, real)
    start = np.array([moment + (motion.reference - at) * (1 + drift), drift])
    beside = np.array([start[0], 0.0])  # the offset is found from there
    first = motion.commanded(start)
    inside = np.isfinite(first)
    gains, biases = motion.scales(first, inside)
    off = motion.model(first, gains, biases) - motion.answers
    scale = max(1.4826 * float(np.median(np.abs(off[inside]))), _LEAST_NOISE)

    def residuals(parameters: Double) -> Double:
        shown = motion.commanded(parameters[:2] + beside)
        off = motion.model(shown, *np.split(parameters[2:], 2)) - motion.answers
        return np.where(inside & np.isfinite(shown), np.nan_to_num(off) / scale, 0.0)

    solved = _fitted(residuals, np.concatenate([[0.0, drift], gains, biases]))
    line = solved[:2] + beside
    design = motion.derivatives(line, solved[2 : 2 + len(found)]) / scale
    left = residuals(solved)
    covariance, quantile = _sandwich(left[inside], design[inside], motion.times[inside])
    half = _half_a_frame(play)
    explained = 1 - float(np.sum((left[inside] * scale) ** 2)) / motion.spread(inside)
    offset, entries = float(line[0]) + half, int(inside.sum())
    return Alignment(
        "pose", motion.reference, offset, float(line[1]), covariance, quantile, half, entries, explained
    )  # fmt: skip


@dataclass(frozen=True)
class _Motion:
    """The answers of all axes, one after the other, and the commands beside them.

    Attributes:
        times, answers: (n,) log times in seconds, and degrees.
        own: (n, axes) which axis each belongs to.
        real: (m,) play times of the ``commands``, by axis, degrees.
        reference: the log time from which drift counts.
    """

    times: Double
    answers: Double
    own: NDArray[np.bool_]
    real: Double
    commands: Mapping[str, Double]
    reference: float

    @staticmethod
    def of(found: Mapping[str, Signal], commands: Mapping[str, Double], real: Double) -> _Motion:
        times = np.concatenate([signal.times for signal in found.values()])
        answers = np.concatenate([signal.values for signal in found.values()])
        axis = np.repeat(np.arange(len(found)), [len(signal.times) for signal in found.values()])
        chosen = {name: commands[name] for name in found}
        return _Motion(times, answers, axis[:, None] == np.arange(len(found)), real, chosen, float(np.median(times)))

    def commanded(self, line: Double) -> Double:
        """(n,) the command at each answer's time, by a ``line`` (offset, drift); NaN outside the play."""
        moments = line[0] + (self.times - self.reference) * (1 + line[1])
        shown = np.full(len(moments), np.nan)
        for own, command in zip(self.own.T, self.commands.values(), strict=True):
            valid = np.isfinite(command)
            shown[own] = np.interp(moments[own], self.real[valid], command[valid])
        return np.where((moments >= self.real[0]) & (moments <= self.real[-1]), shown, np.nan)

    def model(self, shown: Double, gains: Double, biases: Double) -> Double:
        """(n,) what is answered to a command, if each axis has a gain and a bias, (axes,) each."""
        return np.asarray((self.own @ gains) * shown + self.own @ biases)

    def scales(self, shown: Double, inside: NDArray[np.bool_]) -> tuple[Double, Double]:
        """Gain and bias of each axis, (axes,) each, over the answers that are ``inside`` (n,) the play."""
        gains, biases = np.ones(self.own.shape[1]), np.zeros(self.own.shape[1])
        for axis, own in enumerate(self.own.T & inside):
            if own.sum() > 2 and np.ptp(shown[own]) > 1e-6:
                gains[axis], biases[axis] = np.polyfit(shown[own], self.answers[own], 1)
            elif own.any():
                biases[axis] = float(np.mean(self.answers[own] - shown[own]))
        return gains, biases

    def derivatives(self, line: Double, gains: Double) -> Double:
        """(n, 2 + 2 · axes) of the model by offset, drift, gains and biases."""
        later, earlier = (self.commanded(line + np.array([step, 0.0])) for step in (_STEP, -_STEP))
        slope = np.nan_to_num((self.own @ gains) * (later - earlier) / (2 * _STEP))
        shown = np.nan_to_num(self.commanded(line))
        of_line = [slope, slope * (self.times - self.reference)]
        return np.column_stack([*of_line, self.own * shown[:, None], self.own])

    def spread(self, inside: NDArray[np.bool_]) -> float:
        """The sum of squares of the answers about the mean of their axis."""
        found = [self.answers[own] for own in self.own.T & inside if own.any()]
        return max(float(sum(np.sum((values - values.mean()) ** 2) for values in found)), 1e-9)


def _kept(signals: Mapping[str, Signal], axis: str) -> Signal:
    """An axis where there is an answer, and a face was found."""
    signal = signals[axis]
    usable = np.isfinite(signal.values.astype(float))
    if "found" in signals and len(signal.times):
        found = signals["found"]
        usable &= found.values[np.clip(np.searchsorted(found.times, signal.times, side="right") - 1, 0, None)].astype(
            bool
        )
    return Signal(signal.times[usable], signal.values[usable].astype(float))


def _searched(
    found: Mapping[str, Signal], commands: Mapping[str, Double], real: Double, where: str
) -> tuple[float, float, float]:
    """Where the answers fit the commands best: play time, drift, and log time of one moment."""
    found = {
        axis: Signal(each.times, median_filter(each.values, _OUTLIERS, mode="nearest")) for axis, each in found.items()
    }
    first = min(float(signal.times[0]) for signal in found.values())
    last = max(float(signal.times[-1]) for signal in found.values())
    step = _MISFIT * 2 / max(min(last - first, float(np.ptp(real))), 1.0)
    drifts = np.arange(-np.floor(_MOST_DRIFT / step), np.floor(_MOST_DRIFT / step) + 1) * step
    scores = [_matches(found, commands, real, float(drift)) for drift in drifts]
    explained = np.array([score.max() for score, _ in scores])
    drift = int(np.argmax(explained))
    score, variances = scores[drift]
    place = int(np.argmax(score))
    share = score[place] / max(variances[place], 1e-9)
    turned = _turned(found, commands, real, float(drifts[drift]), share)
    if turned:
        raise DmsynthError(
            f"{where}: its {turned} runs against the command; give it sign: -1 in the map (or take it out)"
        )
    if not share > _GOOD:
        raise DmsynthError(
            f"{where}: its head pose fits this play nowhere (at best, {100 * max(share, 0):.0f} % of it is explained); "
            "give the log of this play, and check columns and units in the map"
        )
    others = np.abs(np.arange(len(score)) - place) > _APART * _GRID
    if others.any() and score[others].max() > _ALIKE * score[place]:
        other = int(np.argmax(np.where(others, score, -np.inf)))
        raise DmsynthError(
            f"{where}: fits the play at two places, {abs(other - place) / _GRID:.1f} s apart; cut it to one play, or "
            "play something that does not repeat itself"
        )
    lag = (place - len(np.arange(real[0], real[-1], 1 / _GRID)) + 1) / _GRID
    return float(real[0]) - lag, float(drifts[drift]), first


def _matches(
    found: Mapping[str, Signal], commands: Mapping[str, Double], real: Double, drift: float, signed: bool = True
) -> tuple[Double, Double]:
    """For each shift of the log beside the play: the sum of squares that the commands explain, and the answers' own.

    ``signed``: a command that runs the other way round explains nothing.
    """
    first = min(float(signal.times[0]) for signal in found.values())
    last = max(float(signal.times[-1]) for signal in found.values())
    explained, own = np.zeros(1), np.zeros(1)
    at = np.arange(real[0], real[-1], 1 / _GRID)
    seen = np.arange(0, (last - first) * (1 + drift) + 1 / _GRID, 1 / _GRID)
    for axis, signal in found.items():
        command = np.interp(at, real, commands[axis])  # NaN stays beside NaN
        answer, near = _on_grid((signal.times - first) * (1 + drift), signal.values, seen)
        has = np.isfinite(command).astype(float)
        command = np.nan_to_num(command - np.nanmean(command)) * has
        answer = np.where(near, answer - signal.values.mean(), 0.0)
        weight = near.astype(float)

        def both(a: Double, b: Double) -> Double:
            return np.asarray(correlate(a, b, method="fft"))

        count = np.maximum(both(weight, has), 1e-9)
        of_answer, of_command = both(answer, has), both(weight, command)
        spread = both(answer**2, has) - of_answer**2 / count
        motion = both(weight, command**2) - of_command**2 / count
        together = both(answer, command) - of_answer * of_command / count
        together = np.maximum(together, 0) if signed else together
        enough = (motion > _LEAST * min(float(np.sum(command**2)), float(motion.max()))) & (count > _GRID)
        explained = explained + np.where(enough & (motion > 1e-6), together**2 / np.maximum(motion, 1e-6), 0.0)
        own = own + np.maximum(spread, 0)
    return explained, own


def _on_grid(times: Double, values: Double, at: Double) -> tuple[Double, NDArray[np.bool_]]:
    """Values (n,) at moments (m,), and whether one was logged nearby."""
    usual = float(np.median(np.diff(times)))
    right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
    near = np.minimum(np.abs(times[right] - at), np.abs(at - times[right - 1])) <= max(1.5 * usual, 1 / _GRID)
    return np.interp(at, times, values), near


def _turned(
    found: Mapping[str, Signal], commands: Mapping[str, Double], real: Double, drift: float, share: float
) -> str | None:
    """An axis that fits better the other way round; None if there is none."""
    for axis in found:
        if float(np.nanstd(commands[axis])) < _MOVES:
            continue
        alone = {axis: found[axis]}
        free, own = _matches(alone, commands, real, drift, signed=False)
        signed, _ = _matches(alone, commands, real, drift)
        place = int(np.argmax(free))
        if free[place] > 1.2 * signed[place] and free[place] > max(_GOOD, share) * own[place] and share < 0.9:
            return axis
    return None

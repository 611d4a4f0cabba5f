"""Natural eyes over time: line of sight, saccades, blinks and drowsy lids, as columns of a trajectory.

- ``gaze_yaw``, ``gaze_pitch``: the eyes in the head, degrees, > 0 towards the image's right edge and up.
- ``look_yaw``, ``look_pitch``: the line of sight as the camera sees it, degrees, signs likewise; (0, 0) is a line of
  sight parallel to that of a head at (0, 0, 0), into the camera.
- ``head_share``: how much of the look the head does, from 1 (owl: all of it) to 0 (lizard: the eyes only).
- ``eye_opening``: 1 as at rest, 0 closed. ``eye_opening_left``, ``eye_opening_right``: likewise, for winks.

What happens is drawn first, as events in seconds (fixations, blinks), and then read at a trajectory's times
(``saccades``, ``eye_opening``). So the events depend on the seed, never on the frame rate.

Figures that are not cited are choices within what drivers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.trajectory import Trajectory, minimum_jerk
from dmsynth.support.errors import DmsynthError

Array = NDArray[np.float64]

EYES_TURN = 45.0  # degrees in the head, about the limit in man (Guitton and Volle 1987)
CLOSED = 0.2  # the eyes count as closed up to this opening: 80 % closed (Wierwille et al. 1994)
_HEAD_LAG = 0.05  # seconds from the eyes' start to the head's
_AHEAD = 0.3  # seconds by which the line of sight leads a moving head
_STRAY = 8.0  # degrees that the head may leave the line of sight behind before a saccade
_PAUSE = 0.2  # seconds between saccades at least: about their latency
_LONGEST_SHARE = 0.6  # of time with closed eyes; with more, lids have no time to open


def gaze_in_head(head: ArrayLike, look_yaw: ArrayLike, look_pitch: ArrayLike) -> tuple[Array, Array]:
    """(gaze_yaw, gaze_pitch) in degrees, each (...), with which a turned head looks along (look_yaw, look_pitch).

    Exact: the line of sight as a vector, in the head's frame. ``head`` (..., 3, 3) are matrices from
    ``dmsynth.controls.pose.rotation_matrix``; the angles are degrees, (...). Yaw is in [-180, 180], pitch in [-90, 90].
    """
    return _angles(np.einsum("...ji,...j->...i", np.asarray(head, float), _vector(look_yaw, look_pitch)))


def line_of_sight(head: ArrayLike, gaze_yaw: ArrayLike, gaze_pitch: ArrayLike) -> tuple[Array, Array]:
    """(look_yaw, look_pitch) in degrees of eyes at (gaze_yaw, gaze_pitch) in a turned head: undoes ``gaze_in_head``."""
    return _angles(np.einsum("...ij,...j->...i", np.asarray(head, float), _vector(gaze_yaw, gaze_pitch)))


def _vector(yaw: ArrayLike, pitch: ArrayLike) -> Array:
    return rotation_matrix(pitch, yaw, np.zeros(()))[..., :, 2]  # where the nose of such a head points


def _angles(vector: Array) -> tuple[Array, Array]:
    x, y, z = np.moveaxis(vector, -1, 0)
    return np.degrees(np.arctan2(x, z)), np.degrees(np.arctan2(y, np.hypot(x, z)))


def with_gaze(trajectory: Trajectory) -> Trajectory:
    """Replace the look by what head and eyes do: pitch, yaw, roll, gaze_yaw, gaze_pitch, then the other columns.

    A trajectory with ``pitch`` or ``yaw`` keeps its head, and the eyes do the rest: with a look that holds still they
    counter-rotate (vestibulo-ocular reflex). Otherwise the head turns ``head_share`` of the look's yaw and pitch;
    without ``head_share`` all of it, because not every face steers its eyes. Columns of look and head that are not
    there are 0. A trajectory without a look comes back as it is.

    Raises ``DmsynthError`` for a look beside ``gaze_*``, for ``head_share`` without a look, beside ``pitch`` or ``yaw``
    or outside [0, 1].
    """
    has = set(trajectory.names)
    look, gaze, head = has & {"look_yaw", "look_pitch"}, has & {"gaze_yaw", "gaze_pitch"}, has & {"pitch", "yaw"}
    if look and gaze:
        raise DmsynthError(
            f"trajectory: {_list(look)} says where the eyes look, and so does {_list(gaze)}; leave one of them out"
        )
    if "head_share" in has and (head or not look):
        beside = f"has {_list(head)}, which says it, too" if head else "has no look_yaw or look_pitch"
        raise DmsynthError(
            f"trajectory: head_share says how much of a look the head does, but the trajectory {beside}; leave it out"
        )
    if not look:
        return trajectory
    column = {name: _column(trajectory, name, 0.0) for name in ("pitch", "yaw", "roll", "look_yaw", "look_pitch")}
    if not head:
        share = _column(trajectory, "head_share", 1.0)
        bad = np.flatnonzero(~((share >= 0) & (share <= 1)))
        if bad.size:
            raise DmsynthError(
                f"trajectory: row {bad[0]}: head_share is {share[bad[0]]:g}; give 0 (the eyes only) to 1 (the head)"
            )
        column["pitch"], column["yaw"] = share * column["look_pitch"], share * column["look_yaw"]
    matrices = rotation_matrix(column["pitch"], column["yaw"], column["roll"])
    eyes = gaze_in_head(matrices, column.pop("look_yaw"), column.pop("look_pitch"))
    column |= dict(zip(("gaze_yaw", "gaze_pitch"), eyes, strict=True))
    column |= {n: trajectory[n] for n in trajectory.names if n not in {*column, *look, "head_share"}}
    return Trajectory(tuple(column), trajectory.times, np.stack(list(column.values()), axis=1))


def _column(trajectory: Trajectory, name: str, otherwise: float) -> Array:
    return trajectory[name] if name in trajectory.names else np.full(len(trajectory), otherwise)


def _list(names: set[str]) -> str:
    return " and ".join(sorted(names))


class Fixation(NamedTuple):
    """From ``start`` (seconds, when the saccade to it begins) the eyes rest at ``yaw``, ``pitch`` (degrees)."""

    start: float
    yaw: float
    pitch: float


def saccade_seconds(degrees: ArrayLike) -> Array:
    """How long saccades of these sizes take: 2.2 ms a degree and 21 ms more (Carpenter 1988).

    With the minimum-jerk course of ``saccades`` their peak velocity is 1.875 times the mean velocity and saturates with
    size, as the main sequence does (Bahill, Clark and Stark 1975): about 150 °/s at 2°, 440 °/s at 10°, 620 °/s at 25°.
    """
    return np.asarray(0.021 + 0.0022 * np.abs(np.asarray(degrees, float)))


def saccades(times: Array, fixations: Iterable[Fixation]) -> Array:
    """(n, 2) yaw and pitch in degrees at ``times`` (n,): the eyes rest at one fixation after the other.

    Before the first fixation the eyes are there already. Raises ``DmsynthError`` if the starts do not increase.
    """
    course = np.array(list(fixations), float).reshape(-1, 3)
    return _moves(times, course, saccade_seconds(_sizes(course)))


def gaze_shifts(times: Array, looks: Iterable[Fixation], head_share: float = 0.7) -> Trajectory:
    """Eyes and head of a driver who looks at one place after the other: pitch, yaw, roll, gaze_yaw, gaze_pitch.

    ``looks`` are lines of sight. The eyes go first, the head starts 50 ms later and takes longer, and the eyes turn
    back as it arrives (Guitton and Volle 1987; Zangemeister and Stark 1982). Farther than ``EYES_TURN`` from the head's
    direction the eyes wait for the head. Raises ``DmsynthError`` for looks that do not increase in time, or that eyes
    and head do not reach with this share (in [0, 1]).
    """
    course = np.array(list(looks), float).reshape(-1, 3)
    move = course * (1, head_share, head_share) + (_HEAD_LAG, 0, 0)
    eyes = saccades(times, [Fixation(*row) for row in course])
    head = _moves(times, move, 0.25 + 0.008 * _sizes(move))  # with 60°: 0.7 s, 150 °/s at most
    reach = _eccentricity(course[:, 1:] - move[:, 1:])
    if not 0 <= head_share <= 1 or (reach > EYES_TURN).any():
        raise DmsynthError(
            f"looks: with head_share {head_share:g} the eyes would turn up to {reach.max():.0f}° in the head, but they "
            f"reach {EYES_TURN:.0f}°; give a share up to 1 that leaves them less"
        )
    turned = Trajectory(("pitch", "yaw", "roll"), times, np.column_stack([head[:, ::-1], np.zeros(len(times))]))
    return _looking(turned, eyes)


def small_saccades(
    start: float, end: float, seed: int | np.random.Generator, interval: float = 0.6, spread: float = 1.0
) -> list[Fixation]:
    """Fixations around (0, 0), from ``start`` to ``end`` seconds: an attentive eye never rests for long.

    They last 0.2 s and an exponentially distributed rest, ``interval`` seconds on average; the fixations are normally
    distributed with ``spread`` degrees in yaw and in pitch. Small saccades come once or twice a second
    (Martinez-Conde, Macknik and Hubel 2004). ``DmsynthError`` if ``interval`` is not above 0.2.
    """
    if not interval > _PAUSE:
        raise DmsynthError(f"saccades: an interval of {interval:g} s; eyes rest for {_PAUSE} s at least: give more")
    rng, now = np.random.default_rng(seed), start
    course: list[Fixation] = []
    while now < end:
        course.append(Fixation(now, *(spread * rng.standard_normal(2)).tolist()))
        now += _PAUSE + float(rng.exponential(interval - _PAUSE))
    return course


def _moves(times: Array, course: Array, seconds: Array) -> Array:
    """Minimum-jerk moves along ``course`` (k, 3), each in its ``seconds`` (k - 1,). A move that begins before the last
    one ends is added to it (Flash and Henis 1991)."""
    if not len(course) or (np.diff(course[:, 0]) <= 0).any():
        raise DmsynthError("fixations: give at least one, and their starts in seconds must increase")
    moved, done = np.zeros((len(times), 2)), np.zeros((len(times) + 1, 2))
    for begin, step, lasts in zip(course[1:, 0], np.diff(course[:, 1:], axis=0), seconds, strict=True):
        moving, after = np.searchsorted(times, [begin, begin + lasts])
        moved[moving:after] += minimum_jerk(np.zeros(2), step, (times[moving:after] - begin) / lasts)
        done[after] += step
    return course[0, 1:] + np.cumsum(done[:-1], axis=0) + moved


def _sizes(course: Array) -> Array:
    return _eccentricity(np.diff(course[:, 1:], axis=0))


def _eccentricity(angles: Array) -> Array:
    return np.hypot(angles[..., 0], angles[..., 1])


def _looking(trajectory: Trajectory, look: Array) -> Trajectory:
    """The head's course with the gaze beside it that looks along ``look``: yaw and pitch (n, 2) in degrees. The gaze
    turns ``EYES_TURN`` at most."""
    head = rotation_matrix(*(_column(trajectory, name, 0.0) for name in ("pitch", "yaw", "roll")))
    gaze = np.stack(gaze_in_head(head, look[:, 0], look[:, 1]), axis=1)
    gaze *= (EYES_TURN / np.maximum(_eccentricity(gaze), EYES_TURN))[:, None]
    return _beside(trajectory, {"gaze_yaw": gaze[:, 0], "gaze_pitch": gaze[:, 1]})


def _beside(trajectory: Trajectory, columns: dict[str, Array]) -> Trajectory:
    values = np.column_stack([trajectory.values, *columns.values()])
    return Trajectory((*trajectory.names, *columns), trajectory.times, values)


class Blink(NamedTuple):
    """Lids that begin to close at ``start`` and then close, stay closed and open again: all in seconds."""

    start: float
    closing: float
    closed: float
    opening: float


def eye_opening(times: Array, blinks: Iterable[Blink]) -> Array:
    """(n,) the opening of the eyes, 0 (closed) to 1 (as at rest), at ``times`` (n,). Blinks may overlap."""
    opening = np.ones(len(times))
    for begin, closing, closed, opens in blinks:
        within = slice(*np.searchsorted(times, [begin, begin + closing + closed + opens]))
        since = times[within] - begin
        phase = np.minimum(since / closing, 1 - (since - closing - closed) / opens).clip(0, 1)
        opening[within] = np.minimum(opening[within], 1 - minimum_jerk(np.zeros(1), np.ones(1), phase)[:, 0])
    return opening.clip(0, 1)  # of rounding


def natural_blinks(
    start: float, end: float, seed: int | np.random.Generator, rate: float = 17.0, drowsiness: float = 0.0
) -> list[Blink]:
    """Spontaneous blinks that begin from ``start`` to ``end`` seconds, ``rate`` a minute on average.

    At rest people blink 17 times a minute (Bentivoglio et al. 1997); from the end of a blink to the next passes a
    log-normally distributed time. Lids close in about 100 ms and open in about 200 ms (VanderWerf et al. 2003). With
    ``drowsiness`` from 0 (awake) to 1 blinks get slower and longer (Caffier, Erdmann and Ullsperger 2003; Schleicher et
    al. 2008): closing, closed and opening 0.10, 0.03 and 0.20 s become 0.20, 0.30 and 0.45 s, each ± 15 %.

    ``DmsynthError`` if drowsiness is not in [0, 1], or blinks of this length do not fit in with the rate.
    """
    phases = np.array([0.10, 0.03, 0.20]) + drowsiness * np.array([0.10, 0.27, 0.25])
    if not 0 <= drowsiness <= 1 or not 0 < rate * phases.sum() < 45:
        raise DmsynthError(
            f"blinks: {rate:g} a minute with drowsiness {drowsiness:g}; give a drowsiness from 0 to 1, and above 0 and "
            f"below {45 / phases.sum():.0f} blinks a minute"
        )
    rng, sigma = np.random.default_rng(seed), 0.6
    blinks: list[Blink] = []
    gap = np.log(60 / rate - phases.sum()) - sigma**2 / 2  # so that the mean is right
    now = start + float(rng.uniform() * rng.lognormal(gap, sigma))  # the course begins anywhere between two blinks
    while now < end:
        blink = Blink(now, *(phases * rng.normal(1, 0.15, 3).clip(0.6, 1.4)).tolist())
        blinks.append(blink)
        now += sum(blink[1:]) + float(rng.lognormal(gap, sigma))
    return blinks


def microsleep(start: float, closed: float = 1.5) -> Blink:
    """Lids that sink slowly from ``start``, stay closed for ``closed`` seconds (1 to 2 as a rule), and open."""
    return Blink(start, 0.5, closed, 0.4)


def perclos(times: Array, opening: Array, window: float = 60.0) -> Array:
    """(n,) the share of time, 0 to 1, with the eyes at least 80 % closed (``CLOSED``) in the ``window`` seconds before.

    PERCLOS (Wierwille et al. 1994; Dinges and Grace 1998). ``times`` (n,) seconds, increasing; ``opening`` (n,) as
    ``eye_opening``. NaN until a whole window has passed.
    """
    closed = np.concatenate([[0.0], np.cumsum((opening[:-1] <= CLOSED) * np.diff(times))])  # each lasts to the next
    share = (closed - np.interp(times - window, times, closed)) / window
    return np.where(times - times[0] >= window - 1e-6, share, np.nan)


def perclos_blinks(
    times: ArrayLike, shares: ArrayLike, seed: int | np.random.Generator, window: float = 60.0
) -> list[Blink]:
    """Blinks from ``times[0]`` to ``times[-1]`` whose PERCLOS over the last ``window`` seconds follows ``shares``.

    ``times`` (k,) seconds, increasing; ``shares`` (k,) in [0, 0.6], linear in between: ``[0, 600], [0.05, 0.3]`` gets
    drowsy within ten minutes. The blinks get longer, about 20 a minute, up to closures of more than a second; below
    0.05 they get fewer. It follows within 0.02 where the shares are steady, rise or fall; a mean over a window
    rounds off their bends, by an eighth of the change in slope (share a window). ``DmsynthError`` for a share outside,
    or fewer than two.
    """
    at, asked = np.asarray(times, float), np.asarray(shares, float)
    if len(at) < 2 or not ((asked >= 0) & (asked <= _LONGEST_SHARE)).all():
        raise DmsynthError(f"PERCLOS: {asked.tolist()} was asked for; give two shares or more of 0 to {_LONGEST_SHARE}")
    fine = np.arange(at[0], at[-1] + 10, 0.1)  # what is due soon after the end counts in its last blinks
    onward = asked[-1] + (asked[-1] - asked[-2]) / (at[-1] - at[-2]) * window
    now = np.interp(fine + window / 2, [*at, at[-1] + window], [*asked, onward])  # a mean is half a window late
    now = now.clip(0, _LONGEST_SHARE)
    debt = np.concatenate([[0.0], np.cumsum(now[:-1] * 0.1)])  # seconds closed from the start
    rng, paid = np.random.default_rng(seed), 0.0
    blinks: list[Blink] = []
    edge = 0.3266  # of a minimum-jerk closing or opening is below ``CLOSED``
    while True:
        share = float(np.interp(paid, debt, now))
        lasts = float(np.clip(3 * share, 0.15, 1.0) * rng.uniform(0.7, 1.3))
        if paid + lasts / 2 > debt[-1]:
            return blinks
        moves = np.array([1 / 3, 2 / 3]) * min(0.55, 2.5 * lasts)
        middle = float(np.interp(paid + lasts / 2, debt, fine))
        closing, opens = moves.tolist()
        begin = middle - lasts / 2 - (1 - edge) * closing
        if begin > at[-1]:
            return blinks
        blinks.append(Blink(begin, closing, lasts - edge * (closing + opens), opens))
        paid += lasts


def natural_eyes(
    trajectory: Trajectory, seed: int, rate: float = 17.0, drowsiness: float = 0.0, spread: float = 1.0
) -> Trajectory:
    """Add natural eyes to a head's course: gaze_yaw, gaze_pitch and eye_opening; what is there stays as it is.

    The line of sight rests while the head turns (the eyes counter-rotate), and jumps ahead of the head: after the
    intervals of ``small_saccades``, or as the head is about to leave it behind. Where the trajectory has a look
    (``with_gaze``) or a gaze, that is taken. ``rate`` (a minute) and ``drowsiness`` are those of ``natural_blinks``,
    ``spread`` (degrees) that of ``small_saccades``. The same seed gives the same events, at any frame rate; those that
    a movement of the head brings about are as exact as the course's frames tell it.
    """
    lids, eyes = np.random.default_rng(seed).spawn(2)
    result = with_gaze(trajectory)
    begin, end = float(result.times[0]), float(result.times[-1])
    if not {"gaze_yaw", "gaze_pitch"} & set(result.names):
        head = np.stack([_column(result, name, 0.0) for name in ("yaw", "pitch")], axis=1)
        scan = small_saccades(begin, end + 0.01, eyes, spread=spread)  # one at least
        result = _looking(result, saccades(result.times, _looks(result.times, head, scan)))
    if not {"eye_opening", "eye_opening_left", "eye_opening_right"} & set(result.names):
        opening = eye_opening(result.times, natural_blinks(begin, end, lids, rate, drowsiness))
        result = _beside(result, {"eye_opening": opening})
    return result


def _looks(times: Array, head: Array, scan: list[Fixation]) -> list[Fixation]:
    """Lines of sight around where the head will point, for a course of yaw and pitch (n, 2): those of ``scan``, and one
    more whenever the head is about to turn away."""
    clock = np.arange(times[0], times[-1] + 0.01, 0.01)  # not the frames: a saccade begins between them, too
    ahead = np.stack([np.interp(clock + _AHEAD, times, angle) for angle in head.T], axis=1)
    rest, number = ahead[0], 0
    looks: list[Fixation] = []
    for now, target in zip(clock.tolist(), ahead, strict=True):
        due = number < len(scan) and now >= scan[number].start
        rested = not looks or now - looks[-1].start >= _PAUSE
        if rested and (due or np.hypot(*(target - rest)) > _STRAY):
            number, rest = number + due, target
            aside = scan[number - 1]
            looks.append(Fixation(now, float(target[0]) + aside.yaw, float(target[1]) + aside.pitch))
    return looks

"""Natural eyes: the geometry of the look, saccades, blinks and PERCLOS are those of the literature."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.eyes import (
    EYES_TURN,
    Blink,
    Fixation,
    eye_opening,
    gaze_in_head,
    gaze_shifts,
    line_of_sight,
    microsleep,
    natural_blinks,
    natural_eyes,
    perclos,
    perclos_blinks,
    saccade_seconds,
    saccades,
    small_saccades,
    with_gaze,
)
from dmsynth.motion.trajectory import Trajectory, parse_motions
from dmsynth.support.errors import DmsynthError

DRIVE = "hold 1; move yaw=-45 pitch=-8 0.8; hold 1; move yaw=10 pitch=0 1; hold 2; sweep yaw=30 2; hold 2"


def course(**columns: float | list[float]) -> Trajectory:
    values = np.stack(np.broadcast_arrays(*map(np.atleast_1d, columns.values())), axis=1).astype(float)
    return Trajectory(tuple(columns), np.arange(len(values)) / 30, values)


def drive(frame_rate: float) -> Trajectory:
    return parse_motions(DRIVE, ("pitch", "yaw", "roll"), frame_rate)


def look_of(eyes: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    return line_of_sight(
        rotation_matrix(eyes["pitch"], eyes["yaw"], eyes["roll"]), eyes["gaze_yaw"], eyes["gaze_pitch"]
    )


@given(*[st.floats(-80, 80)] * 3, st.floats(-179, 179), st.floats(-89, 89))
def test_eyes_in_the_head_and_line_of_sight_undo_each_other(p: float, y: float, r: float, gy: float, gp: float) -> None:
    head = rotation_matrix(p, y, r)
    back = gaze_in_head(head, *line_of_sight(head, gy, gp))
    assert np.array(back) == pytest.approx(np.array([gy, gp]), abs=1e-6)


@given(st.floats(-80, 80), st.floats(-80, 80), st.floats(-80, 80))
def test_a_head_that_points_at_the_target_leaves_the_eyes_at_rest(pitch: float, yaw: float, roll: float) -> None:
    assert np.array(gaze_in_head(rotation_matrix(pitch, yaw, roll), yaw, pitch)) == pytest.approx(0, abs=1e-6)


def test_the_eyes_turn_as_the_head_does_and_tilt_with_it() -> None:
    still = rotation_matrix(0, 0, 0)
    assert np.array(line_of_sight(still, 20, 10)) == pytest.approx([20, 10])
    assert np.array(line_of_sight(rotation_matrix(0, 30, 0), 20, 0)) == pytest.approx([50, 0])
    assert np.array(line_of_sight(rotation_matrix(0, 0, 90), 0, 20)) == pytest.approx([20, 0])  # clockwise: up is right
    many = gaze_in_head(rotation_matrix(np.zeros(5), np.arange(5.0), np.zeros(5)), 0, 0)
    assert many[0] == pytest.approx(-np.arange(5))


def test_head_share_runs_from_owl_to_lizard() -> None:
    done = with_gaze(course(look_yaw=[30.0] * 3, look_pitch=-10, head_share=[1.0, 0.0, 0.5], eye_opening=0.8))
    assert done.names == ("pitch", "yaw", "roll", "gaze_yaw", "gaze_pitch", "eye_opening")
    assert done["yaw"] == pytest.approx([30, 0, 15]) and done["pitch"] == pytest.approx([-10, 0, -5])
    assert done["gaze_yaw"] == pytest.approx([0, 30, 15], abs=0.5)
    assert np.array(look_of(done)) == pytest.approx(np.array([[30] * 3, [-10] * 3]))
    assert with_gaze(course(look_yaw=20))["yaw"] == pytest.approx(20)  # without a share the head does it all


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"look_yaw": 1.0, "gaze_pitch": 1.0}, "look_yaw says where the eyes look, and so does gaze_pitch"),
        ({"look_yaw": 1.0, "yaw": 1.0, "head_share": 1.0}, "has yaw, which says it, too"),
        ({"yaw": 1.0, "head_share": 1.0}, "has yaw, which"),
        ({"eye_opening": 1.0, "head_share": 1.0}, "has no look_yaw"),
        ({"look_yaw": [1.0, 1.0], "head_share": [1.0, 1.5]}, "row 1: head_share is 1.5"),
    ],
)
def test_what_contradicts_a_look_is_an_error(columns: dict[str, float | list[float]], says: str) -> None:
    with pytest.raises(DmsynthError, match=says):
        with_gaze(course(**columns))


def test_the_eyes_counter_rotate_while_the_look_holds_still() -> None:
    head = drive(60)
    held = {"look_yaw": np.full(len(head), 5.0), "look_pitch": np.full(len(head), -3.0)}
    values = np.column_stack([head.values, *held.values()])
    eyes = natural_eyes(Trajectory((*head.names, *held), head.times, values), seed=1)
    yaw, pitch = look_of(eyes)
    assert np.abs(yaw - 5).max() < 0.1 and np.abs(pitch + 3).max() < 0.1
    assert np.ptp(eyes["gaze_yaw"]) > 60 and "eye_opening" in eyes.names


@pytest.mark.parametrize("degrees", [0.5, 2, 5, 10, 20, 30])
def test_saccades_lie_on_the_main_sequence(degrees: float) -> None:
    times = np.arange(0, 0.3, 1e-4)
    yaw = saccades(times, [Fixation(0, 0, 0), Fixation(0.1, degrees, 0)])[:, 0]
    speed = np.gradient(yaw, times)
    lasts = np.ptp(times[(yaw > 0) & (yaw < degrees)])
    assert lasts == pytest.approx(0.021 + 0.0022 * degrees, abs=1e-3)
    assert yaw[-1] == degrees and speed.min() >= -1e-6
    assert speed.max() == pytest.approx(1.875 * degrees / float(saccade_seconds(degrees)), rel=0.01)
    assert speed.max() < 700  # saturates (Bahill, Clark and Stark 1975)


def test_small_saccades_stay_around_the_centre() -> None:
    drawn = np.array([f for seed in range(30) for f in small_saccades(0, 60, seed, interval=0.5, spread=1.5)])
    assert len(drawn) / 30 == pytest.approx(120, rel=0.05)
    assert drawn[:, 1:].std(axis=0) == pytest.approx([1.5, 1.5], rel=0.05)
    assert drawn[:, 1:].mean(axis=0) == pytest.approx([0, 0], abs=0.1)
    starts = [f.start for f in small_saccades(3, 60, 0)]
    assert starts[0] == 3 and min(b - a for a, b in pairwise(starts)) >= 0.2


def test_in_a_gaze_shift_the_eyes_lead_and_turn_back() -> None:
    times = np.arange(0, 3, 0.001)
    shift = gaze_shifts(times, [Fixation(0, 0, 0), Fixation(1, 40, -10)], head_share=0.8)
    eyes, head = shift["gaze_yaw"], shift["yaw"]
    eyes_start, head_start = (times[np.argmax(np.abs(angle) > 0.5)] for angle in (eyes, head))
    assert 1 <= eyes_start < head_start - 0.05
    assert eyes.max() > 30 and eyes[-1] == pytest.approx(8, abs=1)
    assert (np.diff(eyes[times > 1.2]) <= 1e-6).all()  # turn back as the head comes
    yaw, pitch = look_of(shift)
    arrived = times > 1 + saccade_seconds(np.hypot(40, 10))
    assert np.abs(yaw[arrived] - 40).max() < 0.1 and np.abs(pitch[arrived] + 10).max() < 0.1


def test_beyond_their_reach_the_eyes_wait_for_the_head() -> None:
    times = np.arange(0, 3, 0.01)
    looks = [Fixation(0, 0, 0), Fixation(1, 80, 0)]
    shift = gaze_shifts(times, looks, head_share=0.7)
    assert shift["gaze_yaw"].max() == pytest.approx(EYES_TURN)
    assert look_of(shift)[0][-1] == pytest.approx(80)
    with pytest.raises(DmsynthError, match="turn up to 64° in the head"):
        gaze_shifts(times, looks, head_share=0.2)
    with pytest.raises(DmsynthError, match="must increase"):
        gaze_shifts(times, looks[::-1])


@pytest.mark.parametrize("rate", [15, 20])
def test_awake_people_blink_briefly_at_the_rate_asked_for(rate: float) -> None:
    minutes = [natural_blinks(0, 300, seed, rate) for seed in range(100)]
    assert np.mean([len(blinks) / 5 for blinks in minutes]) == pytest.approx(rate, rel=0.03)
    lengths = np.array([blink[1:] for blinks in minutes for blink in blinks])
    assert lengths.mean(axis=0) == pytest.approx([0.1, 0.03, 0.2], rel=0.02)
    assert lengths.sum(axis=1).min() > 0.2 and lengths.sum(axis=1).max() < 0.47
    starts = np.concatenate([np.diff([b.start for b in blinks]) for blinks in minutes])
    assert 0.4 < starts.std() / starts.mean() < 0.8  # neither a metronome nor a burst
    assert all(a.start + sum(a[1:]) < b.start for blinks in minutes for a, b in pairwise(blinks))


def test_a_blink_closes_faster_than_it_opens() -> None:
    times = np.arange(0, 1, 0.001)
    opening = eye_opening(times, [Blink(0.2, 0.1, 0.03, 0.2)])
    assert opening.min() == 0 and (opening[(times > 0.301) & (times < 0.329)] == 0).all()
    assert opening[times < 0.2].min() == 1 and opening[times > 0.531].min() == 1
    speed = np.gradient(opening, times)
    assert -speed.min() == pytest.approx(2 * speed.max(), rel=0.02)


def test_drowsy_blinks_are_slower_and_longer_and_a_microsleep_longer_still() -> None:
    awake, drowsy = (natural_blinks(0, 600, 3, drowsiness=share) for share in (0, 1))
    assert np.mean([b.closing for b in drowsy]) > 1.8 * np.mean([b.closing for b in awake])
    assert 0.7 < np.mean([sum(b[1:]) for b in drowsy]) < 1.2
    times = np.arange(0, 5, 0.01)
    assert np.sum(eye_opening(times, [microsleep(1, closed=1.5)]) == 0) * 0.01 == pytest.approx(1.5, abs=0.05)
    for wrong in ({"drowsiness": 1.5}, {"rate": 0.0}, {"rate": 60.0, "drowsiness": 1.0}):
        with pytest.raises(DmsynthError, match="blinks a minute"):
            natural_blinks(0, 60, 0, **wrong)


def test_perclos_is_the_share_of_the_last_minute() -> None:
    times = np.arange(0, 180, 0.05)
    opening = np.where((times >= 60) & (times < 75), 0.2, 1.0)
    share = perclos(times, opening)
    assert np.isnan(share[times < 59.9]).all()
    at = np.searchsorted(times, [60 - 1e-6, 67.5 - 1e-6, 100, 127.5 - 1e-6, 140])
    assert share[at] == pytest.approx([0, 0.125, 0.25, 0.125, 0], abs=2e-3)


@pytest.mark.parametrize("frame_rate", [30, 60])
@pytest.mark.parametrize(
    ("at", "asked"), [([0, 300], [0.05, 0.3]), ([0, 240], [0.15, 0.15]), ([0, 400, 800], [0.05, 0.2, 0.1])]
)
def test_perclos_follows_what_was_asked_for(at: list[float], asked: list[float], frame_rate: float) -> None:
    times = np.arange(0, at[-1], 1 / frame_rate)
    for seed in range(20):
        measured = perclos(times, eye_opening(times, perclos_blinks(at, asked, seed)))
        off = np.abs(measured - np.interp(times, at, asked))[times > 60.1]
        assert off.max() < 0.02, seed


def test_perclos_out_of_range_is_an_error() -> None:
    assert perclos_blinks([0, 120], [0, 0], 0) == []
    with pytest.raises(DmsynthError, match=r"give two shares or more of 0 to 0\.6"):
        perclos_blinks([0, 120], [0.1, 0.9], 0)


def test_natural_eyes_lead_a_moving_head_and_rest_on_what_they_look_at() -> None:
    eyes = natural_eyes(drive(60), seed=4)
    assert eyes.names == ("pitch", "yaw", "roll", "gaze_yaw", "gaze_pitch", "eye_opening")
    assert eyes["yaw"] == pytest.approx(drive(60)["yaw"])
    assert np.hypot(eyes["gaze_yaw"], eyes["gaze_pitch"]).max() <= EYES_TURN + 1e-9
    turning = (eyes.times > 1.05) & (eyes.times < 1.5)  # to the left
    assert eyes["gaze_yaw"][turning].mean() < -8
    resting = (eyes.times > 2.5) & (eyes.times < 2.7)
    assert np.abs(eyes["gaze_yaw"][resting]).max() < 4
    moved = np.abs(np.diff(look_of(eyes)[0])) > 0.02
    assert moved.mean() < 0.25  # the line of sight rests most of the time, while the head turns, too
    assert np.median(np.abs(np.diff(look_of(eyes)[0]))) < 1e-6


def test_natural_eyes_leave_what_is_there() -> None:
    given_eyes = course(yaw=[0.0] * 30, gaze_yaw=7, eye_opening_left=0)
    assert natural_eyes(given_eyes, 0) == given_eyes
    assert natural_eyes(course(yaw=[0.0] * 30, eye_opening=0.5), 0)["eye_opening"] == pytest.approx(0.5)
    placed = natural_eyes(course(x=[0.0] * 30), 0)  # a face that moves but does not turn
    assert placed.names == ("x", "gaze_yaw", "gaze_pitch", "eye_opening")
    assert len(natural_eyes(course(yaw=[0.0]), 0)) == 1


def test_the_same_seed_gives_the_same_events_at_any_frame_rate() -> None:
    slow, again, fast = (natural_eyes(drive(rate), seed=11) for rate in (30, 30, 60))
    assert (slow.values == again.values).all()
    assert not np.array_equal(slow["gaze_yaw"], natural_eyes(drive(30), seed=12)["gaze_yaw"])
    assert slow["eye_opening"] == pytest.approx(fast["eye_opening"][::2], abs=1e-9)
    off = np.abs(np.array(look_of(slow)) - np.array(look_of(fast))[:, ::2]).max(axis=0)
    assert np.mean(off > 0.5) < 0.03  # at most a few frames, in a saccade
    assert natural_blinks(0, 100, 5) == [b for b in natural_blinks(0, 200, 5) if b.start < 100]

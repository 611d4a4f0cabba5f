"""Trajectories: what is written is what is commanded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmsynth.controls import CONTROL_SPACES
from dmsynth.motion.trajectory import (
    Motion,
    MotionPath,
    Trajectory,
    as_sweeps,
    from_table,
    in_words,
    minimum_jerk,
    parse_motions,
)
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table

NAMES = ("pitch", "yaw", "roll")
ROTATION = CONTROL_SPACES["rotation"]


def test_a_move_ends_within_a_controls_range_at_any_frame_rate() -> None:
    for frame_rate in (24, 25, 30, 50, 60):
        motion = parse_motions("move eye_opening=0 0.2; hold 0.1", ("eye_opening",), frame_rate, {"eye_opening": 1.0})
        assert motion["eye_opening"].min() == 0.0  # and not a rounding error below


def test_a_sweep_is_straight_and_starts_where_it_says() -> None:
    sweep = parse_motions("sweep yaw=-30:30 4", NAMES, 25)
    assert len(sweep) == 101
    assert sweep["yaw"] == pytest.approx(np.linspace(-30, 30, 101))
    assert not sweep["pitch"].any()


def test_a_move_rests_at_both_ends_and_keeps_the_other_controls() -> None:
    path = parse_motions("move pitch=10 1; move yaw=30 2; hold 1", NAMES, 50)
    assert path["yaw"][50] == pytest.approx(0)
    assert path["yaw"][100] == pytest.approx(15)  # minimum jerk passes the middle half-way
    assert path["yaw"][150:] == pytest.approx(30)
    assert path["pitch"][50:] == pytest.approx(10)
    speed = np.gradient(path["yaw"], path.times)
    assert abs(speed[51]) < 1 and abs(speed[149]) < 1 and speed.max() == pytest.approx(1.875 * 15, rel=0.02)


@given(st.floats(-80, 80), st.floats(-80, 80))
def test_minimum_jerk_never_overshoots(start: float, end: float) -> None:
    path = minimum_jerk(np.array([start]), np.array([end]), np.linspace(0, 1, 50))[:, 0]
    assert path.min() >= min(start, end) - 1e-9 and path.max() <= max(start, end) + 1e-9
    assert (np.diff(path) * np.sign(end - start) >= -1e-9).all()


@settings(max_examples=50)
@given(
    moves=st.lists(st.tuples(st.sampled_from(NAMES), st.floats(-80, 80), st.floats(0.1, 3)), min_size=1, max_size=6),
    frame_rate=st.sampled_from([10.0, 25.0, 29.97, 60.0]),
)
def test_written_motions_end_where_they_say(moves: list[tuple[str, float, float]], frame_rate: float) -> None:
    text = "; ".join(f"move {name}={value:.4f} {seconds:.4f}" for name, value, seconds in moves) + "; hold 1"
    path = parse_motions(text, NAMES, frame_rate)
    last = {name: round(value, 4) for name, value, _ in moves}
    assert path.values[-1] == pytest.approx([last.get(name, 0.0) for name in NAMES])
    assert path.seconds == pytest.approx(sum(round(s, 4) for *_, s in moves) + 1, abs=1 / frame_rate + 1e-6)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        path = parse_motions(text, NAMES, 25)
    except DmsynthError as error:
        assert "trajectory" in str(error)
    else:
        assert np.isfinite(path.values).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no motion"),
        ("turn yaw=3 1", "cannot read"),
        ("move 1", "cannot read"),
        ("hold yaw=3 1", "cannot read"),
        ("move jaw=3 1", "no control 'jaw'"),
        ("move yaw=left 1", "'left' is no number"),
        ("move yaw=nan 1", "'nan' is no number"),
        ("move yaw=3 -1", "lasts -1 s"),
        ("move yaw=3 1e9", "lasts 1e+09 s"),
    ],
)
def test_unreadable_motions_are_named(text: str, complaint: str) -> None:
    with pytest.raises(DmsynthError, match="trajectory") as error:
        parse_motions(text, NAMES, 25)
    assert complaint in str(error.value)


def test_resampling_keeps_the_motion() -> None:
    path = parse_motions("sweep yaw=-30:30 2", NAMES, 100).resampled(30)
    assert len(path) == 61
    assert path["yaw"] == pytest.approx(np.linspace(-30, 30, 61))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_come_back_as_they_went(tmp_path: Path, suffix: str) -> None:
    path = parse_motions("move yaw=20 pitch=-5 1", NAMES, 25)
    file = tmp_path / f"motion{suffix}"
    path.save(file)
    back = from_table(read_table(file), NAMES, str(file))
    assert back.names == NAMES
    assert back.values == pytest.approx(path.values, abs=1e-4)
    assert back.times == pytest.approx(path.times)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"time": [0, 1], "yaw": [0, np.nan]}, "row 1, column 'yaw' holds nan"),
        ({"time": [0, 1], "yaw": ["0", "left"]}, "row 1, column 'yaw' holds 'left'"),
        ({"time": [0, 1], "yaw": [0, np.inf]}, "row 1, column 'yaw' holds inf"),
        ({"yaw": [0, 1]}, "no column 'time'"),
        ({"time": [0, 1], "jaw": [0, 1]}, "no column 'pitch'"),
        ({"time": [0, 0], "yaw": [0, 1]}, "time does not increase at row 1"),
        ({"time": [], "yaw": []}, "holds no usable row"),
    ],
)
def test_bad_tables_are_refused_by_row_and_column(table: dict[str, list[object]], complaint: str) -> None:
    with pytest.raises(DmsynthError, match=r"motion\.csv") as error:
        from_table(pd.DataFrame(table), NAMES, "motion.csv")
    assert complaint in str(error.value)


def test_frames_without_a_face_are_bridged() -> None:
    table = pd.DataFrame({"time": [0, 1, 2], "found": [True, False, True], "yaw": [0, np.nan, 20]})
    path = from_table(table, NAMES, "tracked").resampled(1)
    assert path["yaw"] == pytest.approx([0, 10, 20])


def test_angles_out_of_range_name_the_frame() -> None:
    path = parse_motions("sweep yaw=0:400 1", NAMES, 10).in_space(ROTATION)
    with pytest.raises(DmsynthError, match=r"yaw is 120 ° at frame 3; it must lie between -90 and 90 °"):
        ROTATION.check(path.values)


def test_a_trajectory_for_other_controls_is_refused() -> None:
    with pytest.raises(DmsynthError, match="steers x, y, but this face has pitch, yaw, roll"):
        parse_motions("move x=3 1", ("x", "y"), 10).in_space(ROTATION)


@given(
    st.lists(
        st.one_of(
            st.builds(Motion, st.just("hold"), st.floats(0.1, 3).map(lambda s: round(s, 2)), st.just({})),
            st.builds(
                Motion,
                st.sampled_from(["move", "sweep"]),
                st.floats(0.1, 3).map(lambda s: round(s, 2)),
                st.dictionaries(
                    st.sampled_from(["pitch", "yaw", "roll"]), st.floats(-40, 40).map(lambda v: round(v, 1)), min_size=1
                ),
            ),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_motions_in_words_are_read_back(motions: list[Motion]) -> None:
    names = ("pitch", "yaw", "roll")
    path = MotionPath(names, 25, {})
    for motion in motions:
        path.add(motion.kind, motion.seconds, {}, motion.pose)
    ours = path.trajectory()
    for words in (motions, path.motions):
        read = parse_motions(in_words(words), names, 25)
        assert np.allclose(read.values, ours.values, atol=1e-6)


@given(st.lists(st.tuples(*[st.floats(-30, 30)] * 3), min_size=2, max_size=60))
def test_sweeps_stay_within_reach_of_what_was_recorded(values: list[tuple[float, float, float]]) -> None:
    names, recorded = ("pitch", "yaw", "roll"), np.array(values)
    times = np.arange(len(values)) / 25
    sweeps = as_sweeps(Trajectory(names, times, recorded), tolerance=0.5)
    path = MotionPath(names, 500, {})
    for sweep in sweeps:
        path.add(sweep.kind, sweep.seconds, {}, sweep.pose)
    drawn = path.trajectory()
    off = [np.interp(times + 0.2, drawn.times, drawn[name]) - recorded[:, i] for i, name in enumerate(names)]
    assert np.abs(off).max() < 1.2, "half a degree, and what rounding to 0.1° and a thousandth of a second adds"

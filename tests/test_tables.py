"""Tables of other programs: read where the meaning is certain, else refused with what they hold."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from commands import dmsynth, fails
from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls.pose import rotation_matrix
from dmsynth.motion.driving import read_trajectory
from dmsynth.motion.tables import Columns, read_motion_table
from dmsynth.motion.trajectory import Trajectory
from dmsynth.support.errors import DmsynthError

ROTATION = CONTROL_SPACES["rotation"]
ANGLES = np.array([[0.5, -12.25, 3.0], [1.5, 8.75, -3.5], [2.0, 20.5, 0.0]])  # pitch, yaw, roll
TIMES = np.array([0.0, 0.25, 0.5])


def read(path: Path, content: str | bytes, columns: str | None = None, unit: str | None = None) -> Trajectory:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    told = Columns.parse(columns, unit)
    return read_trajectory(str(path), ROTATION, 25, lambda: pytest.fail("no driver"), columns=told)


def lines(header: str, separator: str = ",", values: NDArray[np.float64] = ANGLES, decimal: str = ".") -> str:
    rows = [
        separator.join(f"{v:.6f}".replace(".", decimal) for v in (t, *row))
        for t, row in zip(TIMES, values, strict=True)
    ]
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        lines("time,pitch,yaw,roll"),
        lines("Time,Pitch,YAW,Roll"),
        lines(" time , pitch ,  yaw, roll "),
        lines('"time","pitch","yaw","roll"'),
        lines("timestamp,pitch,yaw,roll"),
        lines("time;pitch;yaw;roll", ";"),
        lines("time;pitch;yaw;roll", ";", decimal=","),
        lines("time\tpitch\tyaw\troll", "\t"),
        lines("time\tpitch\tyaw\troll", "\t", decimal=","),
        "# a comment\n#and another\n\n" + lines("time,pitch,yaw,roll") + "\n# the end\n",
        "\ufeff" + lines("time,pitch,yaw,roll"),
        lines("time,pitch,yaw,roll").replace("\n", ",\n"),
        lines("time,pitch,yaw,roll").replace("\n", "\r\n"),
        lines("time,pitch,yaw,roll").encode("utf-16"),
        lines("time [s],pitch [deg],yaw_deg,roll (°)"),
        lines("time,pitch_rad,yaw [rad],roll (radians)", values=np.radians(ANGLES)),
    ],
)
def test_what_is_certain_is_read(tmp_path: Path, content: str | bytes) -> None:
    motion = read(tmp_path / "a.csv", content)
    assert motion.names == ROTATION.names
    assert motion.times == pytest.approx(TIMES) and motion.values == pytest.approx(ANGLES, abs=1e-4)


@pytest.mark.parametrize(
    "moments",
    [
        ["2024-11-14T22:57:44.000", "2024-11-14T22:57:44.250", "2024-11-14T22:57:44.500"],
        ["2024-11-14 22:57:44Z", "2024-11-14 22:57:44.25Z", "2024-11-14 22:57:44.5Z"],
        ["22:57:44", "22:57:44.25", "22:57:44.5"],
        ["1731625064000", "1731625064250", "1731625064500"],
        ["1731625064000000", "1731625064250000", "1731625064500000"],
    ],
)
def test_moments_are_times(tmp_path: Path, moments: list[str]) -> None:
    rows = "\n".join(f"{moment},{yaw}" for moment, yaw in zip(moments, ANGLES[:, 1], strict=True))
    motion = read(tmp_path / "a.csv", f"Timestamp,Yaw\n{rows}\n")
    assert motion.times - motion.times[0] == pytest.approx(TIMES) and motion["yaw"] == pytest.approx(ANGLES[:, 1])


def test_openface_is_read_with_its_own_signs_and_order(tmp_path: Path) -> None:
    """OpenFace turns about x, then y, then z of a frame whose y points down: its matrix is known, and so is ours."""
    count = 40
    turns = np.random.default_rng(0).uniform(-0.5, 0.5, (count, 3)) + np.array([0.2, 0, 0])
    table = pd.DataFrame({"frame": range(1, count + 1), " face_id": 0, " timestamp": np.arange(count) / 25})
    table = table.assign(**{" confidence": 0.98, " success": 1, " gaze_0_x": 0.1, " pose_Tx": 3.0})
    table = table.assign(**{f" pose_R{axis}": turns[:, number] for number, axis in enumerate("xyz")})
    table.loc[5, " success"] = 0
    table.to_csv(tmp_path / "openface.csv", index=False)
    read_back = read_motion_table(tmp_path / "openface.csv", ROTATION.names)
    assert read_back["found"].sum() == count - 1 and read_back["reason"][5] == "no face"
    (s1, s2, s3), (c1, c2, c3) = np.sin(turns.T), np.cos(turns.T)
    theirs = np.array([[c2 * c3, -c2 * s3, s2], [c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1],
                       [s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2]]).transpose(2, 0, 1)  # fmt: skip
    flip = np.diag([1.0, -1.0, -1.0])
    ours = rotation_matrix(*(read_back[name].to_numpy() for name in ROTATION.names))
    assert np.allclose(ours, flip @ theirs @ flip, atol=1e-9)
    assert read_back["pitch"].median() < -5, "looking down"
    driven = read_trajectory(str(tmp_path / "openface.csv"), ROTATION, 25, lambda: pytest.fail("no driver"))
    assert len(driven) == count


def test_what_is_not_certain_is_asked_for_with_what_there_is(tmp_path: Path) -> None:
    content = lines("t,x_head,y_head,z_head", values=np.radians(ANGLES))
    with pytest.raises(DmsynthError, match=r"it has 't', 'x_head', 'y_head', 'z_head'; say which it is"):
        read(tmp_path / "a.csv", content)
    motion = read(tmp_path / "a.csv", content, "time=t,pitch=x_head,yaw=-y_head", "rad")
    assert motion["yaw"] == pytest.approx(-ANGLES[:, 1], abs=1e-4) and motion.names == ("pitch", "yaw")
    milliseconds = read(tmp_path / "a.csv", lines("time,pitch,yaw,roll"), None, "ms,deg")
    assert milliseconds.times == pytest.approx(TIMES / 1000)
    with pytest.raises(DmsynthError, match="'Yaw' and 'yaw_rad' could both be yaw; say which: --columns yaw=NAME"):
        read(tmp_path / "a.csv", lines("time,Yaw,yaw_rad,roll"))
    assert read(tmp_path / "a.csv", lines("time,Yaw,yaw_rad,roll"), "yaw=Yaw")["yaw"][0] == 0.5
    for columns, unit, said in (
        ("time", None, "give OURS=THEIRS"),
        ("yaw=a,yaw=b", None, "yaw is given twice"),
        ("yaw=a", None, r"--columns: .* has no column 'a'; it has time, pitch, yaw, roll"),
        ("jaw=yaw", None, "there is no such control; there is time, pitch, yaw, roll"),
        (None, "turns", "give rad or deg, and s or ms"),
        (None, "rad,deg", "give rad or deg, and s or ms"),
    ):
        with pytest.raises(DmsynthError, match=said):
            read(tmp_path / "a.csv", lines("time,pitch,yaw,roll"), columns, unit)
    table = pd.DataFrame({"t": TIMES, "head": ANGLES[:, 1]})
    table.to_parquet(tmp_path / "a.parquet")
    told = Columns.parse("time=t,yaw=head", None)
    motion = read_trajectory(str(tmp_path / "a.parquet"), ROTATION, 25, lambda: pytest.fail("no driver"), columns=told)
    assert motion["yaw"] == pytest.approx(ANGLES[:, 1])


def test_radians_and_milliseconds_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    yaw = np.sin(np.arange(20) / 3) * 0.6

    def said(step: float, values: NDArray[np.float64], unit: str | None = None) -> str:
        rows = "\n".join(f"{step * n},{v}" for n, v in enumerate(values))
        read(tmp_path / "a.csv", f"time,yaw\n{rows}\n", None, unit)
        return " ".join(capfd.readouterr().err.split())

    assert "a.csv: all angles lie within 0.60, and are taken as degrees; if they are radians, add" in said(0.04, yaw)
    assert "its rows are 40 s apart, which makes 12.7 minutes; if times are milliseconds, add" in said(40, 20 * yaw)
    assert not said(40, yaw, "rad,ms") and not said(0.04, yaw, "deg") and not said(0.04, 20 * yaw)
    assert not said(0.04, 0 * yaw), "a head that is still is no radian"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("time,yaw\n", "holds no usable row"),
        ("time,yaw\n0,1\n1,2,3\n", "row 1 has 3 cells, but there are 2 columns"),
        ("time,yaw\n0,1,5\n1,2,3\n", "row 0 has 3 cells, but there are 2 columns"),
        ("time,yaw\n0,1\n1\n", "row 1, column 'yaw' holds nan"),
        ("time,yaw\n0,1\n1,1e300\n", "row 1, column 'yaw' holds 1e"),
        ("time,yaw\n0,1\n1e300,1\n", "row 1, column 'time' holds 1e"),
        ("time;yaw\n0;1.234,5\n", "row 0, column 'yaw' holds"),
        (b"\x00" * 500, "has no column 'time', as far as names tell"),
        ("time,jaw\n0,1\n", "has no column 'pitch' nor 'yaw' nor 'roll', as far as names tell; it has 'time', 'jaw'"),
        (b"PK\x03\x04\xff\xfe" * 50, "has no column 'time', as far as names tell"),
        ('time,yaw\n0,"1\n1,2\n', "not a readable table|holds"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DmsynthError, match=said) as error:
        read(tmp_path / "a.csv", content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 900


def test_a_header_of_100_000_commas_takes_no_time(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DmsynthError, match="more than 5000 columns"):
        read(tmp_path / "a.csv", "time,yaw" + "," * 100_000 + "\n0,1\n")
    with pytest.raises(DmsynthError, match="row 0 has 100001 cells"):
        read(tmp_path / "a.csv", "time,yaw\n0" + "," * 100_000 + "\n")
    with pytest.raises(DmsynthError):
        read(tmp_path / "a.csv", "time,yaw\n0,1\n0" + "," * 100_000 + "\n")
    assert time.monotonic() - begun < 2


def test_too_large_a_table_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("wb") as sparse:
        sparse.truncate(2**31)
    with pytest.raises(DmsynthError, match="has 2147483648 bytes; a table of a motion has at most"):
        read_motion_table(tmp_path / "a.csv", ROTATION.names)


cells = st.one_of(
    st.floats(-1e3, 1e3).map(str), st.sampled_from(["", "nan", "x", "1,5", '"', "1e999", "2024-01-01", "\ud7ff", "0x1"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(
        st.sampled_from(["time", "Time", "yaw", "YAW [rad]", "pitch", "found", "pose_Rx", "", "ü"]), max_size=5
    ),
    rows=st.lists(st.lists(cells, max_size=6), max_size=12),
    separator=st.sampled_from([",", ";", "\t"]),
    junk=st.binary(max_size=8),
)
def test_any_table_is_read_or_refused_with_a_sentence(
    tmp_path: Path, header: list[str], rows: list[list[str]], separator: str, junk: bytes
) -> None:
    content = "\n".join(separator.join(row) for row in [header, *rows]).encode() + junk
    try:
        motion = read(tmp_path / "a.csv", content)
    except DmsynthError as error:
        assert str(tmp_path / "a.csv") in str(error) and "\n" not in str(error)
    else:
        assert np.isfinite(motion.values).all() and (np.diff(motion.times) > 0).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(*[st.floats(-80, 80)] * 3), min_size=1, max_size=30),
    separator=st.sampled_from([",", ";", "\t"]),
    comma=st.booleans(),
    order=st.permutations(["time", "pitch", "yaw", "roll", "other"]),
    spelled=st.sampled_from([str, str.upper, str.title, "  {} ".format, '"{}"'.format]),
)
def test_whatever_the_spelling_the_motion_is_the_same(
    tmp_path: Path, values: list[tuple[float, ...]], separator: str, comma: bool, order: list[str], spelled: object
) -> None:
    assert callable(spelled)
    table = pd.DataFrame(np.array(values), columns=["pitch", "yaw", "roll"]).assign(other="x")
    table["time"] = np.arange(len(table)) / 25
    text = table[order].to_csv(
        index=False,
        sep=separator,
        header=False,
        decimal="," if comma and separator != "," else ".",
        float_format="%.6f",
    )
    motion = read(tmp_path / "a.csv", separator.join(map(spelled, order)) + "\n" + text)
    assert motion.values == pytest.approx(np.array(values), abs=1e-5)


def test_a_long_motion_is_no_file_and_a_missing_file_is_no_motion(tmp_path: Path) -> None:
    moves = "; ".join(f"move yaw={n % 20 - 10} pitch=1 0.1" for n in range(400))
    assert len(moves) > 5000
    assert read_trajectory(moves, ROTATION, 25, lambda: pytest.fail("no driver")).seconds == pytest.approx(40)
    for name in ("my drive.mp4", "drive.mp4", "a/b c.MOV", "x=1.mkv", "my table.csv", "d" * 300 + ".mp4"):
        said = fails(dmsynth("steer", "starter", "--trajectory", name, "--out", tmp_path / "out.mp4"))
        assert re.search(r"no such (file|table)", said), said
    said = fails(dmsynth("steer", "starter", "--trajectory", "turn yaw=3.5", "--out", tmp_path / "out.mp4"))
    assert "cannot read 'turn yaw=3.5'" in said


def test_too_long_a_motion_is_refused_before_it_is_made(tmp_path: Path) -> None:
    begun = time.monotonic()
    for text in ("; ".join(["hold 3600"] * 600), "; ".join(["hold 3600"] * 12), "move yaw=1e300 1"):
        with pytest.raises(DmsynthError, match=r"more frames than are steered at once|too large"):
            read_trajectory(text, ROTATION, 25, lambda: pytest.fail("no driver"))
    with pytest.raises(DmsynthError, match="more frames than are steered at once"):
        read(tmp_path / "a.csv", "time,yaw\n0,1\n1e11,2\n").resampled(25)
    assert time.monotonic() - begun < 1


def test_steer_takes_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines("t;nod;shake;tilt", ";", values=np.radians(ANGLES), decimal=","))
    done = dmsynth(
        "steer", "starter", "--trajectory", tmp_path / "a.csv", "--columns", "time=t,yaw=-shake", "--unit", "rad",
        "--out", tmp_path / "out.mp4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pd.read_parquet(tmp_path / "out.parquet")["yaw"].iloc[0] == pytest.approx(12.25, abs=1e-3)

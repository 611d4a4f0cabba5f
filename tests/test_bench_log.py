"""A box's own log as answers: clocks aligned, columns understood, and what is uncertain carried into verdicts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from box import Box, Simulated, log_of_play
from commands import dmsynth, fails
from dmsynth.cli.app import cast_specs
from dmsynth.experiments.drivers import open_drivers
from dmsynth.experiments.planning import planned
from dmsynth.playing.log import read_play
from dmsynth.playing.marks import Marking
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import write_table
from dmsynth.validation.alignment import align_log
from dmsynth.validation.bench_film import joined
from dmsynth.validation.bench_log import read_bench_log
from dmsynth.validation.box_logs import Signal, read_box_log
from dmsynth.validation.differences import METRICS
from dmsynth.validation.dms import Answer, DmsRun, DmsSpec, open_dms, run_dms
from dmsynth.validation.log_map import LogMap, read_log_map
from dmsynth.validation.matrix import Matrix, file_name, parse_factors
from dmsynth.validation.programs import Log
from dmsynth.validation.rendering import Rendered
from dmsynth.validation.scenario_files import find_scenarios
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import AXES, judge
from dmsynth.video import VideoWriter, fit, to_grey
from dmsynth.video.portrait import default_portrait

PLAYED = ("pose-yaw", "addw-80-side-window", "pose-pitch")
POSE: dict[str, object] = {
    "time": "t", "yaw": "yaw", "pitch": "pitch", "warning": "alarm", "delay": 0.12, "uncertainty": 0.01,
}  # fmt: skip
MAPS: dict[str, dict[str, object]] = {
    "pose": POSE,
    "code": POSE | {"code": "code"},
    "sync": {"time": "t", "yaw": "yaw", "pitch": "pitch", "warning": "alarm", "sync": "photo"},
}


@pytest.fixture(scope="module")
def play() -> pd.DataFrame:
    return log_of_play(PLAYED)


def signals_of(log: pd.DataFrame, meaning: LogMap) -> dict[str, Signal]:
    return {name: Signal(log["t"].to_numpy(), log[column].to_numpy()) for name, column in meaning.columns.items()}


def written(folder: Path, play: pd.DataFrame, log: pd.DataFrame, meaning: dict[str, object]) -> tuple[Path, Path, Path]:
    """A box's log, the play's, and the map, as files."""
    write_table(folder / "play.parquet", play)
    log.to_csv(folder / "box.csv", index=False)
    (folder / "map.yaml").write_text(yaml.safe_dump(meaning))
    return folder / "box.csv", folder / "play.parquet", folder / "map.yaml"


@pytest.mark.parametrize("by", list(MAPS))
def test_a_dry_run_finds_the_latencies(play: pd.DataFrame, tmp_path: Path, by: str) -> None:
    """A box answers after 120 ± 30 ms, by a clock that drifts by 50 ppm: latencies are found to 20 ms."""
    truth = Box(seed=4).log(play)
    log, played, meaning = written(tmp_path, play, truth.drop(columns="emitted"), MAPS[by])
    done = dmsynth("bench-log", log, "--play", played, "--map", meaning, "--out", tmp_path / "logs")
    assert done.returncode == 0 and f"aligned by {by}" in done.stdout, done.stderr
    told = json.loads((tmp_path / "logs" / "alignment.json").read_text())
    assert told["by"] == by and abs(told["drift"]) < 300e-6
    latencies_are_found(play, truth, tmp_path / "logs")


def latencies_are_found(play: pd.DataFrame, truth: pd.DataFrame, logs: Path) -> None:
    """Within 20 ms of when the box warned; and its delay."""
    scenario = find_scenarios(["addw-80-side-window"])[0]
    motion, clip = scenario.trajectory(), play[play["clip"] == scenario.name]
    run = run_dms(Log(logs, scenario.name), Path("no.mp4"), scenario.speed, motion.times[-1])
    assert run.problem is None and run.no_answers == 0
    table = pd.DataFrame({name: motion[name] for name in motion.names} | {"time": motion.times, "covered": True})
    (found,) = judge(scenario, table, run).warnings
    rises = truth["emitted"][1:][np.diff(truth["alarm"]) > 0].to_numpy()
    begins = float((clip["real"] - clip["time"])[clip["frame"] >= 0].median())
    onset = next(rise for rise in rises if rise > begins) - begins
    assert found.latency == pytest.approx(onset - scenario.marks[scenario.windows[0].since], abs=0.02)
    verdict = judge(scenario, table, run)
    assert verdict.time_uncertainty is not None and 0.001 < verdict.time_uncertainty < 0.05
    yaw = judge(find_scenarios(["pose-yaw"])[0], *_pose_yaw(logs))
    assert yaw.lag == pytest.approx(0.12 + 0.02, abs=0.03), "its delay, and half a frame until it looks"
    assert yaw.errors["pitch"]["mae"] == pytest.approx(0.8, abs=0.2)  # of noise with a standard deviation of 1


FILMS: dict[str, dict[str, object]] = {
    "number": POSE | {"film": {"column": "picture", "first": 1}},
    "clock": POSE | {"film": {"begins": 4321.01, "uncertainty": 0.002}, "delay": None, "uncertainty": None},
}


def test_a_boxs_own_recording_aligns_its_log(play: pd.DataFrame, tmp_path: Path) -> None:
    """The same box records the first four seconds of what it sees: joined by the number of the picture, and by the
    clock, without knowing its delay."""
    box = Box(seed=4)
    truth, (_, shown) = box.log(play), box.pictures(play)
    truth["picture"] += 1
    background, film = to_grey(fit(default_portrait(), 160, 112)), tmp_path / "film.mp4"
    with VideoWriter(film, 160, 112, box.rate) as writer:
        for number in play["number"].to_numpy()[shown[:60]]:
            writer.write(Marking().drawn(background, int(number)))
    write_table(tmp_path / "marks.parquet", box.film(play)[:60])  # as read-marks finds it: another test reads
    given_as = {"number": film, "clock": tmp_path / "marks.parquet"}
    for by, meaning in FILMS.items():
        log, played, mapped = written(tmp_path, play, truth, meaning)
        arguments = [log, "--play", played, "--map", mapped, "--out", tmp_path / by]
        done = dmsynth("bench-log", *arguments, "--film", given_as[by])
        assert done.returncode == 0 and "aligned by film" in done.stdout, done.stderr
        told = json.loads((tmp_path / by / "alignment.json").read_text())
        assert told["systematic"] < (0.023 if by == "number" else 0.006), by  # half a frame; and what that leaves
        assert "give it with --film" in fails(dmsynth("bench-log", *arguments))
        latencies_are_found(play, truth, tmp_path / by)
    (tmp_path / "empty.csv").write_text("frame,time,code\n")
    apart = FILMS["clock"] | {"film": {"begins": 12.0, "uncertainty": 0.01}}
    strange = POSE | {"film": {"column": "picture", "first": 90_000}}
    for meaning, file, said in (
        (apart, given_as["clock"], "s, the log from 4321."),
        (strange, given_as["clock"], "names; give the recording of"),
        (POSE, given_as["clock"], "does not say how it is joined; add film: COLUMN"),
        (FILMS["number"], tmp_path / "play.parquet", "lacks frame, time or code"),
        (FILMS["clock"], tmp_path / "empty.csv", "no frame has a number"),
        (POSE | {"film": {"first": 1}}, given_as["clock"], "film: is joined by one: column, the picture's number"),
        (POSE | {"film": {"begins": 1.5}}, given_as["clock"], "begins goes with its uncertainty"),
    ):
        log, played, mapped = written(tmp_path, play, truth, meaning)
        arguments = [log, "--play", played, "--map", mapped, "--out", tmp_path / "no", "--film", file]
        assert said in fails(dmsynth("bench-log", *arguments)), said


def _pose_yaw(logs: Path) -> tuple[pd.DataFrame, DmsRun]:
    motion = find_scenarios(["pose-yaw"])[0].trajectory()
    table = pd.DataFrame({name: motion[name] for name in motion.names} | {"time": motion.times, "covered": True})
    return table, run_dms(Log(logs, "pose-yaw"), Path("no.mp4"), 50, motion.times[-1])


@given(
    by=st.sampled_from(list(MAPS)),
    delay=st.floats(0.02, 0.4),
    drift=st.floats(-150e-6, 150e-6),
    ahead=st.floats(-1e4, 1e9),
    noise=st.floats(0.1, 3),
    rate=st.floats(9, 60),
    seed=st.integers(0, 1000),
    cut=st.tuples(st.floats(0, 0.3), st.floats(0.7, 1)),
)
@settings(max_examples=20)
def test_any_clock_is_found(
    play: pd.DataFrame, by: str, delay: float, drift: float, ahead: float, noise: float, rate: float, seed: int,
    cut: tuple[float, float],
) -> None:  # fmt: skip
    """Of any box, and of a part of its log, within two and a half times what is said to be uncertain: that is an
    interval of 95 %, and the worst entry of the worst box is looked for. How often it holds is the next test's."""
    log = Box(delay, 0.2 * delay, drift, ahead, noise, rate, seed).log(play)
    log = log[int(cut[0] * len(log)) : int(cut[1] * len(log))]
    told = MAPS[by] if by == "sync" else MAPS[by] | {"delay": delay, "uncertainty": 0.002}
    meaning = LogMap.model_validate(told)
    found = align_log(signals_of(log, meaning), play, meaning, "log")
    off = np.abs(found.to_play(log["t"].to_numpy()) - log["emitted"].to_numpy())
    assert found.by == by
    assert (off < 2.5 * found.uncertainty(log["emitted"].to_numpy()) + 0.002).all(), off.max()
    assert off.max() < 0.08


@pytest.mark.parametrize("by", [*MAPS, *FILMS])
def test_the_interval_holds_for_nineteen_boxes_of_twenty(play: pd.DataFrame, by: str) -> None:
    random, held = np.random.default_rng(0), []
    for seed in range(40):
        delay = float(random.uniform(0.05, 0.3))
        log = Box(delay, 0.2 * delay, float(random.normal(0, 50e-6)), noise=float(random.uniform(0.5, 2)), seed=seed)
        entries = log.log(play)
        told = (MAPS | FILMS)[by] | ({} if by in ("sync", "clock") else {"delay": delay, "uncertainty": 0.002})
        meaning = LogMap.model_validate(told)
        signals = signals_of(entries, meaning)
        if meaning.film:
            begins = float(log.clock(log.pictures(play)[0][:1])[0])
            how = meaning.film.model_copy(update={"begins": begins if by == "clock" else None, "first": 0})
            signals["film"] = joined(log.film(play), how, signals.get("film") or signals["yaw"], "film")
        found = align_log(signals, play, meaning, "log")
        one = entries.iloc[[int(random.integers(len(entries)))]]
        emitted = one["emitted"].to_numpy()
        held.append((np.abs(found.to_play(one["t"].to_numpy()) - emitted) < found.uncertainty(emitted))[0])
    assert np.mean(held) >= 0.9


def test_wrong_numbers_and_lost_faces_weigh_little(play: pd.DataFrame) -> None:
    random, log = np.random.default_rng(1), Box().log(play)
    wrong = random.random(len(log)) < 0.15
    log.loc[wrong, ["yaw", "pitch"]] = random.uniform(-60, 60, (int(wrong.sum()), 2))
    log.loc[wrong, "code"] = random.integers(0, len(play), int(wrong.sum()))
    log["face"] = random.random(len(log)) < 0.9
    log.loc[~log["face"], "yaw"] = 0.0
    for by in ("pose", "code"):
        meaning = LogMap.model_validate(MAPS[by] | {"found": "face"})
        found = align_log(signals_of(log, meaning), play, meaning, "log")
        off = found.to_play(log["t"].to_numpy()) - log["emitted"].to_numpy()
        assert abs(np.median(off)) < 0.02, by


def test_a_clock_in_step_needs_no_motion(play: pd.DataFrame) -> None:
    log = Box(drift=0, ahead=1.8e9).log(play)
    meaning = LogMap.model_validate({"time": "t", "warning": "alarm", "clock": "unix", "uncertainty": 0.002})
    found = align_log(signals_of(log, meaning), play, meaning, "log")
    assert found.to_play(log["t"].to_numpy()) == pytest.approx(log["emitted"].to_numpy(), abs=1e-5)
    with pytest.raises(DmsynthError, match="was not recorded during the play"):
        align_log(signals_of(log.assign(t=log["t"] + 1e5), meaning), play, meaning, "log")


def test_what_cannot_be_aligned_is_said_in_one_line(play: pd.DataFrame) -> None:
    log = Box().log(play)
    for made, with_map, said in (
        (log, {"delay": None, "uncertainty": None}, "cannot tell the DMS's delay from its clock"),
        (log.assign(yaw=-log["yaw"]), {}, "its yaw runs against the command; give it sign: -1"),
        (log.assign(yaw=log["yaw"].sample(frac=1, random_state=0).to_numpy(), pitch=0.0), {}, "fits this play nowhere"),
        (pd.concat([log, log.assign(t=log["t"] + 90)]), {}, "fits the play at two places, 90.0 s apart"),
        (log.assign(code=-5), {"code": "code"}, "no two numbers of its time code are frames of this play"),
        (log.assign(photo=0.3), {"sync": "photo"}, "its sync flips 0 times"),
        (
            log.assign(photo=log["photo"].sample(frac=1, random_state=0).to_numpy()),
            {"sync": "photo"},
            "not that of this",
        ),
    ):
        meaning = LogMap.model_validate(POSE | with_map)
        with pytest.raises(DmsynthError, match=said):
            align_log(signals_of(made, meaning), play, meaning, "log")
    still = play.assign(yaw=0.0, pitch=0.0, roll=0.0)
    with pytest.raises(DmsynthError, match="the head hardly moves"):
        meaning = LogMap.model_validate(POSE)
        align_log(signals_of(log, meaning), still, meaning, "log")


def test_bad_logs_and_maps_are_said_in_one_line(
    play: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("asammdf", "rosbags.highlevel"):
        monkeypatch.setitem(sys.modules, package, None)
    truth = Box().log(play)
    back = truth.copy()
    back.loc[200:, "t"] -= 50
    (tmp_path / "bag").mkdir()
    for name in ("box.mf4", "box.xyz"):
        (tmp_path / name).write_bytes(b"0")
    wrong: list[tuple[pd.DataFrame, dict[str, object], str, str]] = [
        (truth, POSE | {"time": None}, "box.csv", "the map names no time"),
        (truth, POSE | {"time": "when"}, "box.csv", "has no column when; it has t, yaw"),
        (truth, POSE | {"yaw": "azimuth"}, "box.csv", "has no column azimuth"),
        (back, POSE, "box.csv", "the clock jumps back in entry 201"),
        (truth.assign(t="noon"), POSE, "box.csv", "has no time in entry 1 of t ('noon')"),
        (truth.assign(yaw="left"), POSE, "box.csv", "yaw holds no number"),
        (truth, POSE | {"warning": {"column": "alarm", "values": ["on"]}}, "box.csv", "never has a value that means"),
        (truth, POSE | {"bearing": "yaw"}, "box.csv", "line 1: bearing"),
        (truth, {"time": "t", "found": "alarm"}, "box.csv", "names no column that is judged"),
        (truth, POSE, "absent.csv", "no such log"),
        (truth, POSE, "box.xyz", "give one of .csv"),
        (truth, POSE, "box.mf4", "needs the package asammdf"),
        (truth, POSE, "bag", "needs the package rosbags"),
    ]
    for log, meaning, file, said in wrong:
        _, played, mapped = written(tmp_path, play, log, meaning)
        out = ["--play", played, "--map", mapped, "--out", tmp_path / "logs"]
        assert said in fails(dmsynth("bench-log", tmp_path / file, *out)), said
    log_file, played, mapped = written(tmp_path, play, truth, POSE)
    one_file = ["--play", played, "--map", mapped, "--out", tmp_path / "one.jsonl"]
    assert "the play has 3 clips; give a folder" in fails(dmsynth("bench-log", log_file, *one_file))
    write_table(tmp_path / "play.parquet", truth)
    assert "is no log of a play" in fails(dmsynth("bench-log", log_file, *one_file))
    assert not (tmp_path / "logs").exists()


def test_columns_mean_what_the_map_says(tmp_path: Path) -> None:
    rows = [
        {"stamp": f"2026-11-29T10:00:0{k}.500Z", "head": {"y": 0.1 * k}, "state": ["off", "SLEEP", "away"][k % 3]}
        for k in range(6)
    ]
    (tmp_path / "box.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "map.yaml").write_text(
        "time: {column: stamp, unit: iso}\nyaw: {column: head.y, unit: rad, sign: -1}\n"
        "warning: {column: state, values: {sleep: sleep, away: distraction}}\nclock: unix\nuncertainty: 0.01\n"
    )
    found = read_box_log(tmp_path / "box.jsonl", read_log_map(tmp_path / "map.yaml"))
    assert found["yaw"].values == pytest.approx(-np.degrees(0.1 * np.arange(6)))
    assert found["yaw"].times[0] == pd.Timestamp("2026-11-29T10:00:00.5Z").timestamp()
    assert found["warning"].values.tolist() == [None, "sleep", "distraction"] * 2
    (tmp_path / "box.csv").write_text("\ufefft;yaw;lid;face\n0;1.5;80;1\n500;;120;0\n")
    (tmp_path / "map.yaml").write_text(
        "time: {column: t, unit: ms}\nyaw: yaw\neye_opening: {column: lid, unit: percent}\nfound: face\n"
    )
    found = read_box_log(tmp_path / "box.csv", read_log_map(tmp_path / "map.yaml"))
    assert found["eye_opening"].values.tolist() == [0.8, 1.2] and found["eye_opening"].times.tolist() == [0, 0.5]
    assert found["found"].values.tolist() == [True, False] and np.isnan(found["yaw"].values[1])
    for separator in (";", "\t"):
        rows_of_text = ("t;yaw;lid;face", "0;0;80;1", "500,5;-1,5;1,2e2;0")
        (tmp_path / "box.csv").write_text("".join(f"{row.replace(';', separator)}\n" for row in rows_of_text))
        found = read_box_log(tmp_path / "box.csv", read_log_map(tmp_path / "map.yaml"))
        assert found["yaw"].values.tolist() == [0, -1.5] and found["yaw"].times == pytest.approx([0, 0.5005])
        assert found["eye_opening"].values.tolist() == [0.8, 1.2] and found["found"].values.tolist() == [True, False]


def test_answers_are_those_of_their_clip(play: pd.DataFrame, tmp_path: Path) -> None:
    truth = Box(drift=0, ahead=1.8e9, jitter=0).log(play).assign(face=1)
    truth.loc[20:60, "face"] = 0
    truth["blind"] = 1 - truth["face"]
    told = {"time": "t", "yaw": "yaw", "warning": "alarm", "found": "face", "clock": "unix", "uncertainty": 0.001}
    found = read_bench_log(*written(tmp_path, play, truth, told | {"unavailable": "blind"}))
    assert [clip.name for clip in found.clips] == list(PLAYED)
    first = found.clips[0].answers
    begins = float(play["real"][play["frame"] >= 0].iloc[0])
    assert first[0].time == pytest.approx(truth["emitted"][truth["emitted"] > begins].iloc[0] - begins, abs=0.005)
    assert {answer.yaw is None for answer in first[:10]} == {True} and first[-1].yaw is not None
    assert first[0].unavailable and not first[-1].unavailable
    assert first[-1].time <= find_scenarios(["pose-yaw"])[0].seconds
    assert np.diff([answer.time for answer in first]).min() > 0
    assert not found.clips[0].carried


def test_numbers_out_of_range_do_not_take_the_warning_along(play: pd.DataFrame, tmp_path: Path) -> None:
    truth = Box(drift=0, ahead=1.8e9, jitter=0).log(play).assign(lid=1.0)
    lost = truth.index[truth["alarm"] > 0]
    truth.loc[lost, "yaw"], truth.loc[lost, "lid"] = 999.0, -1.0
    told = {"time": "t", "yaw": "yaw", "pitch": "pitch", "eye_opening": "lid", "warning": "alarm"}
    log, played, mapped = written(tmp_path, play, truth, told | {"clock": "unix", "uncertainty": 0.001})
    done = dmsynth("bench-log", log, "--play", played, "--map", mapped, "--out", tmp_path / "logs")
    name = "addw-80-side-window"
    run = run_dms(Log(tmp_path / "logs", name), Path("no.mp4"), 50, find_scenarios([name])[0].seconds)
    warned = [answer for answer in run.answers if answer.warning]
    assert run.problem is None and warned
    assert all(each.yaw is None and each.eye_opening is None and each.pitch is not None for each in warned)
    assert all(each.yaw is not None for each in run.answers if not each.warning)
    assert f"{name}: {2 * len(warned)} numbers out of range" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ["addw-80-side-window", "fatigue-microsleep"])
def test_what_is_within_the_uncertainty_is_not_judged(name: str) -> None:
    scenario = find_scenarios([name])[0]
    motion, (window,) = scenario.trajectory(), scenario.windows
    table = pd.DataFrame({name: motion[name] for name in motion.names} | {"time": motion.times, "covered": True})
    closes = scenario.marks[window.since] + window.latest
    for after, uncertainty, outcome in (
        (-0.2, None, "pass"), (-0.2, 0.05, "pass"), (-0.03, 0.08, "inconclusive"), (0.05, 0.08, "inconclusive"),
        (0.3, 0.05, "fail"), (0.3, None, "fail"),
    ):  # fmt: skip
        times = np.arange(0, scenario.seconds, 0.01)
        answers = [
            Answer(
                time,
                0,
                0,
                0,
                warning=closes + after <= time < closes + 1,
                warning_kind=window.kind,
                time_uncertainty=uncertainty,
            )
            for time in map(float, times)
        ]
        verdict = judge(scenario, table, DmsRun(answers))
        assert verdict.outcome == outcome, (after, uncertainty, verdict.reasons)
        assert verdict.time_uncertainty == uncertainty and len(verdict.warnings) == 1
        if outcome == "inconclusive":
            assert "± 0.08 s, too near to a limit to be judged" in verdict.reasons[0]


def test_an_alarm_and_a_lag_within_the_uncertainty_are_not_judged() -> None:
    scenario = find_scenarios(["addw-80-side-window"])[0]
    motion, (window,) = scenario.trajectory(), scenario.windows
    table = pd.DataFrame({name: motion[name] for name in motion.names} | {"time": motion.times, "covered": True})
    opens = scenario.marks[window.since] + 1.0
    later = scenario.model_copy(update={"warnings": [window.model_copy(update={"earliest": 1.0})]})
    times = [float(time) for time in np.arange(0, scenario.seconds, 0.01)]
    for uncertainty, outcome in ((0.0, "fail"), (0.1, "inconclusive")):
        answers = [
            Answer(
                time, 0, 0, 0, time_uncertainty=uncertainty,
                warning=opens - 0.09 <= time < opens - 0.05 or time > opens + 0.5,  # one just before it may come
            )
            for time in times
        ]  # fmt: skip
        verdict = judge(later, table, DmsRun(answers))
        assert verdict.outcome == outcome, verdict.reasons
    scenario = find_scenarios(["pose-yaw"])[0]
    motion = scenario.trajectory()
    table = pd.DataFrame({name: motion[name] for name in motion.names} | {"time": motion.times, "covered": True})
    limited = scenario.model_copy(
        update={"require": scenario.require.model_copy(update={"mean_error": {}, "lag": 0.2})}
    )
    for uncertainty, outcome in ((0.0, "fail"), (0.1, "inconclusive"), (0.03, "fail")):
        shown = np.interp(motion.times - 0.25, motion.times, motion["yaw"])
        said = [
            Answer(t, 0, float(yaw), 0, time_uncertainty=uncertainty)
            for t, yaw in zip(map(float, motion.times), shown, strict=True)
        ]
        assert judge(limited, table, DmsRun(said)).outcome == outcome
    latency = next(metric for metric in METRICS if metric.name == "warning latency")
    assert latency.resolution({"frame_rate": 25, "time_uncertainty": 0.03}) == pytest.approx(0.07)
    assert latency.resolution({"frame_rate": 25}) == pytest.approx(0.04)


def test_mdf_is_read_like_tables(play: pd.DataFrame, tmp_path: Path) -> None:
    asammdf = pytest.importorskip("asammdf", reason="needs asammdf; pip install 'dmsynth[mdf]'")
    truth = Box().log(play)
    t = truth["t"].to_numpy() - truth["t"].iloc[0]
    slow = slice(None, None, 3)
    with asammdf.MDF() as made:
        made.append(asammdf.Signal(truth["yaw"].to_numpy(), t, name="HeadYaw"))
        made.append(asammdf.Signal(truth["alarm"].to_numpy()[slow], t[slow], name="Alarm"))
        made.save(tmp_path / "box.mf4")
    meaning = LogMap.model_validate({"yaw": "HeadYaw", "warning": "Alarm", "delay": 0.12, "uncertainty": 0.01})
    found = read_box_log(tmp_path / "box.mf4", meaning)
    assert found["yaw"].values == pytest.approx(truth["yaw"].to_numpy())
    assert np.diff(found["yaw"].times) == pytest.approx(np.diff(t), abs=1e-6)
    assert len(found["warning"].times) == len(t[slow])
    (tmp_path / "damaged.mf4").write_bytes(b"no measurement" * 100)
    with pytest.raises(DmsynthError, match=r"damaged\.mf4: not a readable log"):
        read_box_log(tmp_path / "damaged.mf4", meaning)
    with pytest.raises(DmsynthError, match="has no channel HeadPitch; it has Alarm"):
        read_box_log(tmp_path / "box.mf4", LogMap.model_validate({"yaw": "HeadPitch"}))


def test_errors_of_other_packages_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are installed or not: their errors derive from ``Exception`` alone."""

    class OfItsOwnError(Exception):
        pass

    def damaged(path: Path) -> None:
        raise OfItsOwnError(f'"{path}" is not a valid\nASAM MDF file')

    monkeypatch.setitem(sys.modules, "asammdf", SimpleNamespace(MDF=damaged))
    (tmp_path / "box.mf4").write_bytes(b"0")
    with pytest.raises(DmsynthError, match=r"not a readable log \(.* is not a valid ASAM MDF file\); export it again"):
        read_box_log(tmp_path / "box.mf4", LogMap.model_validate({"yaw": "HeadYaw"}))


def test_bags_are_read_like_tables(tmp_path: Path) -> None:
    rosbags = pytest.importorskip("rosbags.rosbag2", reason="needs rosbags; pip install 'dmsynth[ros]'")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    vector = store.types["geometry_msgs/msg/Vector3"]
    with rosbags.Writer(tmp_path / "bag", version=9) as bag:
        connection = bag.add_connection("/dms/head", vector.__msgtype__, typestore=store)
        for k in range(5):
            content = store.serialize_cdr(vector(x=0.0, y=0.1 * k, z=0.0), vector.__msgtype__)
            bag.write(connection, 1_800_000_000_000_000_000 + k * 100_000_000, content)
    (tmp_path / "map.yaml").write_text("yaw: {column: '/dms/head:y', unit: rad}\nclock: unix\nuncertainty: 0.01\n")
    meaning = read_log_map(tmp_path / "map.yaml")
    (single,) = (tmp_path / "bag").glob("*.db3")
    for log in (tmp_path / "bag", single):
        found = read_box_log(log, meaning)["yaw"]
        assert found.values == pytest.approx(np.degrees(0.1 * np.arange(5)))
        assert found.times == pytest.approx(1.8e9 + 0.1 * np.arange(5), abs=1e-5)
    (tmp_path / "damaged").mkdir()
    for damaged in ("damaged", "damaged.mcap", "damaged.db3"):
        if "." in damaged:
            (tmp_path / damaged).write_bytes(b"no bag" * 100)
        with pytest.raises(DmsynthError, match=f"{damaged}: not a readable log"):
            read_box_log(tmp_path / damaged, meaning)
    for column, said in (("/dms/eyes:y", "has no topic /dms/eyes:y; it has"), ("/dms/head:w", "has no field")):
        with pytest.raises(DmsynthError, match=said):
            read_box_log(tmp_path / "bag", LogMap.model_validate({"yaw": column}))


AWAY = (
    "name: away\ntitle: T\nsource: test\nspeed: 80\nframe_rate: 10\nmoves:\n  - hold: 0.2\n"
    "  - {move: {yaw: 25}, seconds: 0.4}\n  - {hold: 0.6, mark: away}\n"
    "warnings:\n  - {since: away, earliest: 0, latest: 0.6}\n"
)


MATRIX = ("--vary", "camera=none,night-small", "--vary", "wear=none,wheel", "--sample", 4, "--seed", 2)


def played_cells(folder: Path, face: Path) -> tuple[pd.DataFrame, list[object]]:
    """The log of a play of two persons before two cameras with two things, a sample of them; and the arguments."""
    (folder / "away.yaml").write_text(AWAY)
    (folder / "cast.yaml").write_text(f"persons:\n  eileen: {face}\n  photo: posed:portrait\n")
    cells = [folder / "away.yaml", "--cast", folder / "cast.yaml", *MATRIX, "--videos", folder / "videos"]
    done = dmsynth("play", *cells, "--to", "none", "--log", folder / "play.parquet", "--lead", 0.4)
    assert done.returncode == 0, done.stderr
    assert "4 of 8 cells, chosen with seed 2; 0 are rendered already, 4 are left" in done.stderr
    return read_play(folder / "play.parquet"), cells


def test_the_cells_that_were_played_have_the_names_of_those_that_are_judged(
    tmp_path: Path, small_face: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drawing is left out: each cell is a moment of the portrait. Another test draws."""
    table = pd.DataFrame(dict.fromkeys(AXES, 0.0) | {"time": np.arange(12) / 10, "yaw": np.linspace(0, 25, 12)})
    with VideoWriter(tmp_path / "moment.mp4", 320, 240, 10) as writer:
        for _ in range(12):
            writer.write(fit(default_portrait(), 320, 240))
    drawn: list[Scenario] = []

    def moment(scenario: Scenario, *_: object) -> Rendered:
        drawn.append(scenario)
        return Rendered(tmp_path / "moment.mp4", table)

    monkeypatch.setattr("dmsynth.experiments.clips.render", moment)
    monkeypatch.setattr("dmsynth.playing.clock.MonotonicClock", Simulated)
    play, _ = played_cells(tmp_path, small_face)
    scenarios = find_scenarios([str(tmp_path / "away.yaml")])
    matrix = Matrix(parse_factors([MATRIX[1], MATRIX[3]]), 4, 2)
    parts = planned(open_drivers(cast_specs(tmp_path / "cast.yaml"), scenarios), scenarios, matrix).parts
    assert [each.camera for each in drawn] == [part.scenario.camera for part in parts]
    log, played, meaning = written(tmp_path, play, Box(ahead=9.0).log(play), MAPS["code"])
    logged = dmsynth("bench-log", log, "--play", played, "--map", meaning, "--out", tmp_path / "logs")
    assert logged.returncode == 0 and "eileen/away." in logged.stdout, logged.stderr
    for part in parts:
        spec = DmsSpec(log=str(tmp_path / "logs")).of_person(part.driver.person)
        said = list(open_dms(spec, file_name("away", part.levels))(Path("no.mp4"), 80))
        assert 10 < len(said) < 20, part
    assert len(list((tmp_path / "logs").glob("*/*.jsonl"))) == len(parts) == 4


@pytest.mark.slow
def test_the_cells_that_were_played_are_judged(
    tmp_path: Path, small_face: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmsynth.playing.clock.MonotonicClock", Simulated)
    play, cells = played_cells(tmp_path, small_face)
    truth = Box(delay=0.05, jitter=0.005, drift=0, ahead=9.0, noise=0, rate=20).log(play)
    shows = np.searchsorted(play["real"], truth["emitted"] - 0.05) - 1
    since = play["time"].where(play["frame"] >= 0, -1).to_numpy()[shows]
    log, played, meaning = written(
        tmp_path, play, truth.assign(alarm=(since > 0.75).astype(int)), MAPS["code"] | {"delay": 0.05}
    )
    assert dmsynth("bench-log", log, "--play", played, "--map", meaning, "--out", tmp_path / "logs").returncode == 0
    judged = dmsynth("validate", *cells, "--dms-log", tmp_path / "logs", "--out", tmp_path / "out", "--workers", 1)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert judged.returncode == 0, judged.stdout
    rows = {f"{row['person']}/{file_name(row['name'], row['factors'])}": row for row in found["scenarios"]}
    assert set(rows) == {f"{person}/{clip}" for person, clip in play[["person", "clip"]].itertuples(index=False)}
    for name, row in rows.items():
        assert row["outcome"] == "pass" and row["time_uncertainty"] > 0, (name, row["reasons"])
    assert [factor["name"] for factor in found["by_factor"]] == ["camera", "wear", "person"]

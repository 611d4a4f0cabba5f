"""Scenarios: what is shipped, what they command, and every mistake with its line."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from random import Random

import jsonschema
import numpy as np
import pytest
import yaml

from dmsynth.controls import CONTROL_SPACES
from dmsynth.controls import HEAD as HEAD_ONLY
from dmsynth.motion.eyes import CLOSED
from dmsynth.support.errors import DmsynthError
from dmsynth.validation.scenario_files import find_scenarios, library, parse_scenario, read_scenario
from dmsynth.validation.scenarios import Scenario
from dmsynth.validation.verdicts import commands

HEAD = "name: x-y\ntitle: a\nsource: b\nspeed: 40\n"


def test_the_library_is_whole() -> None:
    scenarios = find_scenarios(["all"])
    assert len(scenarios) == len(library()) >= 55
    assert {scenario.group for scenario in scenarios} == {
        "thesis", "pose", "addw", "euro-ncap", "nominal", "fatigue", "degraded",
    }  # fmt: skip
    assert find_scenarios(["addw", "addw-50-down"]) == [s for s in scenarios if s.group == "addw"]
    for scenario in scenarios:
        angles = scenario.trajectory()
        assert len(scenario.source) > 20 and np.abs(angles.values).max() < 60
        assert scenario.group != "nominal" or scenario.warnings == []
        assert scenario.group != "addw" or "2023/2590" in scenario.source
        assert bool(scenario.requirements) != scenario.source.startswith("Ours")


def test_the_limits_of_the_regulation_are_in_the_scenarios() -> None:
    for scenario in find_scenarios(["addw"]):
        for window in scenario.windows:
            assert window.latest == (3.5 if scenario.speed >= 50 else 6)


def test_the_schema_accepts_the_library_and_refuses_mistakes() -> None:
    schema = json.loads(json.dumps(Scenario.model_json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    published = Path(__file__).parents[1] / "docs" / "scenario.schema.json"
    assert json.loads(published.read_text("utf-8")) == schema  # dmsynth scenario schema > docs/scenario.schema.json
    for path in library():
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(library()[0].read_text()) | {"speed": 900}, schema)


def test_moves_marks_and_speeds() -> None:
    scenario = parse_scenario(
        HEAD + "frame_rate: 100\nstart: {yaw: -10}\nmoves:\n  - hold: 1\n  - repeat: 2\n    moves:\n"
        "      - move: {yaw: 20}\n        peak_speed: 75\n        mark: away\n"
        "      - sweep: {yaw: -10, pitch: 5}\n        peak_speed: 30\n",
        "f.yaml",
    )
    assert scenario.marks == pytest.approx({"away": 1, "away.2": 2.75})
    motion = scenario.trajectory()
    speeds = np.abs(np.diff(motion["yaw"])) * 100
    assert speeds[100:175].max() == pytest.approx(75, rel=1e-3)  # the move
    assert speeds[180:270] == pytest.approx(30)  # the sweep
    assert motion["yaw"][0] == -10 and motion["yaw"][175] == pytest.approx(20) and motion["pitch"][-1] == 5


def test_scenarios_without_eyes_command_the_head_only() -> None:
    plain = [scenario for scenario in find_scenarios(["all"]) if not scenario.moves_eyes]
    assert len(plain) == 30 and {scenario.trajectory().names for scenario in plain} == {HEAD_ONLY}
    assert not any(window.kind for scenario in plain for window in scenario.windows)


def test_every_place_by_the_head_is_there_by_the_eyes_too() -> None:
    names = {path.stem for path in library()}
    by_head = {name for name in names if name.startswith("ncap-") and not name.endswith(("-owl", "-lizard"))}
    assert len(by_head) == 11 and {f"{name}-lizard" for name in by_head} <= names
    for name in by_head:
        eyes = find_scenarios([f"{name}-lizard"])[0].trajectory()
        assert np.abs(eyes["gaze_yaw"]).max() <= 30 and np.abs(eyes["gaze_pitch"]).max() <= 22
        assert np.hypot(eyes["gaze_yaw"], eyes["gaze_pitch"]).max() > 13


def test_a_look_is_shared_by_head_and_eyes() -> None:
    text = HEAD + "moves:\n  - hold: 1\n  - move: {look_yaw: -30, look_pitch: -10, head_share: 0.4}\n    seconds: 1\n"
    motion = parse_scenario(text + "  - hold: 1\n", "f.yaml").trajectory()
    assert motion.names == CONTROL_SPACES["driver"].names
    assert (motion["yaw"][-1], motion["pitch"][-1]) == pytest.approx((-12, -4))
    seen = commands(motion.table())
    assert (seen["gaze_yaw"][-1], seen["gaze_pitch"][-1]) == pytest.approx((-30, -10))
    swaying = parse_scenario(text.replace("moves", "sway: {yaw: 2, seed: 1}\nmoves", 1), "f.yaml").trajectory()
    assert np.ptp(swaying["yaw"][:20]) > 0.3  # the eyes turn back what the head sways
    assert np.abs(commands(swaying.table())["gaze_yaw"][:20]).max() < 1e-6


def test_natural_eyes_are_added_and_come_again_with_their_seed() -> None:
    text = HEAD + "eyes: {seed: 4, blinks: 30}\nmoves:\n  - hold: 20\n  - move: {eye_opening: 0.5}\n    seconds: 1\n"
    motion = parse_scenario(text + "  - hold: 20\n", "f.yaml").trajectory()
    assert np.array_equal(motion.values, parse_scenario(text + "  - hold: 20\n", "f.yaml").trajectory().values)
    lids = motion["eye_opening_left"]
    assert lids.min() < 0.1 and np.median(lids[:500]) > 0.95 and np.median(lids[550:]) == pytest.approx(0.5, abs=0.02)
    assert 0.5 < motion["gaze_yaw"].std() < 2
    still = parse_scenario(HEAD + "eyes: {blinks: 0, saccades: 0}\nmoves:\n  - hold: 20\n", "f.yaml").trajectory()
    assert not still["gaze_yaw"].any() and (still["eye_opening_left"] == 1).all()
    drowsy = parse_scenario(HEAD + "eyes: {perclos: [0.3, 0.3]}\nmoves:\n  - hold: 90\n", "f.yaml").trajectory()
    assert (drowsy["eye_opening_left"] <= CLOSED).mean() == pytest.approx(0.3, abs=0.03)


def test_sway_has_the_size_it_says_and_is_the_same_each_time() -> None:
    text = HEAD + "sway: {yaw: 2, seed: 3}\nmoves:\n  - hold: 300\n"
    motion = parse_scenario(text, "f.yaml").trajectory()
    assert motion["yaw"].std() == pytest.approx(2, rel=0.1) and not motion["pitch"].any()
    assert np.array_equal(motion.values, parse_scenario(text, "f.yaml").trajectory().values)
    assert np.abs(np.diff(motion["yaw"])).max() * 25 < 15  # degrees a second: no twitching


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nmoves: [", "line 2: not valid YAML"),
        (HEAD.replace("40", "fast") + "moves:\n  - hold: 1\n", "line 4: speed: .*valid number"),
        (HEAD + "moves:\n  - hold: 1\n  - move: {yaw: 100}\n    seconds: 1\n", "line 7: moves.1.move.yaw: .*90"),
        (HEAD + "moves:\n  - hold: 1\n  - move: {yaw: 10}\n", "line 7: moves.1.*: give either seconds or peak_speed"),
        (HEAD + "moves:\n  - hold: 1\n  - wait: 3\n", "line 7: moves.1: a step holds one of hold, move"),
        (HEAD + "moves:\n  - repeat: 2\n    moves:\n      - hold: -1\n", "line 8: moves.0.moves.0.hold"),
        (HEAD + "moves:\n  - hold: 9\nwarnings:\n  - {since: b, latest: 3}\n", "line 8: warnings.0.since: no mark 'b'"),
        (
            HEAD + "moves:\n  - hold: 1\n    mark: b\nwarnings:\n  - {since: b,\n     latest: 3}\n",
            "line 10: warnings.0.latest: .*after the end of the scenario .1 s",
        ),
        (HEAD + "moves:\n  - hold: 1\nwarnings:\n  - {since: b, latest: 3, foo: 3}\n", "line 8: warnings.0.foo: Extra"),
        (HEAD + "moves:\n  - hold: 1\nwarnings: never\n", "line 7: warnings: Input should be 'ignore'"),
        (HEAD + "moves:\n  - repeat: 100\n    moves:\n      - hold: 600\n", "lasts .* at most 600 s"),
        (HEAD, "line 1: moves: Field required"),
        (HEAD + "moves: []\n", "line 5: moves: List should have at least 1"),
        ("a: &x 1\nb: *x\n", "line 2: aliases"),
        (HEAD + "speed: 50\nmoves:\n  - hold: 1\n", "line 5: speed is given twice"),
        ("- 1\n", "holds no scenario"),
        ("", "holds no scenario"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: not valid YAML"),
        ("a: " + "[" * 50_000, "more than 30 deep"),
        (HEAD + "moves:\n  - hold: .nan\n", "line 6: moves.0.hold"),
        (HEAD + "sway: {seed: -1}\nmoves:\n  - hold: 1\n", "line 5: sway.seed: .*greater than or equal to 0"),
        (HEAD + "require: !!pairs [lag: 1]\nmoves:\n  - hold: 1\n", "line 5: not valid YAML .*pairs.*remove the tag"),
        (HEAD + "? [a, b]\n: c\n", "line 5: a list or map stands where a name is needed"),
        (HEAD + "requirements: ['<b>']\nmoves:\n  - hold: 1\n", "line 5: requirements.0: "),
        (HEAD + "eyes: wild\nmoves:\n  - hold: 1\n", "line 5: eyes: Input should be 'natural'"),
        (HEAD + "eyes: {perclos: [0, 0.9]}\nmoves:\n  - hold: 1\n", "line 5: eyes.perclos.1: .*0.6"),
        (HEAD + "eyes: {perclos: [0, 0.3], blinks: 9}\nmoves:\n  - hold: 1\n", "line 5: eyes: perclos says when"),
        (HEAD + "moves:\n  - move: {eye_opening: 2}\n    seconds: 1\n", "line 6: moves.0.move.eye_opening: .*1.3"),
        (
            HEAD + "moves:\n  - move: {look_yaw: 10}\n    seconds: 1\n  - move: {gaze_yaw: 3}\n    seconds: 1\n",
            "line 8: moves.1.move.gaze_yaw: look_yaw says where the eyes look, and so does",
        ),
        (
            HEAD + "moves:\n  - move: {yaw: 10, head_share: 1}\n    seconds: 1\n",
            "line 6: moves.0.move.head_share: says how much of a look the head does, but yaw says it, too",
        ),
        (
            HEAD + "moves:\n  - move: {look_yaw: 80, head_share: 0}\n    seconds: 1\n",
            "gaze_yaw is .* must lie between -50 and 50 °; give more head_share",
        ),
        (
            HEAD + "moves:\n  - hold: 9\n    mark: b\nwarnings:\n  - {since: b, latest: 3, kind: nap}\n",
            "line 9: warnings.0.kind: .*'unresponsive'",
        ),
        (
            HEAD + "moves: [{repeat: 100, moves: [{repeat: 100, moves: [{hold: .04, mark: a}]}]}]\n",
            "has 10000 moves, repeats written out; at most 2000",
        ),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, said: str) -> None:
    with pytest.raises(DmsynthError, match=said) as refused:
        parse_scenario(text, "f.yaml")
    assert "\n" not in str(refused.value) or "YAML" in str(refused.value)


def test_repeats_in_repeats_end() -> None:
    text = HEAD + "moves:\n"
    for depth in range(6):
        text += f"{'  ' * (2 * depth + 1)}- repeat: 100\n{'  ' * (2 * depth + 2)}moves:\n"
    with pytest.raises(DmsynthError, match="at most 600 s"):
        parse_scenario(text + "  " * 13 + "- hold: 0.04\n", "f.yaml")


def test_as_many_moves_as_are_allowed_are_followed_at_once() -> None:
    inner = "{repeat: 20, moves: [{move: {yaw: 1}, peak_speed: 100, mark: a}]}"
    scenario = parse_scenario(HEAD + f"moves: [{{repeat: 100, moves: [{inner}]}}]\n", "f.yaml")
    assert len(scenario.marks) == 2000 and scenario.marks["a.2000"] > scenario.marks["a.2"] > scenario.marks["a"] == 0


def test_a_damaged_file_is_told_in_one_line() -> None:
    texts, random = [path.read_text("utf-8") for path in library()], Random(1)
    bits = ["!!pairs ", "? ", "[", "]", "{", ": ", "- ", "&a ", "*a", ".nan", "1e400", "-1", "!!set ", "'", '"', "\t"]
    bits += ["\x00", "\x85", "\u2028", "|", "9" * 50, "~", "<<: "]
    for _ in range(150):
        text = random.choice(texts)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(text))
            text = text[:at] + random.choice(["", *bits]) + text[at + random.randint(0, 20) :]
        with suppress(DmsynthError):
            parse_scenario(text, "f.yaml").trajectory()


def test_files_and_folders(tmp_path: Path) -> None:
    own = tmp_path / "x-y.yaml"
    own.write_text(HEAD + "moves:\n  - hold: 1\n")
    assert find_scenarios([str(tmp_path), "nominal-sway"])[0].name == "x-y"
    other = tmp_path / "other" / "x-y.yaml"
    other.parent.mkdir()
    other.write_text(own.read_text())
    with pytest.raises(DmsynthError, match="another scenario of this name"):
        find_scenarios([str(own), str(other)])
    with pytest.raises(DmsynthError, match="give all, a group or a name"):
        find_scenarios(["nothing-like-it"])
    (tmp_path / "z.yaml").write_text(own.read_text())
    with pytest.raises(DmsynthError, match=r"name the file x-y\.yaml"):
        read_scenario(tmp_path / "z.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DmsynthError, match="is no text"):
        read_scenario(tmp_path / "b.yaml")
    with pytest.raises(DmsynthError, match="no such scenario"):
        read_scenario(tmp_path / "absent.yaml")


def test_the_documented_scenario_is_the_shipped_one() -> None:
    text = (Path(__file__).parents[1] / "docs" / "scenarios.md").read_text("utf-8")
    documented = parse_scenario(text.partition("```yaml\n")[2].partition("```")[0], "docs/scenarios.md")
    shipped = next(scenario for scenario in find_scenarios(["thesis"]) if scenario.name == documented.name)
    assert documented.moves == shipped.moves and documented.warnings == shipped.warnings
    for scenario in find_scenarios(["all"]):
        assert f"| `{scenario.group}` |" in text

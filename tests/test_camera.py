"""The cabin camera: what it sees is where the table says, in the light and with the noise that its file says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from commands import dmsynth, fails
from dmsynth.camera import Camera, cameras, parse_camera, read_camera
from dmsynth.camera.capture import LANDMARKS, Capture, Heads
from dmsynth.camera.eyes import eyes_of
from dmsynth.camera.infrared import SKIN, Look, infrared, to_codes, to_linear
from dmsynth.camera.light import daylight, lamp_at
from dmsynth.camera.sensor import Noise, adapted, expose
from dmsynth.camera.shutter import exposed_over_time, moments
from dmsynth.camera.surface import Surface, head_normals, surface_of
from dmsynth.motion.trajectory import Trajectory, parse_motions
from dmsynth.steering import FaceSpec, SteerableFace, open_renderer, steer_to_video
from dmsynth.steering.anchors import Anchors
from dmsynth.steering.taken import seen_by
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import read_table
from dmsynth.trackers import Face, Tracker
from dmsynth.trackers.gaze import EYE_OUTLINES
from dmsynth.validation.openlabel import openlabel
from dmsynth.validation.rendering import Rendered, covered_frames, video_key
from dmsynth.validation.scenarios import Scenario
from dmsynth.video import Image, VideoWriter, read_video, to_grey

_NAMES = [path.stem for path in cameras()]


@pytest.fixture(scope="module")
def portrait_face(tracker: Tracker) -> SteerableFace:
    return open_renderer(FaceSpec("posed:portrait"), (320, 240))


@pytest.fixture(scope="module")
def enlarged(portrait: Image, tracker: Tracker) -> tuple[Image, Face]:
    """The portrait, large enough that glints can be told apart, and the face in it."""
    large = cv2.resize(portrait[:256, 96:352], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    return large, tracker(large)[0]


@pytest.fixture(scope="module")
def sees(portrait_face: SteerableFace, tracker: Tracker) -> Callable[[Camera], Image]:
    """What a camera sees of the resting portrait: its poses are drawn once, because that takes longest."""
    space = portrait_face.trained.space
    rest = Trajectory(space.names, np.zeros(1), np.array([[control.at_rest for control in space.controls]]))
    level = _with(read_camera("night"), place={"pitch": 0.0})
    places = {camera.place: seen_by(camera, rest).values for camera in [level, *map(read_camera, _NAMES)]}
    values = np.concatenate(list(places.values()))
    drawn = dict(zip(places, portrait_face.frames(values), strict=True))
    anchors = Anchors.known(portrait_face, tracker)
    at_rest = anchors.at(rest.values)

    def picture(camera: Camera) -> Image:
        landmarks, rotation = anchors.at(places[camera.place])
        heads = Heads(landmarks, rotation, eyes_of(space, rest.values), at_rest[0][0], at_rest[1][0])
        return next(iter(Capture(camera, portrait_face.size, heads, np.zeros(1), True).frames([drawn[camera.place]])))

    return picture


def _with(camera: Camera, **parts: dict[str, object]) -> Camera:
    """A camera with some entries changed."""
    content = camera.model_dump()
    for name, changed in parts.items():
        content[name] |= changed
    return Camera.model_validate(content)


@pytest.mark.parametrize("name", _NAMES)
def test_the_tracker_finds_the_face_under_every_included_camera(
    name: str, sees: Callable[[Camera], Image], tracker: Tracker
) -> None:
    camera = read_camera(name)
    picture = sees(camera)
    assert picture.shape == (*camera.size[::-1], *((3,) if camera.spectrum == "visible" else ()))
    assert len(tracker(picture)) == 1


def test_the_table_says_where_the_landmarks_are(portrait_face: SteerableFace, tracker: Tracker, tmp_path: Path) -> None:
    motion = parse_motions("move yaw=15 gaze_yaw=8 0.3; hold 0.1", portrait_face.trained.space.names, 30)
    camera = read_camera("night-small")
    table = read_table(steer_to_video(portrait_face, motion, tmp_path / "out.mp4", 30, camera=camera))
    frames = list(read_video(tmp_path / "out.mp4"))
    assert len(frames) == len(table) and set(table["camera"]) == {"night-small"}
    for number in (0, len(table) - 1):
        row, face = table.iloc[number], tracker(frames[number].image)[0]
        said = np.array([[row[f"{name}_x"], row[f"{name}_y"]] for name in LANDMARKS])
        found = face.landmarks[list(LANDMARKS.values()), :2]
        assert np.hypot(*(said - found).T).mean() < 0.02 * (row["face_bottom"] - row["face_top"])
    last = table.iloc[-1]
    assert last["yaw"] == pytest.approx(15, abs=0.01) and last["pitch"] == pytest.approx(0, abs=0.01)
    assert last["camera_pitch"] == pytest.approx(11.6, abs=0.1) and last["camera_yaw"] == pytest.approx(15.3, abs=0.1)
    assert last["left_iris_x"] > table["left_iris_x"].iloc[0] and last["camera_look_yaw"] > last["camera_yaw"]
    assert 50 < last["nose_tip_z"] < last["left_ear_z"] < 75  # centimetres; the lens is at 65


def test_same_seed_same_bytes(sees: Callable[[Camera], Image]) -> None:
    camera = read_camera("night-small")
    first, again = sees(camera), sees(camera)
    assert np.array_equal(first, again)
    noise = Noise(camera.sensor, 1, 0)
    assert not np.array_equal(noise.window(0), noise.window(1))
    assert not np.array_equal(noise.window(0), Noise(camera.sensor, 1, 1).window(0))


@pytest.mark.parametrize("gain", [0.0, 12.0, 24.0])
def test_noise_is_that_of_photons_and_of_reading_times_the_gain(gain: float) -> None:
    sensor = _with(read_camera("night"), sensor={"gain": gain, "shutter": 10.0, "read_noise": 8.0}).sensor
    factor = 10 ** (gain / 20)
    for white in (0.1, 0.4):  # of full, after the gain
        light = np.full((80, 128), white / factor, np.float32)
        linear = to_linear(expose([light], sensor, 1.0, Noise(sensor, 1, 0), 3)).astype(float)
        electrons = white / factor * sensor.full_well
        expected = factor / sensor.full_well * np.sqrt(electrons + sensor.read_noise**2)
        rounding = 1 / 255 / np.sqrt(12) * 2.0
        assert linear.mean() == pytest.approx(white, rel=0.03)
        assert linear.std() == pytest.approx(expected, rel=0.1, abs=rounding)


def test_a_fixed_exposure_stays_and_an_automatic_one_follows() -> None:
    sensor, levels = read_camera("tunnel").sensor, np.repeat([1.0, 0.2], 60)
    factors = adapted(sensor, levels)
    assert factors[59] == 1 and 1 < factors[62] < factors[80] < factors[119] < 5.0
    assert (adapted(read_camera("day").sensor, levels) == 1).all()


def test_skin_becomes_bright_and_even_and_the_pupil_dark(enlarged: tuple[Image, Face]) -> None:
    image, face = enlarged
    made = infrared(image, face.landmarks, face.rotation, Look((0, 0), np.array([0, 0, 1.0]), 4.0))
    cheeks, lips = (face.landmarks[numbers, :2].round().astype(int) for numbers in ([50, 280, 205, 425], [17, 0]))

    def level(picture: Image, points: np.ndarray) -> float:
        around = [picture[y - 6 : y + 7, x - 6 : x + 7] for x, y in points]
        return float(to_linear(np.ascontiguousarray(around)).mean())

    assert made.shape == image.shape[:2]
    assert level(made, cheeks) == pytest.approx(SKIN, abs=0.2)
    grey = to_grey(image)
    assert level(made, lips) / level(made, cheeks) > 1.03 * level(grey, lips) / level(grey, cheeks)
    darker = to_codes(to_linear(image) * np.float32(0.25))  # darker skin is as bright in infrared
    again = infrared(darker, face.landmarks, face.rotation, Look((0, 0), np.array([0, 0, 1.0]), 4.0))
    assert level(again, cheeks) == pytest.approx(level(made, cheeks), abs=0.06)
    for x, y, radius in _irises(face):
        ring = [made[round(y), round(x + side * 0.65 * radius)] for side in (-1, 1)]
        off = round(0.17 * radius)
        assert made[round(y) + off, round(x) + off] < 0.5 * min(ring)


def _irises(face: Face) -> list[tuple[float, float, float]]:
    rings = [face.landmarks[list(eye["iris"]), :2] for eye in EYE_OUTLINES.values()]
    return [(float(ring[0, 0]), float(ring[0, 1]), float(np.hypot(*(ring[1:] - ring[0]).T).max())) for ring in rings]


def test_the_glint_moves_with_gaze_head_and_lamp(enlarged: tuple[Image, Face]) -> None:
    image, face = enlarged

    def glints(yaw: float, lamp: float) -> np.ndarray:
        """(2,) how far to the right of the pupils they lie, in radii of the iris."""
        direction = np.array([np.sin(np.radians(lamp)), 0, np.cos(np.radians(lamp))])
        made = infrared(image, face.landmarks, np.eye(3), Look((0, yaw), direction, 7.0))
        found = []
        for x, y, radius in _irises(face):
            left, top, wide = round(x - radius), round(y - 0.5 * radius), round(radius)
            part = made[top : top + wide, left : left + 2 * wide].astype(float)
            spot = np.clip(part - 200, 0, None) * (np.abs(np.arange(2 * wide) - wide) < 0.6 * radius)
            found.append(((spot.sum(axis=0) * np.arange(2 * wide)).sum() / spot.sum() + left - x) / radius)
        return np.array(found)

    straight = glints(0, 0)
    assert np.abs(straight).max() < 0.08
    # the pupil is 4.2 mm before the cornea's centre, on whose radius of 7.8 mm the lamp is mirrored half-way
    assert glints(10, 0) == pytest.approx(straight - 4.2 * np.sin(np.radians(10)) / 5.9, abs=0.06)
    assert glints(-10, 0) == pytest.approx(straight + 4.2 * np.sin(np.radians(10)) / 5.9, abs=0.06)
    assert glints(0, 20) == pytest.approx(straight + 7.8 * np.sin(np.radians(10)) / 5.9, abs=0.06)


def test_the_pose_is_as_a_turned_camera_sees_it(sees: Callable[[Camera], Image], tracker: Tracker) -> None:
    column, mirror = read_camera("night"), read_camera("night-mirror")
    ahead = np.zeros((1, 3))
    assert column.sees(ahead)[0] == pytest.approx([12, 0, 0])  # from below, the nose points up
    assert mirror.sees(ahead)[0][1] > 20  # from the middle of the car, to the picture's right
    poses = np.array([[5.0, -20, 3], [-8, 30, -4]])
    assert mirror.in_car(mirror.sees(poses)) == pytest.approx(poses)
    level = _with(column, place={"pitch": 0.0})
    below, straight = (tracker(sees(camera))[0].pose for camera in (column, level))
    assert 9 < below["pitch"] - straight["pitch"] < 18  # the tracker's scale of pitch is wider than ours
    motion = parse_motions("hold 1", ("pitch", "yaw", "roll"), 10)
    assert seen_by(mirror, motion)["yaw"] == pytest.approx(np.full(len(motion), mirror.sees(ahead)[0][1]))


def test_what_moves_is_blurred_and_rows_that_come_later_have_moved_on(enlarged: tuple[Image, Face]) -> None:
    _, face = enlarged
    landmarks = face.landmarks / np.float32(4)
    surface = surface_of(landmarks, face.rotation, head_normals(landmarks, face.rotation), (256, 256))

    def moved(pixels: float) -> Surface:
        return replace(surface, points=surface.points + np.array([pixels, 0]))

    x = round(float(surface.centre[0]))
    light = np.zeros((256, 256), np.float32)
    light[:, x] = 1
    sensor = _with(read_camera("night"), sensor={"shutter": 20.0, "frame_rate": 25.0}).sensor
    rows = slice(round(surface.centre[1]) - 20, round(surface.centre[1]) + 20)
    blurred = exposed_over_time(light, moments(surface, moved(-16), moved(16), sensor))[rows]
    assert np.count_nonzero(blurred.mean(axis=0) > 0.05) == pytest.approx(8, abs=2)  # half of 16 pixels a frame
    assert exposed_over_time(light, moments(surface, surface, surface, sensor)) is light
    rolling = _with(read_camera("night"), sensor={"shutter": 0.1, "frame_rate": 25.0, "rolling": 40.0}).sensor
    skewed = exposed_over_time(light, moments(surface, moved(-16), moved(16), rolling))[rows]
    place = (skewed * np.arange(256)).sum(axis=1) / skewed.sum(axis=1)
    assert place[-1] - place[0] == pytest.approx(16 * 39 / 256, abs=0.6)


def test_the_quick_encoding_of_noise_keeps_as_much_of_it(sees: Callable[[Camera], Image], tmp_path: Path) -> None:
    camera = read_camera("night-small")
    clean = sees(camera)
    rng = np.random.default_rng(0)
    frames = [np.clip(clean + rng.normal(0, 2.5, clean.shape), 0, 255).astype(np.uint8) for _ in range(20)]

    def lost(noisy: bool) -> float:
        path = tmp_path / f"{noisy}.mp4"
        with VideoWriter(path, *camera.size, 30, compression=20, repeatable=True, noisy=noisy) as video:
            for frame in frames:
                video.write(frame)
        seen = [frame.image.astype(float) for frame in read_video(path, grey=True)]
        return float(np.mean([np.square(one - other).mean() for one, other in zip(seen, frames, strict=True)]))

    assert lost(noisy=True) < 1.05 * lost(noisy=False)


def test_light_changes_with_the_time() -> None:
    tunnel = read_camera("tunnel").light.tunnel
    assert tunnel is not None
    outside, inside = daylight(tunnel, np.array([1.0, 6.0]))
    assert outside == 1 and inside < 0.1
    lamps = read_camera("street-lamps").light.street_lamps
    assert lamps is not None
    (far, weak), (near, strong) = lamp_at(lamps, 0.1), lamp_at(lamps, 1.5)
    assert far < near and weak < strong and lamp_at(lamps, 0.1 + lamps.every) == pytest.approx((far, weak))


def test_the_sun_lights_its_side(sees: Callable[[Camera], Image], tracker: Tracker) -> None:
    camera = read_camera("low-sun")
    content = camera.model_dump()
    content["light"]["sun"]["shadow"] = None
    picture = sees(Camera.model_validate(content))
    right, left = (tracker(picture)[0].landmarks[number, :2].astype(int) for number in (280, 50))
    assert picture[right[1], right[0]] > 1.2 * picture[left[1], left[0]]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("gain: 6", "gain: 90", 17, "sensor.gain"),
        ("shutter: 4", "shutter: 50", 12, "longer than a frame"),
        ("pitch: -12", "pitch: -60", 7, "place.pitch"),
        ("spectrum: infrared", "spectrum: x-ray", 6, "visible"),
        ("  pupil: 5", "  flash: 5", 11, "flash"),
        ("light:", "- light:", 9, "not valid YAML"),
    ],
)
def test_a_wrong_camera_is_told_in_one_line_and_nothing_is_written(
    old: str, new: str, line: int, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "night.yaml"
    text = next(each for each in cameras() if each.stem == "night").read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(DmsynthError, match=said) as error:
        read_camera(str(path))
    assert str(error.value).startswith(f"{path}, line {line}") and "\n" not in str(error.value)
    out = tmp_path / "out.mp4"
    done = dmsynth("steer", "portrait", "--camera", path, "--trajectory", "hold 1", "--out", out)
    assert said in fails(done)
    assert list(tmp_path.iterdir()) == [path]


def test_other_mistakes_are_told(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    for more, said in (
        (["--camera", "nigth"], "nigth: no such camera"),
        (["--camera", "night", "--frame-rate", "25"], "has its own"),
        (["--wear", "halo"], "halo: no such thing"),
        (["--camera", "night", "--strict"], "by the camera night: frame"),
    ):
        trajectory = "move yaw=70 0.2; hold 0.2"
        assert said in fails(dmsynth("steer", "portrait", "--trajectory", trajectory, "--out", out, *more))
    assert not list(tmp_path.iterdir())


_SCENARIO = {
    "name": "look",
    "title": "A look aside",
    "source": "test",
    "speed": 50,
    "moves": [{"hold": 0.2}, {"move": {"yaw": 25}, "seconds": 0.2}],
}


def test_a_scenario_names_its_camera(portrait_face: SteerableFace) -> None:
    plain, named = Scenario.model_validate(_SCENARIO), Scenario.model_validate(_SCENARIO | {"camera": "night-mirror"})
    whole = yaml.safe_load(next(each for each in cameras() if each.stem == "night-mirror").read_text("utf-8"))
    assert Scenario.model_validate(_SCENARIO | {"camera": whole}) == named and named.video_rate == 30
    other = Scenario.model_validate(_SCENARIO | {"camera": "night"})
    worn = Scenario.model_validate(_SCENARIO | {"wear": ["glasses", {"thing": "mask", "since": 0.1}]})
    assert len({video_key(each, "0" * 64) for each in (plain, named, other, worn)}) == 4
    assert covered_frames(plain, portrait_face).all()
    assert not covered_frames(named, portrait_face).all()  # 50° to the side, as the mirror sees it
    for wrong, said in ({"camera": "moon"}, "no camera 'moon'"), ({"wear": ["halo"]}, "no such thing"):
        with pytest.raises(ValueError, match=said):
            Scenario.model_validate(_SCENARIO | wrong)


def test_openlabel_says_what_the_camera_sees(portrait_face: SteerableFace, tracker: Tracker, tmp_path: Path) -> None:
    scenario = Scenario.model_validate(_SCENARIO | {"camera": "night-small", "wear": ["glasses"]})
    assert scenario.camera
    table = read_table(
        steer_to_video(portrait_face, scenario.trajectory(), tmp_path / "a.mp4", 30, "mark", scenario.camera,
                       scenario.worn)
    )  # fmt: skip
    content = openlabel(scenario, Rendered(tmp_path / "a.mp4", table))["openlabel"]
    pinhole = content["streams"]["camera"]["stream_properties"]["intrinsics_pinhole"]
    assert (pinhole["width_px"], pinhole["height_px"]) == (320, 240)
    data = content["frames"][str(len(table) - 1)]["objects"]["0"]["object_data"]
    numbers = {each["name"]: each["val"] for each in data["num"]}
    assert numbers["head_yaw"] == pytest.approx(table["yaw"].iloc[-1], abs=1e-3)
    assert numbers["camera_head_pitch"] == pytest.approx(table["camera_pitch"].iloc[-1], abs=1e-3)
    assert {each["name"] for each in data["point2d"]} == set(LANDMARKS) and data["text"][0]["val"] == "glasses"
    matrix = np.array(pinhole["camera_matrix_3x4"]).reshape(3, 4)
    for flat, solid in zip(data["point2d"], data["point3d"], strict=True):
        seen = matrix @ [*solid["val"], 1]
        assert seen[:2] / seen[2] == pytest.approx(flat["val"], abs=0.05)


def test_a_camera_is_told_apart_by_all_that_it_is() -> None:
    night = read_camera("night")
    assert night.identity.startswith("night (") and night.identity != _with(night, sensor={"gain": 7.0}).identity
    text = next(each for each in cameras() if each.stem == "night").read_text("utf-8")
    assert parse_camera(text, "night").identity == night.identity

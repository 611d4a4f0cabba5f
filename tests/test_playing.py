"""Playing in real time: the pace, the marks in frames, where frames go, and what is said if they cannot."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from box import Simulated
from commands import dmsynth, fails
from dmsynth.playing.log import read_play
from dmsynth.playing.marks import MOST_NUMBERS, Marking, patch_is_white, read_mark
from dmsynth.playing.player import Clip, Play, Playlist, pace, play
from dmsynth.playing.sinks import Encoded, Pipe, Show, open_sink
from dmsynth.support.errors import DmsynthError
from dmsynth.support.table_files import write_table
from dmsynth.video import Image, VideoWriter, fit, read_video
from dmsynth.video.portrait import default_portrait

SIZE = (320, 240)


class Watched:
    """Keeps what it is shown, and takes ``slow`` seconds for the frame of each number."""

    def __init__(self, clock: Simulated, slow: dict[int, float] | None = None, ends: int | None = None) -> None:
        self.clock, self.slow, self.ends = clock, slow or {}, ends
        self.shown: list[tuple[float, Image]] = []

    def prepare(self, image: Image, time: float) -> Show:
        def show() -> None:
            if len(self.shown) == self.ends:
                raise BrokenPipeError(32, "Broken pipe")
            self.shown.append((self.clock.now(), image))
            self.clock.time += self.slow.get(len(self.shown) - 1, 0.0)

        return show

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the portrait growing brighter, 25 frames a second."""
    path = tmp_path_factory.mktemp("clip") / "brighter.mp4"
    picture = fit(default_portrait(), *SIZE)
    with VideoWriter(path, *SIZE, 25) as writer:
        for frame in range(50):
            writer.write(cv2.convertScaleAbs(picture, alpha=0.5 + frame / 100))
    return path


def test_every_frame_is_shown_at_its_time(video: Path) -> None:
    clock, played = Simulated(), Play()
    sink = Watched(clock)
    play(Playlist.of([Clip("one", video)], lead=1.0), sink, Marking(), clock, played)
    table = played.table()
    assert table["frame"].tolist() == [-1] * 25 + list(range(50)) and table["number"].tolist() == list(range(75))
    assert np.diff([time for time, _ in sink.shown]) == pytest.approx(0.04, abs=1e-9)
    assert table["real"].to_numpy() == pytest.approx(table["planned"].to_numpy(), abs=1e-9)
    assert table["time"].to_numpy() == pytest.approx(table["planned"].to_numpy() - 1.0, abs=1e-9)
    assert pace(table) | {"jitter": 0, "median": 0, "p99": 0, "worst": 0} == {
        "frames": 75, "late": 0, "dropped": 0, "median": 0, "p99": 0, "worst": 0, "jitter": 0,
    }  # fmt: skip
    shown = [read_mark(image) for _, image in sink.shown[::10]]
    assert shown == list(range(0, 75, 10))
    still, moving = sink.shown[0][1][:150], sink.shown[70][1][:150]
    assert (still == sink.shown[24][1][:150]).all() and moving.mean() > still.mean() + 20


def test_what_is_late_and_dropped_is_counted(video: Path) -> None:
    clock, played = Simulated(), Play()
    sink = Watched(clock, slow={10: 0.065, 30: 0.2})
    play(Playlist.of([Clip("one", video)], lead=0), sink, Marking("none"), clock, played)
    table = played.table()
    assert table.index[table["late"] & ~table["dropped"]].tolist() == [10, 11, 30, 34]
    assert table.index[table["dropped"]].tolist() == [31, 32, 33] and table["real"].isna().sum() == 3
    assert len(sink.shown) == 47 and table["planned"].to_numpy() == pytest.approx(np.arange(50) / 25)
    assert table["real"].iloc[40] == pytest.approx(1.6)  # it has caught up


def test_a_sink_that_ends_loses_nothing(video: Path, tmp_path: Path) -> None:
    clock, played = Simulated(), Play()
    play(Playlist.of([Clip("one", video)], 0), Watched(clock, ends=20), Marking(), clock, played)
    assert played.stopped and "Broken pipe" in played.stopped and len(played.rows) == 20
    write_table(tmp_path / "play.parquet", played.table())
    assert len(read_play(tmp_path / "play.parquet")) == 20


def test_clips_follow_each_other(video: Path, tmp_path: Path) -> None:
    commands = pd.DataFrame({"yaw": np.linspace(0, 49, 50)})
    clock, played = Simulated(), Play()
    playlist = Playlist.of([Clip("one", video, commands), Clip("two", video)], lead=0.4)
    play(playlist, Watched(clock), Marking("patch"), clock, played)
    write_table(tmp_path / "play.parquet", played.table())
    log = read_play(tmp_path / "play.parquet")
    assert log["clip"].tolist() == ["one"] * 60 + ["two"] * 60
    assert np.diff(log["real"]) == pytest.approx(0.04)
    assert log["yaw"][:60].tolist() == [0] * 10 + list(range(50)) and log["yaw"][60:].isna().all()
    log.loc[80:, "real"] -= 1.0
    write_table(tmp_path / "play.parquet", log)
    with pytest.raises(DmsynthError, match="plays overlap: two is shown again at"):
        read_play(tmp_path / "play.parquet")
    for name in ("../escaped", "..", "a\\b", "a\nb", None):
        write_table(tmp_path / "play.parquet", log.assign(clip=name))
        with pytest.raises(DmsynthError, match="is no name of a clip") as refused:
            read_play(tmp_path / "play.parquet")
        assert "\n" not in str(refused.value)
    with pytest.raises(DmsynthError, match="one: is given twice"):
        Playlist.of([Clip("one", video), Clip("one", video)], 0)


def test_clips_of_another_size_are_played_with_black_bars(video: Path, tmp_path: Path) -> None:
    """As the scenario of a failed lamp is, whose camera gives 640×400, after those of 640×480."""
    picture = fit(default_portrait(), 160, 100)
    for name, each in (("wide", picture), ("short", fit(default_portrait(), *SIZE))):
        with VideoWriter(tmp_path / f"{name}.mp4", each.shape[1], each.shape[0], 25) as writer:
            for _ in range(3):
                writer.write(each)
    playlist = Playlist.of([Clip("wide", tmp_path / "wide.mp4"), Clip("one", video)], lead=0.04)
    assert playlist.size == SIZE and playlist.boxed == ["wide"]
    clock, played = Simulated(), Play()
    sink = Watched(clock)
    play(playlist, sink, Marking(), clock, played)
    images = [image for _, image in sink.shown]
    assert {image.shape for image in images} == {(240, 320, 3)}
    assert [read_mark(image) for image in images[:6]] == list(range(6))
    wide = images[1]
    assert not wide[:20].any() and not wide[-20:, -100:].any()
    expected = cv2.resize(picture, (320, 200), interpolation=cv2.INTER_CUBIC)
    assert cv2.absdiff(wide[20:180], expected[:160]).mean() < 4  # as it was encoded
    assert images[-1][:20].any()
    log = tmp_path / "play.parquet"
    done = dmsynth("play", tmp_path / "wide.mp4", tmp_path / "short.mp4", "--to", "none", "--log", log, "--lead", "0")
    assert done.returncode == 0 and "wide: has frames of another size" in done.stderr


def test_a_wrong_address_is_said_before_anything_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renders(*_: object) -> None:
        raise AssertionError("rendered")

    monkeypatch.setattr("dmsynth.experiments.clips.clips_of_scenarios", renders)
    rest = ["--face", "starter", "--log", tmp_path / "play.parquet"]
    wrong = {"bogus": "frames cannot be played there", "/dev/video99": "no such virtual camera"}
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    if importlib.util.find_spec("pygame"):
        wrong["screen:9"] = "there is no display 9"
    for address, said in wrong.items():
        assert said in fails(dmsynth("play", "all", "--to", address, *rest))
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert "needs the package pygame-ce" in fails(dmsynth("play", "all", "--to", "screen", *rest))


def filmed(image: Image, blur: float, noise: float, seed: int) -> Image:
    """As a camera sees a screen: from the side, dimmer, blurred and noisy."""
    random = np.random.default_rng(seed)
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32)
    seen = corners + inwards * random.uniform(0.02, 0.07, (4, 2)).astype(np.float32) * width
    picture = cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, seen.astype(np.float32)), (width, height))
    picture = cv2.GaussianBlur(picture, (0, 0), blur) * 0.6 + 30
    return np.clip(picture + random.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("corner", "blur", "noise"), [("bottom-left", 0.5, 20), ("top-right", 2, 10)])
def test_numbers_are_read_in_filmed_frames(corner: str, blur: float, noise: float) -> None:
    picture = fit(default_portrait(), 1280, 800)
    numbers = [0, MOST_NUMBERS - 1]
    marked = [Marking(corner=corner).drawn(picture, number) for number in numbers]
    assert [read_mark(filmed(each, blur, noise, seed)) for seed, each in enumerate(marked)] == numbers
    assert read_mark(picture) is None
    assert read_mark(cv2.addWeighted(marked[0], 0.5, marked[1], 0.5, 0)) in (None, *numbers)


@given(number=st.integers(0, MOST_NUMBERS - 1), grey=st.booleans())
@settings(max_examples=15)
def test_a_mark_says_its_number(number: int, grey: bool) -> None:
    picture = np.full((240, 320) if grey else (240, 320, 3), 128, np.uint8)
    assert read_mark(Marking(corner="bottom-right").drawn(picture, number)) == number
    assert not (picture != 128).any()


def test_the_patch_flips_by_a_sequence_that_fits_one_place_only() -> None:
    level = np.where(patch_is_white(np.arange(20_000)), 1.0, -1.0)
    assert abs(level.mean()) < 0.02
    part = level[5000:6500]  # a minute
    match = np.correlate(level, part) / len(part)
    assert match.argmax() == 5000 and np.sort(match)[-2] < 0.2


def test_raw_frames_go_through_a_pipe(video: Path) -> None:
    reads, writes = os.pipe()
    content: list[bytes] = []
    reader = threading.Thread(target=lambda: content.extend(iter(lambda: os.read(reads, 2**16), b"")))
    reader.start()
    clock, played, sink = Simulated(), Play(), Pipe(writes)
    play(Playlist.of([Clip("one", video)], 0), sink, Marking("none"), clock, played)
    sink.close()
    os.close(writes)
    reader.join()
    frames = np.frombuffer(b"".join(content), np.uint8).reshape(50, SIZE[1], SIZE[0], 3)
    assert (frames[49] == [each.image for each in read_video(video)][49]).all()


def test_a_reader_that_ends_or_takes_nothing_is_said(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmsynth.playing.sinks._PATIENCE", 0.05)
    for closes, said in (
        (True, "standard output: its reader has ended"),
        (False, "the reader took nothing for 0.05 s"),
    ):
        reads, writes = os.pipe()
        if closes:
            os.close(reads)
        sink, played = Pipe(writes), Play()
        play(Playlist.of([Clip("one", video)], 0), sink, Marking("none"), Simulated(), played)
        assert played.stopped is not None and said in played.stopped and len(played.rows) < 6
        sink.close()
        os.close(writes)
        if not closes:
            os.close(reads)


def test_a_receiver_that_takes_nothing_ends_the_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmsynth.playing.sinks._PATIENCE", 0.5)
    monkeypatch.setattr("dmsynth.playing.clock.MonotonicClock", Simulated)  # on a busy machine no frame is dropped
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)  # fills what the system buffers
    with VideoWriter(tmp_path / "noise.mp4", 640, 480, 60, compression=5) as writer:
        for frame in range(20):
            writer.write(np.roll(noise, 37 * frame, axis=1))
    log = tmp_path / "play.parquet"
    with socket.socket() as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receiver.bind(("127.0.0.1", 0))
        receiver.listen()  # the system accepts; nobody reads
        address = f"tcp://127.0.0.1:{receiver.getsockname()[1]}"
        begun = time.monotonic()
        rest = ["--log", log, "--lead", "0"]
        said = fails(dmsynth("play", tmp_path / "noise.mp4", "--to", address, *rest))
        assert time.monotonic() - begun < 5
    assert f"{address}: the receiver took nothing for 0.5 s; after" in said
    assert 0 < len(pd.read_parquet(log)) < 20


def test_a_stream_is_received_as_it_was_played(video: Path, tmp_path: Path) -> None:
    """By the file that FFmpeg writes; another test receives from a socket."""
    clock, played = Simulated(), Play()
    sink = Encoded(str(tmp_path / "stream.ts"), "mpegts", "libx264", SIZE, 25)
    play(Playlist.of([Clip("one", video)], 0), sink, Marking(), clock, played)
    sink.close()
    received = list(read_video(tmp_path / "stream.ts"))
    assert [read_mark(each.image) for each in received[::7]] == list(range(0, 50, 7))
    assert np.diff([each.time for each in received]) == pytest.approx(0.04, abs=1e-4)


def test_datagrams_arrive(video: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        sink = open_sink(f"udp://127.0.0.1:{receiver.getsockname()[1]}", SIZE, 25)
        sink.prepare(fit(default_portrait(), *SIZE), 0.0)()
        sink.close()
        assert receiver.recv(2048)[0] == 0x47  # MPEG's sync byte


def test_what_cannot_be_played_is_said_in_one_line(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    log = tmp_path / "play.parquet"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for arguments, said in (
        (["--to", "screen"], "needs the package pygame-ce"),
        (["--to", "/dev/video99"], "no such virtual camera"),
        (["--to", f"tcp://127.0.0.1:{port}"], "Connection refused"),
        (["--to", f"rtsp://127.0.0.1:{port}/x"], "Connection refused"),
        (["--to", "moon"], "frames cannot be played there; give screen"),
        (["--to", "none", "--mark", "qr"], "choose one of code, patch, none"),
        (["--to", "none", "--corner", "middle"], "choose one of bottom-left"),
        (["--to", "none", "--vary", "light"], "videos are played as they are"),
    ):
        assert said in fails(dmsynth("play", video, "--log", log, *arguments))
    assert "give a name that ends with .parquet" in fails(
        dmsynth("play", video, "--to", "none", "--log", tmp_path / "play.csv")
    )
    assert "give --face" in fails(dmsynth("play", "pose-yaw", "--to", "none", "--log", log))
    both = ["--face", "starter", "--cast", "cast.yaml"]
    assert "leave out --face" in fails(dmsynth("play", "pose-yaw", "--to", "none", "--log", log, *both))
    assert not log.exists()


def test_the_command_plays_and_reads_back(tmp_path: Path) -> None:
    picture, log = fit(default_portrait(), *SIZE), tmp_path / "play.parquet"
    for name, marking in (("film", Marking()), ("bare", Marking("none"))):
        with VideoWriter(tmp_path / f"{name}.mp4", *SIZE, 25) as film:
            for number in (3, 4, 5):
                film.write(marking.drawn(picture, number))
    done = dmsynth("play", tmp_path / "bare.mp4", "--to", "none", "--log", log, "--lead", "0", "--json")
    assert done.returncode == 0 and '"frames": 3' in done.stdout
    written = pd.read_parquet(log)
    assert written["number"].tolist() == [0, 1, 2] and written["clip"].tolist() == ["bare"] * 3
    assert dmsynth("read-marks", tmp_path / "film.mp4", "--out", tmp_path / "codes.parquet").returncode == 0
    codes = pd.read_parquet(tmp_path / "codes.parquet")
    assert codes["code"].tolist() == [3, 4, 5] and codes["frame"].tolist() == [0, 1, 2]
    bare = dmsynth("read-marks", tmp_path / "bare.mp4", "--out", tmp_path / "codes.parquet")
    assert "no mark that can be read" in fails(bare)


def test_a_screen_shows_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame", reason="needs pygame-ce; pip install 'dmsynth[screen]'")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    picture = fit(default_portrait(), *SIZE)
    sink = open_sink("screen", SIZE, 25)
    sink.prepare(picture, 0.0)()
    assert (pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1) == picture).all()
    sink.close()
    with pytest.raises(DmsynthError, match="there is no display 7"):
        open_sink("screen:7", SIZE, 25)


def test_the_patch_repeats_in_no_play() -> None:
    white = patch_is_white(np.arange(MOST_NUMBERS))
    windows = np.lib.stride_tricks.sliding_window_view(white, 60).astype(np.int64) @ (1 << np.arange(60))
    assert len(np.unique(windows)) == len(windows)  # two seconds fit one place

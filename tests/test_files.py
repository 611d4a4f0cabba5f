"""Files are whole or absent, outlast a loss of power, and nobody's leftovers stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmsynth.support.files import remove_leftovers, replacing, temporary_beside, write_json, write_text


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="gone wrong"), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ValueError("gone wrong")
    assert (tmp_path / "a.json").read_text() == '{\n  "x": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_written_is_on_the_disk_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name.partition("-")[0])

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "a")
    assert synced == [f".a.{os.getpid()}", tmp_path.name], "the file, then the folder that names it"
    write_text(tmp_path / "b.txt", "b", lasting=False)
    assert len(synced) == 2


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from dmsynth.support.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a [1].txt")], check=False)
    (left,) = tmp_path.iterdir()
    mine = temporary_beside(tmp_path / "a [1].txt")
    mine.write_text("still being written")
    other = left.with_name(left.name.replace("-", "-00", 1))
    other.write_text("another machine's")
    write_text(tmp_path / "a [1].txt", "whole")
    assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a [1].txt", other.name}


def test_only_what_dead_processes_of_this_machine_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = temporary_beside(tmp_path / "x-1.mp4").name
    dead, absurd = (alive.replace(str(os.getpid()), number) for number in (str(ended.pid), str(10**30)))
    mine = (".notes.partial.mp4", f"x.{ended.pid}.partial.mp4", ".x.abc.partial.mp4", f".x.{ended.pid}.partial.mp4")
    for name in (alive, dead, absurd, *mine):
        (tmp_path / name).touch()
    assert {file.name for file in remove_leftovers(tmp_path)} == {dead, absurd}
    assert {file.name for file in tmp_path.iterdir()} == {alive, *mine}
    assert remove_leftovers(tmp_path / "absent") == []

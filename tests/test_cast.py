"""A cast's file: who plays, and what is wrong with it, in one line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dmsynth.datasets.dataset import Dataset
from dmsynth.steering import FaceSpec, open_renderer
from dmsynth.steering.cast import read_cast
from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image, write_image


@pytest.fixture
def folder(tmp_path: Path, head_file: Path, portrait: Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Faces in the folder of the cast, which is not the current one."""
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "grace.png", portrait)
    shutil.copyfile(head_file, tmp_path / "head.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "cast.yaml"
    path.write_text(text)
    return path


def test_every_kind_of_face_is_named(folder: Path, photo_dataset: Dataset) -> None:
    path = written(folder, f"""
persons:
  eileen: starter
  Grace-2: posed:photos/grace.png
  head_only: head.safetensors
  photo: portrait
  filmed: posed:{photo_dataset.path}
""")  # fmt: skip
    faces = read_cast(path)
    assert faces == {
        "eileen": "starter",
        "Grace-2": f"posed:{folder / 'photos' / 'grace.png'}",
        "head_only": str(folder / "head.safetensors"),
        "photo": "posed:portrait",
        "filmed": f"posed:{photo_dataset.path.resolve()}",
    }
    assert all(open_renderer(FaceSpec(face)).trained.space.turns_head for face in faces.values())
    assert list(read_cast(written(folder, "persons: {a: photos/grace.png}")).values()) == [faces["Grace-2"]]


def test_the_documented_cast_is_read(folder: Path, portrait: Image) -> None:
    docs = Path(__file__).parents[1] / "docs" / "validate-a-dms.md"
    if not docs.is_file():
        pytest.skip("the documents lie in the repository, not in the wheel")
    write_image(folder / "photos" / "grace.jpg", portrait)
    (folder / "faces").mkdir()
    shutil.copyfile(folder / "head.safetensors", folder / "faces" / "driver-3.safetensors")
    (text,) = re.findall(r"```yaml\n(persons:.*?)```", docs.read_text("utf-8"), re.DOTALL)
    assert list(read_cast(written(folder, text))) == ["eileen", "grace", "driver-3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no cast; write `persons:`"),
        ("persons:\n", "names no persons"),
        ("people: {a: starter}\n", "names no persons"),
        ("persons: [starter]\n", "persons: is no list of names with faces"),
        ("persons:\n  a b: starter\n", "a b: is no name for a person; take up to 40 letters"),
        ("persons:\n  ../a: starter\n", "../a: is no name"),
        ("persons:\n  1: starter\n", "1: is no name .* in quotes if it is a number"),
        ("persons:\n  a: starter\n  a: head.safetensors\n", "line 3: a is given twice; keep one"),
        ("persons:\n  a: starter\n  A: head.safetensors\n", "A: differs from a by capitals only"),
        ("persons:\n  a: starter\n  b: 3\n", "line 3: persons.b: Input should be a valid string"),
        ("persons:\n  a: nobody.safetensors\n", "a: nobody.safetensors: no such face"),
        ("persons:\n  a: posed:photos/nobody.png\n", "a: posed:photos/nobody.png: no such file or folder"),
        ("persons:\n  a: wax:photos/grace.png\n", "no renderer is named wax"),
        ("persons:\n  a: liveportrait:photos\n", "a: liveportrait:photos: needs a picture besides its name"),
        ("persons:\n  a: photos/grace.png\n  b: posed:photos/../photos/grace.png\n", "b: has the face of a"),
        ("persons: &x {a: starter}\nothers: *x\n", "line 2: aliases"),
        ("persons:\n  a: !!python/name:os.system x\n", "not valid YAML for a cast"),
    ],
)
def test_mistakes_are_told_in_one_line_with_the_file(folder: Path, text: str, said: str) -> None:
    with pytest.raises(DmsynthError, match=said) as told:
        read_cast(written(folder, text))
    assert "cast.yaml" in str(told.value) and "\n" not in str(told.value)


def test_a_file_that_is_none(folder: Path) -> None:
    with pytest.raises(DmsynthError, match=r"nobody\.yaml: no such cast"):
        read_cast(folder / "nobody.yaml")
    with pytest.raises(DmsynthError, match="a cast has at most 100000"):
        read_cast(folder / "photos" / "grace.png")
    (folder / "photos" / "small.png").write_bytes(bytes(range(128, 256)))
    with pytest.raises(DmsynthError, match="is no text; a cast is a YAML file"):
        read_cast(folder / "photos" / "small.png")

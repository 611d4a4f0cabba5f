"""What is installed from a wheel is whole: nothing is taken from the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(build, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_it_holds_all_that_the_package_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("dmsynth/") for name in archive.namelist() if name.startswith("dmsynth/")}
    source = CHECKOUT / "src" / "dmsynth"
    ours = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert held >= {name for name in ours if "__pycache__" not in name}
    assert held >= {"py.typed", "data/starter.safetensors", "data/astronaut.png", "report/charts.js", "web/static.html"}


@pytest.mark.slow
def test_everything_works_outside_the_checkout(wheel: Path, tmp_path: Path, face_video: Path) -> None:
    """In an environment with our dependencies and this wheel, and nothing of the checkout."""
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)

    def run(*arguments: object) -> str:
        command = [str(python), "-m", "dmsynth.cli", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    where = "import dmsynth; print(dmsynth.__file__)"
    origin = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert origin.startswith(str(site))
    run("demo", "--train-time", "5s", "--frames", 60)
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    run("steer", "starter", "--trajectory", "sweep yaw=-10:10 1", "--out", "turn.mp4")
    run("track", face_video, "--out", "tracked.csv")
    assert "1 pass" in run("validate", "nominal-sway", "--face", "starter", "--out", "judged")
    run("export", "starter", "--web", "page")
    assert (tmp_path / "page" / "index.html").is_file()
    assert "--workspace" in run("cockpit", "--help")

"""LivePortrait's networks, from the user's own checkout of its official code and weights. None of its code is here.

The layout is the one that its README gives: ``DIR/src`` is the code, ``DIR/pretrained_weights`` what is downloaded.
Only the modules that define networks are imported, so of all that its requirements list torch is enough.
"""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from dmsynth.support.errors import DmsynthError
from dmsynth.video import Image
from dmsynth.video.pictures import read_image

WEIGHTS = Path("pretrained_weights/liveportrait")
# network → file and class that define it, in src/modules; its weights are base_models/NETWORK.pth
BASE = {
    "appearance_feature_extractor": ("appearance_feature_extractor", "AppearanceFeatureExtractor"),
    "motion_extractor": ("motion_extractor", "MotionExtractor"),
    "warping_module": ("warping_network", "WarpingNetwork"),
    "spade_generator": ("spade_generator", "SPADEDecoder"),
}
STITCHING = ("stitching_retargeting_network", "StitchingRetargetingNetwork")
STITCHING_WEIGHTS = "retargeting_models/stitching_retargeting_module.pth"
_STITCHING_KEY = "retarget_shoulder"  # the stitching network's entry in that file, which holds three networks
MASK = "src/utils/resources/mask_template.png"
_HOW = "give the folder that `git clone` of LivePortrait's official repository made, with the weights its README names"


@dataclass(frozen=True)
class Networks:
    """LivePortrait's networks, in evaluation mode, by their letters in its paper.

    Attributes:
        appearance: F: picture (n, 3, 256, 256) in [0, 1] → feature volume.
        motion: M: the same picture → dict of pitch, yaw, roll (n, 66), t (n, 3), scale (n, 1), exp and kp (n, 3 k).
        warping: W: feature volume and two sets of keypoints (n, k, 3) → dict whose ``out`` is the warped features.
        generator: G: those features → picture (n, 3, 512, 512) in [0, 1].
        stitching: S: both sets of keypoints (n, 6 k) → what to add to the second, and a shift (n, 3 k + 2).
        rotation_matrix: pitch, yaw, roll (n, 1) in its degrees → (n, 3, 3), multiplied to keypoints from the right.
        degrees: M's 66 bins → (n,) degrees.
        mask: (512, 512, 3) uint8, where a drawn crop covers the source when pasted back.
        trained: whether the weights are LivePortrait's, not random.
    """

    appearance: nn.Module
    motion: nn.Module
    warping: nn.Module
    generator: nn.Module
    stitching: nn.Module
    rotation_matrix: Callable[..., torch.Tensor]
    degrees: Callable[[torch.Tensor], torch.Tensor]
    mask: Image
    trained: bool

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return self.appearance, self.motion, self.warping, self.generator, self.stitching

    @property
    def parameters(self) -> int:
        """How many numbers the networks hold."""
        return sum(value.numel() for part in self.parts for value in part.parameters())

    @property
    def sha256(self) -> str:
        """Of all weights, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for part in self.parts:
            for name, value in part.state_dict().items():
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def weights_of(folder: Path) -> dict[str, Path]:
    """Where the checkout's README puts the weights of each network, whether they are there or not."""
    files = {name: folder / WEIGHTS / "base_models" / f"{name}.pth" for name in BASE}
    return files | {"stitching": folder / WEIGHTS / STITCHING_WEIGHTS}


def open_networks(folder: Path, random_weights: bool = False) -> Networks:
    """LivePortrait's networks from its checkout ``folder``.

    Args:
        random_weights: do not read the weights. Shapes and speed are the same, pictures are noise.

    Raises:
        DmsynthError: no checkout; weights that are missing, unreadable or of another version than the code.
    """
    if not (folder / "src" / "modules").is_dir():
        raise DmsynthError(f"{folder}: no LivePortrait checkout (it has no src/modules); {_HOW}")
    files = weights_of(folder)
    missing = [str(path.relative_to(folder)) for path in files.values() if not path.is_file()]
    if missing and not random_weights:
        raise DmsynthError(f"{folder}: LivePortrait's weights are missing: {', '.join(missing)}; {_HOW}")
    settings = _settings(folder / "src" / "config" / "models.yaml")
    with _importing(folder) as module, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = {
            name: _build(folder, getattr(module(f"modules.{file}"), kind), settings[f"{name}_params"])
            for name, (file, kind) in BASE.items()
        }
        kind = getattr(module(f"modules.{STITCHING[0]}"), STITCHING[1])
        stitching = _build(folder, kind, settings["stitching_retargeting_module_params"]["stitching"])
        camera = module("utils.camera")
        rotation_matrix, degrees = camera.get_rotation_matrix, camera.headpose_pred_to_degree
    if not random_weights:
        for name, network in base.items():
            _load(network, files[name], _read_weights(files[name]))
        several = _read_weights(files["stitching"])
        if _STITCHING_KEY not in several:
            raise DmsynthError(
                f"{files['stitching']}: holds no {_STITCHING_KEY!r}; download LivePortrait's weights again"
            )
        weights = {name.removeprefix("module."): value for name, value in several[_STITCHING_KEY].items()}
        _load(stitching, files["stitching"], weights)
    return Networks(
        appearance=base["appearance_feature_extractor"].eval(),
        motion=base["motion_extractor"].eval(),
        warping=base["warping_module"].eval(),
        generator=base["spade_generator"].eval(),
        stitching=stitching.eval(),
        rotation_matrix=rotation_matrix,
        degrees=degrees,
        mask=read_image(folder / MASK),
        trained=not random_weights,
    )


@contextmanager
def _importing(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Import modules of the checkout's ``src`` under a name of its own, which two checkouts and a package of ours
    called ``src`` cannot collide with. Whatever it lacks becomes one line."""
    package = types.ModuleType(f"_liveportrait_{abs(hash(folder.resolve()))}")
    package.__path__ = [str(folder / "src")]
    sys.modules[package.__name__] = package
    try:
        yield lambda name: importlib.import_module(f"{package.__name__}.{name}")
    except ModuleNotFoundError as error:
        own = (error.name or "").removeprefix(f"{package.__name__}.")
        if own != error.name:
            raise _other_version(folder, f"src/{own.replace('.', '/')}.py is missing") from None
        raise DmsynthError(f"{folder}: LivePortrait's code needs {error.name}; pip install it") from None
    except (ImportError, AttributeError, KeyError, SyntaxError) as error:
        raise _other_version(folder, str(error)) from None
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == package.__name__]:
            del sys.modules[name]


def _build(folder: Path, kind: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return kind(**arguments)
    except TypeError as error:
        raise _other_version(folder, str(error)) from None


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))["model_params"]
        assert isinstance(settings, dict)
    except FileNotFoundError:
        raise _other_version(path.parents[2], "src/config/models.yaml is missing") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AssertionError):
        raise _other_version(path.parents[2], "src/config/models.yaml holds no model_params") from None
    return settings


def _other_version(folder: Path, why: str) -> DmsynthError:
    return DmsynthError(
        f"{folder}: not a version of LivePortrait that dmsynth knows ({why}); it was made for the official code of "
        "June 2025: check that one out"
    )


def _read_weights(path: Path) -> Mapping[str, Any]:
    """A .pth file's content, as data only: nothing in it is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says about files it refuses is no help to their owner
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        content = None
    if not isinstance(content, Mapping):
        raise DmsynthError(f"{path}: not a file of network weights; download LivePortrait's weights again")
    return content


def _load(network: nn.Module, path: Path, weights: Mapping[str, Any]) -> None:
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        why = lines[1] if len(lines) > 1 else lines[0]
        raise DmsynthError(
            f"{path}: these weights are of another version than the checkout's code ({why[:160].rstrip(' ,.')}); "
            "take both from the same version of LivePortrait"
        ) from None

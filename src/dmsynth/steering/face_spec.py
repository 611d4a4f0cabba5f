"""What is steered, as data: a trained face, or LivePortrait with a source picture. For processes of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dmsynth.steering import SteerableFace, load_face
from dmsynth.trackers import open_tracker


@dataclass(frozen=True)
class FaceSpec:
    """How to open whatever is steered.

    Attributes:
        face: a face's file, or ``starter``; None: LivePortrait.
        liveportrait: its official checkout.
        source: the picture that LivePortrait moves: a picture, VIDEO@N or DATASET@N.
        tracker, tracker_model: who finds the face in that picture.
        device: where a face is drawn (``machine.device_of``); LivePortrait takes a GPU where there is one.
    """

    face: str | None
    liveportrait: str | None = None
    source: str | None = None
    tracker: str = "auto"
    tracker_model: str | None = None
    device: str = "cpu"

    @staticmethod
    def of(face: Path, device: str = "cpu") -> FaceSpec:
        """Of a face's file, or of ``starter``; wherever it is opened."""
        return FaceSpec(str(face.resolve()) if face.is_file() else str(face), device=device)

    def open(self, size: tuple[int, int] | None = None) -> SteerableFace:
        """The face. ``size`` of LivePortrait's frames: by default the source's.

        Raises ``DmsynthError`` as ``load_face`` and ``liveportrait.open_liveportrait``.
        """
        if self.face is not None:
            return load_face(Path(self.face), self.device)
        from dmsynth.steering.liveportrait import open_liveportrait

        assert self.liveportrait is not None and self.source is not None
        model = Path(self.tracker_model) if self.tracker_model else None
        return open_liveportrait(Path(self.liveportrait), self.source, open_tracker(self.tracker, model), size)


@lru_cache(maxsize=1)
def opened(spec: FaceSpec) -> SteerableFace:
    """The face of a spec, kept for the next call with the same."""
    return spec.open()

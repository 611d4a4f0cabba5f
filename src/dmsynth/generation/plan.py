"""Plans: what a set of labelled frames holds, as YAML (``docs/generate.md``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from dmsynth.camera import Camera, cameras, read_camera
from dmsynth.camera.things import Worn, parse_things
from dmsynth.controls import BOTH_EYES, BROWS, HEAD, MOUTH
from dmsynth.steering.cast import face_named, read_cast
from dmsynth.support.errors import DmsynthError
from dmsynth.support.yaml_files import checked_yaml, yaml_of, yaml_text
from dmsynth.validation.scenario_files import find_scenarios
from dmsynth.validation.scenarios import Scenario

Weight = Annotated[float, Field(gt=0, le=1e6, description="Its share of the clips, relative to the others'.")]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-90, le=90)]
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]

_EXAMPLE = "write at least `name:`, `frames:` and `people:`; docs/generate.md has an example"


class _Strict(BaseModel):
    """Strict, frozen model: unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Person(_Strict):
    """A face, or the persons of a cast, who share the weight."""

    face: str | None = Field(default=None, description="starter, portrait, posed:PICTURE, a face file, …")
    cast: str | None = Field(default=None, description="A cast's file; in place of a face.")
    name: Name | None = Field(default=None, description="Of the face, in labels. Default: from its file's name.")
    weight: Weight = 1.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Person:
        if (self.face is None) == (self.cast is None):
            raise ValueError("give either face or cast")
        if self.cast is not None and self.name is not None:
            raise ValueError("a cast's file names its persons; leave name out")
        return self


class Shooting(_Strict):
    """A cabin camera."""

    camera: str = Field(description="The name of an included camera, or a .yaml file.")
    weight: Weight = 1.0


class Wearing(_Strict):
    """What is on the face in a clip."""

    wear: list[str] = Field(max_length=20, description="Things by name, with seconds or without; []: nothing.")
    weight: Weight = 1.0

    @model_validator(mode="after")
    def _exist(self) -> Wearing:
        try:
            parse_things(self.wear)
        except DmsynthError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def worn(self) -> tuple[Worn, ...]:
        return parse_things(self.wear)

    @property
    def name(self) -> str:
        return " ".join(self.wear) or "nothing"


class Ranges(_Strict):
    """Ranges of controls, lowest and highest, as the camera sees them. Default: all that the face covers."""

    pitch: Range | None = None
    yaw: Range | None = None
    roll: Range | None = None
    gaze_pitch: Range | None = None
    gaze_yaw: Range | None = None
    eye_opening: Range | None = None
    mouth_opening: Range | None = None
    brow_raise: Range | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Ranges:
        for name, ends in self.named.items():
            if ends[0] >= ends[1]:
                raise ValueError(f"{name}: the first number is the lowest; {ends[0]:g} is not below {ends[1]:g}")
        return self

    @property
    def named(self) -> dict[str, list[float]]:
        return {
            name: ends
            for name in (*HEAD, "gaze_pitch", "gaze_yaw", BOTH_EYES, MOUTH, BROWS)
            if (ends := getattr(self, name))
        }


class Driving(_Strict):
    """A driver who looks ahead, glances at mirrors and instruments, blinks and talks."""

    kind: Literal["driving"]
    weight: Weight = 1.0
    glances: Annotated[float, Field(ge=0, le=40, description="A minute.")] = 12.0
    talking: Share = Field(default=0.2, description="Share of the clips in which the driver talks.")
    drowsy: Share = Field(default=0.15, description="Share of the clips with slow blinks, microsleep or a yawn.")


class Uniform(_Strict):
    """Head, gaze, lids and mouth that fill what the face covers, or ``ranges``, evenly."""

    kind: Literal["uniform"]
    weight: Weight = 1.0
    ranges: Ranges = Ranges()


class Stratified(_Strict):
    """One cell of head × gaze × lids × mouth after the other, so that rare combinations are there, too."""

    kind: Literal["stratified"]
    weight: Weight = 1.0
    ranges: Ranges = Ranges()


class Scenarios(_Strict):
    """Stretches of scenarios, which share the weight. The camera and the things are those of the clip."""

    kind: Literal["scenarios"]
    weight: Weight = 1.0
    names: list[str] = Field(min_length=1, max_length=1000, description="A group, names, or .yaml files.")


Motion = Annotated[
    Annotated[Driving, Tag("(driving)")]
    | Annotated[Uniform, Tag("(uniform)")]
    | Annotated[Stratified, Tag("(stratified)")]
    | Annotated[Scenarios, Tag("(scenarios)")],
    Discriminator(
        lambda given: f"({given.get('kind') if isinstance(given, dict) else getattr(given, 'kind', None)})",
        custom_error_type="no_motion",
        custom_error_message="kind is one of driving, uniform, stratified and scenarios",
    ),
]


def _named(field: str) -> BeforeValidator:
    """A text alone stands for the entry of that ``field``."""
    return BeforeValidator(lambda given: {field: given} if isinstance(given, str) else given)


class Plan(_Strict):
    """What a set of labelled frames holds."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60, description="Of its shards.")]
    title: Annotated[str, Field(max_length=200)] = ""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    frames: Annotated[int, Field(ge=1, le=10**12)] = Field(description="At least so many; the last clip is whole.")
    seconds: Annotated[float, Field(ge=0.2, le=60)] = Field(
        default=4.0, description="Of a clip; of a scenario a stretch of this length is played."
    )
    frame_rate: Annotated[float, Field(ge=5, le=120)] | None = Field(
        default=None, description="Of every camera. Default: each its own."
    )
    size: Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Width and height of every camera's frames. Default: each its own."
    )
    store: Literal["video", "pictures"] = Field(
        default="video", description="A clip as MP4 and parquet, or every frame as JPEG and JSON."
    )
    openlabel: bool = Field(default=False, description="Beside each video its labels as OpenLABEL, too.")
    clips_per_shard: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Default: as many as make about 256 MB, by a measured sample."
    )
    people: Annotated[
        list[Annotated[Person, _named("face")]],
        Field(min_length=1, max_length=1000, json_schema_extra={"items": {"type": ["string", "object"]}}),
    ]
    cameras: Annotated[
        list[Annotated[Shooting, _named("camera")]],
        Field(min_length=1, max_length=100, json_schema_extra={"items": {"type": ["string", "object"]}}),
    ] = [Shooting(camera="day")]
    things: Annotated[list[Wearing], Field(min_length=1, max_length=100)] = [Wearing(wear=[])]
    motions: Annotated[list[Motion], Field(min_length=1, max_length=100)] = [Driving(kind="driving")]

    @model_validator(mode="after")
    def _fit_together(self) -> Plan:
        if self.openlabel and self.store != "video":
            raise ValueError("openlabel goes with store: video; the JSON of a picture has the same labels")
        for what, names in (("cameras", [c.camera for c in self.cameras]), ("things", [t.name for t in self.things])):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{what}: {twice[0]} is there twice; keep one, with the sum of the weights")
        return self


@dataclass(frozen=True)
class Order:
    """A plan with everything that its names stand for.

    Attributes:
        people: the face of each person by name, as ``FaceSpec.face`` takes it.
        cameras, motions: likewise; a motion's name is its kind, of a scenario ``scenario NAME``.
        weights: of people, motions, cameras and things, in this order and in that of the dictionaries.
    """

    plan: Plan
    people: dict[str, str]
    cameras: dict[str, Camera]
    motions: dict[str, Driving | Uniform | Stratified | Scenario]
    weights: tuple[tuple[float, ...], ...]

    @property
    def things(self) -> dict[str, tuple[Worn, ...]]:
        return {each.name: each.worn for each in self.plan.things}


def read_plan(path: Path) -> Order:
    """A plan and what it names. Paths in it are relative to its folder.

    Raises ``DmsynthError`` in one line: with the line of the first mistake, or naming a person, camera or scenario that
    is not there.
    """
    if not path.is_file():
        raise DmsynthError(f"{path}: no such plan; {_EXAMPLE}")
    root, content = yaml_of(yaml_text(path, "plan"), str(path), "plan", _EXAMPLE)
    return order(checked_yaml(root, content, Plan, str(path), "plan"), path.parent, str(path))


def order(plan: Plan, folder: Path, where: str) -> Order:
    """What a plan's names stand for; ``folder``: of its paths. Raises ``DmsynthError`` that begins with ``where``."""
    people, shares = _people(plan.people, folder, where)
    taken_by = {}
    for shooting in plan.cameras:
        camera = _camera(shooting.camera, folder, where)
        if camera.name in taken_by:
            raise DmsynthError(f"{where}: cameras: two are named {camera.name}; rename one")
        taken_by[camera.name] = _resized(camera, plan, f"{where}: {camera.name}")
    motions: dict[str, Driving | Uniform | Stratified | Scenario] = {}
    moves = []
    for each in plan.motions:
        found: Sequence[Driving | Uniform | Stratified | Scenario] = [each]  # type: ignore[list-item]
        if isinstance(each, Scenarios):
            found = _scenarios(each, folder, where)
        for motion in found:
            name = f"scenario {motion.name}" if isinstance(motion, Scenario) else motion.kind
            if name in motions:
                raise DmsynthError(f"{where}: motions: {name} is there twice; keep one, with the sum of the weights")
            motions[name] = motion
            moves.append(each.weight / len(found))
    weights = (shares, tuple(moves), tuple(c.weight for c in plan.cameras), tuple(t.weight for t in plan.things))
    return Order(plan, people, taken_by, motions, weights)


def _people(people: Sequence[Person], folder: Path, where: str) -> tuple[dict[str, str], tuple[float, ...]]:
    found: dict[str, str] = {}
    weights: list[float] = []
    for each in people:
        if each.cast is not None:
            named = read_cast(folder / each.cast)
        else:
            assert each.face is not None
            face = face_named(each.face, folder, f"{where}: people")
            named = {each.name or _short(each.face): face}
        for name, face in named.items():
            if name in found or face in found.values():
                raise DmsynthError(
                    f"{where}: people: {name} is there twice; keep one, or give the other another name or face"
                )
            found[name] = face
            weights.append(each.weight / len(named))
    return found, tuple(weights)


def _short(face: str) -> str:
    """A name for a face: the last part of its own, without what no name has."""
    stem = Path(face.rpartition("#")[2] or face).stem if "#" in face else Path(face.rpartition(":")[2]).stem
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)[:40] or "person"


def _camera(name: str, folder: Path, where: str) -> Camera:
    if name in [path.stem for path in cameras()]:
        return read_camera(name)
    try:
        return read_camera(str(folder / name))
    except DmsynthError as error:
        raise DmsynthError(f"{where}: cameras: {error}") from None


def _resized(camera: Camera, plan: Plan, where: str) -> Camera:
    """A camera with the plan's size and frame rate; a sensor of more pixels in the same lens is a finer one."""
    sensor: dict[str, Any] = {}
    if plan.frame_rate is not None:
        sensor["frame_rate"] = plan.frame_rate
    if plan.size is not None:
        sensor |= {"width": plan.size[0], "height": plan.size[1]}
    content = camera.model_dump()
    try:
        return Camera.model_validate(content | {"sensor": content["sensor"] | sensor})
    except ValidationError as error:
        said = error.errors()[0]
        raise DmsynthError(f"{where}: {said['loc'][-1]}: {said['msg'].removeprefix('Value error, ')}") from None


def _scenarios(given: Scenarios, folder: Path, where: str) -> list[Scenario]:
    names = [str(folder / name) if name.endswith((".yaml", ".yml")) else name for name in given.names]
    try:
        return find_scenarios(names)
    except DmsynthError as error:
        raise DmsynthError(f"{where}: motions: {error}") from None

"""Control spaces: data, and a mapping to the network's [0, 1] that loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsynth.controls import CONTROL_SPACES, ControlSpace
from dmsynth.controls.coverage import Coverage
from dmsynth.support.errors import DmsynthError

poses = st.lists(st.tuples(*[st.floats(-90, 90)] * 3), min_size=1, max_size=20)


@given(poses)
def test_codes_decode_to_the_values(values: list[tuple[float, ...]]) -> None:
    space = CONTROL_SPACES["rotation"]
    assert space.decode(space.encode(values)) == pytest.approx(np.array(values), abs=1e-3)


@given(poses)
def test_a_fitted_space_fills_zero_to_one(values: list[tuple[float, ...]]) -> None:
    array = np.array(values)
    codes = CONTROL_SPACES["rotation"].fitted(array).encode(array)
    assert np.isfinite(codes).all()
    assert codes.min() > -0.01 and codes.max() < 1.01


def test_spaces_survive_json() -> None:
    for space in CONTROL_SPACES.values():
        assert ControlSpace.from_dict(space.to_dict()) == space


def test_unknown_controls_are_named() -> None:
    with pytest.raises(DmsynthError, match="no control named jaw; this face has pitch, yaw, roll"):
        CONTROL_SPACES["rotation"].row({"jaw": 3})


def test_coverage_knows_inside_from_outside_and_clips_to_its_edge() -> None:
    codes = np.random.default_rng(0).uniform(0, 1, size=(800, 3)).astype(np.float32)
    coverage = Coverage.of(codes)
    inside = np.full((1, 3), 0.5, dtype=np.float32)
    outside = np.array([[0.5, 1.6, 0.5]], dtype=np.float32)
    assert not coverage.outside(inside).any()
    assert coverage.outside(outside).all()
    clipped = coverage.clipped(outside)
    assert not coverage.outside(clipped).any()
    assert 0.9 < clipped[0, 1] < 1.3 and np.allclose(coverage.clipped(inside), inside)

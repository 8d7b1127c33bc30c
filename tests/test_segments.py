"""splinelib.segments: distances by hand and by brute force; ``chains`` is tested in test_viz."""

import numpy as np
import pytest

from splinelib.segments import distance


def test_distance_by_hand():
    corner = np.array([[[0.0, 0.0], [2.0, 0.0]], [[2.0, 0.0], [2.0, 2.0]]])
    points = np.array([[1.0, 0.5], [-3.0, 4.0], [3.0, 1.0], [2.0, 2.0], [1.0, 0.0]])
    assert distance(points, corner) == pytest.approx([0.5, 5.0, 1.0, 0.0, 0.0])


def test_distance_by_brute_force():
    rng = np.random.default_rng(0)
    points, segments = rng.normal(size=(20, 2)), rng.normal(size=(7, 2, 2))
    t = np.linspace(0, 1, 20_001)[:, None, None]
    along = (1 - t) * segments[:, 0] + t * segments[:, 1]
    for point, found in zip(points, distance(points, segments), strict=True):
        assert found == pytest.approx(np.linalg.norm(along - point, axis=2).min(), abs=1e-6)


def test_a_segment_may_be_a_point_but_one_must_be_there():
    assert distance(np.zeros((1, 2)), np.ones((1, 2, 2))) == pytest.approx([2**0.5])
    with pytest.raises(ValueError, match="no segments"):
        distance(np.zeros((1, 2)), np.empty((0, 2, 2)))

"""What latents and actions cover, on clouds of a known shape."""

import numpy as np
import pytest

from worldmodel.evaluation.coverage import Cloud, Coverage, Looks

ACTIONS = np.array([[-2.0, 5.0], [1.0, 5.0]], np.float32)


def ring(count: int, random: np.random.Generator) -> np.ndarray:
    """`[count, 2]` about 1 from the origin."""
    angle, radius = random.uniform(-np.pi, np.pi, count), random.normal(1, 0.02, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_fresh_points_of_the_same_cloud_are_inside_and_far_ones_are_not(size: int):
    one, other, fresh = np.random.default_rng(0).standard_normal((3, 4000, size))
    coverage = Cloud.of(one, other)
    found = coverage(fresh)
    assert found.shape == (4000,)
    assert np.mean(found > 1) == pytest.approx(0.01, abs=0.005)
    assert np.all(coverage(np.array([[[6.0] * size, [-6.0] * size]])) > 1)
    assert coverage(np.full(size, np.nan)) == np.inf
    # twice as far from a cloud is about twice as far outside it
    near, far = coverage(np.eye(size)[0] * 1000), coverage(np.eye(size)[0] * 2000)
    assert far / near == pytest.approx(2, rel=0.02)


def test_a_ring_does_not_cover_its_middle():
    random = np.random.default_rng(0)
    one, other, fresh = (ring(3000, random) for _ in range(3))
    coverage = Cloud.of(one, other)
    assert np.mean(coverage(fresh) < 1) > 0.98
    assert np.all(coverage(0.5 * fresh) > 3)
    assert coverage(np.zeros(2)) > 5


def test_a_gap_in_a_cloud_is_outside():
    random = np.random.default_rng(0)
    one, other = random.uniform(-1, 1, (2, 4000, 2))
    one, other = (cloud[np.abs(cloud).max(axis=1) > 0.3] for cloud in (one, other))
    coverage = Cloud.of(one, other)
    assert coverage(np.zeros(2)) > 2
    assert coverage(np.array([0.6, -0.6])) < 1


def test_units_and_directions_of_the_latents_do_not_matter():
    random = np.random.default_rng(0)
    one, other, asked = random.standard_normal((3, 500, 3))
    mixed = random.standard_normal((3, 3)) * np.array([1, 1000, 0.01])
    plain = Cloud.of(one, other)(asked)
    # a direction that is thinner than a tenth of the widest counts less: none is, once whitened
    whitened = np.linalg.qr(mixed)[0]
    np.testing.assert_allclose(Cloud.of(*(x @ whitened + 7 for x in (one, other)))(asked @ whitened + 7), plain)
    np.testing.assert_allclose(Cloud.of(*(1000 * x for x in (one, other)))(1000 * asked), plain)


def test_a_few_stray_points_cover_nothing():
    one, other = np.random.default_rng(0).standard_normal((2, 3000, 2))
    one[:4] = [9.0, 9.0]
    assert Cloud.of(one, other)(np.array([9.0, 9.0])) > 5


def test_latents_that_never_change_cover_themselves_alone():
    coverage = Cloud.of(np.ones((50, 2)), np.ones((50, 2)))
    assert coverage(np.ones(2)) == 0
    assert coverage(np.array([1.0, 1.1])) > 1


def test_actions_are_inside_the_range_of_the_data_s():
    cloud, looks = Cloud.of(*np.random.default_rng(0).standard_normal((2, 50, 2))), Looks(np.zeros(1), np.ones((1, 1)))
    coverage = Coverage(cloud, looks, cloud, ACTIONS.min(axis=0), ACTIONS.max(axis=0))
    asked = np.array([[[-2.0, 5.0], [0.3, 5.0], [1.005, 5.0]], [[-2.2, 5.0], [1.1, 5.0], [0.0, 5.1]]])
    assert coverage.outside_actions(asked).tolist() == [[False] * 3, [True] * 3]


def test_pictures_of_another_kind_look_like_none_of_the_data():
    """Discs that wander: others of the same kind do; brighter ones, and squares of another colour, do not."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:12, :12]

    def discs(count: int, brightness: float) -> np.ndarray:
        places = random.uniform(3, 9, (count, 2, 1, 1))
        near = np.clip(3 - np.hypot(y - places[:, 0], x - places[:, 1]), 0, 1)
        return np.round(brightness * near[..., None] * [1, 0.5, 0]).astype(np.uint8)

    one, other, fresh, bright = discs(800, 200), discs(800, 200), discs(200, 200), discs(200, 250)
    looks = Looks.of(one)
    coverage = Coverage(Cloud.of(looks(one), looks(other)), looks, Cloud.of(looks(one), looks(other)), *ACTIONS)
    assert coverage.outside_frames(fresh) < 0.05
    assert coverage.outside_frames(bright) > 0.5
    assert coverage.outside_frames(fresh[..., ::-1]) > 0.95

"""Which part of a picture a frame shows."""

import numpy as np
import pytest

from worldmodel.support.files import UserError
from worldmodel.worlds.camera import Camera

ROWS, COLUMNS = np.meshgrid(np.arange(120), np.arange(200), indexing="ij")
GRADIENT = (COLUMNS + ROWS // 4).astype(np.uint8)
"""`[120, 200]`: brighter to the right, and a little downwards"""


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.3, 0.5), (0.25, 0.75), (0.75, 0.25), (0.6, 0.35)])
def test_a_crop_is_a_slice_of_the_picture_averaged_by_area(centre: tuple[float, float]):
    left, top = round(200 * centre[0]) - 50, round(120 * centre[1]) - 30
    kept = GRADIENT[top : top + 60, left : left + 100].astype(float)
    expected = kept.reshape(10, 6, 10, 10).mean(axis=(1, 3))
    camera = Camera(10, 0.5, centre=centre)
    camera.check()
    np.testing.assert_allclose(camera.frame(GRADIENT), expected, atol=0.5 + 1e-6)
    colours = Camera(10, 0.5, grey=False, centre=centre).frame(np.stack([GRADIENT, 255 - GRADIENT, GRADIENT // 2], -1))
    np.testing.assert_allclose(colours[..., 0], expected, atol=0.5 + 1e-6)
    np.testing.assert_allclose(colours[..., 1], 255 - expected, atol=0.5 + 1e-6)


def test_a_crop_to_the_edge_keeps_the_edge():
    """Also where the sides of the picture are odd."""
    for side in (7, 120, 121, 333):
        picture = np.zeros((side, side), np.uint8)
        picture[-1, -1] = 255
        for crop in (0.05, 0.33, 0.5, 0.55, 1.0):
            camera = Camera(4, crop, centre=(1 - crop / 2, 1 - crop / 2))
            camera.check()
            small = camera.frame(picture)
            assert small.shape == (4, 4)
            assert small[-1, -1] == small.max()
            assert small[-1, -1] > 0 or side * crop > 60  # one pixel of so many is no brightness


def test_a_record_of_before_is_of_the_middle():
    before = {"size": 16, "crop": 0.5, "noise_std": 0.0, "grey": True}
    assert Camera.of(before) == Camera(16, 0.5, centre=(0.5, 0.5))
    camera = Camera(16, 0.5, 0.1, False, (0.3, 0.75))
    assert Camera.of(camera.record()) == camera
    for wrong in ({}, {"size": "large"}, before | {"centre": [0.9, 0.5]}, before | {"centre": 3}, before | {"lens": 1}):
        with pytest.raises(UserError, match=r"in a data set's record cannot be: .") as raised:
            Camera.of(wrong)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("centre", [(0.2, 0.5), (0.5, 0.76), (-1, 0.5), (0.5, float("nan")), (0.5,), (0.5, 0.5, 0.5)])
def test_what_is_kept_must_lie_within_the_picture(centre: tuple[float, ...]):
    with pytest.raises(UserError, match="--centre must be"):
        Camera(16, 0.5, centre=centre).check()

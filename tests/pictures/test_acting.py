"""What is drawn of acting: that the frames of a time are shown at that time, and that returns stand where they are."""

from pathlib import Path

import numpy as np
import pytest
from conftest import width
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from worldmodel.pictures import acting
from worldmodel.pictures.acting import LARGE, SMALL, Shown, animate_acting, draw_returns

AHEAD = (0.5, 1.0)


def shown(length: int, start: int) -> Shown:
    """True frames are red, the two imagined ones green and blue, all the brighter the later."""
    brightness = (start + 20 * np.arange(length)).astype(np.uint8)
    frames = np.zeros((length, 4, 4, 3), np.uint8)
    frames[..., 0] = brightness[:, None, None]
    futures = np.zeros((length, 2, 4, 4, 3))
    for k in range(2):
        futures[:, k, :, :, 1 + k] = brightness[:, None, None] / 255
    return Shown("an episode", frames, futures, np.ones(length))


def area(picture: np.ndarray, channel: int, brightness: int) -> int:
    """Pixels of this colour alone; a GIF's palette is coarse."""
    colour = np.zeros(3)
    colour[channel] = brightness
    return int((np.abs(picture - colour).max(axis=-1) < 9).sum())


@pytest.mark.parametrize(("dt", "stride"), [(0.1, 1), (None, 1), (0.01, 2)])
def test_every_picture_shows_its_time(dt: float | None, stride: int, tmp_path: Path):
    path, length = tmp_path / "acting.gif", 6
    animate_acting(path, [shown(length, 100), shown(3, 120)], AHEAD, "s", dt)
    with Image.open(path) as image:
        pictures = [np.asarray(frame.convert("RGB"), float) for frame in ImageSequence.Iterator(image)]
        lasting = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(pictures) == length // stride
    if dt is not None:
        assert set(lasting[:-1]) == {1000 * dt * stride}
        assert lasting[-1] > 900  # the end can be looked at
    for number, picture in enumerate(pictures):
        first, second = np.split(picture, 2, axis=1)
        t = number * stride
        for half, brightness in ((first, 100 + 20 * t), (second, 120 + 20 * min(t, 2))):  # the shorter one waits
            assert area(half, 0, brightness) == pytest.approx(LARGE**2, rel=0.02)
            assert area(half, 1, brightness) == area(half, 2, brightness) == pytest.approx(SMALL**2, rel=0.02)


def test_returns_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    monkeypatch.setattr(acting, "save_figure", lambda figure, path: figures.append(figure))
    rows = [("zero actions", [-9.0, -11.0]), ("cem", [-3.0, -5.0]), ("optimum", [-1.0, -2.0])]
    dreamt, real = np.array([-1.0, -2.0]), np.array([-1.5, -2.5])
    draw_returns(tmp_path / "returns.png", rows, "cem", dreamt, real, 20)
    left, right = figures[0].axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["zero actions", "this model, cem", "optimum"]
    for place, (_, returns) in enumerate(rows):
        points, mean = left.get_lines()[2 * place : 2 * place + 2]
        np.testing.assert_array_equal(points.get_xdata(), returns)
        assert np.abs(points.get_ydata() - place).max() < 0.5
        assert mean.get_xydata().tolist() == [[np.mean(returns), place]]
    diagonal, points = right.get_lines()
    assert diagonal.get_xydata().tolist() == [[-2.5, -2.5], [-1.0, -1.0]]
    np.testing.assert_array_equal(points.get_xydata(), np.stack([dreamt, real], axis=1))


def test_episodes_shorter_than_a_horizon_are_drawn_too(tmp_path: Path):
    draw_returns(tmp_path / "returns.png", [("cem", [-3.0])], "cem", np.zeros(0), np.zeros(0), 20)
    assert width(tmp_path / "returns.png") > 1000

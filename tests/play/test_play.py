"""The page to drive the dream, as a person uses it: in a browser, with keys and fingers."""

import base64
import json
import re

import numpy as np
import pytest
from playwright.sync_api import Browser
from visiting import Visit, serve, server, visit  # noqa: F401 (fixtures)

from worldmodel.pictures.figures import BLUE, ORANGE


def test_both_worlds_move_and_their_difference_is_shown(visit: Visit):
    names = ("#truth", ".dream canvas", ".latents canvas", "#history")
    before = [visit.picture(name) for name in names]
    visit.wait_for(lambda: all(visit.picture(name) != old for name, old in zip(names, before, strict=True)))
    size = "[...document.querySelectorAll('.frame')].map(canvas => [canvas.width, canvas.height])"
    assert visit.page.evaluate(size) == [[16, 16], [16, 16]]
    assert re.fullmatch(r"\d+\.\d°", visit.page.inner_text(".difference output"))
    assert re.fullmatch(r"\d+\.\d s", visit.page.inner_text("#dreamt"))
    shown = "() => document.getElementById('rate').textContent"
    visit.wait_for(lambda: re.fullmatch(r"\d+ frames a second, 2 times real time", visit.page.evaluate(shown)))
    seconds = [moment["seconds"] for moment in visit.moments]
    np.testing.assert_allclose(seconds, 0.1 * np.arange(len(seconds)), atol=1e-6)


def test_what_is_drawn_is_what_was_sent(visit: Visit):
    """The last frame's bytes against the pixels of the canvas."""
    next_frame = """async () => {
        const moment = await new Promise(done => {
            socket.addEventListener('message', event => done(JSON.parse(event.data)), {once: true});
        });
        const canvas = document.querySelector('.dream canvas');
        return [moment.dreams[0].picture, [...canvas.getContext('2d').getImageData(0, 0, 16, 16).data]];
    }"""
    sent, drawn = visit.page.evaluate(next_frame)
    expected = np.frombuffer(base64.b64decode(sent), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(np.array(drawn).reshape(256, 4), np.insert(expected, 3, 255, axis=1))


@pytest.mark.parametrize(
    ("key", "torque", "text"), [("ArrowLeft", 2, "2.0 N m counter-clockwise"), ("ArrowRight", -2, "2.0 N m clockwise")]
)
def test_an_arrow_key_pushes_while_it_is_held(visit: Visit, key: str, torque: int, text: str):
    visit.page.keyboard.down(key)
    assert visit.page.inner_text("#action-text") == text
    visit.page.keyboard.up(key)
    assert visit.page.inner_text("#action-text") == "none"
    visit.wait_for(lambda: len(visit.sent) == 2)
    assert list(map(float, visit.sent)) == [torque, 0]


CART = {"discrete": True, "choices": 2, "action_words": ["right", "left"], "largest_action": 1}
SMALL = {"action_words": ["right or up", "left or down"], "action_unit": "m/s", "largest_action": 0.05}
BALL = {"action_words": ["right or up", "left or down"], "action_unit": "m/s", "largest_action": 0.5}


@pytest.mark.parametrize(
    ("world", "side", "push", "word", "text"),
    [
        (CART, "Right", 1, "right", "choice 2, right"),
        (CART, "Left", -1, "left", "choice 1, left"),
        (BALL, "Right", 0.5, "right or up", "0.5 m/s right or up"),
        (BALL, "Left", -0.5, "left or down", "0.5 m/s left or down"),
        (SMALL, "Right", 0.05, "right or up", "0.05 m/s right or up"),
    ],
)
def test_in_a_world_with_a_right_the_right_key_goes_there(
    visit: Visit, world: dict, side: str, push: float, word: str, text: str
):
    visit.page.evaluate("more => showWorld({...world, ...more})", world)
    rest = "none: choices 1 and 2 in turn" if "choices" in world else "none"
    assert visit.page.inner_text("#action-text") == rest
    assert float(visit.page.input_value("#action")) == 0
    assert visit.page.inner_text(f"#{side.lower()}").split("\n")[0].strip().startswith(word)
    visit.page.keyboard.down(f"Arrow{side}")
    assert visit.page.inner_text("#action-text") == text
    assert float(visit.page.input_value("#action")) == (1 if side == "Right" else -1) * abs(push)
    visit.page.keyboard.up(f"Arrow{side}")
    assert visit.page.inner_text("#action-text") == rest
    visit.wait_for(lambda: len(visit.sent) == 2)
    assert list(map(float, visit.sent)) == [push, 0]


def test_a_world_in_which_nothing_can_be_done_says_so(visit: Visit):
    shown = [visit.page.locator(f"p.{name}") for name in ("driven", "undriven")]
    assert [each.is_visible() for each in shown] == [True, False]
    visit.page.evaluate("() => showWorld({...world, largest_action: 0})")
    assert [each.is_visible() for each in shown] == [False, True]
    assert "5 true frames to begin with" in " ".join(shown[1].inner_text().split())
    assert [visit.page.locator(f"#{name}").is_enabled() for name in ("left", "none", "right", "action")] == [False] * 4


def test_the_slider_pushes_until_the_space_key(visit: Visit):
    visit.page.locator("#action").fill("-1.5")
    assert visit.page.inner_text("#action-text") == "1.5 N m counter-clockwise"
    assert visit.page.get_attribute("#action", "aria-valuetext") == "1.5 N m counter-clockwise"
    visit.page.keyboard.press(" ")
    assert visit.page.inner_text("#action-text") == "none"
    assert visit.page.input_value("#action") == "0"
    visit.wait_for(lambda: len(visit.sent) == 2)
    assert list(map(float, visit.sent)) == [1.5, 0]


def test_a_fresh_look_puts_the_dream_where_the_filter_is(visit: Visit):
    def looks() -> list[dict]:
        return [moment for moment in visit.moments if moment["seconds_dreamt"] == 0]

    assert len(looks()) == 1  # the start
    visit.page.keyboard.press("l")
    visit.wait_for(lambda: len(looks()) == 2)
    visit.page.get_by_role("button", name="fresh look").click()
    visit.wait_for(lambda: len(looks()) == 3)
    for look in looks()[1:]:
        before = visit.moments[visit.moments.index(look) - 1]
        assert before["seconds"] == look["seconds"] > 0
        assert before["truth"] == look["truth"]
        [dream], [dream_before] = look["dreams"], before["dreams"]
        assert dream["at"] == dream["seen_at"] == dream_before["seen_at"]
    assert visit.page.inner_text("#news") == "The model looked at the last true frames."


def test_every_reset_and_every_visitor_starts_elsewhere(visit: Visit, browser: Browser, server: str):
    def starts() -> list[dict]:
        return [moment for moment in visit.moments if moment["seconds"] == 0]

    visit.page.keyboard.press("r")
    visit.wait_for(lambda: len(starts()) == 2)
    visit.page.get_by_role("button", name="Reset").click()
    visit.wait_for(lambda: len(starts()) == 3)
    with browser.new_page() as page:
        places = [moment["dreams"][0]["at"] for moment in (*starts(), Visit(page, server).moments[0])]
    assert len({tuple(place) for place in places}) == 4


@pytest.mark.parametrize("visit", [360, 1280], indirect=True)
def test_fits_the_screen_and_buttons_push_while_they_are_held(visit: Visit):
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name, torque in (("counter-clockwise", 2), ("↻ clockwise", -2)):
        visit.sent.clear()
        page.get_by_role("button", name=name).hover()
        page.mouse.down()
        visit.wait_for(lambda: len(visit.sent) == 1)
        page.mouse.up()
        visit.wait_for(lambda: len(visit.sent) == 2)
        assert list(map(float, visit.sent)) == [torque, 0]


def test_colours_are_those_of_the_figures(visit: Visit):
    for canvas, colour in (("#truth", BLUE), (".dream canvas", ORANGE)):
        visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 1)
        expected = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        border = f"getComputedStyle(document.querySelector('{canvas}')).borderTopColor"
        assert visit.page.evaluate(border) == f"rgb{expected}"


def test_the_page_says_when_the_dream_is_beyond_the_data_and_does_not_flicker(visit: Visit):
    assert all(0 < moment["dreams"][0]["outside"] <= 100 for moment in visit.moments)
    visit.page.evaluate("socket.close()")
    visit.page.evaluate("now = 1e9; performance.now = () => now")
    told = []
    for outside, seconds_dreamt, later in (
        (0.5, 0.0, 0),  # a fresh look, inside
        (1.5, 1.0, 400),  # outside, but not for long
        (0.9, 1.0, 50),
        (1.5, 1.0, 400),
        (1.5, 1.0, 200),  # for more than half a second
        (0.95, 1.0, 1000),  # hardly inside
        (0.5, 1.0, 1400),  # inside, but not for long
        (1.5, 1.0, 50),
        (0.5, 1.0, 1400),
        (0.5, 1.0, 200),  # for more than a second and a half
        (1.5, 0.0, 50),  # a fresh look, outside
        (0.5, 0.0, 50),
        (None, 1.0, 1000),
    ):
        arguments = json.dumps([outside, seconds_dreamt > 0])[1:-1]
        told.append(visit.page.evaluate(f"now += {later}; tellOutside(dreams[0], {arguments}); dreams[0].outside"))
        assert visit.page.inner_text(".outside") == "⚠ beyond its training data" * told[-1]
    assert told == [False] * 4 + [True] * 5 + [False, True, False, False]
    assert visit.page.get_attribute(".outside", "aria-live") == "polite"

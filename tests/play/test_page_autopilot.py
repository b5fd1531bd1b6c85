"""The autopilot on the page: who drives, what is shown, and why there may be none."""

import base64
import re

import numpy as np
from visiting import Visit, serve, server, visit  # noqa: F401 (fixtures)


def test_the_autopilot_drives_until_somebody_pushes(visit: Visit):
    def last_plan() -> dict:
        return visit.moments[-1]["plan"]

    page, button = visit.page, visit.page.get_by_role("button", name="Autopilot")
    visit.wait_for(button.is_enabled)
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("#ahead").is_hidden()
    page.keyboard.press("a")
    visit.wait_for(last_plan)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.inner_text("#ahead").split() == ["0.5", "1", "1.5", "2", "s"]
    assert page.inner_text("#pilot-text").startswith("It tries plans of 2 s in the dream of dvbf and")
    visit.wait_for(lambda: re.fullmatch(r"−?\d+\.\d+", page.inner_text("#reward-later")))
    visit.wait_for(lambda: page.inner_text("#action-text").endswith("by the autopilot"))
    assert visit.moments[-1]["seconds_dreamt"] == 0
    page.keyboard.down("ArrowLeft")
    visit.wait_for(lambda: last_plan()["action"] == [2])
    assert page.inner_text("#action-text") == "2.0 N m counter-clockwise, by you"
    page.keyboard.up("ArrowLeft")
    visit.wait_for(lambda: last_plan()["action"] != [2])
    visit.wait_for(lambda: page.inner_text("#action-text").endswith("by the autopilot"))
    button.click()
    visit.wait_for(lambda: last_plan() is None)
    assert page.inner_text("#action-text") == "none"
    assert page.inner_text("#pilot-text") == ""
    visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 0)
    assert list(visit.sent) == ["autopilot on", "2", "0", "0", "autopilot off"]


def test_the_plan_s_picture_is_drawn_in_place_of_the_dream(visit: Visit):
    visit.wait_for(visit.page.get_by_role("button", name="Autopilot").is_enabled)
    visit.page.keyboard.press("a")
    visit.wait_for(lambda: visit.moments[-1]["plan"])
    next_frame = """async () => {
        const moment = await new Promise(done => {
            socket.addEventListener('message', event => done(JSON.parse(event.data)), {once: true});
        });
        const canvas = document.querySelector('.dream canvas');
        return [moment.plan.picture, [...canvas.getContext('2d').getImageData(0, 0, 16, 16).data]];
    }"""
    sent, drawn = visit.page.evaluate(next_frame)
    expected = np.frombuffer(base64.b64decode(sent), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(np.array(drawn).reshape(256, 4), np.insert(expected, 3, 255, axis=1))


def test_the_page_says_why_there_is_no_autopilot_and_warns(visit: Visit):
    page, button = visit.page, visit.page.get_by_role("button", name="Autopilot")
    visit.wait_for(button.is_enabled)
    page.evaluate("showAutopilot({...pilot, warning: 'beware'})")
    assert page.inner_text("#pilot-warning") == "⚠ beware"
    page.evaluate("showAutopilot({missing: 'some.npz: has no rewards'})")
    assert page.inner_text("#pilot-text") == "There is no autopilot: some.npz: has no rewards."
    assert button.is_disabled()
    page.keyboard.press("a")
    assert button.get_attribute("aria-pressed") == "false"
    assert visit.sent == []

"""The page with several dreams: a panel for each, under one set of pushes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SMALL, assert_ok, run_script
from playwright.sync_api import Browser
from visiting import Visit, serve, visit  # noqa: F401 (a fixture)

from worldmodel.pictures.figures import GREEN, ORANGE, PURPLE, SKY

NAMES, MODELS = ["one", "dkf", "three", "four"], ["dvbf", "dkf", "dvbf", "dvbf"]


@pytest.fixture(scope="module")
def server(dvbf_run: Path, data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of as many runs as the page takes, of two models."""
    place = tmp_path_factory.mktemp("several")
    folders = [place / name for name in NAMES]
    for folder, model in zip(folders, MODELS, strict=True):
        if model == "dvbf":
            shutil.copytree(dvbf_run, folder)
    assert_ok(run_script("train.py", "dkf", "--data", data_file, "--out", folders[1], *SMALL))
    with serve(*folders) as (_, url):
        yield url


def test_each_dream_has_a_panel_with_its_name_its_colour_and_its_figures(visit: Visit):
    page = visit.page
    assert [(dream["name"], dream["model"]) for dream in visit.world["dreams"]] == list(zip(NAMES, MODELS, strict=True))
    assert page.locator(".dream h2").all_inner_texts() == [f"Dream {name}" for name in NAMES]
    assert page.locator(".dream figcaption").all_inner_texts() == [f"model {model}" for model in MODELS]
    assert page.locator(".latents h2").all_inner_texts() == [f"Latents {name}" for name in NAMES]
    assert page.locator(".legend > span").all_inner_texts()[:4] == [f" {name}" for name in NAMES]
    visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 1)
    borders = "[...document.querySelectorAll('.dream canvas')].map(each => getComputedStyle(each).borderTopColor)"
    colours = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in (ORANGE, GREEN, PURPLE, SKY)]
    assert page.evaluate(borders) == [f"rgb{colour}" for colour in colours]
    page.evaluate("socket.close()")
    page.evaluate("""() => {
        const shown = moments.at(-1).dreams.map((dream, number) => ({...dream, apart: number + 0.5}));
        showMoment({...moments.at(-1), dreams: shown});
    }""")
    assert page.locator(".difference output").all_inner_texts() == ["0.5°", "1.5°", "2.5°", "3.5°"]
    page.evaluate("now = performance.now() + 1000; performance.now = () => now; tellOutside(dreams[2], 5, false)")
    assert page.locator(".outside").all_inner_texts() == ["", "", "⚠ beyond its training data", ""]


def test_the_pictures_are_each_dream_s_own(visit: Visit):
    drawn = """async () => {
        const moment = await new Promise(done => {
            const hear = event => {  // the autopilot may report in between
                const told = JSON.parse(event.data);
                if (!told.truth) return;
                socket.removeEventListener('message', hear);
                done(told);
            };
            socket.addEventListener('message', hear);
        });
        const pixels = each => [...each.getContext('2d').getImageData(0, 0, 16, 16).data].filter((_, i) => i % 4 < 3);
        return [
            moment.dreams.map(dream => [...atob(dream.picture)].map(letter => letter.charCodeAt(0))),
            [...document.querySelectorAll('.dream canvas')].map(pixels),
        ];
    }"""
    visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 0.5)
    sent, shown = visit.page.evaluate(drawn)
    assert sent == shown
    assert sent[0] == sent[2] != sent[1]  # copies of a run dream alike
    latents = "[...document.querySelectorAll('.latents canvas')].map(canvas => canvas.toDataURL())"
    assert len(set(visit.page.evaluate(latents))) == 4  # another colour each


def test_a_fresh_look_and_a_reset_are_for_all(visit: Visit):
    visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] > 0.5)
    for key, news in (("l", "Every model looked at the last true frames."), ("r", "A new random start.")):
        count = len(visit.moments)
        visit.page.keyboard.press(key)
        visit.wait_for(lambda count=count: any(each["seconds_dreamt"] == 0 for each in visit.moments[count:]))
        look = next(each for each in visit.moments[count:] if each["seconds_dreamt"] == 0)
        assert all(dream["at"] == dream["seen_at"] for dream in look["dreams"])
        assert visit.page.inner_text("#news") == news


def test_the_autopilot_plans_in_the_first(visit: Visit):
    page = visit.page
    assert "The autopilot tries in the first dream what to do." in " ".join(page.inner_text("p.driven").split())
    visit.wait_for(page.get_by_role("button", name="Autopilot").is_enabled)
    page.keyboard.press("a")
    visit.wait_for(lambda: visit.moments[-1]["plan"])
    visit.wait_for(lambda: page.locator(".dream h2").first.inner_text() == "Plan one")
    assert page.locator(".dream h2").all_inner_texts()[1:] == [f"Dream {name}" for name in NAMES[1:]]
    assert "in the dream of one and" in page.inner_text("#pilot-text")


@pytest.mark.parametrize("visit", [360, 800, 1280], indirect=True)
def test_four_fit_the_screen(visit: Visit):
    """Nothing is wider than the window, and no two parts of the page lie over each other."""
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    overlaps = """() => {
        const boxes = [...document.querySelectorAll('main > figure, .drive, .inside > *')].map(each => {
            return [each.className, each.getBoundingClientRect()];
        });
        const meet = (a, b) => [["left", "right"], ["top", "bottom"]].every(([start, end]) => {
            return a[start] < b[end] - 1 && b[start] < a[end] - 1;
        });
        return boxes.flatMap(([name, a], i) => {
            return boxes.slice(i + 1).filter(([, b]) => meet(a, b)).map(([other]) => `${name} over ${other}`);
        });
    }"""
    assert visit.page.evaluate(overlaps) == []
    widths = "[...document.querySelectorAll('canvas')].map(canvas => canvas.getBoundingClientRect().width)"
    assert min(visit.page.evaluate(widths)) > 90


def test_without_a_run_there_is_a_dream_that_swings_up(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with serve() as (_, url), browser.new_page() as page:
        visit = Visit(page, url)
        visit.wait_for(page.get_by_role("button", name="Autopilot").is_enabled)
        visit.wait_for(lambda: visit.moments[-1]["seconds_dreamt"] >= 1)
        assert float(page.inner_text(".difference output").removesuffix("°")) < 30
        assert visit.complaints == []
    assert [path.name for path in (tmp_path / "runs" / "pretrained").iterdir()] == ["swing-up"]

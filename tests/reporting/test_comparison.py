"""Several runs on one page: that every figure stands beside the name of its own run, and what is said to be unlike."""

import base64
import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_ok, run_script
from made_up import HORIZON, LEARNT, Page, make_dvbf_run, make_vae_run
from PIL import Image
from playwright.sync_api import Browser

import worldmodel as wm
from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.evaluation.judge import CEILING
from worldmodel.evaluation.record import PARTS
from worldmodel.models.protocol import Problem
from worldmodel.pictures.curves import overlaid_curves
from worldmodel.pictures.figures import BLUE, ORANGE
from worldmodel.planning.record import Acted
from worldmodel.reporting import comparison
from worldmodel.reporting.comparison import COLOURS, short_names
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, write_json
from worldmodel.training.options import with_defaults


@pytest.fixture
def drawn() -> None:
    """Pictures are drawn."""


@pytest.fixture(autouse=True)
def quickly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no test looks at what is drawn, a dot is: half of a comparison's time is drawing."""
    if "drawn" not in request.fixturenames:
        dot = io.BytesIO()
        Image.new("RGB", (1, 1)).save(dot, "PNG")
        monkeypatch.setattr(comparison, "as_png", lambda figure: dot.getvalue())


def scale_errors(run: Path, factor: float, rows: tuple[str, ...] = ("model",)) -> None:
    """Make all errors of some rows of an evaluation so many times as large, and scores so many times smaller."""
    path = run / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text())
    for row in rows:
        for name, curve in found["rows"][row].items():
            better = 1 / factor if name in ("ssim", "share_within_30_degrees") else factor
            for part in PARTS:
                curve[part] = [better * value for value in curve[part]]
    write_json(path, found)


def log(run: Path, rate: float, level: float) -> None:
    for step in (100, 200, 300):
        values = {"elbo": level, "reconstruction": level + 1, "kl": 1.0, "steps_per_second": rate}
        Run(run).append_metrics({"step": step} | values)


@pytest.fixture
def good(tmp_path: Path, pendulum_data: Sequences) -> Path:
    run = make_dvbf_run(tmp_path / "good", pendulum_data)
    log(run, rate=50.0, level=10.0)
    return run


@pytest.fixture
def bad(tmp_path: Path, pendulum_data: Sequences) -> Path:
    """Of the same data, asked the same, with twice the errors, and a problem."""
    run = make_dvbf_run(tmp_path / "bad", pendulum_data)
    scale_errors(run, 2)
    log(run, rate=200.0, level=20.0)
    config = json.loads((run / "config.json").read_text())
    config["options"] |= {"seed": 4, "out": str(run)}
    config["options"]["model"]["hidden_size"] = 77
    write_json(run / "config.json", config)
    sick = dataclasses.replace(LEARNT, figures=LEARNT.figures | {"open_loop_mse": 0.002, "latent_growth": 3.25})
    sick = dataclasses.replace(sick, problems=[Problem("latents grow", "by 3.2.", "Do this.")])
    write_json(run / "health.json", dataclasses.asdict(sick))
    return run


@pytest.fixture
def frames(tmp_path: Path, pendulum_data: Sequences) -> Path:
    return make_vae_run(tmp_path / "frames", pendulum_data)


def compare(*runs: Path) -> Page:
    return Page(wm.report(runs))


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_the_table_of_errors_holds_the_figures_of_each_run_at_the_shown_horizons(good: Path, bad: Path):
    page = compare(good, bad)
    measures = {
        "Median angle error / degrees": ("angle_error_degrees", 1),
        "Pixel MSE × 1000": ("mse", 1000),
        "SSIM (1: equal)": ("ssim", 1),
    }
    for title, (name, factor) in measures.items():
        rows = page.group(title)
        assert list(rows) == ["good", "bad", "repeat last frame", "mean frame"]
        for run in (good, bad):
            found = json.loads((run / "evaluation" / "evaluation.json").read_text())
            curve = found["rows"]["model"][name]
            for cell, horizon in zip(rows[run.name], (1, 10, HORIZON), strict=True):
                value, low, _, high = cell.split()
                expected = [factor * curve[part][horizon - 1] for part in ("value", "low", "high")]
                assert [float(value), float(low), float(high)] == pytest.approx(expected, rel=0.06, abs=0.01)
        assert rows["good"] != rows["bad"]
    assert page.group("Median angle error / degrees")["bad"][1] == "5.2 2.6 to 10.4"
    assert CEILING not in page.text  # what has seen the frames is no run
    # in units of the naive predictors: 1 / 20 and 2 / 20 at every horizon
    assert page.group("Pixel MSE / naive") == {"good": ["0.050"] * 3, "bad": ["0.100"] * 3}


def test_the_better_run_is_marked_where_both_were_asked_the_same(good: Path, bad: Path):
    page = compare(bad, good)
    assert page.best.count(("good", "1")) == 5 + 1  # the mean frame has the smallest energy error
    assert [each for each in page.best if each[0] == "bad"] == [("bad", "1"), ("bad", "2")]  # valid for as long
    assert "What cannot be compared" not in page.text
    assert "Marked: the best of its column." in page.text
    scale_errors(bad, 1 / 8)
    page = compare(bad, good)
    assert page.best.count(("bad", "1")) == 6 + 1


def test_what_was_asked_differently_is_said_and_not_marked(good: Path, bad: Path):
    scale_errors(bad, 1.01, ("repeat last frame",))  # as other sequences would have it
    path = bad / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text()) | {"data": "runs/other.npz", "sequences": 40}
    write_json(path, found)
    page = compare(good, bad)
    assert page.best == []
    said = words(page)
    assert "They were evaluated on different sequences (good: 60 sequences of runs/test.npz, 10 frames observed" in said
    assert "bad: 40 sequences of runs/other.npz" in said
    assert "repeat last frame" not in page.group("Median angle error / degrees")
    assert page.group("Median angle error / degrees")["bad"][0].startswith("0.52 ")
    assert "trained on different data" not in said


def test_runs_of_different_worlds_show_what_they_have_and_say_what_does_not_compare(
    good: Path, frames: Path, tmp_path: Path, pendulum_data: Sequences
):
    other = dataclasses.replace(pendulum_data, frames=255 - pendulum_data.frames, dt=0.2)
    elsewhere = make_dvbf_run(tmp_path / "elsewhere", other, states=False)
    config = json.loads((good / "config.json").read_text())
    config["data"]["world"] = dataclasses.asdict(WorldRecord("ball", {}, {}))
    write_json(good / "config.json", config)
    scale_errors(elsewhere, 3, ("repeat last frame",))
    page = compare(good, elsewhere, frames)
    said = words(page)
    assert "They were trained on different data (good: train.npz, ball, 16 × 16 pixels; elsewhere: train" in said
    assert "frames is a model of single frames" in said
    assert list(page.group("Median angle error / degrees")) == ["good"]
    assert list(page.group("Pixel MSE × 1000")) == ["good", "elsewhere"]
    assert ["after so many imagined frames", "1", "10", "30"] in page.rows  # no seconds: they differ
    assert ["seconds between frames", "0.1", "0.2", "0.1"] in page.rows
    assert ["reconstruction error", "4.9% of the frames' variance"] in page.rows
    assert list(page.group("CRPS / degrees")) == ["good"]
    assert list(page.group("CRPS / brightness")) == ["elsewhere"]


def test_verdicts_sizes_times_and_differences_are_beside_each_other(good: Path, bad: Path, dvbf_run: Path):
    page = compare(good, bad)
    assert ["figure", "good", "bad"] in page.rows
    assert ["problems", "none", "latents grow"] in page.rows
    assert ["imagined error / naive", "2.5%", "25.0%"] in page.rows
    assert ["growth of the latents", "1.00", "3.25"] in page.rows
    assert "LATENTS GROW: by 3.2. Do this." in words(page)
    assert ["updates a second (median)", "50.0", "200.0"] in page.rows
    assert ["time of the updates", "6.0 s", "1.5 s"] in page.rows
    assert ["--seed", "3", "4"] in page.rows
    assert ["--hidden-size", "128", "77"] in page.rows
    assert not any(row[0] in ("--out", "--latent-size", "SHA-256", "jax") for row in page.rows if row)
    trained = compare(good, dvbf_run)
    checkpoint = sorted((dvbf_run / "checkpoints").iterdir())[-1]
    with np.load(checkpoint, allow_pickle=False) as arrays:
        learnt = sum(arrays[name].size for name in arrays if name.startswith("params/"))
    [row] = [row for row in trained.rows if row and row[0] == "parameters"]
    assert row[2] == f"{learnt:,}"
    assert ["last checkpoint", "0.00 MB", f"{checkpoint.stat().st_size / 1e6:.2f} MB"] in trained.rows
    assert f"{dvbf_run.name} has not been evaluated" in words(trained)


def test_film_strips_stand_below_one_another_in_the_order_of_the_runs(good: Path, bad: Path):
    (bad / "evaluation" / "rollouts.gif").unlink()
    page = compare(good, bad)
    strips = next(figure for figure in page.figures if "One sequence, frame by frame" in figure["caption"])
    assert [image["alt"].partition(":")[0] for image in strips["images"]] == ["good", "bad"]
    for image, run in zip(strips["images"], (good, bad), strict=True):
        data = base64.b64decode(image["src"].partition(",")[2])
        assert data == (run / "evaluation" / "film_strip.png").read_bytes()
    rollouts = next(figure for figure in page.figures if "Good and bad sequences" in figure["caption"])
    assert [image["alt"].partition(":")[0] for image in rollouts["images"]] == ["good"]
    assert f"python scripts/evaluate.py --run {bad} --data DATA" in words(page)
    assert [figure["images"][0]["alt"] for figure in page.figures].count("Learning curves") == 1
    assert "Training curves" not in page.text  # drawn into one instead


def test_the_curves_of_each_run_are_drawn_in_its_colour():
    runs = {"$a_b$": [{"step": s, "elbo": 1.0 + s} for s in (0, 100)], "b": [{"step": s, "elbo": 5.0} for s in (0, 50)]}
    figure = overlaid_curves(runs, {"$a_b$": BLUE, "b": ORANGE})
    assert figure is not None
    drawn: dict[Any, list[float]] = {line.get_color(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert drawn == {BLUE: [1.0, 101.0], ORANGE: [5.0, 5.0]}
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["$a_b$", "b"]
    assert [line.get_color() for line in legend.get_lines()] == [BLUE, ORANGE]
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert overlaid_curves({"a": []}, {"a": BLUE}) is None


def test_a_curve_that_is_drawn_is_in_the_page(good: Path, bad: Path, drawn: None):
    page = compare(good, bad)
    [image] = [image for figure in page.figures for image in figure["images"] if image["alt"] == "Learning curves"]
    with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in COLOURS[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - np.array(wanted)).max(axis=1) < 3).sum() > 50


def test_those_that_acted_from_the_same_starts_stand_together(good: Path, bad: Path):
    for run, planner, returns, seed in ((good, "cem", [-1.0, -3.0], 1), (bad, "mppi", [-8.0, -10.0], 1)):
        found = Acted(
            env="Pendulum-v1", seed=seed, start=None, steps=200, planner=planner, options={}, wanted="the reward",
            policy=False, returns=returns, lengths=[200, 200], ended=0.0, seconds_per_decision=0.1, dreamt=[], real=[],
            floors={}, ceilings={}, reward=None, warnings=[],
        )  # fmt: skip
        found.write(run / "acting" / planner)
    asked = "Pendulum-v1 (2 episodes of at most 200 steps, random starts of seed 1"
    assert compare(good, bad).group(asked) == {
        "good cem": ["-2.0", "-3.0", "-1.0"],
        "bad mppi": ["-9.0", "-10.0", "-8.0"],
    }
    path = bad / "acting" / "mppi" / "episodes.json"
    write_json(path, json.loads(path.read_text()) | {"seed": 2})
    assert list(compare(good, bad).group(asked)) == ["good cem"]


def test_an_evaluation_of_an_earlier_state_is_called_one(good: Path, bad: Path):
    path = bad / "evaluation" / "evaluation.json"
    write_json(path, json.loads(path.read_text()) | {"trained_steps": 8000})
    assert "The evaluation of bad is of an earlier state of the run, after 8,000 optimiser steps" in words(
        compare(good, bad)
    )


def test_runs_that_have_nothing_yet_are_compared_as_well(tmp_path: Path, data_file: Path, good: Path):
    empty = tmp_path / "new"
    options = dataclasses.replace(with_defaults("dvbf"), data=data_file, out=empty)
    Run.create(empty, "dvbf", options.to_json(), Run(good).card)
    page = compare(empty, good)
    said = words(page)
    assert "new has not been evaluated. This does it: python scripts/evaluate.py" in said
    assert f"python scripts/train.py dvbf --out {empty} --resume" in said
    assert ["optimiser steps", "0", "9,000"] in page.rows
    assert ["time of the updates", "–", "6.0 s"] in page.rows


def test_the_page_lies_beside_the_first_run_unless_it_is_told_where(good: Path, bad: Path, tmp_path: Path):
    result = run_script("report.py", "--run", good, "--run", bad)
    assert_ok(result)
    assert f"{tmp_path / 'comparison.html'}: the report" in result.stdout
    out = tmp_path / "elsewhere" / "page.html"
    assert_ok(run_script("report.py", "--run", good, "--run", bad, "--out", out))
    assert out.read_bytes() == (tmp_path / "comparison.html").read_bytes()
    assert wm.report([good, bad]) == tmp_path / "comparison.html"
    assert not (good / "report.html").exists()
    # one run is reported as ever
    assert wm.report([good]) == good / "report.html"
    many = (good / "report.html").read_bytes()
    assert wm.report(good) == good / "report.html"
    assert (good / "report.html").read_bytes() == many


def refused(*arguments: object) -> str:
    result = run_script("report.py", *arguments)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    return line


def test_what_cannot_be_compared_at_all_is_one_line(good: Path, bad: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert refused("--run", good, "--run", tmp_path / "empty").startswith(
        f"error: {tmp_path / 'empty'}: not a run folder"
    )
    again = tmp_path / "empty" / ".." / "good"
    assert refused("--run", good, "--run", bad, "--run", again) == f"error: {again}: is given twice"
    assert refused() == "error: no run is given"
    assert "is an .html file" in refused("--run", good, "--run", bad, "--out", tmp_path / "page.pdf")
    assert not (tmp_path / "comparison.html").exists()
    many = [tmp_path / f"run{index}" for index in range(len(COLOURS) + 1)]
    for run in many:
        shutil.copytree(good, run)
    with pytest.raises(UserError, match="no run is given"):
        wm.report([])
    with pytest.raises(UserError, match="7 runs are more than can be told apart"):
        wm.report(many)
    (bad / "evaluation" / "film_strip.png").write_bytes(b"torn")
    assert (
        refused("--run", good, "--run", bad) == f"error: {bad}/evaluation/film_strip.png: no picture, or a damaged one"
    )


def test_a_run_whose_metrics_are_being_written_is_compared_and_one_with_damaged_metrics_is_one_line(
    good: Path, bad: Path
):
    path = bad / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(f'{whole}{{"step": 400, "elb')
    page = Page(wm.report([good, bad]))
    assert ["time of the updates", "6.0 s", "1.5 s"] in page.rows
    path.write_text(f'{{"step": 0, "elb\n{whole}')
    assert refused("--run", good, "--run", bad) == f"error: {path}: line 1 is damaged"


def test_runs_are_told_apart_by_as_much_of_their_paths_as_it_takes():
    assert short_names([Path("/a/x"), Path("/a/y")]) == ["x", "y"]
    assert short_names([Path("/a/seed_0"), Path("/b/seed_0")]) == ["a/seed_0", "b/seed_0"]
    assert short_names([Path("/a/c/s"), Path("/b/c/s"), Path("/b/c/t")]) == ["a/c/s", "b/c/s", "b/c/t"]


def test_no_name_can_put_its_own_html_into_the_page(good: Path, bad: Path, drawn: None):
    evil = good.parent / "<script>x" / "<b>&$^$"
    evil.parent.mkdir()
    good.rename(evil)
    page = compare(evil, bad)
    assert not {"script", "b&$^$"} & {tag for tag, _ in page.tags}
    assert "<b>&$^$" in page.text


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(good: Path, bad: Path, frames: Path, width: int, browser: Browser):
    out = wm.report([good, bad, frames])
    with browser.new_context(viewport={"width": width, "height": 800}, offline=True) as context:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url.split(":")[0]))
        page.goto(out.resolve().as_uri())
        assert said == []
        assert set(asked) <= {"file", "data"}
        assert min(page.evaluate("[...document.images].map(image => image.naturalWidth)")) > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        borders = page.evaluate(
            "[...document.querySelectorAll('.runs .run')].map(run => getComputedStyle(run).borderLeftColor)"
        )
        wanted = ["rgb(" + ", ".join(str(int(each[i : i + 2], 16)) for i in (1, 3, 5)) + ")" for each in COLOURS[:3]]
        assert borders == wanted
        tops = page.evaluate(
            "[...document.querySelectorAll('.strip')].slice(0, 2).map(s => s.getBoundingClientRect().top)"
        )
        assert tops[1] >= tops[0]

"""The benchmark and the balance study, in small: what they write, and that it is true."""

import json
from pathlib import Path

import pytest
from conftest import assert_ok, run_script, width


def test_the_benchmark_writes_every_seed_and_the_tables(tmp_path: Path):
    small = ("--seeds", 2, "--steps", 10, "--sequences", 20, "--rollouts", 8, "--out", tmp_path)
    assert_ok(run_script("benchmark.py", "--models", "dvbf", "static-vae", "plain-bound", *small))
    results = [
        json.loads((tmp_path / "results" / f"{name}-sequences20.json").read_text()) for name in ("dvbf", "static-vae")
    ]
    assert all([run["seed"] for run in result["runs"]] == [0, 1] for result in results)
    for run in (run for result in results for run in result["runs"]):
        assert run["works"] is False  # ten steps teach nothing, and the table must say so
        nats = run["nats_per_sequence"]
        assert nats["elbo"] <= nats["iwae"]
        assert nats["elbo"] == pytest.approx(nats["reconstruction"] - nats["kl"], rel=1e-4)
    assert_ok(run_script("benchmark.py", "--models", "dvbf", "--world", "frictionless", *small))
    report = (tmp_path / "RESULTS.md").read_text()
    for name in ("dvbf-sequences20", "static-vae-sequences20"):
        assert f"| {name} | 0/2 | median |" in report
    assert "`plain-bound-sequences20`: none of the parts" in report
    assert "| dvbf-frictionless-sequences20 | median |" in report
    assert "always hanging down" in report
    floors = json.loads((tmp_path / "results" / "floors-and-ceilings.json").read_text())["rows"]
    assert floors["true state, true physics"]["angle_error_degrees"]["500"] < 0.1
    assert floors["oracle: shooting on 5 frames"]["angle_error_degrees"]["10"] < 1


def test_the_balance_study_finds_both_ends(tmp_path: Path):
    arguments = ("--observation-stds", 0.02, 3.0, "--seeds", 1, "--steps", 400)
    assert_ok(run_script("vae_balance.py", *arguments, "--out", tmp_path))
    sharp, blurred = (
        row["runs"][0] for row in json.loads((tmp_path / "results" / "vae-balance.json").read_text())["rows"]
    )
    assert blurred["active_dimensions"] == 0
    assert blurred["reconstruction_share"] > 0.9
    assert sharp["active_dimensions"] == 4
    assert sharp["posterior_std"] < 0.05
    assert sharp["kl"] > 10 > blurred["kl"]
    assert width(tmp_path / "docs" / "vae_balance.png") > 1000

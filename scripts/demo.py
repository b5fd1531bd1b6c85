"""The whole main job on Gymnasium's Pendulum-v1: collect, train the static VAE, train the DVBF, imagine, act, report.

Every stage is one of the other scripts, called as a person would call it. A stage whose result is there already
is kept, so that a demo that was stopped goes on where it was; delete the folder to begin anew. The static VAE is
trained beside the DVBF, on another core.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from worldmodel.support.files import UserError, write_json
from worldmodel.support.machine import machine
from worldmodel.support.script import run_script

SCRIPTS = Path(__file__).parent
PYTHON = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else "python"
"""as a person would type it"""


@dataclasses.dataclass(frozen=True)
class Options:
    out: Path = Path("runs/demo")
    """Folder for everything that the demo writes."""


def main(options: Options) -> None:
    out = options.out
    train, test, vae, dvbf = out / "train.npz", out / "test.npz", out / "vae", out / "dvbf"
    started, in_one_go = time.monotonic(), not train.exists()
    pendulum = ("collect.py", "--env", "Pendulum-v1", "--size", "24", "--crop", "0.55", "--actions", "mixed")
    collect_train = (*pendulum, "--sequences", "240", "--frames", "100", "--seed", "0", "--out", train)
    collect_test = (*pendulum, "--sequences", "60", "--frames", "100", "--seed", "1", "--out", test)
    train_vae = ("train.py", "vae", "--data", train, "--out", vae)
    train_dvbf = ("train.py", "dvbf", "--data", train, "--out", dvbf)
    act = ("plan.py", "--run", dvbf)
    evaluate = ("evaluate.py", "--run", dvbf, "--data", test, "--vae", vae, "--context", "10")
    Stage("training data", train, collect_train).run()
    # a training hardly uses a second core, and neither does an evaluation
    with Meanwhile(
        Stage("static VAE, beside the DVBF", vae / "latent_walk.gif", train_vae + resume(vae)),
        Stage("test data, beside the DVBF after the static VAE", test, collect_test),
    ):
        Stage("DVBF", dvbf / "health.json", train_dvbf + resume(dvbf)).run()
    with Meanwhile(Stage("acting, beside the evaluation", dvbf / "acting" / "cem", act)):
        Stage("imagination and its evaluation", dvbf / "evaluation", evaluate).run(quiet=True)
    Stage("report", dvbf / "report.html", ("report.py", "--run", dvbf)).run(quiet=True)
    seconds = time.monotonic() - started
    if in_one_go:
        write_json(out / "seconds.json", {"seconds": seconds, "machine": machine()})
    print_summary(out, seconds)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One script, which is not run where its result is there already."""

    name: str
    result: Path
    """what it writes last"""
    command: tuple[str | Path, ...]

    def announce(self) -> bool:
        """Say what is done; whether anything is to be done."""
        if self.result.exists():
            print(f"\n== {self.name}: {self.result} is there already and is kept")
            return False
        script, *arguments = map(str, self.command)
        print(f"\n== {self.name}: {PYTHON} scripts/{script} {' '.join(arguments)}", flush=True)
        return True

    def start(self, **streams: Any) -> subprocess.Popen:
        script, *arguments = map(str, self.command)
        return subprocess.Popen([sys.executable, SCRIPTS / script, *arguments], text=True, **streams)

    def run(self, quiet: bool = False) -> None:
        """Run it to its end; `quiet` keeps what it prints for the summary."""
        if not self.announce():
            return
        with self.start(stdout=subprocess.DEVNULL if quiet else None) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                process.wait()  # Ctrl-C has reached the script too: it is saving its last state
                raise
        self.require_success(status)

    def require_success(self, status: int, last_words: Sequence[str] = ()) -> None:
        if status != 0:
            why = "".join(f": {line}" for line in last_words)
            raise UserError(
                f"the demo stopped at '{self.name}' (exit status {status}){why}; make demo goes on from there"
            )


class Meanwhile:
    """Stages that run one after the other beside what is shown in a block; their words come when they are done."""

    def __init__(self, *stages: Stage):
        self.running: subprocess.Popen | None = None
        self.pool = ThreadPoolExecutor(1)
        self.words = {stage.name: self.pool.submit(self.run, stage) for stage in stages if stage.announce()}

    def run(self, stage: Stage) -> str:
        """What a stage printed. Raises UserError with its last words where it failed."""
        no_bar = os.environ | {"TQDM_DISABLE": "1"}
        # in a session of its own, where Ctrl-C does not reach it: `stop` does, once
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with stage.start(**streams, env=no_bar, start_new_session=True) as self.running:
            words = self.running.communicate()[0].strip()
        stage.require_success(self.running.returncode, words.splitlines()[-1:])
        return words

    def __enter__(self) -> "Meanwhile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.stop()

    def finish(self) -> None:
        """Wait for all, and say what they said. Raises UserError where one failed."""
        self.pool.shutdown()
        for name, words in self.words.items():
            print(f"\n== {name}: done\n{words.result()}", flush=True)

    def stop(self) -> None:
        """Interrupt what runs, which saves itself, and begin nothing more."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self.running is not None and self.running.poll() is None:
            os.killpg(self.running.pid, signal.SIGINT)
        self.pool.shutdown()


def resume(run: Path) -> tuple[str, ...]:
    """What makes a training go on with the run that is there and is not finished."""
    return ("--resume",) if (run / "config.json").exists() else ()


def print_summary(out: Path, seconds: float) -> None:
    from worldmodel.evaluation.record import read_evaluation
    from worldmodel.evaluation.tables import summary

    print(f"\n== done in {seconds:.0f} s\n")
    print(summary(read_evaluation(out / "dvbf" / "evaluation" / "evaluation.json")))
    print()
    for picture, what in (
        ("dvbf/report.html", "everything below and more on one page, with how to read it: open it in a browser"),
        ("dvbf/acting/cem/episodes.gif", "the pendulum swings up: the real one, and the plans in the model's dream"),
        ("dvbf/evaluation/film_strip.png", "true and imagined frames side by side"),
        ("dvbf/evaluation/rollouts.gif", "the same, moving, in real time"),
        ("dvbf/evaluation/counterfactuals.gif", "one beginning, five futures under other actions"),
        ("dvbf/learning.gif", "how the DVBF learnt: frames, imagined frames, latents"),
        ("vae/learning.gif", "how the static VAE learnt"),
        ("vae/latent_walk.gif", "the VAE's decoder along a walk through its latent space"),
    ):
        print(f"  {out / picture!s:<48} {what}")
    print(f"\npush the pendulum yourself: {PYTHON} scripts/play.py --run {out / 'dvbf'}")


if __name__ == "__main__":
    run_script(main, Options, __doc__)

"""Drive the dream: push the true world in a browser, and see a trained model, or several side by side, imagine it under
the same pushes; or let an autopilot drive it, which plans in the dream of the first."""

import dataclasses
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import tyro

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least

LAST_PORT = 65535


@dataclasses.dataclass(frozen=True)
class Options:
    run: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Run folder of a model trained on a known world, or the name of a run that comes with the package; up to four, of
    any models, dream side by side. Default: swing-up, which comes with the package."""
    data: Path | None = None
    """Data set that shows the true world, an .npz with its states; default: what the first run was trained on, or the
    sample that came with it."""
    context: int | None = None
    """True frames that the models are shown before they dream (K); default: as many as the one needs that
    needs most, at least 5."""
    port: int = 8000
    """Port of the page, on this machine alone; 0 takes a free one."""
    seed: int = 0
    """Seed of the random starts."""


def main(options: Options) -> None:
    require_at_least("--seed", options.seed, 0)
    with listen(options.port) as listener:
        import jax
        from aiohttp import web

        from worldmodel.play.autopilot import Autopilot
        from worldmodel.play.runs import open_runs
        from worldmodel.play.serving import Player, make_app
        from worldmodel.play.staging import open_stage

        runs = open_runs(options.run or (Path("swing-up"),))
        stage = open_stage(runs, options.data, options.context)
        warm_key, key = jax.random.split(jax.random.key(options.seed))
        warm_up = Player(stage, warm_key)
        for _ in range(2):
            warm_up.next_moment()  # compiles a start and a step, so that no browser waits for them
        with ThreadPoolExecutor(1) as later:  # takes seconds, of which no browser waits for one
            first = next(iter(runs.values()))
            autopilot = later.submit(Autopilot.of_run, first, stage.dreams[0].dreamer, stage.simulator.world)
            stage = dataclasses.replace(stage, autopilot=autopilot)
            print(f"open http://127.0.0.1:{listener.getsockname()[1]}/ in a browser (Ctrl-C ends)", flush=True)
            web.run_app(make_app(stage, key), sock=listener, print=None, access_log=None)


def listen(port: int) -> socket.socket:
    """A port that only this machine can reach. Raises UserError when it cannot be had."""
    if not 0 <= port <= LAST_PORT:
        raise UserError(f"--port must be between 0 and {LAST_PORT}, not {port}")
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"--port {port}: cannot be used: {reason}; another one, or 0, may be free") from None


if __name__ == "__main__":
    run_script(main, Options, __doc__)

"""The page on which a person drives a pendulum and a dream of it: one HTML file, one websocket for each browser.

The browser sends "reset", "look", or a torque in N m such as "-1.5", which acts until the next one. The server sends
the world first (`describe_world`), then a moment (`describe_moment`) for every step.
"""

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jax
import numpy as np
from aiohttp import WSCloseCode, web

from worldmodel.data.sequences import as_unit_frames
from worldmodel.evaluation.latents import View
from worldmodel.evaluation.measures import AngleReader
from worldmodel.models.dvbf.model import DVBF
from worldmodel.pictures.figures import as_rgb
from worldmodel.play.live import Moment, SideBySide
from worldmodel.worlds.pendulum.environment import PendulumFunctional
from worldmodel.worlds.pendulum.truth import PendulumSimulator

PAGE = Path(__file__).parent / "play.html"
FRAMES_PER_SECOND = 20
"""that are shown at least: a world whose steps are longer runs faster than real time"""
LATEST = 0.25
"""seconds that a moment can be late and still be made up for by quicker ones"""
LONGEST_MESSAGE = 100
"""bytes that a browser may send at once"""


@dataclasses.dataclass(frozen=True)
class Stage:
    """What all browsers share: the model, the truth, and how the two are compared and drawn."""

    model: DVBF
    simulator: PendulumSimulator
    reader: AngleReader
    view: View
    cloud: np.ndarray
    """`[M, Z]` latents of the data"""
    context: int
    """true frames that the model is shown at the start and in a fresh look"""

    @property
    def seconds_shown(self) -> float:
        """How long a step is shown."""
        return min(self.simulator.params.dt, 1 / FRAMES_PER_SECOND)


class Player:
    """One browser: its two worlds, and what it last asked for. Every random start consumes a part of the key."""

    def __init__(self, stage: Stage, key: jax.Array):
        self.worlds = SideBySide(stage.model, stage.simulator, stage.reader, stage.context)
        self.random_start = PendulumFunctional(stage.simulator.params).initial
        self.keys = (jax.random.fold_in(key, number) for number in itertools.count())
        self.torque, self.asked = 0.0, "reset"

    def hear(self, message: str) -> None:
        """Remember what a browser asks for, until the next moment; what is nothing known is ignored."""
        if message in ("reset", "look"):
            # a reset has a fresh look in it
            self.asked = self.asked if self.asked == "reset" else message
            return
        with contextlib.suppress(ValueError):
            torque = float(message)
            self.torque = torque if math.isfinite(torque) else self.torque

    def next_moment(self) -> Moment:
        """A step, or what was asked for instead."""
        asked, self.asked = self.asked, ""
        if asked == "reset":
            return self.worlds.start(np.asarray(self.random_start(next(self.keys))))
        return self.worlds.fresh_look() if asked == "look" else self.worlds.step(self.torque)


def describe_world(stage: Stage) -> dict[str, Any]:
    """What the page needs to know once."""
    height, width = stage.simulator.album.shape[1:3]
    physics = stage.simulator.params
    return {
        "height": height,
        "width": width,
        "max_torque": physics.max_torque,
        "context": stage.context,
        "dt": physics.dt,
        "speed": physics.dt / stage.seconds_shown,
        "plane_share": float(stage.view.shares[:2].sum()),
        "cloud": _in_plane(stage, stage.cloud),
    }


def describe_moment(stage: Stage, moment: Moment) -> dict[str, Any]:
    """What the page shows of a moment: pictures as base64 of `[H, W, 3]` bytes, places in the latent plane."""
    dt = stage.simulator.params.dt
    return {
        "truth": _picture(as_unit_frames(moment.true_frame)),
        "dream": _picture(moment.dream_frame),
        "dream_at": _in_plane(stage, moment.latent),
        "seen_at": _in_plane(stage, moment.seen_latent),
        "degrees_apart": round(moment.degrees_apart, 2),
        "seconds": round(moment.steps * dt, 3),
        "seconds_dreamt": round(moment.steps_dreamt * dt, 3),
    }


def _in_plane(stage: Stage, latents: np.ndarray) -> list:
    """`[..., Z]` to the first two coordinates of the view."""
    return stage.view(latents)[..., :2].round(3).tolist()


def _picture(frame: np.ndarray) -> str:
    return base64.b64encode((as_rgb(frame) * 255).round().astype(np.uint8).tobytes()).decode()


def make_app(stage: Stage, key: jax.Array) -> web.Application:
    """The page at / and its websocket at /play. Every websocket has two worlds of its own; the key is consumed."""
    sockets: set[web.WebSocketResponse] = set()
    numbers = itertools.count()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE.read_text(), content_type="text/html")

    async def play(request: web.Request) -> web.WebSocketResponse:
        if urlsplit(request.headers.get("Origin", "")).netloc != request.host:
            raise web.HTTPForbidden(text="only this server's own page may play")
        player = Player(stage, jax.random.fold_in(key, next(numbers)))
        socket = web.WebSocketResponse(max_msg_size=LONGEST_MESSAGE)
        await socket.prepare(request)
        sockets.add(socket)
        try:
            async with asyncio.TaskGroup() as tasks:
                showing = tasks.create_task(show(socket, player))
                async for message in socket:
                    if message.type == web.WSMsgType.TEXT:
                        player.hear(message.data)
                showing.cancel()
        finally:
            sockets.discard(socket)
        return socket

    async def show(socket: web.WebSocketResponse, player: Player) -> None:
        """A moment every so many seconds, until the browser is gone."""
        clock = asyncio.get_running_loop().time
        due = clock()
        with contextlib.suppress(ConnectionError):
            await socket.send_json(describe_world(stage))
            while True:
                await socket.send_json(describe_moment(stage, player.next_moment()))
                due = max(due + stage.seconds_shown, clock() - LATEST)
                await asyncio.sleep(due - clock())

    async def close(app: web.Application) -> None:
        for socket in list(sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/play", play)])
    app.on_shutdown.append(close)
    return app

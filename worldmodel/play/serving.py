"""The page on which a person drives a world and dreams of it: one HTML file, one websocket for each browser.

The browser sends one of five texts: "reset", "look", "autopilot on", "autopilot off", or an action in the world's unit
such as "-1.5", which acts until the next one. It gets JSON objects:

    first             the world, and of each dream its run and what its latents look like (`describe_world`)
    for every step    the true frame, of each dream in the same order its frame, places and difference, and the plan of
                      the autopilot while it drives (`describe_moment`)
    once, when known  {"autopilot": what it is, or why there is none} (`describe_autopilot`)
"""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jax
import numpy as np
from aiohttp import WSCloseCode, web

from worldmodel.data.sequences import as_unit_frames, spread_over
from worldmodel.evaluation.latents import View
from worldmodel.imagination.variables import unit, visible_variables, words
from worldmodel.pictures.figures import as_rgb
from worldmodel.play.autopilot import Autopilot, Pilot, Plan, steps_shown
from worldmodel.play.ghosts import Backdrop
from worldmodel.play.live import Dream, Dreamt, Moment, SideBySide
from worldmodel.support.files import UserError
from worldmodel.worlds.simulator import Simulator
from worldmodel.worlds.world import Reader

PAGE = Path(__file__).parent / "play.html"
FRAMES_PER_SECOND = 20
"""that are shown at least: a world whose steps are longer runs faster than real time"""
LATEST = 0.25
"""seconds that a moment can be late and still be made up for by quicker ones"""
LONGEST_MESSAGE = 100
"""bytes that a browser may send at once"""
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
"""Host headers of this machine's own browsers; a page from elsewhere can point a name of its own here, and no other"""
BACKDROP_FRAMES = 500
"""true frames that it is made of, at most"""
FARTHEST = 100.0
"""outside what the data covered, that is told; and in place of infinity, which JSON has not"""


@dataclasses.dataclass(frozen=True)
class Stage:
    """What all browsers share: the models, the truth, and how they are compared and drawn."""

    dreams: Sequence[Dream]
    """the first is that of the autopilot"""
    simulator: Simulator
    reader: Reader
    context: int
    """true frames that the models are shown at the start"""
    autopilot: Future[Autopilot]
    """which takes a while to be made; a UserError says why there is none"""

    @property
    def seconds_shown(self) -> float:
        """How long a step is shown."""
        return min(self.simulator.world.dt, 1 / FRAMES_PER_SECOND)

    @functools.cached_property
    def backdrop(self) -> Backdrop:
        """What stands still in the true frames."""
        return Backdrop.of(as_unit_frames(spread_over(self.simulator.album, BACKDROP_FRAMES)))


class Player:
    """One browser: its worlds, and what it last asked for. Every random start consumes a part of the key."""

    def __init__(self, stage: Stage, key: jax.Array):
        self.worlds = SideBySide(stage.dreams, stage.simulator, stage.reader, stage.context)
        self.autopilot, self.piloted = stage.autopilot, False
        self.pilot: Pilot | None = None
        self.random_start = stage.simulator.world.initial
        self.keys = (jax.random.fold_in(key, number) for number in itertools.count())
        self.action, self.asked = 0.0, "reset"

    def hear(self, message: str) -> None:
        """Remember what a browser asks for, until the next moment; what is nothing known is ignored."""
        if message in ("reset", "look"):
            # a reset has a fresh look in it
            self.asked = self.asked if self.asked == "reset" else message
            return
        if message in ("autopilot on", "autopilot off"):
            self.piloted = message == "autopilot on"
            return
        with contextlib.suppress(ValueError):
            action = float(message)
            self.action = action if math.isfinite(action) else self.action

    def next_moment(self) -> Moment:
        """A step, or what was asked for instead."""
        self._switch()
        asked, self.asked = self.asked, ""
        if asked == "reset":
            if self.pilot is not None:
                self.pilot.start(next(self.keys))
            return self.worlds.start(np.asarray(self.random_start(next(self.keys))))
        return self.worlds.fresh_look() if asked == "look" else self.worlds.step(self.action)

    def _switch(self) -> None:
        """The autopilot on or off, as the browser last asked for, where there is one."""
        there = self.autopilot.done() and self.autopilot.exception() is None
        if there and self.piloted != (self.pilot is not None):
            self.pilot = self.autopilot.result().pilot(next(self.keys)) if self.piloted else None
            self.worlds.hand_over(self.pilot)


def describe_world(stage: Stage) -> dict[str, Any]:
    """What the page needs to know once."""
    height, width = stage.simulator.album.shape[1:3]
    world = stage.simulator.world
    variable = visible_variables(world)[0]
    return {
        "height": height,
        "width": width,
        "largest_action": world.largest_action,
        "action_unit": world.action_unit,
        "action_words": world.action_words,
        "variable": words(variable),
        "unit": "°" if variable.circular else f" {unit(variable)}",
        "circular": variable.circular,
        "discrete": world.discrete,
        "choices": world.action_size,
        "context": stage.context,
        "dt": world.dt,
        "speed": world.dt / stage.seconds_shown,
        "dreams": [
            {
                "name": dream.name,
                "model": dream.model,
                "plane_share": float(dream.view.shares[:2].sum()),
                "cloud": _in_plane(dream.view, dream.cloud),
            }
            for dream in stage.dreams
        ],
    }


def describe_autopilot(stage: Stage) -> dict[str, Any]:
    """What the page needs to know once of the autopilot when it is ready, or why there is none."""
    try:
        autopilot = stage.autopilot.result()
    except UserError as error:
        return {"missing": str(error)}
    dt = stage.simulator.world.dt
    return {
        "missing": None,
        "warning": autopilot.warning,
        "best": autopilot.best,
        "worst": autopilot.worst,
        "seconds": [round(steps * dt, 3) for steps in steps_shown(autopilot.planner.horizon)],
        "colours": [f"rgb{tuple((255 * colour).round().astype(int).tolist())}" for colour in stage.backdrop.colours()],
    }


def describe_moment(stage: Stage, moment: Moment) -> dict[str, Any]:
    """What the page shows of a moment: pictures as base64 of `[H, W, 3]` bytes, places in the latent planes."""
    dt = stage.simulator.world.dt
    return {
        "truth": _picture(as_unit_frames(moment.frame)),
        "dreams": [_describe_dream(*each) for each in zip(stage.dreams, moment.dreams, strict=True)],
        "seconds": round(moment.steps * dt, 3),
        "seconds_dreamt": round(moment.steps_dreamt * dt, 3),
        "plan": None if moment.plan is None else _describe_plan(stage, moment, moment.plan),
    }


def _describe_dream(dream: Dream, dreamt: Dreamt) -> dict[str, Any]:
    """Its picture, where it is, where its filter is, how far it is from the truth and from what its data covered."""
    return {
        "picture": _picture(dreamt.frame),
        "at": _in_plane(dream.view, dreamt.latent),
        "seen_at": _in_plane(dream.view, dreamt.seen_latent),
        "apart": _told(dreamt.apart),
        "outside": None if dreamt.outside is None else _told(min(dreamt.outside, FARTHEST)),
    }


def _describe_plan(stage: Stage, moment: Moment, plan: Plan) -> dict[str, Any]:
    """The first dream's picture with the plan's in it, the plan's way, its rewards now and at its end, and what was
    done."""
    return {
        "picture": _picture(stage.backdrop.with_ghosts(moment.dreams[0].frame, plan.frames)),
        "at": _in_plane(stage.dreams[0].view, plan.latents),
        "rewards": [_told(reward) for reward in plan.rewards[[0, -1]]],
        "action": moment.action.round(3).tolist(),
    }


def _in_plane(view: View, latents: np.ndarray) -> list:
    """`[..., Z]` to the first two coordinates of a view."""
    return _numbers(view(latents)[..., :2]).round(3).tolist()


def _told(number: float) -> float:
    """With four digits."""
    return float(f"{_numbers(number):.4g}")


def _numbers(values: Any) -> np.ndarray:
    """What JSON can say of a dream that broke: FARTHEST in place of what is no number."""
    return np.nan_to_num(values, nan=FARTHEST, posinf=FARTHEST, neginf=-FARTHEST)


def _picture(frame: np.ndarray) -> str:
    return base64.b64encode((as_rgb(np.nan_to_num(frame)) * 255).round().astype(np.uint8).tobytes()).decode()


@web.middleware
async def for_this_machine(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer only what asks for this machine by its own name."""
    if not LOOPBACK.fullmatch(request.headers.get("Host", "")):
        raise web.HTTPForbidden(text="this server answers to localhost, 127.0.0.1 and [::1] alone")
    return await handler(request)


def make_app(stage: Stage, key: jax.Array) -> web.Application:
    """The page at / and its websocket at /play. Every websocket has worlds of its own; the key is consumed."""
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
            told = False
            while True:
                if not told and stage.autopilot.done():
                    await socket.send_json({"autopilot": describe_autopilot(stage)})
                    told = True
                await socket.send_json(describe_moment(stage, player.next_moment()))
                due = max(due + stage.seconds_shown, clock() - LATEST)
                await asyncio.sleep(due - clock())

    async def close(app: web.Application) -> None:
        for socket in list(sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    app = web.Application(middlewares=[for_this_machine])
    app.add_routes([web.get("/", page), web.get("/play", play)])
    app.on_shutdown.append(close)
    return app

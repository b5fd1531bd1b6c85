"""Train an agent of Stable-Baselines3 in a run's dream, then try it in the real environment.

To the agent the dream is a Gymnasium environment like any other (worldmodel/planning/dream.py), whose observations are
the model's latents. In the real environment they come from the model's filter, which sees the frames.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script
from worldmodel.support.settings import require_at_least

DREAM = "worldmodel/Dream-v0"
STEPS = {"sac": 20_000, "ppo": 200_000}


@dataclasses.dataclass(frozen=True)
class Options:
    run: Path
    """Run folder of a model that was trained on sequences of a Gymnasium environment, with rewards."""
    out: Path
    """Folder to write agent.zip, as Stable-Baselines3 loads it, and returns.json into."""
    algorithm: Literal["sac", "ppo"] = "sac"
    """SAC learns from few steps, PPO takes many; choices (Discrete actions) need PPO."""
    steps: int | None = None
    """Steps to train for in the dream; default: 20,000 of SAC, 200,000 of PPO."""
    episodes: int = 20
    """To try the agent in, in the dream and in the real environment."""
    sampled: bool = False
    """Train in dreams whose noise is drawn; default: they follow the means."""
    seed: int = 0
    """Of the agent, of the dreams and of the real starts."""


def main(options: Options) -> None:
    require_at_least("--episodes", options.episodes, 1)
    require_at_least("--seed", options.seed, 0)
    if options.out.exists():
        raise UserError(f"{options.out}: exists already; it is not overwritten")
    try:
        import stable_baselines3
    except ImportError:
        raise UserError("stable-baselines3 is not installed; to install it: pip install -e '.[agents]'") from None

    import gymnasium
    import numpy as np

    import worldmodel as wm
    from worldmodel.planning.controller import Belief
    from worldmodel.planning.trials import floors
    from worldmodel.reporting.acting import Acting
    from worldmodel.support.files import atomic_folder, write_json
    from worldmodel.support.progress import progress_bar
    from worldmodel.worlds.episodes import from_vector

    trained = wm.load(options.run)
    task = Acting.of(trained.run, trained)
    arena, space = task.arena, task.arena.space
    if space.discrete and options.algorithm == "sac":
        raise UserError(f"--algorithm: sac chooses numbers, and {arena.id} takes choices; ppo can do that")
    print("\n".join(filter(None, [task.reward, *task.warnings])))
    dream: dict[str, Any] = {"run": options.run, "observation": "latents", "horizon": arena.steps}
    env = gymnasium.make(DREAM, **dream, sampled=options.sampled)
    if not space.discrete:  # agents like actions from -1 to 1: raw ones (planning/spaces.py)
        one = np.ones(space.size, np.float32)
        env = gymnasium.wrappers.RescaleAction(env, -one, one)
    agent = learn(stable_baselines3, env, options)

    def act(latents: np.ndarray) -> np.ndarray:
        """Latents `[B, Z]` to actions of the Gymnasium space, `[B, ...]`."""
        chosen, _ = agent.predict(latents, deterministic=True)
        return chosen if space.discrete else np.asarray(space.action(chosen))

    def dreamt_returns(choose: Any) -> list[float]:
        """Of `choose(envs, latents)`, in as many dreams at once as there are episodes."""
        envs = gymnasium.make_vec(DREAM, options.episodes, **dream)
        envs.action_space.seed(options.seed)
        latents, _ = envs.reset(seed=options.seed)
        returns, going_on = np.zeros(options.episodes), np.ones(options.episodes, bool)
        for _ in range(arena.steps):
            latents, rewards, ended, _, _ = envs.step(choose(envs, latents))
            returns += rewards * going_on
            going_on &= ~ended
        return returns.tolist()

    belief, done = Belief(trained), None

    def act_for_real(frame: np.ndarray, t: int) -> Any:
        nonlocal done
        if t == 0:
            belief.reset()
        state = belief.see(frame, done if t else None)
        [action] = act(trained.vector(state))
        done = np.eye(space.size, dtype=np.float32)[action] if space.discrete else action
        return from_vector(done, arena.env.action_space)

    real = []
    with progress_bar(arena.id, options.episodes, "episode") as bar:
        for number in range(options.episodes):
            real.append(float(arena.play(act_for_real, options.seed, number).rewards.sum()))
            bar.update()
    returns = {
        "dream": dreamt_returns(lambda envs, latents: act(latents)),
        "dream, random actions": dreamt_returns(lambda envs, latents: envs.action_space.sample()),
        "real": real,
        "real, random actions": floors(arena, options.seed, options.episodes)["random actions"],
    }
    with atomic_folder(options.out) as folder:
        agent.save(folder / "agent.zip")
        about = {"env": arena.id, "algorithm": options.algorithm, "steps": agent.num_timesteps, "seed": options.seed}
        write_json(folder / "returns.json", about | {"returns": returns})
    print(f"{'return':<28}{'mean':>9}{'median':>9}{'worst':>9}")
    for name, found in returns.items():
        print(f"  {name:<26}{np.mean(found):>9.1f}{np.median(found):>9.1f}{np.min(found):>9.1f}")
    print(f"{options.episodes} episodes of at most {arena.steps} steps; dreams begin anywhere in the data")
    print(f"{options.out}: agent.zip, returns.json")


def learn(library: Any, env: Any, options: Options) -> Any:
    """The agent, after its training in an environment."""
    import numpy as np
    import torch

    from worldmodel.support.progress import progress_bar

    torch.set_num_threads(1)  # the networks are small
    steps = STEPS[options.algorithm] if options.steps is None else options.steps
    require_at_least("--steps", steps, 1)
    common: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 256, "seed": options.seed, "device": "cpu"}
    if options.algorithm == "sac":
        own = {"train_freq": 4, "gradient_steps": 2, "learning_starts": 1000, "policy_kwargs": {"net_arch": [64, 64]}}
        agent = library.SAC("MlpPolicy", env, gamma=0.98, **common, **own)
    else:
        agent = library.PPO("MlpPolicy", env, gamma=0.95, n_steps=2048, **common)
    with progress_bar(f"{options.algorithm} in the dream", steps, "step") as bar:

        def after_step(*_: Any) -> bool:
            bar.update(agent.num_timesteps - bar.n)
            if agent.ep_info_buffer:
                mean = np.mean([episode["r"] for episode in agent.ep_info_buffer])
                bar.set_postfix_str(f"mean return {mean:.1f}", refresh=False)
            return True

        agent.learn(steps, callback=after_step)
    return agent


if __name__ == "__main__":
    run_script(main, Options, __doc__)

"""The project's Gymnasium environments by their ids; what makes one is loaded when it is made."""

import gymnasium

gymnasium.register(
    "worldmodel/Pendulum-v0",
    "worldmodel.worlds.pendulum.environment:PendulumEnv",
    max_episode_steps=200,
)
gymnasium.register(
    "worldmodel/Dream-v0",
    "worldmodel.planning.dream:DreamEnv",
    vector_entry_point="worldmodel.planning.dream:DreamVectorEnv",
)

"""The project's Gymnasium environments are known by their ids, and cost nothing until they are made."""

import subprocess
import sys

import pytest

KNOWN = "assert {'worldmodel/Pendulum-v0', 'worldmodel/Dream-v0'} <= set(gymnasium.registry)"


@pytest.mark.parametrize(
    "lines",
    [
        "import gymnasium, worldmodel, sys; assert 'jax' not in sys.modules",
        "import worldmodel, gymnasium; worldmodel.load",
        "import gymnasium; gymnasium.make('worldmodel.worlds.registered:worldmodel/Pendulum-v0')",
    ],
)
def test_importing_the_package_registers_them(lines: str):
    result = subprocess.run([sys.executable, "-c", f"{lines}\n{KNOWN}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_importing_the_package_alone_loads_no_gymnasium():
    lines = "import worldmodel, sys; assert not {'gymnasium', 'numpy', 'jax'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0

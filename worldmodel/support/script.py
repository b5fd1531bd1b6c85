"""What every script does around its main function: parse, set JAX up, and turn a user's mistake into one line.

Nothing heavy is imported here, and scripts import JAX inside their main, so that --help answers at once.
"""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tyro

from worldmodel.support.catalogue import Catalogue
from worldmodel.support.files import UserError
from worldmodel.support.settings import SEED_FOLDER, read_options

Options = TypeVar("Options")

COMPILE_QUICKLY = "--xla_cpu_use_fusion_emitters=false"
"""XLA's flag for its older way to fuse loops on a CPU: a third less to compile, programs 1 to 3% slower."""
SEED_CONFIGS = f"{SEED_FOLDER}[0-9]*/config.json"
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def run_script(
    main: Callable[[Any], int | None],
    options: type | Callable[[], Any],
    description: str | None,
    arguments: list[str] | None = None,
    name: str | None = None,
) -> None:
    """Parse the command line (or `arguments` of a command called `name`) into `options` and call `main` with them; exit
    with its status.

    `options` is a dataclass, or a function that gives an instance whose values are the defaults. With --resume the
    options that are not on the line are those of the run. A UserError becomes one line on stderr and exit status 2.
    """
    set_up_compiler()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        default = options() if inspect.isfunction(options) else None
        kind: Any = options if default is None else type(default)
        folder = option_given(arguments, "--out")
        if "--resume" in arguments and folder is not None:
            default = saved_options(kind, Path(folder)) or default
            if default is not None and option_given(arguments, "--log") is not None:
                default = dataclasses.replace(default, log=())  # to which tyro adds what is on the line
        status = main(tyro.cli(kind, prog=name, description=description, args=arguments, default=default)) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt as stop:
        print(": ".join(["interrupted", *map(str, stop.args)]), file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


def saved_options(kind: type[Options], folder: Path) -> Options | None:
    """The options that the run in a folder was started with, or the runs of several seeds in it; None where there is
    no run."""
    if (folder / "config.json").is_file():
        return read_options(folder, kind)
    seeds = sorted(int(path.parent.name[len(SEED_FOLDER) :]) for path in folder.glob(SEED_CONFIGS))
    if not seeds:
        return None
    first: Any = read_options(folder / f"{SEED_FOLDER}{seeds[0]}", kind)
    return dataclasses.replace(first, out=folder, seed=seeds[0], seeds=len(seeds))


def run_chosen(
    main: Callable[[Any], int | None], options: Any, catalogue: Catalogue, default: str, description: str | None
) -> None:
    """`run_script` with the generic dataclass `options` of what the line chooses of a catalogue, by an option of the
    name of its kind (--world, --planner); the description lists all that there are."""
    try:
        kind = catalogue.options(option_given(sys.argv[1:], f"--{catalogue.kind}") or default)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    run_script(main, options[kind], f"{description}\n\n{catalogue.kind.capitalize()}s:\n{catalogue.table()}")


def option_given(arguments: list[str], option: str) -> str | None:
    """What a command line says of an option such as "--out"."""
    for position, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == option:
            return value or "".join(arguments[position + 1 : position + 2])
    return None


def set_up_compiler() -> None:
    """Before JAX is loaded: compile quickly, and keep what is compiled between processes, on this machine;
    $JAX_COMPILATION_CACHE_DIR chooses where, and $XLA_FLAGS has the last word."""
    flags = os.environ.get("XLA_FLAGS", "")
    if COMPILE_QUICKLY not in flags:
        os.environ["XLA_FLAGS"] = f"{COMPILE_QUICKLY} {flags}".rstrip()
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "worldmodel" / "jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

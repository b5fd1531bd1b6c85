"""Files that are written whole or not at all, and the one error that a user is meant to read."""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


class UserError(Exception):
    """Something that the user gave is wrong. The message is one line that says what and where."""


class DamagedError(UserError):
    """A file of a run is torn or corrupted."""


class Diverged(UserError):
    """A training's loss or gradient is no longer a number."""


UNFINISHED = ".unfinished."
"""begins the name of a file that is being written; one that stays belongs to a process that was killed"""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and leaves no trace if it fails.

    Raises UserError when the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name}.")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
        raise


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, all of them whole or none at all. Raises UserError when one cannot be written."""
    with contextlib.ExitStack() as stack:
        for path, content in contents.items():
            file = stack.enter_context(atomic_write(path))
            file.write(content)
            file.flush()


def require_writable(path: Path) -> None:
    """Raise UserError when a file at `path` could not be written. Leaves nothing behind but its parent folders."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def require_new(path: Path) -> None:
    """Raise UserError when there is something at `path`, or nothing could be written there."""
    if path.exists():
        raise UserError(f"{path}: exists already; it is not overwritten")
    require_writable(path)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that takes the place of `path` when the block ends well, and leaves no trace if it fails.

    `path` must not be there, or be empty. Raises UserError when the place cannot be written.
    """
    require_writable(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_new(folder: Path, before: list[Path] | None) -> None:
    """Remove from a folder what was not in it before, and all of it where there was no such folder (None). What resists
    stays."""
    for path in set(folder.iterdir() if folder.exists() else ()).difference(before or ()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if before is None:
        with contextlib.suppress(OSError):
            folder.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people, whole or not at all; what is not a finite number becomes null."""
    with atomic_write(path) as file:
        file.write(json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A file of JSON for people; what is not a finite number becomes null."""
    return (json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n").encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Raises UserError when the file is not there or is not JSON."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # not JSON, or not text
        raise UserError(f"{path}: not JSON") from None

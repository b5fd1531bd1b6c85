"""metrics.jsonl of a run folder: one JSON object a line, with the optimiser "step" that it is of."""

import json
import math
from pathlib import Path
from typing import Any

from worldmodel.support.files import DamagedError, UserError, atomic_write


def append_line(path: Path, metrics: dict[str, Any]) -> None:
    """Add a line. Raises UserError when it cannot be written."""
    try:
        with path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines, none where there is no file. A last one without its end is passed over: it is being written, or was
    when its training was killed. Raises DamagedError for another that is no metrics."""
    if not path.exists():
        return []
    *whole, last = path.read_text(errors="replace").split("\n")
    lines = []
    for number, text in enumerate(whole, 1):
        line = _parsed(text)
        if line is None:
            raise DamagedError(f"{path}: line {number} is damaged")
        lines.append(line)
    unended = _parsed(last)
    return lines if unended is None else [*lines, unended]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and type(line.get("step")) is int else None


def replace_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write these lines, all of them or none, instead of those that are there."""
    with atomic_write(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def training_seconds(lines: list[dict[str, Any]]) -> float:
    """How long the updates of a training took, by their rates; NaN where no line has one."""
    took, before = 0.0, 0
    for line in lines:
        if line.get("steps_per_second", 0) > 0:
            took += (line["step"] - before) / line["steps_per_second"]
        before = line["step"]
    return took or math.nan

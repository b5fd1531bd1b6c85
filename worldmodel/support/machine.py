"""What a benchmark was run on."""

import importlib.metadata
import os
from pathlib import Path


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    cores = len(os.sched_getaffinity(0))
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{cores} core{'s' * (cores > 1)} of {names[0] if names else 'an unnamed processor'}"


def versions(*packages: str) -> dict[str, str | None]:
    """Of each package; None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found

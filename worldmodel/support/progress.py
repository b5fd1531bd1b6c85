"""The one progress bar."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(name: str, total: int, unit: str, done: int = 0) -> Iterator[tqdm]:
    """A bar on stderr; where that is a file, a line now and then instead of many a second."""
    seldom = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, initial=done, desc=name, unit=unit, mininterval=seldom) as bar:
        yield bar

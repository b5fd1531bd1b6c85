"""Check that the figures in README, in the pages of docs/ and in the pages of results are those of results/*.json."""

import dataclasses
from pathlib import Path

from worldmodel.support.files import UserError
from worldmodel.support.script import run_script

REPOSITORY = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Options:
    write: bool = False
    """Write the marked blocks anew, in place of saying which are wrong."""
    demo: Path | None = None
    """First take the figures of this finished demo, runs/demo, as results/demo.json."""


def main(options: Options) -> None:
    from baselines.study.figures import PAGES, check_made, check_page, demo_figures
    from worldmodel.support.files import write_json

    results = REPOSITORY / "results"
    if options.demo is not None:
        write_json(results / "demo.json", demo_figures(options.demo))
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    wrong = [line for page in pages for line in check_page(page, results, options.write)]
    if not options.write:
        wrong += [line for name in PAGES for line in check_made(name, REPOSITORY)]
        for line in wrong:
            print(line)
        if wrong:
            raise UserError(f"{len(wrong)} of these are wrong; --write writes marked blocks anew")
    done = f"{len(wrong)} blocks written anew" if options.write else "every marked figure is right"
    print(f"{len(pages)} pages: {done}")


if __name__ == "__main__":
    run_script(main, Options, __doc__)

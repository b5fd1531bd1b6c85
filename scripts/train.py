"""Train a model on frames and actions: the static VAE, the DVBF, its rivals, or one that your own package registers.

    python scripts/train.py MODEL --data DATA --out RUN

python scripts/train.py MODEL --help explains every option of a model.
"""

import sys

from worldmodel.models.catalogue import MODELS
from worldmodel.support.script import INTERRUPTED, run_script
from worldmodel.training.options import TrainingOptions, with_defaults


def main(name: str, options: TrainingOptions) -> int:
    options.check()  # before JAX is loaded

    from worldmodel.training.cluster import join

    join(options)

    from worldmodel.training.session import train

    status = train(name, options)
    return INTERRUPTED if status is None else status


if __name__ == "__main__":
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(f"{__doc__}\nModels:\n\n{MODELS.table()}")
        sys.exit()
    about = MODELS.sentence(name) if name in MODELS.names() else None
    run_script(lambda options: main(name, options), lambda: with_defaults(name), about, arguments, f"train.py {name}")

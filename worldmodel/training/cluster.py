"""One training over several processes, on one machine or many: JAX's own distributed runtime.

Every process runs the same script on the same files; all devices of all processes become one mesh (seeds.py). The first
process alone writes: run folder, metrics, checkpoints, pictures.
"""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from worldmodel.support.files import UserError
from worldmodel.training.options import TrainingOptions


def join(options: TrainingOptions) -> None:
    """Become one of several processes, if the options say so; to be called before JAX computes anything.

    Raises UserError when the others cannot be found.
    """
    if options.coordinator is None:
        return
    # JAX would take SIGTERM for itself; here it saves and stops
    os.environ.setdefault("JAX_ENABLE_PREEMPTION_SERVICE", "0")
    try:
        if options.coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(options.coordinator, options.processes, options.process_id)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--coordinator {options.coordinator}: cannot be joined: {reason}") from None
    if not is_writer():
        os.environ["TQDM_DISABLE"] = "1"  # one progress bar is enough


def is_writer() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Let no process go on before all have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; the same in all."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())

"""The start of a script: the folders of this repository, and signals that wait until the script can answer them.

This imports nothing of the package, whose own imports take seconds.
"""

import signal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"


def hold_signals() -> None:
    """Hold back signals to stop (`preemption.SIGNALS`) until the imports are done and `cli.script` answers them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})

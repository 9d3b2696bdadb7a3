"""The start of a script: the folders of this repository, and signals that wait until the script can answer them.

This imports nothing of the package, whose own imports take seconds.
"""

import signal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"


def hold_signals() -> None:
    """Keep signals to stop waiting during the imports that follow; `cli.script` answers them (`preemption.SIGNALS`)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})

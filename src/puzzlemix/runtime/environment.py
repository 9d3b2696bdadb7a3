"""The environment of a run, for its metadata: versions, git commit, machine."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puzzlemix.runtime import distributed


def environment() -> dict[str, Any]:
    """The versions, the git commit and the machine that this process runs on."""
    return {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "git_commit": git_commit(),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "processes": distributed.world_size(),
        },
    }


def processor() -> str:
    """The processor's model on Linux; elsewhere its family."""
    with suppress(OSError):
        if named := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return named[1]
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of this code, with `-dirty` if files differ from it; None without git, or outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None

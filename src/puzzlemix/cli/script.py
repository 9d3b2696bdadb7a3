"""What every script of `scripts/` shares: Hydra, help, and errors of one line."""

from __future__ import annotations

import atexit
import gc
import inspect
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import hydra
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from puzzlemix.cli import jobs, overrides
from puzzlemix.cli.sweep import Failure, failure_of, goes_on_after_errors
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.errors import InputError, PreemptedError, RunError, error_line, nearest, printable

ASKED_TO_STOP = os.EX_TEMPFAIL  # 75, the status of a program that a signal stopped
LOST_A_PROCESS = (
    "another process of this run has ended, so this one cannot go on. The same command goes on from the last "
    "checkpoint; torchrun --max-restarts=N does so by itself"
)
FIRST_TELLS_S = 10.0
GC_OBJECTS = 100_000  # made since the last collection, that is


def script(
    config_name: str, check: Callable[[DictConfig], Path | None] = lambda config: None
) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make `main(config)` a command that reads `configs/<config_name>.yaml` and overrides from the command line.

    `InputError` and `RunError` end it with one line on stderr and status 1; anything else is a bug and shows its
    traceback. In a sweep (-m) they end that run alone. A signal to stop ends it with one line and status 75: see
    `preemption`. --help shows `main`'s file's docstring and the config's file.

    Args:
        config_name: of the file.
        check: called with the config of each run of a sweep before the first begins; raises `InputError`, and returns
            the run's folder, if it has one for itself.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        configs = Path(inspect.getfile(main)).resolve().parents[1] / "configs"

        def job(config: DictConfig) -> Failure | None:
            with stopped_by_signals() if jobs.is_job() else nullcontext():  # elsewhere `command` does it
                try:
                    jobs.join_tasks()
                    main(config)
                except Exception as error:
                    if distributed.is_lost_process(error):
                        error = RunError(f"process {distributed.rank()}: {LOST_A_PROCESS}")
                    if goes_on_after_errors():
                        return failure_of(error)
                    if not isinstance(error, InputError | RunError):
                        raise
                    _fail(error)
                return None

        job.check = check

        @stopped_by_signals()
        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us instead of printing them over many lines
            _collect_seldom()
            if _asks_for_help():
                return _print_help(main.__globals__["__doc__"], configs, config_name)
            sys.argv[1:] = overrides.as_hydra_reads(sys.argv[1:])
            try:
                overrides.check(configs, config_name, sys.argv[1:])
                hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(job)()
            except KeyboardInterrupt:
                sys.stderr.write("interrupted\n")
                sys.exit(128 + signal.SIGINT)
            except Exception as error:
                if (caused := error_of_user(error)) is None:
                    raise
                _fail(caused)

        return command

    return decorate


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """End the program with one line and status 75 where a signal asks it to stop: see `preemption`."""
    try:
        with preemption.answered():
            yield
    except PreemptedError as stop:
        if os.environ.get("RANK", "0") == "0":  # torchrun's: the processes may not have joined yet
            print(stop)
        preemption.hand_on()
        sys.exit(ASKED_TO_STOP)


def plain_script(main: Callable[[], None]) -> Callable[[], None]:
    """Make `main()` a command that reads its arguments itself, with the errors that `script` has."""

    def command() -> None:
        try:
            main()
        except (InputError, RunError) as error:
            sys.exit(error_line(error))

    return command


def commands(default: Callable[[], None], others: Mapping[str, Callable[[], None]]) -> Callable[[], None]:
    """One command of several, by its first argument: `runs` of `others`, or `default` where that is an override."""

    def command() -> None:
        first = next(iter(sys.argv[1:]), "")
        if first in others:
            del sys.argv[1]
            others[first]()
        elif first and not first.startswith("-") and "=" not in first:
            _fail(InputError(f"unknown command '{first}'{nearest(first, others)}"))
        else:
            default()

    return command


def warn(problems: Iterable[str]) -> None:
    """A line each on stderr."""
    for problem in problems:
        sys.stderr.write(f"warning: {printable(problem)}\n")


def _collect_seldom() -> None:
    """Spare the seconds in which Python's garbage collector goes through all that is imported, also at the end."""
    gc.set_threshold(GC_OBJECTS)
    atexit.register(gc.freeze)


def _asks_for_help() -> bool:
    return bool({"-h", "--help"} & set(sys.argv[1:]))


def _print_help(documentation: str, configs: Path, config_name: str) -> None:
    """What a script does, its config as it is written, which explains every key, and the options of its groups."""
    path = configs / f"{config_name}.yaml"
    print(documentation, path.read_text(), sep="\n")
    for group in overrides.default_options(path):
        print(f"{group}: {', '.join(overrides.options(configs / group))}")
    print("\n--cfg job shows the config that a command line comes to, and does nothing else.")


def error_of_user(error: Exception) -> InputError | RunError | None:
    """The error to show for one that input, Hydra or a cluster has caused, in the user's words; None for a bug."""
    match error:
        case InputError() | RunError():
            return error
        case OverrideParseException():
            shown = f"\"{overrides.key_of(error.override)}='...'\""
            return InputError(f"{error.override}: quote a value with spaces or signs twice, {shown}")
        case ConfigCompositionException():
            several = re.match(r"Ambiguous value for argument '(.*)'", str(error))
            return InputError(f"{several[1]} has several values: add -m, for a run each" if several else str(error))
        case HydraException() | OmegaConfBaseException():
            return InputError(str(error))
        case RuntimeError():
            line = jobs.lost_job(error)
            return None if line is None else RunError(line)
    return None


def _fail(error: Exception) -> None:
    if jobs.is_job():
        raise error  # which Hydra brings to the launcher
    same_on_this_machine = isinstance(error, InputError)
    if same_on_this_machine and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(FIRST_TELLS_S)  # torchrun ends all with whoever ends first, and that has to be the one that tells
        sys.exit(1)
    sys.exit(error_line(error))

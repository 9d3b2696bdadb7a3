"""The common part of all scripts in `scripts/`: Hydra, help, signals to stop, and errors of one line."""

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
from typing import NoReturn

import hydra
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from puzzlemix.cli import jobs, overrides, sweep
from puzzlemix.runtime import distributed, preemption
from puzzlemix.runtime.errors import InputError, PreemptedError, RunError, error_line, nearest, printable
from puzzlemix.training.settings import key_of

ASKED_TO_STOP = os.EX_TEMPFAIL  # 75, the status of a program that a signal has stopped
LOST_A_PROCESS = (
    "another process of this run has ended, so this one cannot go on. The same command goes on from the last "
    "checkpoint; torchrun --max-restarts=N does so automatically"
)
WAIT_FOR_FIRST_S = 10.0


def script(
    config_name: str, check: Callable[[DictConfig], Path | None] = lambda config: None
) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make `main(config)` a command that reads `configs/<config_name>.yaml` and overrides from the command line.

    `InputError` and `RunError` end the command with one line on stderr and status 1; any other error is a bug and shows
    its traceback. In a sweep (-m) an error ends only its run. A signal to stop ends the command with one line and
    status 75: see `preemption`. --help shows the docstring of `main`'s file, and the config's file.

    Args:
        config_name: the name of the file.
        check: called with the config of each run of a sweep before the first begins. It raises `InputError` if a value
            cannot work, and returns the run's folder, if it has one of its own.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        configs = Path(inspect.getfile(main)).resolve().parents[1] / "configs"

        def run(config: DictConfig) -> str | None:
            with _stopped_by_signals() if jobs.is_job() else nullcontext():  # elsewhere `command` does it
                try:
                    jobs.join_tasks()
                    main(config)
                except Exception as error:
                    if sweep.goes_on_after_errors():
                        return sweep.note_failure(error)
                    _end(error)
                return None

        run.check = check

        @_stopped_by_signals()
        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them over many lines
            _collect_seldom()
            if {"-h", "--help"} & set(sys.argv[1:]):
                return _print_help(main.__globals__["__doc__"], configs, config_name)
            sys.argv[1:] = overrides.complete(sys.argv[1:])
            try:
                overrides.check(configs, config_name, sys.argv[1:])
                hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(run)()
            except KeyboardInterrupt:
                sys.stderr.write("interrupted\n")
                sys.exit(128 + signal.SIGINT)
            except Exception as error:
                _end(error)

        return command

    return decorate


def plain_script(main: Callable[[], None]) -> Callable[[], None]:
    """Make `main()`, which reads its arguments itself, a command with the errors of `script`."""

    def command() -> None:
        try:
            main()
        except (InputError, RunError) as error:
            sys.exit(error_line(error))

    return command


def commands(default: Callable[[], None], others: Mapping[str, Callable[[], None]]) -> Callable[[], None]:
    """Combine several commands into one: its first argument names one of `others`, or is an override for `default`."""

    def command() -> None:
        first = next(iter(sys.argv[1:]), "")
        if first in others:
            del sys.argv[1]
            others[first]()
        elif first and not first.startswith("-") and "=" not in first:
            _end(InputError(f"unknown command '{first}'{nearest(first, others)}"))
        else:
            default()

    return command


def warn(problems: Iterable[str]) -> None:
    """Write a line for each problem to stderr."""
    for problem in problems:
        sys.stderr.write(f"warning: {printable(problem)}\n")


def error_of_user(error: Exception) -> InputError | RunError | None:
    """The error to show if input, Hydra, a cluster or another process has caused this one; None if it is a bug."""
    if distributed.is_lost_process(error):
        return RunError(f"process {distributed.rank()}: {LOST_A_PROCESS}")
    match error:
        case InputError() | RunError():
            return error
        case OverrideParseException():
            shown = f"\"{key_of(error.override)}='...'\""
            return InputError(f"{error.override}: quote a value with spaces or special characters twice, {shown}")
        case ConfigCompositionException() if several := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
            return InputError(f"{several[1]} has several values: add -m to start a run for each")
        case HydraException() | OmegaConfBaseException():
            return InputError(str(error))
        case RuntimeError() if line := jobs.lost_job(error):
            return RunError(line)
    return None


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """End the program with one line and status 75 if a signal asks it to stop: see `preemption`."""
    try:
        with preemption.answered():
            yield
    except PreemptedError as stop:
        if os.environ.get("RANK", "0") == "0":  # torchrun's rank, since the processes may not have joined yet
            print(stop)
        preemption.hand_on()
        sys.exit(ASKED_TO_STOP)


def _end(error: Exception) -> NoReturn:
    """End the program with one line about a user's error; raise a bug unchanged."""
    shown = error_of_user(error)
    if shown is None or jobs.is_job():
        raise shown or error  # Hydra sends it from a job to the launcher
    if isinstance(shown, InputError) and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(WAIT_FOR_FIRST_S)  # the first process of a machine prints the error, and torchrun ends all with it
        sys.exit(1)
    sys.exit(error_line(shown))


def _collect_seldom() -> None:
    """Save the seconds that Python's garbage collector spends on imported objects, in the program and at its end."""
    gc.set_threshold(100_000)  # new objects between two collections
    atexit.register(gc.freeze)


def _print_help(documentation: str, configs: Path, config_name: str) -> None:
    """Print a script's docstring, its config's file, which explains every key, and the options of its groups."""
    path = configs / f"{config_name}.yaml"
    print(documentation, path.read_text(), sep="\n")
    for group in overrides.default_options(path):
        print(f"{group}: {', '.join(overrides.options(configs / group))}")
    print("\n--cfg job shows the config that a command line gives, and does nothing else.")

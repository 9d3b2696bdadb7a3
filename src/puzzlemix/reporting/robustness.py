"""What is shown of robustness: the evaluations of runs as a table, what to doubt below it, and one of them in lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from puzzlemix.evaluation.self_checks import attack_name
from puzzlemix.reporting.measures import ATTACKED, CORRUPTED15, CORRUPTED19, PGD20X5_EPS8
from puzzlemix.reporting.runs import Row, Run, by_name
from puzzlemix.reporting.tables import Table, spread

AUTO_ATTACK_EPS_255 = 8
HEADER = (
    *("run", "seeds", "clean %", "training images %", *(measure.title for measure in (*ATTACKED, PGD20X5_EPS8))),
    *(f"AutoAttack {AUTO_ATTACK_EPS_255}/255 %", CORRUPTED19.title, CORRUPTED15.title, "ECE %", "NLL", "failed checks"),
)

Evaluation = Mapping[str, Any]  # of `evaluate.py`


def robustness_table(name: str, rows: Mapping[str, Row]) -> Table | None:
    """Errors of the last epochs' networks, mean and standard deviation over seeds; None where none was evaluated.

    A column of what none of them was evaluated on is left out.

    Args:
        name: of the table that the rows stand in.
        rows: by what they are called there.
    """
    evaluated = {
        label: row._replace(runs=runs)
        for label, row in rows.items()
        if (runs := [run for run in row.finished if run.robustness])
    }
    if not evaluated:
        return None
    runs = {name: run.robustness for name, run in by_name(evaluated).items()}
    cells = [_cells(label, row.runs) for label, row in evaluated.items()]
    filled = [column for column, values in enumerate(zip(*cells, strict=True)) if set(values) != {"-"}]
    header, *cells = (tuple(row[column] for column in filled) for row in (HEADER, *cells))
    notes, warnings = _with_names(runs, notes_on_evaluation), _with_names(runs, failed_checks)
    return Table(f"{name}, robustness of the last epoch", header, cells, notes, warnings)


def _with_names(runs: Mapping[str, Evaluation], lines_on: Callable[[Evaluation], Iterable[str]]) -> list[str]:
    """Lines on the evaluations of some runs, each once, with the names of those that it is on."""
    names = defaultdict(list)
    for name, results in runs.items():
        for line in lines_on(results):
            names[line].append(name)
    return [f"{'all' if len(some) == len(runs) else ', '.join(some)}: {line}" for line, some in names.items()]


def notes_on_evaluation(results: Evaluation) -> Iterator[str]:
    """What an evaluation is on, where that is not all test images or the whole released set of corruptions."""
    if auto_attack := results.get("auto_attack"):
        yield f"AutoAttack of {auto_attack['images']} test images"
    if (corruptions := results.get("corruptions")) and corruptions["missing"]:
        yield f"{corruptions['folder']} lacks {', '.join(corruptions['missing'])}"


def failed_checks(results: Evaluation) -> list[str]:
    """A line on each self-check of an evaluation that fired."""
    fired = (check for check in results["self_checks"] if check["fired"])
    return [f"self-check failed: {check['check']}: {check['found']}" for check in fired]


def summary(results: Evaluation) -> dict[str, str]:
    """An evaluation in lines: what was measured, and the number."""
    lines = {"clean": f"{results['top1_error']:.2f} %", "clean, of five answers": f"{results['top5_error']:.2f} %"}
    if "train_error" in results:
        lines["training images"] = f"{results['train_error']:.2f} %"
    for name, settings in results["attacks"].items():
        lines[attack_name(settings)] = f"{results[f'{name}_error']:.2f} %"
    if auto_attack := results.get("auto_attack"):
        after = ", ".join(f"{attack} {error:.2f}" for attack, error in auto_attack["after"].items())
        on = f"of {auto_attack['images']} images, clean {auto_attack['clean']:.2f}, after {after}"
        lines[f"AutoAttack {auto_attack['eps_255']:g}/255"] = f"{auto_attack['error']:.2f} % ({on})"
    if corruptions := results.get("corruptions"):
        for count in (19, 15):
            mean = corruptions[f"error_of_{count}"]
            lines[f"{count} corruptions"] = "-" if mean is None else f"{mean:.2f} %"
    lines["expected calibration error"] = f"{results['calibration']['ece']:.2f} %"
    lines["negative log-likelihood"] = f"{results['calibration']['nll']:.3f}"
    return lines


def _cells(label: str, runs: Sequence[Run]) -> tuple[str, ...]:
    return (
        label,
        str(len(runs)),
        _spread(run.robustness["top1_error"] for run in runs),
        _spread(run.robustness.get("train_error") for run in runs),
        *(_spread(run.error(measure) for run in runs) for measure in (*ATTACKED, PGD20X5_EPS8)),
        _spread(_error_under_auto_attack(run) for run in runs),
        *(_spread(run.error(measure) for run in runs) for measure in (CORRUPTED19, CORRUPTED15)),
        _spread(run.robustness["calibration"]["ece"] for run in runs),
        _spread(run.robustness["calibration"]["nll"] for run in runs),
        _failed_of_measured(runs),
    )


def _spread(values: Iterable[float | None]) -> str:
    given = list(values)
    return spread([value for value in given if value is not None], of=len(given))


def _failed_of_measured(runs: Sequence[Run]) -> str:
    """How many fired, of those that something was measured for."""
    checks = [check for run in runs for check in run.robustness["self_checks"] if check["found"] is not None]
    return f"{sum(check['fired'] for check in checks)} of {len(checks)}"


def _error_under_auto_attack(run: Run) -> float | None:
    results = run.robustness.get("auto_attack", {})
    return results.get("error") if results.get("eps_255") == AUTO_ATTACK_EPS_255 else None

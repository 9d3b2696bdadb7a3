"""Files of a run that anybody may have changed: the run is shown or named in a line, and all other runs are shown."""

import copy
import datetime
import functools
import json
import operator
import shutil
from contextlib import suppress

import pytest
import yaml
from made_runs import PAPER, change, results_of

from puzzlemix.reporting.compare import tables_named
from puzzlemix.reporting.run_tables import COLUMNS, listing
from puzzlemix.reporting.runs import find_runs, read_run
from puzzlemix.reporting.tables import FORMATS
from puzzlemix.training.log import STATISTICS
from puzzlemix.training.settings import fingerprint

PUBLISHED = PAPER.parent / "published_runs" / "cifar100_20classes_100images_preactresnet18_16channels_puzzlemix"
LOADERS = {"config.yaml": yaml.safe_load, **dict.fromkeys(("metrics.json", "robustness.json", "log.jsonl"), json.loads)}


@pytest.fixture
def folder(tmp_path):
    """The folder of a run to damage, with everything that an evaluation may hold, next to another seed's."""
    folders = [shutil.copytree(PUBLISHED / f"seed{seed}", tmp_path / "runs" / f"seed{seed}") for seed in (0, 1)]
    for run in folders:  # each of one epoch, so that its log is short
        change(run / "robustness.json", epochs=1)
        recipe = yaml.safe_load((run / "config.yaml").read_text())["recipe"]
        change(run / "config.yaml", recipe={**recipe, "epochs": 1})
        change(run / "metrics.json", **{key: dict.fromkeys(STATISTICS, 50.0) for key in ("top1_error", "top5_error")})
    evaluation = folders[0] / "robustness.json"
    results = json.loads(evaluation.read_text())
    errors = {"fog": [10.0, 20.0, 30.0, 40.0, 50.0]}
    means = {"error_of_19": None, "error_of_15": None}
    results["corruptions"] = {"folder": "fog", "errors": errors, "missing": ["snow"], **means}
    after = dict.fromkeys(("apgd-ce", "apgd-t", "fab-t", "square"), 90.0)
    results["auto_attack"] = {"eps_255": 8, "images": 50, "clean": 4.0, "error": 90.0, "after": after}
    results["attacks"] = {"fgsm8": {"eps_255": 8, "step_255": 8, "steps": 1, "random_start": False}}
    evaluation.write_text(json.dumps(results | {"fgsm8_error": 90.0}))
    return folders[0]


def compare(folder):
    """All text that is shown of two runs: of the second in every case, of the first or why it is not shown."""
    runs, problems = find_runs(folder.parent)
    assert folder.with_name("seed1") in [run.folder for run in runs]
    assert folder in [run.folder for run in runs] or any(str(folder) in problem for problem in problems)
    tables = [listing(runs, {}, sort) for sort in COLUMNS]
    tables += tables_named(results_of(folder.parent), "*") if runs else []
    text = "".join(as_text(tables) for as_text in FORMATS.values())
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    return runs, problems


def with_values(name, work):
    """A damage: `work` changes the values of a file."""

    def damage(folder):
        values = LOADERS[name]((folder / name).read_text())
        work(values)
        (folder / name).write_text((yaml.safe_dump if name == "config.yaml" else json.dumps)(values))

    return damage


def with_text(name, text):
    return lambda folder: (folder / name).write_text(text)


DAMAGE = {
    "config, nested brackets": with_text("config.yaml", "[" * 1000 + "]" * 1000),
    "config, an alias of itself": with_values("config.yaml", lambda config: config["mixup"].update(a=config["mixup"])),
    "config, an empty number": with_text("config.yaml", "seed: !!int ''"),
    "config, choices": with_values("config.yaml", lambda config: config["choices"].update(mixup=["a"])),
    "config, setting": with_values("config.yaml", lambda config: config["recipe"].update(lr=datetime.date(2026, 1, 1))),
    "metrics, nested brackets": with_text("metrics.json", "[" * 100_000),
    "metrics, error": with_values("metrics.json", lambda metrics: metrics["top1_error"].update(last=10**400)),
    "metrics, versions": with_values("metrics.json", lambda metrics: metrics.update(versions=["torch"])),
    "metrics, step": with_values("metrics.json", lambda metrics: metrics["attacks"]["fgsm8"].pop("step_255")),
    "metrics, processes": with_values("metrics.json", lambda metrics: metrics["machine"].update(processes=[1])),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_run_that_cannot_be_used_is_named_and_the_other_is_shown(folder, damage):
    damage(folder)
    runs, (problem,) = compare(folder)
    assert len(runs) == 1
    assert str(folder) in problem
    assert len(problem) < 400


REMOVED = object()
VALUES = (
    *(REMOVED, None, [], {}, "", True, -1, 1e308, float("nan")),
    *(["a"], {"a": 1}, "\x1b[31m\r\u202e\0\n|"),
)


def paths_in(value, path=()):
    """Every place in nested data; of a list the first alone."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in paths_in(inner, (*path, key)))]


def mutated(values):
    """Nested data with one of its values replaced or removed: each by two of `VALUES`, which take turns."""
    for place, path in enumerate(2 * paths_in(values)[1:]):
        changed, value = copy.deepcopy(values), VALUES[place % len(VALUES)]
        holder = functools.reduce(operator.getitem, path[:-1], changed)
        if value is REMOVED:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
        yield path, changed


@pytest.mark.parametrize("name", LOADERS)
def test_no_value_of_a_file_stops_the_comparison(folder, name):
    metrics = json.loads((folder / "metrics.json").read_text())
    for path, changed in mutated(LOADERS[name]((folder / name).read_text())):
        (folder / name).write_text((yaml.safe_dump if name == "config.yaml" else json.dumps)(changed))
        if name == "config.yaml":  # so that results are refused for nothing else
            own = {key: changed.get(key) for key in ("name", "seed")}
            with suppress(KeyError, TypeError, OverflowError):
                own |= {"epochs": changed["recipe"]["epochs"], "config_hash": fingerprint(changed)}
            (folder / "metrics.json").write_text(json.dumps(metrics | own))
        try:
            compare(folder)
        except Exception as error:
            raise AssertionError(f"{name}: {path}") from error


def test_text_from_files_reaches_the_terminal_without_control_characters(folder, script, capsys):
    """In tables, in their notes, in lists of runs and in warnings, which name folders and values."""
    commands = "\x1b[2J\r\u202e\x07"
    with_values("metrics.json", lambda metrics: metrics["machine"].update(processor=commands))(folder)
    with_values("robustness.json", lambda results: results["corruptions"].update(missing=[commands]))(folder)
    failed = shutil.copytree(folder, folder.with_name("seed2"))
    with_values("config.yaml", lambda config: config.update(seed=2, name=commands, table=commands))(failed)
    (failed / "metrics.json").unlink()
    (failed / "failed.txt").write_text(commands)
    damaged = shutil.copytree(folder, folder.parent / commands / "seed3")
    (damaged / "config.yaml").write_text("{")
    wrong = shutil.copytree(folder, folder.with_name("seed4"))
    with_values("metrics.json", lambda metrics: metrics.update(name=commands))(wrong)
    script("compare", f"results_dir={folder.parent}")
    script("compare", "runs", f"results_dir={folder.parent}")
    shown = capsys.readouterr()
    signs = set(shown.out + shown.err)
    assert all(sign.isprintable() for sign in signs - {"\n"})
    assert "?[2J???" in shown.out
    assert shown.err.count("?[2J ??") == 4  # the damaged file and the wrong name, by each of the two commands


@pytest.mark.parametrize("number", ["NaN", "1e400"])
def test_what_is_no_finite_number_in_a_log_counts_as_missing(folder, number):
    log = folder / "log.jsonl"
    first = json.loads(log.read_text())
    second = {**first, "top1_error": "NUMBER", "seconds": {**first["seconds"], "total": "NUMBER"}}
    log.write_text("\n".join(map(json.dumps, (first, second))).replace('"NUMBER"', number))
    run = read_run(folder)
    assert len(run.logged("top1_error")) == 1
    assert run.seconds == first["seconds"]

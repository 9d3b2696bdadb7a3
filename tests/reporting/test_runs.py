"""Runs in every state: finished, at work, left, failed, damaged; what is wrong with some is said, the rest is shown."""

import shutil
from datetime import date

import pytest
import yaml
from conftest import TINY, held_by_another_process
from made_runs import change, run_of

from puzzlemix.reporting.measures import FGSM8, PGD7_EPS8
from puzzlemix.reporting.run_tables import listing
from puzzlemix.reporting.runs import find_runs, rows_of
from puzzlemix.runtime.errors import InputError

FILTERS = ("name", "table", "method", "status", "seed")


def test_runs_that_differ_in_the_seed_alone_are_one_row(runs):
    rows = rows_of(find_runs(runs).runs)
    assert [(row.label, [run.seed for run in row.runs]) for row in rows] == [
        ("digits_preactresnet18_narrow_puzzlemix", [0, 1]),
        ("digits_preactresnet18_narrow_vanilla", [0, 1]),
    ]
    config = run_of(runs, seed=1) / "config.yaml"
    change(config, recipe={**yaml.safe_load(config.read_text())["recipe"], "lr": 0.2})
    labels = [row.label for row in rows_of(find_runs(runs).runs)]
    assert len(labels) == 3
    assert all(label.endswith("]") for label in labels[:2])  # by the beginnings of their configs' hashes


def test_an_interrupted_and_a_failed_run_are_told_from_finished_ones(runs, script):
    (run_of(runs, seed=1) / "metrics.json").unlink()
    with pytest.raises(SystemExit):
        script("train", *TINY, f"results_dir={runs}", "name=hot", "recipe.lr=1e20", "recipe.epochs=9")
    states = {(run.method, run.name == "hot", run.seed): (run.status, run.state) for run in find_runs(runs).runs}
    assert states["puzzlemix", False, 1] == ("unfinished", "2 of 2 epochs")
    status, state = states["vanilla", True, 0]
    assert status == "failed"
    assert state.startswith("error: the loss or a gradient is not finite in step")
    script("train", *TINY, f"results_dir={runs}", "name=cold", "recipe.epochs=1")
    (run,) = (run for run in find_runs(runs).runs if run.name == "cold")
    assert (run.status, run.state) == ("finished", "")


def test_a_failure_is_forgotten_when_the_run_goes_on(train, copied):
    (copied / "metrics.json").unlink()
    (copied / "failed.txt").write_text("error: no more room\n")
    train()
    assert not (copied / "failed.txt").exists()


def test_a_run_at_work_is_seen(runs):
    folder = run_of(runs)
    (folder / "metrics.json").unlink()
    with held_by_another_process(folder) as process:
        (run,) = (run for run in find_runs(runs).runs if run.folder == folder)
    assert run.status == "running"
    assert run.state.startswith(f"process {process.pid} on ")


def half_written(path):
    path.write_text(path.read_text()[:100])


DAMAGE = {
    "is damaged: delete it and start": half_written,
    "top1_error.median10 is nan, no percentage": lambda path: path.write_text(
        path.read_text().replace('"median10": ', '"median10": NaN, "was": ')
    ),
    "top1_error.median10 is 120, no perc": lambda path: change(path, top1_error={"median10": 120}),
    "config.yaml is damaged": lambda path: path.with_name("config.yaml").write_text("name: [x\n"),
    "has no config.yaml next to it": lambda path: path.with_name("config.yaml").unlink(),
    "robustness.json is damaged, or not of": lambda path: (path.parent / "robustness.json").write_text("{"),
    "repeats seed 0 of": lambda path: shutil.copytree(path.parents[1], path.parents[2] / "copy"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_what_cannot_be_used_is_named_and_the_rest_is_shown(runs, message):
    files = sorted(path for path in runs.rglob("*") if path.is_file())
    DAMAGE[message](run_of(runs) / "metrics.json")
    found = find_runs(runs)
    assert found.problems
    assert all(message in problem or "repeats seed 1" in problem for problem in found.problems)
    shown = {(run.method, run.seed) for run in found.runs}
    assert shown >= {("vanilla", 0), ("vanilla", 1), ("puzzlemix", 1)}
    assert len(shown) == len(found.runs)
    missing = [path for path in files if not path.exists()]
    assert missing in ([], [run_of(runs) / "config.yaml"])


def test_a_log_is_read_as_far_as_it_is_whole(runs):
    with open(run_of(runs) / "log.jsonl", "a") as log:
        log.write('{"epoch": 2, "train_lo')
    (run,) = (run for run in find_runs(runs).runs if run.folder == run_of(runs))
    assert [record["epoch"] for record in run.log] == [0, 1]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert find_runs(tmp_path) == ([], [])
    runs, (problem,) = find_runs(tmp_path / "nowhere")
    assert runs == []
    assert problem.endswith("nowhere is not there: give results_dir=, the folder of your runs, or train one")


def test_the_list_is_filtered_and_sorted(runs):
    (run_of(runs, "vanilla", 1) / "metrics.json").unlink()
    for seed, error in ((0, 30.0), (1, 10.0)):
        errors = dict.fromkeys(("median10", "last", "best"), error)
        change(run_of(runs, seed=seed) / "metrics.json", top1_error=errors)
    found = find_runs(runs).runs

    def shown(sort="name", descending=False, **filters):
        filters = {**dict.fromkeys(FILTERS), **filters}
        return [(row[3], row[1]) for row in listing(found, filters, sort, descending).rows]

    assert shown() == [("puzzlemix", "0"), ("puzzlemix", "1"), ("vanilla", "0"), ("vanilla", "1")]
    assert shown(method="puzzlemix", sort="error") == [("puzzlemix", "1"), ("puzzlemix", "0")]
    assert shown(sort="error", descending=True)[-1] == ("vanilla", "1")  # which has none
    assert shown(status="unfinished") == [("vanilla", "1")]
    assert shown(name="*_vanilla", seed=0) == [("vanilla", "0")]
    assert shown(status="failed") == []
    with pytest.raises(
        InputError, match="unknown table 'digits_preactresnet18'; did you mean 'digits_preactresnet18_n"
    ):
        shown(table="digits_preactresnet18")
    with pytest.raises(InputError, match="unknown method 'puzlemix'; did you mean 'puzzlemix'"):
        shown(method="puzlemix")
    with pytest.raises(InputError, match="unknown seed '7'"):
        shown(seed=7)
    with pytest.raises(InputError, match="unknown sort 'eror'; did you mean 'error'"):
        shown(sort="eror")
    with pytest.raises(InputError, match="unknown status 'done'"):
        shown(status="done")


def test_attacks_of_training_and_of_a_later_evaluation_are_found(runs, script):
    checkpoint = run_of(runs) / "checkpoints" / "last.pt"
    script("evaluate", f"checkpoint={checkpoint}", "attack=fgsm,fgsm_curve", "device=cpu")
    attacks = only(runs).under_attack
    assert [(options["eps_255"], options["steps"]) for options, _ in attacks] == [
        (8, 1),
        (1, 1),
        (2, 1),
        (4, 1),
        (16, 1),
    ]
    script("evaluate", f"checkpoint={checkpoint}", "attack=pgd7_eps8", "device=cpu")
    assert only(runs).under_attack[:5] == attacks  # the earlier ones stay
    assert only(runs).error(PGD7_EPS8) == only(runs).under_attack[5][1]
    evaluation = run_of(runs) / "robustness.json"
    change(evaluation, fgsm8_error=99.0)
    assert only(runs).error(FGSM8) == only(runs).metrics["fgsm8_error"] != 99.0
    problem = f"{evaluation} is damaged, or not of the run's last network: it is not shown; evaluate.py writes it again"
    for other in (
        {"epochs": 1},
        {"weights": "0" * 64},
        {"evaluated_on": "validation"},
        {"attacks": []},
        {"fgsm2_error": None},
        {"auto_attack": {"error": 4.0}},
        {"corruptions": {"errors": {}}},
    ):
        text = evaluation.read_text()
        change(evaluation, **other)
        assert len(only(runs).under_attack) == 1
        assert find_runs(runs).problems == [problem]
        evaluation.write_text(text)
    (evaluation.parent / "metrics.json").unlink()
    assert find_runs(runs).problems == [problem]


def test_an_attack_of_other_settings_is_another_error(runs):
    metrics = run_of(runs) / "metrics.json"
    change(metrics, attacks={"fgsm8": {**FGSM8.attack, "eps_255": 1}})
    assert only(runs).error(FGSM8) is None
    change(metrics, attacks={"any_name": dict(FGSM8.attack)}, any_name_error=77.0)
    assert only(runs).error(FGSM8) == 77.0


def only(runs):
    """The run that these tests change."""
    (run,) = (run for run in find_runs(runs).runs if run.folder == run_of(runs))
    return run


def test_runs_of_one_name_in_two_tables_are_two_rows(runs):
    change(run_of(runs) / "config.yaml", table="b")
    change(run_of(runs, seed=1) / "config.yaml", table="a")
    rows = [(row.runs[0].table, len(row.runs)) for row in rows_of(find_runs(runs).runs) if "puzzlemix" in row.label]
    assert rows == [("a", 1), ("b", 1)]


def test_a_number_is_the_same_setting_however_it_is_written(runs):
    for seed, beta in enumerate((2, 2.0)):
        config = run_of(runs, seed=seed) / "config.yaml"
        change(config, mixup={**yaml.safe_load(config.read_text())["mixup"], "beta": beta})
    assert len(rows_of(find_runs(runs).runs)) == 2


def test_of_two_repetitions_the_finished_one_counts_and_the_other_is_named(runs):
    first, second = runs / "copy" / "seed0", run_of(runs)
    shutil.copytree(second, first)
    (first / "metrics.json").unlink()
    found = find_runs(runs)
    assert second in [run.folder for run in found.runs]
    assert found.problems == [f"{first}: it repeats seed 0 of {second}: not counted"]


NOT_SHOWN = {
    "not of the config next to it: epochs is 3": {"epochs": 3},
    "not of the config next to it: seed is 5": {"seed": 5},
    "not of the config next to it: config_hash is 0": {"config_hash": "0"},
    "is damaged": {"seconds_per_epoch": None},
    "is damaged: it": {"evaluated_on": 3},
    "is damaged: it lacks": {"top1_error": {"last": 3.0}},
    "is damaged: it lacks what": {"machine": "a large one"},
    "is damaged: it lacks what is": {"attacks": {"fgsm8": {}}},
    "is damaged: it lacks what is shown": {"attacks": []},
    "is damaged: it lacks what is shown of": {"git_commit": 7},
}


@pytest.mark.parametrize("message", NOT_SHOWN)
def test_results_of_another_run_or_another_form_are_not_shown(runs, message):
    change(run_of(runs) / "metrics.json", **NOT_SHOWN[message])
    found = find_runs(runs)
    assert len(found.runs) == 3
    (problem,) = found.problems
    assert message in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "one"),
        ("recipe", None),
        ("recipe", {"epochs": "two"}),
        ("dataset", 3),
        ("mixup", {"since": date(2020, 1, 1)}),
    ],
)
def test_a_config_of_another_form_is_damaged(runs, key, value):
    path = run_of(runs) / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))
    found = find_runs(runs)
    assert len(found.runs) == 3
    assert found.problems == [f"{path} is damaged: its run is not shown"]


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "log.jsonl", "failed.txt", "robustness.json"])
def test_files_that_are_no_text_do_not_hide_the_rest(runs, name):
    if name == "failed.txt":
        (run_of(runs) / "metrics.json").unlink()
    (run_of(runs) / name).write_bytes(b"\xff\xfe\x00")
    found = find_runs(runs)
    assert len(found.runs) + len(found.problems) == (5 if name == "robustness.json" else 4)
    assert [log for run in found.runs for log in (run.log, run.under_attack)]

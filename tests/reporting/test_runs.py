"""Runs in every state: finished, at work, left, failed, damaged; what is wrong with some is said, the rest is shown."""

import shutil
import subprocess
import sys

import pytest
from conftest import TINY
from made_runs import change, run_of

from puzzlemix.errors import InputError
from puzzlemix.reporting.listing import listing
from puzzlemix.reporting.runs import find_runs, rows_of

LISTED = {"name": None, "table": None, "method": None, "status": None, "seed": None, "sort": "name"}


def test_runs_that_differ_in_the_seed_alone_are_one_row(runs):
    rows = rows_of(find_runs(runs).runs)
    assert [(row.label, [run.seed for run in row.runs]) for row in rows] == [
        ("digits_preactresnet18_narrow_puzzlemix", [0, 1]),
        ("digits_preactresnet18_narrow_vanilla", [0, 1]),
    ]
    config = run_of(runs, seed=1) / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.1\n", "lr: 0.2\n"))
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


def test_a_failure_is_forgotten_when_the_run_goes_on(train):
    folder = train()
    (folder / "metrics.json").unlink()
    (folder / "failed.txt").write_text("error: no more room\n")
    train()
    assert not (folder / "failed.txt").exists()


def test_a_run_at_work_is_seen(runs):
    folder = run_of(runs)
    (folder / "metrics.json").unlink()
    hold = "import sys; from pathlib import Path; from puzzlemix.run_lock import lock_run\n"
    hold += "lock = lock_run(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    (run,) = (run for run in find_runs(runs).runs if run.folder == folder)
    process.communicate("")
    assert run.status == "running"
    assert run.state.startswith(f"process {process.pid} on ")


def half_written(path):
    path.write_text(path.read_text()[:100])


def of_an_older_version(path):
    config = path.with_name("config.yaml")
    config.write_text("".join(line for line in config.open() if not line.startswith("table:")))


DAMAGE = {
    "is damaged: delete it and start": half_written,
    "top1_error.median10 is nan, no percentage": lambda path: path.write_text(
        path.read_text().replace('"median10": ', '"median10": NaN, "was": ')
    ),
    "top1_error.median10 is 120, no perc": lambda path: change(path, top1_error={"median10": 120}),
    "of an older version of this code": of_an_older_version,
    "config.yaml is damaged": lambda path: path.with_name("config.yaml").write_text("name: [x\n"),
    "has no config.yaml beside it": lambda path: path.with_name("config.yaml").unlink(),
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
    assert [record["epoch"] for record in run.read_log()] == [0, 1]


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

    def shown(**filters):
        return [(row[3], row[1]) for row in listing(found, **{**LISTED, "descending": False, **filters}).rows]

    assert shown() == [("puzzlemix", "0"), ("puzzlemix", "1"), ("vanilla", "0"), ("vanilla", "1")]
    assert shown(method="puzzlemix", sort="error") == [("puzzlemix", "1"), ("puzzlemix", "0")]
    assert shown(sort="error", descending=True)[-1] == ("vanilla", "1")  # which has none
    assert shown(status="unfinished") == [("vanilla", "1")]
    assert shown(name="*_vanilla", seed=0) == [("vanilla", "0")]
    assert shown(table="other") == []
    with pytest.raises(InputError, match="unknown sort 'eror'; did you mean 'error'"):
        shown(sort="eror")
    with pytest.raises(InputError, match="unknown status 'done'"):
        shown(status="done")


def test_attacks_of_training_and_of_a_later_evaluation_are_found(runs, script):
    checkpoint = run_of(runs) / "checkpoints" / "last.pt"
    script("evaluate", f"checkpoint={checkpoint}", "attack=fgsm,fgsm_curve", "device=cpu")
    (run,) = (run for run in find_runs(runs).runs if run.folder == run_of(runs))
    attacks = run.read_attacks()
    assert [(options["eps_255"], options["steps"]) for options, _ in attacks] == [(8, 1), (2, 1), (4, 1), (16, 1)]
    assert attacks[0][1] == run.metrics["fgsm8_error"]
    checkpoint.with_name("last_evaluation.json").write_text("{")
    assert len(run.read_attacks()) == 1

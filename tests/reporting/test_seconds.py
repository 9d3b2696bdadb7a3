"""The table of where an epoch's seconds go, against sums over the logs."""

import json
from statistics import mean, median

import pytest
from made_runs import change, results_of, run_of

from puzzlemix.reporting.run_tables import SECONDS, seconds_table
from puzzlemix.reporting.runs import find_runs
from puzzlemix.training.loop import PARTS


def cells(runs, label):
    (result,) = results_of(runs).tables
    rows = seconds_table("digits", result.short_rows).rows
    return next(dict(zip(SECONDS, row, strict=True)) for row in rows if row[0] == label)


def test_it_says_what_the_logs_say(runs, hydra_configs):
    logs = [
        [json.loads(line) for line in (run_of(runs, seed=seed) / "log.jsonl").read_text().splitlines()]
        for seed in (0, 1)
    ]
    found = cells(runs, "puzzlemix")
    assert found["seeds"] == "2"

    def seconds(part):
        return mean(median(record["seconds"][part] for record in log) for log in logs)

    for part in ("data", "saliency", "mixing", "network", "optimizer", "evaluation", "total"):
        assert float(found[part]) == pytest.approx(seconds(part), abs=0.006)
    training = seconds("total") - seconds("evaluation")
    share = 100 * (seconds("saliency") + seconds("mixing")) / training
    assert float(found["saliency and mixing, % of training"]) == pytest.approx(share, abs=0.06)
    assert float(found["images / s"]) == pytest.approx(logs[0][0]["images"] / training, abs=0.6)


def test_an_epoch_that_stood_still_is_not_what_an_epoch_takes(runs, hydra_configs):
    path = run_of(runs) / "log.jsonl"
    record = json.loads(path.read_text().splitlines()[0])
    epochs = [{**record, "seconds": {**record["seconds"], "network": s, "total": s}} for s in (2.0, 600.0, 3.0)]
    path.write_text("".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
    (other,) = [run for run in find_runs(runs).runs if run.folder == path.parent]
    assert (other.seconds["network"], other.seconds["total"]) == (3.0, 3.0)


def test_a_run_whose_log_is_damaged_has_seconds_all_the_same(runs, hydra_configs):
    for seed in (0, 1):
        (run_of(runs, seed=seed) / "log.jsonl").write_text('{"images": "many"}')
        seconds = {**dict.fromkeys(PARTS, 0.0), "network": 1.5, "total": 2.0}
        change(run_of(runs, seed=seed) / "metrics.json", seconds_per_epoch=seconds)
    found = cells(runs, "puzzlemix")  # of which metrics.json has the mean
    assert (found["network"], found["saliency"], found["images / s"]) == ("1.50", "0.00", "-")

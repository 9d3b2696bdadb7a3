"""The table of where an epoch's seconds go, against sums over the logs."""

import json
from statistics import mean, median

import pytest
from made_runs import results_of, run_of

from puzzlemix.reporting.run_tables import SECONDS, seconds_table
from puzzlemix.reporting.runs import read_run


def cells(runs, label):
    (table,) = results_of(runs).own
    rows = seconds_table("digits", table.labelled).rows
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
    other = read_run(path.parent)
    assert (other.seconds["network"], other.seconds["total"]) == (3.0, 3.0)

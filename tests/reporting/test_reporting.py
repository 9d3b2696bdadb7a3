"""Tables and pictures from real runs."""

import csv
import json
from statistics import mean, stdev

import numpy as np
import pytest
from conftest import SCRIPTS
from matplotlib.image import imread

from puzzlemix.errors import InputError
from puzzlemix.reporting.tables import read_runs, spread, table

PUBLISHED = SCRIPTS.parent / "results" / "paper" / "published.csv"


def test_compare_shows_mean_and_deviation_over_seeds(train, script, tmp_path, capsys):
    errors = []
    for seed in (0, 1, 2):
        folder = train("mixup=input", f"seed={seed}").with_name(f"seed{seed}")
        errors.append(json.loads((folder / "metrics.json").read_text())["top1_error"]["median10"])
    output = tmp_path / "table.md"
    capsys.readouterr()
    script("compare", f"results_dir={tmp_path}", f"output={output}", f"published={PUBLISHED}")
    wanted = f"{mean(errors):.2f} ± {stdev(errors):.2f}"
    cells = [cell.strip() for cell in output.read_text().splitlines()[2].strip("|").split("|")]
    assert cells[:4] == ["run", "3", "2", wanted]
    assert cells[-1] == "not available"
    assert wanted in capsys.readouterr().out


def test_a_run_stands_beside_its_published_number(train, tmp_path):
    train("name=cifar100_preactresnet18_puzzlemix")
    (row,) = table(read_runs(tmp_path), PUBLISHED)
    assert row[-2] == "19.6 (authors' README, Table 3: paper table value, as quoted by authors)"
    assert row[-1] == "not available"
    assert row[2] == "2"  # epochs, so that nobody takes this for a reproduction


def test_runs_of_one_name_and_several_configs_are_several_rows(train, tmp_path):
    for folder, lr in (("a", 0.1), ("b", 0.2)):
        for seed in (0, 1):
            train(f"results_dir={tmp_path}/{folder}", f"recipe.lr={lr}", f"seed={seed}", "recipe.epochs=1")
    rows = table(read_runs(tmp_path), PUBLISHED)
    assert [row[0][:5] + row[0][-1] for row in rows] == ["run []"] * 2
    assert rows[0][0] != rows[1][0]
    assert [row[1] for row in rows] == ["2", "2"]


def test_other_images_and_other_attacks_are_not_taken_for_the_columns_own(train, tmp_path):
    train("attack=fgsm,pgd", "attack.fgsm8.eps_255=4", "dataset.validation_per_class=1", "recipe.epochs=1")
    (row,) = table(read_runs(tmp_path), PUBLISHED)
    assert row[0] == "run, validation images"
    assert row[4] == "-"
    assert 0 <= float(row[5]) <= 100


def test_a_published_error_under_attack_stands_in_its_column(train, tmp_path):
    train("name=cifar100_wrn28_10_puzzlemix_adversarial", "recipe.epochs=1")
    (row,) = table(read_runs(tmp_path), PUBLISHED)
    assert row[-1].startswith("47.2 (")


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "metrics.json").write_text('{"name": "x"')
    with pytest.raises(InputError, match=r"metrics\.json is damaged: delete it and start the same run again"):
        read_runs(tmp_path)


def test_one_value_has_no_deviation():
    assert spread([1.0]) == "1.00"
    assert spread([]) == "-"


def test_every_published_number_has_its_experiment_and_provenance():
    with open(PUBLISHED, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert (SCRIPTS.parent / "configs" / "experiment" / f"{row['experiment']}.yaml").is_file()
        assert 0 < float(row["value"]) < 100
        assert row["source"]
        assert row["verified_where"]


@pytest.mark.parametrize("method", ["puzzlemix", "vanilla"])
def test_visualize_draws_a_row_a_pair(train, script, method):
    checkpoint = train(f"mixup={method}", "recipe.epochs=1") / "checkpoints" / "last.pt"
    pictures = {}
    for pairs in (1, 3):
        output = checkpoint.with_name(f"{pairs}.png")
        script("visualize", f"checkpoint={checkpoint}", f"pairs={pairs}", f"output={output}", "device=cpu")
        pictures[pairs] = imread(output)
    assert pictures[3].shape[0] == pytest.approx(3 * pictures[1].shape[0], abs=3)
    assert pictures[3].shape[1] == pictures[1].shape[1]
    assert np.ptp(pictures[1][..., :3]) > 0.9  # from black to white

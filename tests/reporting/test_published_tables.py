"""The paper's tables with runs next to them: what is printed, and what no run may pass for."""

import json
import re
import shutil

import pytest
import yaml
from conftest import CONFIGS
from made_runs import PAPER, change, make_run, results_of, rows_of_table, shown

from puzzlemix.reporting import compare
from puzzlemix.reporting.compare import tables_named
from puzzlemix.reporting.measures import FGSM8, TOP1, TOP5
from puzzlemix.reporting.tables import COLUMNS, FORMATS, print_tables
from puzzlemix.runtime.errors import InputError

PUZZLE = "cifar100_preactresnet18_puzzlemix"

# What the paper prints: top-1, top-5 and the third column of Tables 2 to 4; the columns of Tables 5 to 8.
PRINTED = {
    "2": """Vanilla 21.14 6.33 63.92; Input 18.27 4.98 56.60; Manifold 17.40 4.37 60.70; Manifold, quoted 18.04 - -;
        CutMix 17.50 4.69 79.34; AugMix 20.44 5.74 55.59; Puzzle Mix 15.95 3.92 63.71;
        Puzzle Mix (half) 16.23 3.90 66.74; Puzzle Mix (adv) 16.01 3.91 47.18;
        Puzzle Mix (half, adv) 16.39 3.94 46.95""",
    "3": """Vanilla 23.67 8.98 88.89; Input 23.16 7.58 70.09; Manifold 20.98 6.63 73.09; CutMix 23.20 8.09 86.38;
        AugMix 24.69 8.38 76.99; Puzzle Mix 19.62 5.85 79.47; Puzzle Mix (half) 20.09 5.59 75.72;
        Puzzle Mix (adv) 19.84 6.11 57.11; Puzzle Mix (half, adv) 19.96 6.20 59.33""",
    "4": """Vanilla 42.77 26.35 91.85; Input 43.41 26.98 88.68; Manifold 41.99 25.88 89.25;
        Manifold, quoted 41.30 26.41 -; CutMix 43.33 24.48 87.19; AugMix 44.03 25.32 90.00;
        Puzzle Mix 36.52 18.95 92.52; Puzzle Mix (half) 37.64 19.37 92.57; Puzzle Mix (adv) 38.55 20.48 82.07;
        Puzzle Mix (half, adv) 38.14 19.70 83.91""",
    "5": """Vanilla 24.31 7.34; Input 22.99 6.48; Manifold 23.15 6.50; CutMix 22.92 6.55; AugMix 23.25 6.70;
        Puzzle Mix 22.49 6.24""",
    "6": "Vanilla 21.14 49.08; AugMix 20.45 32.22; Puzzle Mix 15.95 42.46; Puzzle Mix (aug) 16.50 29.91",
    "7": "Vanilla 21.14 6.33; Puzzle Mix 15.95 3.92; Puzzle Mix, binary 17.39 4.34; Puzzle Mix, mask only 16.38 3.78",
    "8": """Puzzle Mix (adv) 16.01 47.18 90.18; Puzzle Mix (fgsm) 16.42 43.16 91.19;
        Puzzle Mix (nu0 = nu1) 16.66 65.90 94.05""",
}
HEADERS = {
    "2": ["top-1", "top-5", "FGSM 8/255"],
    "3": ["top-1", "top-5", "FGSM 8/255"],
    "4": ["top-1", "top-5", "FGSM 4/255"],
    "5": ["top-1", "top-5"],
    "6": ["top-1", "19 corruptions"],
    "7": ["top-1", "top-5"],
    "8": ["top-1", "FGSM 8/255", "PGD-7 8/255"],
}


def printed(table):
    """The paper's table: numbers by row."""
    lines = (
        re.fullmatch(r"(.*?) ((?:[\d.]+|-)(?: (?:[\d.]+|-))*)", line.strip()) for line in PRINTED[table].split(";")
    )
    return {line[1]: line[2].split() for line in lines}


@pytest.mark.parametrize("table", PRINTED)
@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_a_table_prints_the_papers_numbers_whatever_runs_there_are(runs, hydra_configs, capsys, table, seeds):
    (compared,) = [rows for shown, rows in results_of(runs).published if shown.name == f"table{table}"]
    for row in compared[:: 2 if seeds == 1 else 1]:
        for seed in range(seeds if row.published.experiment else 0):
            make_run(runs, row.published.experiment, seed, 20.0 + seed / 10)
    (found,) = tables_named(results_of(runs), table)
    assert [*found.header[2::3]] == HEADERS[table]
    assert {row[0]: [*row[2::3]] for row in found.rows} == printed(table)
    for name, as_text in FORMATS.items():
        text = as_text([found])
        assert all(number in text for numbers in printed(table).values() for number in numbers), name
    print_tables([found])
    lines = capsys.readouterr().out.splitlines()
    grid = lines[: next(i for i, line in enumerate(lines) if line.startswith(found.rows[-1][0])) + 1]
    assert max(map(len, grid)) <= COLUMNS
    assert sum(line.count("…") for line in grid) == 0


def test_the_papers_113_numbers_and_those_that_it_prints_twice_are_there():
    numbers = [number for table in PRINTED for row in printed(table).values() for number in row if number != "-"]
    assert len(numbers) == 113 + 8


@pytest.mark.parametrize(
    ("errors", "cell"),
    [
        ([19.61, 19.62, 19.63], ["19.62±0.01", "+0.00 ="]),
        ([19.6], ["19.60", "-0.02 1"]),
        ([18.1, 18.0, 18.2], ["18.10±0.10", "-1.52 <"]),
        ([22.1, 22.0, 22.2], ["22.10±0.10", "+2.48 >"]),
        ([19.0, 20.5], ["19.75±1.06", "+0.13 ?"]),
    ],
)
def test_runs_of_the_papers_recipe_are_judged(runs, hydra_configs, errors, cell):
    for seed, error in enumerate(errors):
        make_run(runs, PUZZLE, seed, error)
    rows, notes = shown(runs, "3")
    assert [*rows["Puzzle Mix"][:4]] == [str(len(errors)), "19.62", *cell]
    marks = {"=": "reproduced", "1": "one seed only", "<": "better", ">": "not reproduced", "?": "undecided"}
    assert f"{cell[1][-1]} {marks[cell[1][-1]]}: " in notes[-1]  # in the legend


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["recipe.epochs=10"], "recipe.epochs 10, not 1200"),
        (["precision=bf16"], "precision bf16, not fp32"),
        (["dataset.validation_per_class=5"], "dataset.validation_per_class 5, not 0"),
        (["mixup.transport=false", "recipe.lr=0.2"], "mixup.transport False, not True, recipe.lr 0.2, not 0.1"),
    ],
)
def test_another_recipe_is_never_a_reproduction(runs, hydra_configs, overrides, reason):
    for seed in (0, 1, 2):
        make_run(runs, PUZZLE, seed, 19.6 + seed / 100, *overrides)
    rows, notes = shown(runs, "3")
    assert rows["Puzzle Mix"][3] == "-0.01 r"
    assert f"Puzzle Mix: differs in {reason}" in notes


def test_an_edited_recipe_file_does_not_move_the_reference(runs, hydra_configs, tmp_path):
    """Batch 512, rate 0.4 and 40 epochs in the file of the recipe, and runs of it."""
    shutil.copytree(CONFIGS, tmp_path / "repository" / "configs")
    recipe = tmp_path / "repository" / "configs" / "recipe" / "cifar100_preactresnet18.yaml"
    edited = {**yaml.safe_load(recipe.read_text()), "batch_size": 512, "lr": 0.4, "epochs": 40}
    recipe.write_text(yaml.safe_dump(edited, sort_keys=False))
    for seed in (0, 1, 2):
        changed = [f"recipe.{key}={edited[key]}" for key in ("batch_size", "lr", "epochs")]
        make_run(runs, PUZZLE, seed, 19.6 + seed / 100, *changed)
    results = compare.results_of({"results_dir": runs, "published": PAPER}, tmp_path / "repository")
    (table,) = compare.tables_named(results, "3")
    assert next(row for row in table.rows if row[0] == "Puzzle Mix")[4].endswith(" r")
    (differing,) = [note for note in table.notes if note.startswith("Puzzle Mix: differs in ")]
    for setting in ("recipe.batch_size 512, not 100", "recipe.lr 0.4, not 0.1", "recipe.epochs 40, not 1200"):
        assert setting in differing


def test_the_number_of_processes_is_a_setting(runs, hydra_configs):
    for seed in (0, 1, 2):
        path = make_run(runs, PUZZLE, seed, 19.6 + seed / 100) / "metrics.json"
        change(path, machine={**json.loads(path.read_text())["machine"], "processes": 2 if seed else 1})
    rows, notes = shown(runs, "3")
    assert rows["Puzzle Mix"][3].endswith(" r")
    assert "Puzzle Mix: differs in processes 1 and 2, not 1" in notes


@pytest.mark.parametrize(
    ("experiment", "table", "override", "error", "is_published"),
    [
        (PUZZLE, "3", "mixup.solver=swap", 19.62, True),
        ("imagenet_resnet50_puzzlemix_fast", "5", "precision=bf16", 22.49, True),
        (PUZZLE, "3", "precision=tf32", 19.62, False),
    ],
)
def test_what_the_release_leaves_open_is_said_and_counts(
    runs, hydra_configs, experiment, table, override, error, is_published
):
    for seed in (0, 1, 2):
        make_run(runs, experiment, seed, error + seed / 100, override)
    rows, notes = shown(runs, table)
    key, value = override.split("=")
    assert rows["Puzzle Mix"][3].endswith(" =" if is_published else " r")
    said = [note for note in notes if note.startswith("Puzzle Mix: with ") and f"{key} {value}" in note]
    assert bool(said) == is_published


def test_a_setting_that_the_paper_does_not_state_is_named_instead_of_judged(runs, hydra_configs):
    for seed in (0, 1, 2):
        make_run(runs, "cifar100_preactresnet18_augmix", seed, 24.69 + seed / 100)
    rows, notes = shown(runs, "3")
    assert rows["AugMix"][3] == "+0.01 s"
    assert "AugMix: the source does not state recipe.epochs" in notes


def test_runs_with_the_same_weights_are_named_and_not_counted(runs, hydra_configs):
    for seed in (0, 1, 2):
        folder = make_run(runs, PUZZLE, seed, 19.62 + seed / 100)
        change(folder / "metrics.json", weights="one network" if seed < 2 else "another")
    problems = results_of(runs).problems
    assert [f"seed{seed}: its weights are those of " in problems[seed] for seed in (0, 1)] == [True, True]
    assert shown(runs, "3")[0]["Puzzle Mix"][0] == "1"


def test_a_run_whose_results_are_not_those_of_its_log_is_named_and_not_counted(runs, hydra_configs):
    folders = [make_run(runs, PUZZLE, seed, 19.62 + seed / 100) for seed in (0, 1, 2)]
    typed, cut = (folder / name for folder, name in zip(folders, ("metrics.json", "log.jsonl"), strict=False))
    results = json.loads(typed.read_text())
    results["top1_error"]["median10"] = 19.00
    typed.write_text(json.dumps(results))
    cut.write_text("\n".join(cut.read_text().splitlines()[:-1]))
    problems = results_of(runs).problems
    assert problems == [f"{folder}: its metrics.json and its log.jsonl disagree: not counted" for folder in folders[:2]]
    assert shown(runs, "3")[0]["Puzzle Mix"][0] == "1"


def test_a_run_stands_in_every_table_that_has_its_experiment(runs, hydra_configs):
    for seed in (0, 1):
        make_run(runs, "cifar100_wrn28_10_vanilla", seed, 21.14 + seed / 100)
    for table in "267":
        assert shown(runs, table)[0]["Vanilla"][:3] == ("2", "21.14", "21.15±0.01")


def test_what_was_not_measured_is_left_empty(runs, hydra_configs):
    for seed in (0, 1):
        folder = make_run(runs, PUZZLE, seed, 19.62 + seed / 100)
        change(folder / "metrics.json", attacks={} if seed else {"fgsm8": dict(FGSM8.attack)})
    row, rows = rows_of_table(runs, "table3")["Puzzle Mix"], shown(runs, "3")[0]
    assert rows["Puzzle Mix"][7:] == ("79.47", "90.00 (1 of 2)", "+10.53 1")
    change(folder.with_name("seed0") / "metrics.json", attacks={})
    row, rows = rows_of_table(runs, "table3")["Puzzle Mix"], shown(runs, "3")[0]
    assert rows["Puzzle Mix"][7:] == ("79.47", "", "")
    assert row.verdict(FGSM8).word == "not measured"
    assert {row.verdict(TOP1).word, row.verdict(TOP5).word} <= {"reproduced", "not reproduced", "better", "undecided"}
    assert rows_of_table(runs, "table3")["CutMix"].verdict(TOP1).word == "no run"


def test_each_statistic_is_compared_with_its_own(runs, hydra_configs):
    name = f"{PUZZLE}_adversarial"
    for seed in (0, 1):
        errors = {"median10": 19.8 + seed, "last": 19.6 + seed, "best": 19.3 + seed}
        change(make_run(runs, name, seed, 0.0) / "metrics.json", top1_error=errors)
    assert rows_of_table(runs, "table3")["Puzzle Mix (adv)"].errors(TOP1) == [19.8, 20.8]
    (log,) = [rows for table, rows in results_of(runs).published if table.name == "authors_log"]
    here = {row.published.statistic: row.errors(TOP1) for row in log if row.published.experiment}
    assert here["best epoch (index 1014)"] == [19.3, 20.3]
    assert here["last epoch, final robustness test"] == [19.6, 20.6]
    assert here["median of last 10 epochs"] == [19.8, 20.8]


def test_of_several_configs_of_one_name_the_nearest_is_shown(runs, hydra_configs):
    for seed, overrides in ((0, ["recipe.epochs=10"]), (1, []), (2, [])):
        make_run(runs, PUZZLE, seed, 19.62 + seed / 100, *overrides)
    rows, notes = shown(runs, "3")
    assert rows["Puzzle Mix"][0] == "2"
    assert "Puzzle Mix: 1 other configs of this name are not shown" in notes


def test_the_order_of_methods_is_judged_by_pairs(runs, hydra_configs):
    for method, error in (("vanilla", 23.67), ("input", 23.16), ("cutmix", 25.0)):
        for seed in (0, 1, 2):
            make_run(runs, f"cifar100_preactresnet18_{method}", seed, error + seed / 100)
    (order,) = [note for note in shown(runs, "3")[1] if note.startswith("order of the methods by top-1 error: ")]
    assert "2 of 3 pairs as published, 1 the other way round (CutMix above Vanilla)" in order


def test_sages_numbers_are_means_of_three_runs(runs, hydra_configs):
    row = rows_of_table(runs, "sage_table1")["CIFAR-100, PreActResNet-18: Puzzle Mix"]
    assert (row.published.runs, row.published.experiment) == (3, "cifar100_preactresnet18_puzzlemix_300")
    assert row.published.numbers == {"top1_error": "20.35"}


def test_the_list_of_tables_counts_cells(runs, hydra_configs):
    for seed in (0, 1, 2):
        make_run(runs, PUZZLE, seed, 19.62 + seed / 100)
    published, own = tables_named(results_of(runs), None)
    counts = {row[0]: row[2:] for row in published.rows}
    assert counts["table3"] == ("27", "27", "3", "1")
    assert counts["table2"] == ("28", "27", "0", "0")
    assert [row[0] for row in own.rows] == ["digits_preactresnet18_narrow", "made"]


def test_readme_shows_table_3_as_it_is_printed(script, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    script("compare", "table=3", f"results_dir={tmp_path}/runs")
    printed_lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    (block,) = re.findall(r"```text\n(Table 3: .*?)```", (CONFIGS.parent / "README.md").read_text(), re.DOTALL)
    assert block.splitlines() == [line for line in printed_lines if line]


def test_an_experiment_without_published_settings_is_named(runs, tmp_path):
    folder = shutil.copytree(PAPER, tmp_path / "paper")
    text = (folder / "table3.csv").read_text()
    (folder / "table3.csv").write_text(text.replace("cifar100_preactresnet18_cutmix", f"{PUZZLE}_pgd"))
    with pytest.raises(InputError, match=rf"settings\.yaml lacks the settings of {PUZZLE}_pgd, which a published row"):
        compare.results_of({"results_dir": runs, "published": folder}, CONFIGS.parent)


@pytest.mark.parametrize(("name", "nearest"), [("table9", "table8"), ("cifar100_wrn28_1", "valid: "), ("sag3", "sage")])
def test_an_unknown_table_is_answered_with_the_nearest(runs, name, nearest):
    with pytest.raises(InputError, match=f"unknown table '{name}'.*{nearest}"):
        tables_named(results_of(runs), name)

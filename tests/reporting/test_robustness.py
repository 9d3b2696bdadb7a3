"""What is shown of evaluations: the table, what to doubt, the figures; of runs that were really evaluated."""

import json
import shutil
from statistics import mean, stdev

import pytest
from conftest import run_script
from made_runs import change, results_of, run_of

from puzzlemix.data.corrupted import RELEASED, STANDARD
from puzzlemix.evaluation.corrupted import mean_error
from puzzlemix.evaluation.self_checks import self_checks
from puzzlemix.reporting import page
from puzzlemix.reporting.page import LEAST_IMAGES, family_of, pool, report_page
from puzzlemix.reporting.run_tables import tables_of
from puzzlemix.reporting.runs import find_runs, rows_of
from puzzlemix.reporting.tables import as_latex, as_markdown

METHOD = "puzzlemix"


@pytest.fixture(scope="module")
def evaluated_once(trained, tmp_path_factory):
    """The runs, of which both seeds of one method were evaluated."""
    runs = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "runs")
    for seed in (0, 1):
        checkpoint = run_of(runs, METHOD, seed) / "checkpoints" / "last.pt"
        with pytest.MonkeyPatch.context() as patch:
            run_script(patch, "evaluate", f"checkpoint={checkpoint}", "attack=fgsm,fgsm_curve,pgd7_eps8", "device=cpu")
    return runs


@pytest.fixture
def evaluated(evaluated_once, tmp_path, hydra_configs):
    """A copy of those runs, to do anything with."""
    return shutil.copytree(evaluated_once, tmp_path / "runs")


def file_of(runs, seed):
    return run_of(runs, METHOD, seed) / "robustness.json"


def evaluation(runs, seed):
    return json.loads(file_of(runs, seed).read_text())


def with_corruptions(runs, names):
    """As `evaluate.py` writes it: of the i-th corruption an error of i, plus the severity over 10, plus the seed."""
    for seed in (0, 1):
        errors = {name: [RELEASED.index(name) + s / 10 + seed for s in (1, 2, 3, 4, 5)] for name in names}
        missing = [name for name in RELEASED if name not in names]
        means = {"error_of_19": mean_error(errors, RELEASED), "error_of_15": mean_error(errors, STANDARD)}
        found = {"folder": "data/digits-c", "errors": errors, "missing": missing, **means}
        change(file_of(runs, seed), corruptions=found)


def fire(runs, seed):
    checks = evaluation(runs, seed)["self_checks"]
    checks[2] |= {"fired": True, "found": "FGSM 8/255 90.00 %, PGD-20 8/255 80.00 %"}
    change(file_of(runs, seed), self_checks=checks)


def robustness_table(runs):
    (own,) = results_of(runs).own
    return next((table for table in tables_of(own) if "robustness" in table.title), None)


def cells(table, label=METHOD):
    (row,) = (row for row in table.rows if row[0] == label)
    return dict(zip(table.header, row, strict=True))


def rows(runs):
    return {row.label.removeprefix("digits_preactresnet18_narrow_"): row for row in rows_of(find_runs(runs).runs)}


# --- the table ---


def test_without_evaluations_there_is_no_table(runs, hydra_configs):
    assert robustness_table(runs) is None


def test_a_row_is_what_its_evaluations_say(evaluated):
    table = robustness_table(evaluated)
    assert [row[0] for row in table.rows] == [METHOD]
    row, found = cells(table), [evaluation(evaluated, seed) for seed in (0, 1)]

    def of_both(number):
        values = [number(results) for results in found]
        return f"{mean(values):.2f} ± {stdev(values):.2f}"

    assert row["seeds"] == "2"
    assert row["clean %"] == of_both(lambda results: results["top1_error"])
    assert row["FGSM 8/255 %"] == of_both(lambda results: results["fgsm8_error"])
    assert row["PGD-7 8/255 %"] == of_both(lambda results: results["pgd7_eps8_error"])
    assert row["ECE %"] == of_both(lambda results: results["calibration"]["ece"])
    assert row["NLL"] == of_both(lambda results: results["calibration"]["nll"])
    unknown = {"training images %", "PGD-20 4/255 %", "AutoAttack 8/255 %", "19 corruptions %", "15 corruptions %"}
    assert not unknown & set(row)
    measured = [check for results in found for check in results["self_checks"] if check["found"]]
    assert 0 < len(measured) < 12
    assert row["failed checks"] == f"{sum(check['fired'] for check in measured)} of {len(measured)}"


def test_means_over_corruptions_are_over_seeds_too(evaluated):
    with_corruptions(evaluated, RELEASED)
    row = cells(robustness_table(evaluated))
    assert row["19 corruptions %"] == f"{9 + 0.3 + 0.5:.2f} ± {stdev([0, 1]):.2f}"
    assert row["15 corruptions %"] == f"{7 + 0.3 + 0.5:.2f} ± {stdev([0, 1]):.2f}"


def test_a_mean_over_corruptions_that_are_not_all_there_is_none(evaluated):
    with_corruptions(evaluated, STANDARD)
    table = robustness_table(evaluated)
    assert cells(table)["15 corruptions %"].startswith("7.80")
    assert "19 corruptions %" not in cells(table)
    assert "all: data/digits-c lacks speckle_noise, gaussian_blur, spatter, saturate" in table.notes


def test_an_attack_of_some_images_says_of_how_many(evaluated):
    after = dict(zip(("apgd-ce", "apgd-t", "fab-t", "square"), (80.0, 90.0, 90.0, 90.0), strict=True))
    auto_attack = {"eps_255": 8, "error": 90.0, "clean": 4.0, "after": after, "images": 50, "package": "pyautoattack"}
    change(file_of(evaluated, 0), auto_attack=auto_attack)
    table = robustness_table(evaluated)
    assert cells(table)["AutoAttack 8/255 %"] == "90.00 (1 of 2)"
    assert f"{METHOD} seed 0: AutoAttack of 50 test images" in table.notes
    change(file_of(evaluated, 0), auto_attack={**auto_attack, "eps_255": 4})
    assert "AutoAttack 8/255 %" not in cells(robustness_table(evaluated))


def test_what_some_runs_know_of_their_training_images_is_a_column(evaluated):
    change(file_of(evaluated, 0), train_error=12.5)
    assert cells(robustness_table(evaluated))["training images %"] == "12.50 (1 of 2)"


def test_failed_checks_are_of_those_that_something_was_measured_for(evaluated):
    for seed in (0, 1):
        results = evaluation(evaluated, seed) | {"attacks": {}}
        change(file_of(evaluated, seed), attacks={}, self_checks=self_checks(results))
    assert cells(robustness_table(evaluated))["failed checks"] == "0 of 2"  # the gradients of each
    fire(evaluated, 0)
    assert cells(robustness_table(evaluated))["failed checks"] == "1 of 3"


# --- what to doubt ---


def test_a_self_check_that_fired_is_a_warning_wherever_the_table_is(evaluated):
    line = (
        "self-check failed: one step is not stronger than 20, by more than 5 points: "
        "FGSM 8/255 90.00 %, PGD-20 8/255 80.00 %"
    )
    before = len(robustness_table(evaluated).warnings)
    fire(evaluated, 1)
    table = robustness_table(evaluated)
    assert f"{METHOD} seed 1: {line}" in table.warnings
    assert len(table.warnings) == before + 1
    fire(evaluated, 0)
    table = robustness_table(evaluated)
    assert f"all: {line}" in table.warnings
    assert f"- warning: all: {line}\n" in as_markdown([table])
    assert "warning: all: self-check failed" in as_latex([table])
    text = report_page(results_of(evaluated), evaluated, commit=None)
    assert f"<strong>To be doubted</strong>\n    <ul><li>all: {line}</li>" in text


# --- the figures ---


def test_figures_are_of_what_was_measured(evaluated):
    attacked = page.under_attack(rows(evaluated))
    assert len(attacked) == 2  # all attacks, and FGSM against eps
    assert all(text in attacked[0].content for text in ("not attacked", "FGSM 8/255", "FGSM 1/255", "PGD-7 8/255"))
    assert "eps of FGSM, 1/255" in attacked[1].content
    assert attacked[1].caption.startswith("FGSM. ")
    assert len(page.calibration(rows(evaluated))) == 1
    assert page.on_corrupted_images(rows(evaluated)) == []
    for seed in (0, 1):
        file_of(evaluated, seed).unlink()
    assert page.calibration(rows(evaluated)) == []
    (attacked,) = page.under_attack(rows(evaluated))  # of the training's own
    assert "FGSM 8/255" in attacked.content
    assert "PGD-7" not in attacked.content


def test_figures_of_corruptions_show_each(evaluated):
    with_corruptions(evaluated, RELEASED)
    (of_each,) = page.on_corrupted_images(rows(evaluated))
    assert all(name.replace("_", " ") in of_each.content for name in RELEASED)
    with_corruptions(evaluated, STANDARD[1:])
    (of_each,) = page.on_corrupted_images(rows(evaluated))
    assert STANDARD[1].replace("_", " ") in of_each.content
    assert STANDARD[0].replace("_", " ") not in of_each.content


def test_runs_that_met_no_attack_have_no_figure(evaluated):
    for path in evaluated.rglob("metrics.json"):
        change(path, attacks={})
    for seed in (0, 1):
        file_of(evaluated, seed).unlink()
    assert page.under_attack(rows(evaluated)) == []


def test_bins_of_seeds_are_pooled_as_the_images_in_them():
    """Against the means of the images themselves."""
    of_images = [  # of each seed, of each bin, each image's confidence and whether the answer is right
        [[(20.0, 1), (25.0, 0)] * 4, [(90.0, 1)] * 3],
        [[(30.0, 0)] * (LEAST_IMAGES - 8), []],
    ]

    def as_bin(images):
        return {
            "images": len(images),
            "confidence": mean(c for c, _ in images) if images else None,
            "accuracy": 100 * mean(right for _, right in images) if images else None,
        }

    pooled = pool([[as_bin(images) for images in bins] for bins in of_images])
    together = of_images[0][0] + of_images[1][0]
    ((confidence, accuracy),) = pooled.items()  # of the other bin there are too few
    assert confidence == pytest.approx(mean(c for c, _ in together))
    assert accuracy == [pytest.approx(100 * mean(right for _, right in together))]


def test_attacks_of_other_kinds_are_other_curves():
    def attack(eps, step, steps, random_start, **more):
        return {"eps_255": eps, "step_255": step, "steps": steps, "random_start": random_start, **more}

    pgd = family_of(attack(4, 2, 20, True))
    assert pgd == family_of(attack(8, 4, 20, True)) == "PGD-20 (step 0.5 eps)"
    assert family_of(attack(8, 8, 1, False)) == family_of(attack(1, 1, 1, False)) == "FGSM"
    others = [
        attack(4, 0.1, 20, True),
        attack(4, 2, 20, False),
        attack(4, 2, 20, True, restarts=5),
        attack(4, 2, 7, True),
        attack(4, 4, 1, False),
        attack(4, 4, 1, True),
        attack(4, 2, 1, False),
    ]
    assert len({pgd, *map(family_of, others)}) == 8

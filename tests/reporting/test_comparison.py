"""Runs beside published numbers: settings are compared field by field, benchmarks stand apart."""

import csv
import io
import json
import re
import shutil
from statistics import mean, stdev

import pytest
import torch
from made_runs import EXPERIMENTS, PAPER, change, make_run, results_of, run_of
from PIL import Image, ImageColor

from puzzlemix.reporting.compare import as_tables, compare_row
from puzzlemix.reporting.figures import COLOURS
from puzzlemix.reporting.measures import FGSM8, PGD7_EPS8, TOP1
from puzzlemix.reporting.paper import ExperimentFile, experiment_files, read_published
from puzzlemix.reporting.runs import find_runs, rows_of
from puzzlemix.reporting.tables import Table, as_csv, as_latex, as_markdown, print_tables, spread
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.log import STATISTICS

PUZZLE = "cifar100_preactresnet18_puzzlemix"


def lines_of(runs, label, measure=TOP1):
    (result,) = results_of(runs, "cifar100_preactresnet18").tables
    return [line for line in result.lines if line.label == label and line.measure is measure]


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([19.5, 19.7, 19.65], "reproduced"),
        ([19.6], "one seed only"),
        ([18.1, 18.0, 18.2], "better"),
        ([22.1, 22.0, 22.2], "not reproduced"),
    ],
)
def test_a_run_of_the_papers_recipe_is_judged(runs, hydra_configs, errors, verdict):
    for seed, error in enumerate(errors):
        make_run(runs, PUZZLE, seed, error)
    (line,) = lines_of(runs, PUZZLE)
    assert (line.here, line.published.number, line.verdict.word) == (errors, 19.6, verdict)


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
        make_run(runs, PUZZLE, seed, 19.6, *overrides)
    (line,) = lines_of(runs, PUZZLE)
    assert str(line.verdict) == f"recipe differs: {reason}"


def test_a_run_of_another_name_is_compared_with_its_methods_experiment(runs, hydra_configs):
    for seed in (0, 1):
        change(make_run(runs, PUZZLE, seed, 19.6, "mixup.beta=2.0") / "config.yaml", name="my_beta")
    (line,) = lines_of(runs, "my_beta")
    assert str(line.verdict) == "recipe differs: mixup.beta 2.0, not 1.2"
    assert lines_of(runs, PUZZLE) == []  # it has its run


def test_what_is_not_published_or_not_run_is_not_made_up(runs, hydra_configs):
    make_run(runs, "cifar100_preactresnet18_vanilla", 0, 23.0)
    (line,) = lines_of(runs, "cifar100_preactresnet18_vanilla")
    assert (line.published, line.verdict.word) == (None, "not available")
    (line,) = lines_of(runs, "cifar100_preactresnet18_cutmix")
    assert (line.here, line.published, line.verdict.word) == ([], None, "no run")


def test_each_statistic_is_compared_with_its_own(runs, hydra_configs):
    name = f"{PUZZLE}_adversarial"
    for seed in (0, 1):
        errors = {"median10": 19.8 + seed, "last": 19.6 + seed, "best": 19.3 + seed}
        change(make_run(runs, name, seed, 0.0) / "metrics.json", top1_error=errors)
    here = {line.published.statistic.split(" epoch")[0]: line.here for line in lines_of(runs, name)}
    assert here["best"] == [19.3, 20.3]
    assert here["last"] == [19.6, 20.6]
    assert here["median of last 10"] == here["paper table value, as quoted by authors"] == [19.8, 20.8]
    (fgsm, *_) = lines_of(runs, name, FGSM8)
    assert (fgsm.here, fgsm.published.number) == ([90.0, 90.0], 57.1)
    assert lines_of(runs, name, PGD7_EPS8)[0].verdict.word == "not measured"


def test_benchmarks_stand_beside_with_what_differs(runs, hydra_configs):
    make_run(runs, PUZZLE, 0, 19.6, "recipe.epochs=60")
    (result,) = results_of(runs, "cifar100_preactresnet18").tables
    beside = result.benchmarks[PUZZLE]["OpenMixup"]
    assert (beside.published.number, beside.published.epochs) == (20.04, "200")  # the nearest: 79.96 % as printed
    assert set(beside.differences) == {
        "network ResNet-18 (here PreActResNet-18)",
        "crop into 4 mirrored pixels (here into 2 zeros)",
        "recipe.nesterov False (here True)",
        "recipe.epochs 200 (here 60)",
        "recipe.loss soft_cross_entropy (here bce_on_softmax)",
        "schedule cosine (here steps)",
    }
    assert result.benchmarks["cifar100_preactresnet18_vanilla"]["OpenMixup"].published.number == 21.45
    assert result.benchmarks[PUZZLE]["mixing-augmentation"].published.variant == "p=1.0"


def test_a_benchmarks_own_schedule_is_no_difference(runs, hydra_configs):
    name = make_run(runs, PUZZLE, 0, 19.6, "recipe=cifar100_200_cosine").parent.name
    (result,) = results_of(runs, "cifar100_preactresnet18").tables
    differences = {"network ResNet-18 (here PreActResNet-18)", "crop into 4 mirrored pixels (here into 2 zeros)"}
    assert set(result.benchmarks[name]["OpenMixup"].differences) == differences
    shown = {line.label: str(line.verdict) for line in result.lines}
    assert shown[name].startswith("recipe differs: ")
    assert "recipe.epochs 200, not 1200, recipe.schedule cosine, not steps" in shown[name]


def test_an_unknown_table_is_answered_with_the_nearest(runs, hydra_configs):
    with pytest.raises(InputError, match="did you mean 'cifar100_wrn28_10'"):
        results_of(runs, "cifar100_wrn28_1")


def test_the_script_writes_what_the_runs_say(runs, script, tmp_path, capsys):
    errors = [json.loads((run_of(runs, seed=s) / "metrics.json").read_text())["top1_error"] for s in (0, 1)]
    wanted = [spread([error[key] for error in errors]) for key in STATISTICS]
    (run_of(runs, "vanilla", 1) / "metrics.json").write_text("{")
    change(run_of(runs, "vanilla", 0) / "metrics.json", git_commit="0123456789")
    for ending in ("md", "csv", "tex"):
        output = tmp_path / f"table.{ending}"
        script("compare", f"results_dir={runs}", f"output={output}", f"published={PAPER}")
    told = capsys.readouterr()
    assert all(value in told.out for value in wanted)
    assert "vanilla seed 0: of commit 0123456, this code is" in told.out
    assert "vanilla/seed1/metrics.json is damaged: delete it" in told.err
    header, row, _, empty, *of_seconds = csv.reader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert (empty, len(of_seconds)) == ([], 3)  # a header, and a row of each method
    assert header[:7] == ["table", "run", "seeds", "epochs", "top-1 error %", "last", "best"]
    assert row[:7] == ["digits_preactresnet18_narrow", "puzzlemix", "2", "2", *wanted]
    assert f"| puzzlemix | 2 | 2 | {' | '.join(wanted)} |" in (tmp_path / "table.md").read_text()
    assert rf"puzzlemix & 2 & 2 & {' & '.join(wanted)} &".replace("±", r"$\pm$") in (tmp_path / "table.tex").read_text()


def test_a_table_that_is_written_names_commits_and_machines_whatever_code_writes_it(runs, script, tmp_path):
    for folder in (run_of(runs), run_of(runs, seed=1)):
        change(folder / "metrics.json", git_commit="0123456789")
    machine = json.loads((run_of(runs) / "metrics.json").read_text())["machine"]
    change(run_of(runs) / "metrics.json", machine=machine | {"gpu": "NVIDIA H100"})
    script("compare", f"results_dir={runs}", f"output={tmp_path}/table.md", f"published={PAPER}")
    text = (tmp_path / "table.md").read_text()
    puzzles = [f"puzzlemix seed {seed}" for seed in (0, 1)]
    assert f"- {', '.join(puzzles)}: of commit 0123456\n" in text
    assert f"- {puzzles[0]}: on NVIDIA H100, torch {torch.__version__}\n" in text
    processor = f"{machine['processor']}, {machine['cores']} cores, {torch.get_num_threads()} thread(s)"
    assert f": on {processor}, torch {torch.__version__}\n" in text


def test_a_table_says_what_is_alike_in_its_rows(runs, hydra_configs):
    (result,) = results_of(runs).tables
    first = as_tables([result])[0].notes[0]
    for said in ("num_classes 10", "initial_channels 4", "batch_size 20", "loss soft_cross_entropy"):
        assert said in first
    change(run_of(runs, "vanilla", 0) / "config.yaml", recipe={**result.rows[0].runs[0].config["recipe"], "lr": 0.7})
    (result,) = results_of(runs).tables
    assert " lr " in first
    assert " lr " not in as_tables([result])[0].notes[0]


def test_puzzle_mix_is_tested_against_each_other_row_by_welch(runs, hydra_configs):
    for method, errors in {"puzzlemix": (5.0, 6.0), "vanilla": (8.0, 8.5)}.items():
        for seed, error in enumerate(errors):
            change(run_of(runs, method, seed) / "metrics.json", top1_error=dict.fromkeys(STATISTICS, error))
    note = "p-values of Welch's t-test on the top-1 error, puzzlemix against: vanilla 0.069"
    assert note in as_tables(results_of(runs).tables)[0].notes
    (run_of(runs, seed=1) / "metrics.json").unlink()
    assert not any("Welch" in note for note in as_tables(results_of(runs).tables)[0].notes)


def test_curves_are_drawn_of_one_table(runs, script, tmp_path, capsys):
    script("compare", "curves", f"results_dir={runs}", f"output={tmp_path}/curves.png")
    assert capsys.readouterr().out == f"{tmp_path}/curves.png\n"
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > picture.height > 300
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**20)}
    assert {ImageColor.getrgb(colour) for colour in COLOURS[:2]} <= colours  # of two methods
    script("compare", "curves", f"results_dir={runs}", f"output={tmp_path}/one.png", "rows=[puzzle*]")
    with Image.open(tmp_path / "one.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**20)}
    assert [ImageColor.getrgb(colour) in colours for colour in COLOURS[:2]] == [True, False]  # of one
    for rows, message in (("[vanila]", "unknown row 'vanila'; did you mean 'vanilla'"), ("[1]", "unknown row '1'")):
        with pytest.raises(SystemExit, match=message):
            script("compare", "curves", f"results_dir={runs}", f"output={tmp_path}/one.png", f"rows={rows}")
    with pytest.raises(SystemExit, match=r"rows must not be empty: rows=\['\*'\] are all"):
        script("compare", "curves", f"results_dir={runs}", f"output={tmp_path}/one.png", "rows=[]")
    change(run_of(runs, "vanilla", 0) / "config.yaml", table="another")
    with pytest.raises(SystemExit, match="of one table's runs, not of another and digits_preactresnet18_narrow: add"):
        script("compare", "curves", f"results_dir={runs}", f"output={tmp_path}/curves.png")
    with pytest.raises(SystemExit, match="runs has no runs of imagenet_resnet50: train one, or give results_dir="):
        script("compare", "curves", f"results_dir={runs}", "table=imagenet_resnet50", f"output={tmp_path}/curves.png")
    (run_of(runs, "vanilla", 0) / "log.jsonl").unlink()
    with pytest.raises(SystemExit, match=r"no run of another has an epoch in its log.jsonl"):
        script("compare", "curves", f"results_dir={runs}", "table=another", f"output={tmp_path}/curves.png")


def test_columns_of_attacks_hold_their_own_settings_alone(runs, hydra_configs):
    attacks = {"fgsm8": {"eps_255": 4, "step_255": 8, "steps": 1, "random_start": False}}
    change(run_of(runs) / "metrics.json", attacks=attacks)
    (result,) = results_of(runs).tables
    table, *_ = as_tables([result])
    assert result.rows[0].label.endswith("puzzlemix")
    other = json.loads((run_of(runs, seed=1) / "metrics.json").read_text())
    assert table.rows[0][6] == f"{other['fgsm8_error']:.2f} (1 of 2)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tolerance=-1"], "tolerance must be a number, finite, 0 or more, not -1"),
        (["tolerance=null"], r"tolerance=null: expected a number, such as 0\.2"),
        (["output=/proc/x.md"], r"/proc/x\.md cannot be written \(.*\): give another output="),
        (["output=."], "unknown ending of output ''"),
        (["output=table.txt"], r"unknown ending of output '\.txt'; did you mean '\.tex'\?"),
        (["run"], r"unknown command 'run'; did you mean 'runs'\?"),
    ],
)
def test_bad_input_is_one_line(script, arguments, message):
    with pytest.raises(SystemExit) as stop:
        script("compare", *arguments)
    assert re.search(message, stop.value.code)
    assert stop.value.code.startswith("error: ")
    assert len(stop.value.code.splitlines()) == 1


SIGNS = Table("50 % & more_less", ("a_b", "error %"), [("x|y", "1.00 ± 0.10"), ("{z}", "2.00")], ["a note # 1"])


def test_signs_are_escaped_in_each_format():
    assert "| x\\|y | 1.00 ± 0.10 |" in as_markdown([SIGNS])
    assert "| --- | ---: |" in as_markdown([SIGNS])
    rows = [[SIGNS.title, *row] for row in SIGNS.rows]
    assert list(csv.reader(io.StringIO(as_csv([SIGNS, SIGNS])))) == [["table", "a_b", "error %"], *rows, *rows]
    tex = as_latex([SIGNS])
    assert r"\caption{50 \% \& more\_less}" in tex
    assert r"x|y & 1.00 $\pm$ 0.10 \\" in tex
    assert r"\{z\} & 2.00 \\" in tex
    assert r"\begin{tabular}{lr}" in tex
    assert tex.count(r"\begin") == tex.count(r"\end")


def test_the_spread_is_that_of_a_sample():
    assert spread([1.0]) == "1.00"
    assert spread([]) == "-"
    assert spread([1.0, 2.0, 4.0]) == f"{mean([1, 2, 4]):.2f} ± {stdev([1, 2, 4]):.2f}"


def test_names_that_look_like_markup_are_shown_as_they_are(capsys):
    names = ["puzzlemix [ca4e01e0]", "puzzlemix [a1e62cb6]", "x[/b]y"]
    print_tables([Table("[b]", ("[/i]",), [(name,) for name in names])])
    told = capsys.readouterr().out
    assert all(text in told for text in ("[b]", "[/i]", *names))


def test_two_rows_do_not_look_the_same(runs, hydra_configs):
    for seed in (0, 1):
        change(run_of(runs, "vanilla", seed) / "config.yaml", name="puzzlemix")
    (result,) = results_of(runs).tables
    shown = [row[0] for row in as_tables([result])[0].rows]
    assert shown == ["digits_preactresnet18_narrow_puzzlemix", "puzzlemix"]


def test_a_run_is_compared_with_the_epochs_that_were_published(runs, hydra_configs):
    """Also where the experiment's file itself has been changed."""
    for seed in (0, 1, 2):
        make_run(runs, PUZZLE, seed, 19.6, "recipe.epochs=10")
    (row,) = (row for row in rows_of(find_runs(runs).runs) if row.label == PUZZLE)

    class Shortened(ExperimentFile):
        def settings(self):
            return row.settings

    (experiment,) = (e for e in experiment_files(EXPERIMENTS) if e.name == PUZZLE)
    (line,) = compare_row(
        row, Shortened(*experiment), read_published(PAPER, experiment_files(EXPERIMENTS)), tolerance=0.2
    )
    assert str(line.verdict) == "recipe differs: recipe.epochs 10, not 1200"


def test_runs_of_several_numbers_of_processes_are_told(runs, hydra_configs):
    path = run_of(runs) / "metrics.json"
    change(path, machine={**json.loads(path.read_text())["machine"], "processes": 8})
    table, *_ = as_tables(results_of(runs).tables)
    assert "puzzlemix seed 0: of 8 process(es)" in table.notes


def test_published_numbers_that_cannot_be_read_are_named(runs, script, tmp_path):
    shutil.copytree(PAPER, tmp_path / "paper")
    (tmp_path / "paper" / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"^error: .*notes\.csv, line 1: the columns must be"):
        script("compare", f"results_dir={runs}", f"published={tmp_path}/paper")
    (tmp_path / "paper" / "notes.csv").unlink()
    (tmp_path / "paper" / "benchmarks.yaml").unlink()
    with pytest.raises(SystemExit, match=r"benchmarks\.yaml cannot be read: give published="):
        script("compare", f"results_dir={runs}", f"published={tmp_path}/paper")

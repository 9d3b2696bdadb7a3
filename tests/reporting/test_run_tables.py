"""The tables of our own runs, and what is written of them."""

import csv
import io
import json
import re
import shutil
import subprocess
from statistics import mean, stdev

import pytest
import torch
from made_runs import PAPER, change, results_of, run_of
from PIL import Image, ImageColor

from puzzlemix.reporting.figures import COLOURS
from puzzlemix.reporting.run_tables import tables_of
from puzzlemix.reporting.tables import Table, as_csv, as_html, as_latex, as_markdown, print_tables, spread
from puzzlemix.training.log import STATISTICS

DIGITS = "table=digits_preactresnet18_narrow"


def own_table(runs):
    """The only table of the runs, and what is shown of it."""
    (table,) = results_of(runs).own
    return table, tables_of(table)


def test_the_script_writes_what_the_runs_say(runs, script, tmp_path, capsys):
    errors = [json.loads((run_of(runs, seed=s) / "metrics.json").read_text())["top1_error"] for s in (0, 1)]
    wanted = [spread([error[key] for error in errors]) for key in STATISTICS]
    (run_of(runs, "vanilla", 1) / "metrics.json").write_text("{")
    change(run_of(runs, "vanilla", 0) / "metrics.json", git_commit="0123456789")
    for ending in ("md", "csv", "tex", "html"):
        output = tmp_path / f"table.{ending}"
        script("compare", DIGITS, f"results_dir={runs}", f"output={output}", f"published={PAPER}")
    printed = capsys.readouterr()
    assert all(value in printed.out for value in wanted)
    assert "vanilla seed 0: of commit 0123456" in printed.out
    assert "vanilla/seed1/metrics.json is damaged: delete it" in printed.err
    header, row, _, empty, *of_seconds = csv.reader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert (empty, len(of_seconds)) == ([], 3)  # a header, and a row of each method
    assert header[:7] == ["table", "run", "seeds", "epochs", "top-1 error %", "last", "best"]
    assert row[:7] == ["digits_preactresnet18_narrow", "puzzlemix", "2", "2", *wanted]
    assert f"| puzzlemix | 2 | 2 | {' | '.join(wanted)} |" in (tmp_path / "table.md").read_text()
    assert rf"puzzlemix & 2 & 2 & {' & '.join(wanted)} &".replace("±", r"$\pm$") in (tmp_path / "table.tex").read_text()


def test_a_table_names_commits_and_machines(runs, script, tmp_path):
    for folder in (run_of(runs), run_of(runs, seed=1)):
        change(folder / "metrics.json", git_commit="0123456789")
    machine = json.loads((run_of(runs) / "metrics.json").read_text())["machine"]
    change(run_of(runs) / "metrics.json", machine=machine | {"gpu": "NVIDIA H100"})
    script("compare", DIGITS, f"results_dir={runs}", f"output={tmp_path}/table.md", f"published={PAPER}")
    text = (tmp_path / "table.md").read_text()
    puzzles = [f"puzzlemix seed {seed}" for seed in (0, 1)]
    assert f"- {', '.join(puzzles)}: of commit 0123456\n" in text
    assert f"- {puzzles[0]}: on NVIDIA H100, processes 1, torch {torch.__version__}\n" in text
    where = f"{machine['processor']}, cores {machine['cores']}, threads {torch.get_num_threads()}"
    assert f": on {where}, processes 1, torch {torch.__version__}\n" in text


def test_a_table_says_what_is_alike_in_its_rows(runs, hydra_configs):
    table, (errors, *_) = own_table(runs)
    first = errors.notes[0]
    for said in ("num_classes 10", "initial_channels 4", "batch_size 20", "loss soft_cross_entropy"):
        assert said in first
    change(run_of(runs, "vanilla", 0) / "config.yaml", recipe={**table.rows[0].runs[0].config["recipe"], "lr": 0.7})
    _, (errors, *_) = own_table(runs)
    assert " lr " in first
    assert " lr " not in errors.notes[0]


def test_puzzle_mix_is_tested_against_each_other_row_by_welch(runs, hydra_configs):
    for method, errors in {"puzzlemix": (5.0, 6.0), "vanilla": (8.0, 8.5)}.items():
        for seed, error in enumerate(errors):
            change(run_of(runs, method, seed) / "metrics.json", top1_error=dict.fromkeys(STATISTICS, error))
    note = "p-values of Welch's t-test on the top-1 error, puzzlemix against: vanilla 0.069"
    assert note in own_table(runs)[1][0].notes
    (run_of(runs, seed=1) / "metrics.json").unlink()
    assert not any("Welch" in note for note in own_table(runs)[1][0].notes)


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
    with pytest.raises(SystemExit, match="there are runs of another and digits_preactresnet18_narrow: add table="):
        script("compare", "curves", f"results_dir={runs}", f"output={tmp_path}/curves.png")
    with pytest.raises(SystemExit, match="runs has no runs of anoter; did you mean 'another'"):
        script("compare", "curves", f"results_dir={runs}", "table=anoter", f"output={tmp_path}/curves.png")
    with pytest.raises(SystemExit, match="empty has no runs: train one, or give results_dir="):
        script("compare", "curves", f"results_dir={tmp_path}/empty", f"output={tmp_path}/curves.png")


def test_columns_of_attacks_hold_their_own_settings_alone(runs, hydra_configs):
    attacks = {"fgsm8": {"eps_255": 4, "step_255": 8, "steps": 1, "random_start": False}}
    change(run_of(runs) / "metrics.json", attacks=attacks)
    table, (errors, *_) = own_table(runs)
    assert table.rows[0].label.endswith("puzzlemix")
    other = json.loads((run_of(runs, seed=1) / "metrics.json").read_text())
    assert errors.rows[0][6] == f"{other['fgsm8_error']:.2f} (1 of 2)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table=table33"], "unknown table 'table33'; did you mean 'table3'"),
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


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed")
def test_latex_compiles_with_booktabs(tmp_path):
    everything = Table(r"all & \signs % $ # _ { } ~ ^ ± < > |", ("a_b",), [(r"& \x % $ # _ { } ~ ^ ± < > |",)], ["# 1"])
    preamble = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{preamble}{as_latex([SIGNS, everything])}\\end{{document}}")
    options = {"cwd": tmp_path, "check": True, "capture_output": True, "timeout": 60}
    subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], **options)
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_signs_are_escaped_in_each_format():
    assert "| x\\|y | 1.00 ± 0.10 |" in as_markdown([SIGNS])
    assert "| --- | ---: |" in as_markdown([SIGNS])
    rows = [[SIGNS.title, *row] for row in SIGNS.rows]
    assert list(csv.reader(io.StringIO(as_csv([SIGNS, SIGNS])))) == [["table", "a_b", "error %"], *rows, *rows]
    tex = as_latex([SIGNS])
    assert r"\caption{50 \% \& more\_less}" in tex
    assert r"x$|$y & 1.00 $\pm$ 0.10 \\" in tex
    assert r"\{z\} & 2.00 \\" in tex
    assert r"\begin{tabular}{lr}" in tex
    assert tex.count(r"\begin") == tex.count(r"\end")
    assert as_latex([Table("a", ("diff",), [("-0.1 <",)])]).count(r"-0.1 $<$ \\") == 1
    html = as_html([Table("a < b", ("x",), [("1 & 2",)], ["<note>"])])
    assert "<h2>a &lt; b</h2>" in html
    assert '<td style="text-align: right">1 &amp; 2</td>' in html
    assert "<li>&lt;note&gt;</li>" in html


def test_the_spread_is_that_of_a_sample():
    assert spread([1.0]) == "1.00"
    assert spread([]) == "-"
    assert spread([1.0, 2.0, 4.0]) == f"{mean([1, 2, 4]):.2f} ± {stdev([1, 2, 4]):.2f}"


def test_names_that_look_like_markup_are_shown_as_they_are(capsys):
    names = ["puzzlemix [ca4e01e0]", "puzzlemix [a1e62cb6]", "x[/b]y"]
    print_tables([Table("[b]", ("[/i]",), [(name,) for name in names])])
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[b]", "[/i]", *names))


def test_two_rows_do_not_look_the_same(runs, hydra_configs):
    for seed in (0, 1):
        change(run_of(runs, "vanilla", seed) / "config.yaml", name="puzzlemix")
    _, (errors, *_) = own_table(runs)
    assert [row[0] for row in errors.rows] == ["digits_preactresnet18_narrow_puzzlemix", "puzzlemix"]


def test_runs_of_several_numbers_of_processes_are_named(runs, hydra_configs):
    path = run_of(runs) / "metrics.json"
    change(path, machine={**json.loads(path.read_text())["machine"], "processes": 8})
    _, (errors, *_) = own_table(runs)
    assert any(note.startswith("puzzlemix seed 0: on ") and "processes 8" in note for note in errors.notes)


def test_errors_on_validation_images_are_named(runs, hydra_configs):
    for path in runs.rglob("metrics.json"):
        change(path, evaluated_on="validation")
    _, (errors, *_) = own_table(runs)
    assert "all: errors on validation images" in errors.notes


def test_a_line_on_many_runs_says_how_many(runs, hydra_configs):
    for seed in range(2, 9):
        change(
            shutil.copytree(run_of(runs), run_of(runs, seed=seed)) / "config.yaml",
            name=run_of(runs).parent.name,
            seed=seed,
        )
        change(run_of(runs, seed=seed) / "metrics.json", git_commit="0123456789")
    _, (errors, *_) = own_table(runs)
    assert "7 of 11 runs: of commit 0123456" in errors.notes

"""Published numbers: the files in the repository, and rows that somebody adds to them."""

import csv
import re
import shutil

import hydra
import pytest
import yaml
from made_runs import EXPERIMENTS, PAPER
from omegaconf import OmegaConf

from puzzlemix.reporting.measures import MEASURES
from puzzlemix.reporting.paper import FIRST, LAST, read_published, read_settings
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.settings import RESULT_DEPENDS_ON, settings, settings_fingerprint

NAMES = {path.stem for path in EXPERIMENTS.glob("*.yaml")}
TABLE3 = (*FIRST, "top1_error", "top5_error", "fgsm8_error", *LAST)


def read(folder=PAPER):
    return {table.name: table for table in read_published(folder, NAMES)}


def test_every_number_that_was_collected_is_there():
    tables = read()
    assert sum(len(row.numbers) for table in tables.values() for row in table.rows) == 1370 + 8  # 8 are printed twice
    assert [*tables][:8] == [*(f"table{n}" for n in range(2, 9)), "sage_table1"]
    assert all(row.source and row.statistic for table in tables.values() for row in table.rows)
    assert all(table.title != table.name for table in tables.values())


def test_every_row_of_the_papers_tables_has_an_experiment_but_what_it_quotes():
    rows = [row for name, table in read().items() if name.startswith("table") for row in table.rows]
    assert len(rows) == 46
    assert [row.label for row in rows if not row.experiment] == ["Manifold, quoted"] * 2
    assert {row.not_stated for row in rows} == {(), ("recipe.epochs",), ("mixup.alpha",)}


def test_settings_behind_the_rows_are_those_of_the_experiments():
    published = read_settings(PAPER / "settings.yaml").experiments
    assert set(published) == {row.experiment for table in read().values() for row in table.rows if row.experiment}
    for name, theirs in published.items():
        with hydra.initialize_config_dir(str(EXPERIMENTS.parent), version_base="1.3"):
            config = hydra.compose("train", [f"experiment={name}"])
        parts = {key: OmegaConf.to_container(config[key], resolve=True) for key in RESULT_DEPENDS_ON}
        assert theirs == {**settings({**parts, "precision": config.precision}), "processes": 1}, name


def test_settings_that_were_edited_are_refused(tmp_path):
    path = tmp_path / "settings.yaml"
    content = yaml.safe_load((PAPER / "settings.yaml").read_text())
    entry = content["experiments"]["cifar100_preactresnet18_puzzlemix"]
    entry["settings"]["recipe.epochs"] = 40
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="the settings of cifar100_preactresnet18_puzzlemix do not have their finger"):
        read_settings(path)
    entry["fingerprint"] = settings_fingerprint(entry["settings"])
    path.write_text(yaml.safe_dump(content))
    assert read_settings(path).experiments["cifar100_preactresnet18_puzzlemix"]["recipe.epochs"] == 40
    for damaged in ("", "[1]", "experiments: {}"):
        path.write_text(damaged)
        with pytest.raises(InputError, match=r"settings\.yaml is missing or damaged: restore it"):
            read_settings(path)


def test_the_head_of_an_experiment_has_the_numbers_of_its_row():
    for name, table in read().items():
        for row in table.rows:
            if "table" in name and row.experiment:
                head = (EXPERIMENTS / f"{row.experiment}.yaml").read_text().partition("defaults:")[0]
                missing = [number for number in row.numbers.values() if f"{number} %" not in head]
                assert missing == (["20.45"] if (name, row.label) == ("table6", "AugMix") else [])  # Table 2: 20.44
                assert all({"recipe.epochs": "epochs", "mixup.alpha": "alpha"}[key] in head for key in row.not_stated)


def test_a_sweep_has_the_rows_of_its_table():
    tables = read()
    for path in (EXPERIMENTS.parent / "sweep").glob("*table*.yaml"):
        if path.stem in tables:
            swept = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]["experiment"]
            rows = [row.experiment for row in tables[path.stem].rows if row.experiment]
            assert re.split(r",\s*", swept) == rows
            tables.pop(path.stem)
    assert not {name for name in tables if "table" in name}


ADDED = {
    "label": "Vanilla, again",
    "experiment": "cifar100_preactresnet18_vanilla",
    "top1_error": "23.60",
    "top5_error": "",
    "fgsm8_error": "",
    "statistic": "mean of 3 runs",
    "not_stated": "recipe.lr recipe.loss",
    "source": "a paper,\npage 8",
    "note": "",
}


@pytest.fixture
def add(tmp_path):
    """Add a row to a copy of Table 3, as one would in an editor; returns the copy's folder."""
    folder = shutil.copytree(PAPER, tmp_path / "paper")

    def add(**columns):
        with open(folder / "table3.csv", "a", newline="") as file:
            csv.DictWriter(file, TABLE3).writerow(ADDED | columns)
        return folder

    return add


def test_a_row_can_be_added_in_an_editor(add):
    folder = add()
    *others, added = read(folder)["table3"].rows
    assert others == read()["table3"].rows
    assert (added.numbers, added.runs, added.not_stated) == ({"top1_error": "23.60"}, 3, ("recipe.lr", "recipe.loss"))
    path = folder / "table3.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as a spreadsheet writes it
    assert read(folder)["table3"].rows[-1] == added


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"top1_error": "about 20"}, "top1_error must be a number, such as 19.60, not 'about 20'"),
        ({"top1_error": "inf"}, "top1_error must be a number, such as 19.60, not 'inf'"),
        ({"top1_error": "20²"}, "top1_error must be a number, such as 19.60, not '20²'"),
        ({"fgsm8_error": "123"}, "fgsm8_error must be a percentage, 0 to 100, not 123"),
        ({"source": ""}, "source must not be empty"),
        ({"statistic": ""}, "statistic must not be empty"),
        ({"experiment": "cifar100_preactresnet18_vanila"}, "did you mean 'cifar100_preactresnet18_vanilla'?"),
        ({"statistic": "median of last ten epochs"}, "; did you mean 'median of last 10 epochs'?"),
    ],
)
def test_a_wrong_row_is_named_with_its_file_and_line(add, columns, message):
    path = add() / "table3.csv"
    add(**columns)
    with pytest.raises(InputError) as refused:
        read(path.parent)
    last = len(path.read_text().splitlines())
    assert str(refused.value).startswith(f"{path}, line {last}, must be corrected: ")
    assert str(refused.value).endswith(message)


def test_a_row_that_stands_there_twice_is_refused(add):
    add()
    folder = add(top1_error="23.70")
    last = len((folder / "table3.csv").read_text().splitlines())
    with pytest.raises(InputError, match=rf"table3\.csv, line {last}: this row stands above already"):
        read(folder)


def test_a_file_of_another_form_is_named(tmp_path):
    folder, path = shutil.copytree(PAPER, tmp_path / "paper"), tmp_path / "paper" / "notes.csv"
    for content, message in (
        (b"a,b\n1,2\n", "line 1: the first columns must be label, experiment, the last ones statistic, "),
        (
            ",".join((*FIRST, "top1_eror", *LAST)).encode(),
            "line 1: unknown metric 'top1_eror'; did you mean 'top1_error'",
        ),
        (",".join(TABLE3).encode() + b"\nonly,three,cells\n", "line 2, must be corrected: it must have 9 values"),
        (b"\xff\xfe", "is no CSV file after line 1"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{path},? {message}"):
            read(folder)
    with pytest.raises(InputError, match=r"no published numbers in .*: give published="):
        read(tmp_path)


def test_a_measure_has_the_attack_of_its_name():
    files = (path.read_text() for path in (EXPERIMENTS.parent / "attack").glob("*.yaml"))
    attacks = {f"{name}_error": attack for text in files for name, attack in yaml.safe_load(text).items()}
    for measure in MEASURES:
        assert measure.attack == attacks.get(measure.key)

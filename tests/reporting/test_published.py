"""Published numbers: the files in the repository, and adding to them."""

import csv
import shutil

import pytest
import yaml
from made_runs import EXPERIMENTS, PAPER

from puzzlemix.errors import InputError
from puzzlemix.reporting.adding import add_published, columns_to_add
from puzzlemix.reporting.collected import COLUMNS, split_collected
from puzzlemix.reporting.experiments import experiment_files
from puzzlemix.reporting.measures import MEASURES
from puzzlemix.reporting.published import Published, read_published

NAMES = [experiment.name for experiment in experiment_files(EXPERIMENTS)]


def write_collected(table):
    """The collected table, put together again from our files; its path."""
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in read_published(PAPER).numbers:
            renamed = {"architecture": row.network, "verified_where": row.seen_in}
            writer.writerow({name: renamed.get(name) or getattr(row, name) for name in writer.fieldnames})
    return table


def test_the_files_follow_from_the_collected_table(tmp_path):
    """Which is not in the repository, so it is put together again from them: nothing is lost on the way and back."""
    rows = split_collected(write_collected(tmp_path / "numbers.csv"), tmp_path)
    assert sum(rows.values()) == 930
    for path in rows:
        assert path.read_bytes() == (PAPER / path.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.replace(",57.11,", ",abc,"), r"row \d+: value must be a number, not 'abc'"),
        (lambda line: ",".join(line.split(",")[:5]), r"row \d+: as many values as columns, 13"),
    ],
)
def test_a_damaged_collected_table_leaves_the_files_as_they_were(tmp_path, change, message):
    table = write_collected(tmp_path / "numbers.csv")
    split_collected(table, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv") if path != table}
    lines = table.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if ",57.11," in line)
    lines[place] = change(lines[place]).rstrip("\n") + "\n"
    table.write_text("".join(lines))
    with pytest.raises(InputError, match=message):
        split_collected(table, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv") if path != table} == before


def test_every_number_says_where_it_was_seen_and_has_an_experiment_or_none():
    for row in read_published(PAPER).numbers:
        assert row.source
        assert row.seen_in
        assert row.experiment in ("", *NAMES)


def test_numbers_of_the_paper_stand_with_their_experiments():
    found = {
        (row.experiment, row.measure.key, row.measured_by): row.number
        for row in read_published(PAPER).numbers
        if row.experiment and row.measure and row.measured_by
    }
    assert found["cifar100_preactresnet18_puzzlemix", "top1_error", "median10"] == 19.6
    assert found["tiny_imagenet_preactresnet18_puzzlemix", "top1_error", "median10"] == 36.1
    assert found["imagenet_resnet50_puzzlemix_300", "top1_error", "best"] == 21.24
    assert found["cifar100_preactresnet18_puzzlemix_adversarial", "pgd7_eps8_error", "last"] == pytest.approx(94.04)
    assert not any("_vanilla" in name for name, *_ in found)  # none was seen, so there is none


def test_digits_of_a_value_as_printed():
    row = read_published(PAPER).numbers[0]
    assert (row.value, row.decimals, row.half_unit) == ("16.0", 1, 0.05)


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(PAPER, tmp_path / "paper")
    return tmp_path / "paper"


VANILLA = {
    "experiment": "cifar100_preactresnet18_vanilla",
    "value": "23.60",
    "table": "3",
    "source": "Kim, Choo, Song, ICML 2020",
    "seen_in": "the paper, page 8",
}


def add(folder, **columns):
    row = columns_to_add({**VANILLA, **columns}, experiment_files(EXPERIMENTS))
    return add_published(folder / "added.csv", row, NAMES)


def test_a_number_is_added_with_what_follows_from_its_experiment(folder):
    before = read_published(folder).numbers
    add(folder)
    add(folder, metric="fgsm8_error", value="88.1")
    *others, top1, fgsm = sorted(read_published(folder).numbers, key=lambda row: row.source_id == "added")
    assert others == before
    assert top1 == Published(
        **VANILLA,
        source_id="added",
        dataset="CIFAR-100",
        network="PreActResNet-18",
        epochs="",
        method="Vanilla",
        variant="",
        metric="top1_error",
        unit="%",
        statistic="paper table value",
        note="",
    )
    assert (fgsm.metric, fgsm.value) == ("fgsm8_error", "88.1")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"value": "about 20"}, "value must be a number, not 'about 20'"),
        ({"value": "123"}, "value must be a percentage, 0 to 100, not 123"),
        ({"seen_in": ""}, "seen_in must not be empty"),
        ({"experiment": "cifar100_preactresnet18_vanila"}, "did you mean 'cifar100_preactresnet18_vanilla'"),
        ({"metric": "top1_eror"}, "unknown metric 'top1_eror'; did you mean 'top1_error'"),
        ({"epochs": "many"}, "epochs must be a whole number or empty, not 'many'"),
        ({"epochs": "20²"}, "epochs must be a whole number or empty, not '20²'"),
        ({"unit": "fraction", "value": "0.236"}, "unit must be %, not fraction: experiments are compared in percent"),
        ({"statistic": "Median10"}, "statistic must begin as one of .*'median of last 10 epochs'.* not 'Median10'"),
        ({"dataset": "CIFAR-10"}, "dataset of cifar100_preactresnet18_vanilla is CIFAR-100, not CIFAR-10: leave"),
        (
            {"experiment": "", "dataset": "CIFAR-10", "network": "x", "method": "y", "unit": "s", "value": "inf"},
            "finite",
        ),
    ],
)
def test_a_wrong_number_is_refused_and_nothing_written(folder, columns, message):
    with pytest.raises(InputError, match=message):
        add(folder, **columns)
    assert not (folder / "added.csv").exists()


def test_the_same_number_is_not_added_twice(folder):
    add(folder)
    text = (folder / "added.csv").read_text()
    with pytest.raises(InputError, match="is there already"):
        add(folder, value="24")
    assert (folder / "added.csv").read_text() == text


def test_a_damaged_file_is_named_with_its_row(folder):
    with open(folder / "openmixup.csv", "a") as file:
        file.write("only,three,cells\n")
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    numbers, problems = read_published(folder)
    assert {row.source_id for row in numbers} > {"puzzlemix_log_adv"}  # the rest is there
    assert "notes.csv must have columns experiment, " in problems[0]
    assert "openmixup.csv, row 435: as many values as columns" in problems[1]


def test_a_measure_has_the_attack_of_its_name():
    files = (path.read_text() for path in (EXPERIMENTS.parent / "attack").glob("*.yaml"))
    attacks = {f"{name}_error": attack for text in files for name, attack in yaml.safe_load(text).items()}
    for measure in MEASURES:
        assert measure.attack == attacks.get(measure.key)


def test_no_number_of_whole_runs_is_left_out():
    """Of those that runs measure: what is left are numbers of epochs within the authors' training."""
    left_out = {
        row.statistic.partition(" epoch")[0]
        for row in read_published(PAPER).numbers
        if row.experiment and row.measure and not row.measured_by
    }
    assert left_out == {"test at", "in-training FGSM at"}


def test_published_epochs_are_those_of_the_experiments(hydra_configs):
    experiments = {experiment.name: experiment for experiment in experiment_files(EXPERIMENTS)}
    epochs = {
        (row.experiment, int(row.epochs)) for row in read_published(PAPER).numbers if row.experiment and row.epochs
    }
    assert len(epochs) == 8
    for name, printed in epochs:
        assert experiments[name].settings()["recipe.epochs"] == printed

"""Published numbers: the files in the repository, and rows that somebody adds to them."""

import csv
import shutil

import pytest
import yaml
from made_runs import EXPERIMENTS, PAPER

from puzzlemix.reporting.measures import MEASURES
from puzzlemix.reporting.paper import Published, experiment_files, read_published
from puzzlemix.runtime.errors import InputError


def read(folder):
    return read_published(folder, experiment_files(EXPERIMENTS))


def test_numbers_of_the_paper_stand_with_their_experiments():
    found = {
        (row.experiment, row.measure.key, row.measured_by): row.number
        for row in read(PAPER)
        if row.experiment and row.measure and row.measured_by
    }
    assert found["cifar100_preactresnet18_puzzlemix", "top1_error", "median10"] == 19.6
    assert found["tiny_imagenet_preactresnet18_puzzlemix", "top1_error", "median10"] == 36.1
    assert found["imagenet_resnet50_puzzlemix_300", "top1_error", "best"] == 21.24
    assert found["cifar100_preactresnet18_puzzlemix_adversarial", "pgd7_eps8_error", "last"] == pytest.approx(94.04)
    assert not any("_vanilla" in name for name, *_ in found)  # none was seen, so there is none
    assert len(read(PAPER)) == 930


def test_digits_of_a_value_as_printed():
    row = read(PAPER)[0]
    assert (row.value, row.decimals, row.half_unit) == ("16.0", 1, 0.05)


ADDED = {
    "experiment": "cifar100_preactresnet18_vanilla",
    "source_id": "added",
    "source": "Kim, Choo, Song, ICML 2020",
    "table": "3",
    "dataset": "CIFAR-100",
    "network": "PreActResNet-18",
    "epochs": "",
    "method": "Vanilla",
    "variant": "",
    "metric": "top1_error",
    "value": "23.60",
    "unit": "%",
    "statistic": "paper table value",
    "seen_in": "the paper,\npage 8",
    "note": "",
}


@pytest.fixture
def add(tmp_path):
    """Add a row to a copy of the files, as one would in an editor; returns the copy's folder."""
    folder = shutil.copytree(PAPER, tmp_path / "paper")

    def add(**columns):
        with open(folder / "others.csv", "a", newline="") as file:
            csv.DictWriter(file, Published._fields).writerow(ADDED | columns)
        return folder

    return add


def test_a_row_can_be_added_in_an_editor(add):
    folder = add()
    *others, added = sorted(read(folder), key=lambda row: row.source_id == "added")
    assert others == read(PAPER)
    assert added._asdict() == ADDED
    path = folder / "others.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as a spreadsheet writes it
    assert added in read(folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"value": "about 20"}, "value must be a number, such as 19.60, not 'about 20'"),
        ({"value": "inf"}, "value must be a number, such as 19.60, not 'inf'"),
        ({"value": "123"}, "value must be a percentage, 0 to 100, not 123"),
        ({"seen_in": ""}, "seen_in must not be empty"),
        ({"experiment": "cifar100_preactresnet18_vanila"}, "did you mean 'cifar100_preactresnet18_vanilla'?"),
        ({"metric": "top1_eror"}, "unknown metric 'top1_eror'; did you mean 'top1_error'?"),
        ({"epochs": "many"}, "epochs must be a whole number or empty, not 'many'"),
        ({"epochs": "20²"}, "epochs must be a whole number or empty, not '20²'"),
        ({"unit": "fraction", "value": "0.236"}, "unit must be %, not fraction"),
        ({"statistic": "median of last ten epochs"}, "; did you mean 'median of last 10 epochs'?"),
        ({"dataset": "CIFAR-10"}, "dataset of cifar100_preactresnet18_vanilla is CIFAR-100, not CIFAR-10"),
    ],
)
def test_a_wrong_row_is_named_with_its_file_and_line(add, columns, message):
    path = add() / "others.csv"
    add(**columns)
    with pytest.raises(InputError) as refused:
        read(path.parent)
    last = len(path.read_text().splitlines())
    assert str(refused.value).startswith(f"{path}, line {last}, must be corrected: ")
    assert str(refused.value).endswith(message)


def test_a_file_of_another_form_is_named(tmp_path):
    folder, path = shutil.copytree(PAPER, tmp_path / "paper"), tmp_path / "paper" / "notes.csv"
    for content, message in (
        (b"a,b\n1,2\n", "line 1: the columns must be experiment, "),
        (",".join(Published._fields).encode() + b"\nonly,three,cells\n", "line 2, must be corrected: it must have 15"),
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


def test_no_number_of_whole_runs_is_left_out():
    """Of those that runs measure: what is left are numbers of epochs within the authors' training."""
    left_out = {
        row.statistic.partition(" epoch")[0]
        for row in read(PAPER)
        if row.experiment and row.measure and not row.measured_by
    }
    assert left_out == {"test at", "in-training FGSM at"}


def test_published_epochs_are_those_of_the_experiments(hydra_configs):
    experiments = {experiment.name: experiment for experiment in experiment_files(EXPERIMENTS)}
    epochs = {(row.experiment, int(row.epochs)) for row in read(PAPER) if row.experiment and row.epochs}
    assert len(epochs) == 8
    for name, printed in epochs:
        assert experiments[name].settings()["recipe.epochs"] == printed

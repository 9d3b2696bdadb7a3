"""`scripts/prepare_data.py`: datasets as published, or one's own images, written once and whole."""

import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import SCRIPTS
from pictures import VALIDATION, WNIDS, crops, pixels_of, write_class_folders, write_image, write_tiny_imagenet, zipped

CLASSES = ["ant", "bee", "cat"]
THREE_CLASSES = ("dataset.num_classes=3", "dataset.train_images=null", "dataset.test_images=null")


@pytest.fixture
def prepare(script, tmp_path, capsys):
    """`prepare("tiny_imagenet", ...)`: run the script on datasets below `tmp_path / "data"`; gives what it prints."""

    def run(dataset, *overrides):
        capsys.readouterr()
        script("prepare_data", f"dataset={dataset}", f"dataset.root={tmp_path}/data", *overrides)
        return capsys.readouterr().out

    return run


@pytest.fixture
def tiny(prepare, tmp_path):
    """Prepares the small Tiny-ImageNet, from where it is expected."""
    (tmp_path / "data" / "raw").mkdir(parents=True)
    write_tiny_imagenet(tmp_path).rename(tmp_path / "data" / "raw" / "tiny-imagenet-200")
    zipped(tmp_path / "data" / "raw" / "tiny-imagenet-200")
    return lambda *overrides: prepare("tiny_imagenet", *THREE_CLASSES, *overrides)


def content(folder):
    """Every file below a folder, as bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_as_a_command(tmp_path):
    zipped(write_tiny_imagenet(tmp_path))
    command = [sys.executable, SCRIPTS / "prepare_data.py", "dataset=tiny_imagenet", "source=tiny-imagenet-200.zip"]
    done = subprocess.run([*command, *THREE_CLASSES], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar where there is no terminal
    assert done.stdout == "data/tiny_imagenet: prepared, 12 training and 6 test images of 3 classes\n"
    assert set(content(tmp_path / "data")) == {"tiny_imagenet/train.npz", "tiny_imagenet/test.npz"}


def test_once_prepared_it_says_so_and_writes_nothing(tiny, tmp_path):
    assert tiny() == f"{tmp_path}/data/tiny_imagenet: prepared, 12 training and 6 test images of 3 classes\n"
    files = list((tmp_path / "data" / "tiny_imagenet").iterdir())
    written = {path: path.stat().st_mtime_ns for path in files}
    assert "tiny_imagenet: prepared before (again: force=true), 12 training and 6 test images" in tiny(
        "source=none.zip"
    )
    assert {path: path.stat().st_mtime_ns for path in files} == written
    tiny("force=true")
    assert not set(written.items()) & {(path, path.stat().st_mtime_ns) for path in files}


def test_what_is_written(tiny, tmp_path):
    tiny()
    folder = tmp_path / "data" / "raw" / "tiny-imagenet-200"
    with np.load(tmp_path / "data" / "tiny_imagenet" / "test.npz") as test:
        assert test["classes"].tolist() == sorted(WNIDS)
        assert [test["classes"][label] for label in test["y"]] == VALIDATION
        wanted = [pixels_of(folder / "val" / "images" / f"val_{i}.JPEG") for i in range(6)]
        np.testing.assert_array_equal(test["x"], wanted)


def test_an_interrupted_preparation_is_made_good(tiny, tmp_path):
    tiny()
    written = content(tmp_path / "data")
    (tmp_path / "data" / "tiny_imagenet" / "test.npz").unlink()
    assert "prepared, 12 training" in tiny()
    assert content(tmp_path / "data") == written


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset.num_classes=4"], r"1 of 4 classes have no image .*check what source= holds"),
        (["dataset.train_images=100000"], r"train: 12 images instead of 100000: check what source= holds"),
        (["source=none.zip"], r"none\.zip does not exist: put the official tiny-imagenet-200\.zip"),
    ],
)
def test_a_source_of_something_else_changes_nothing(tiny, tmp_path, overrides, message):
    tiny()
    written = content(tmp_path / "data")
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{message}[^\n]*$"):
        tiny("force=true", *overrides)
    assert content(tmp_path / "data") == written


def test_a_damaged_dataset_is_not_taken_for_prepared(tiny, tmp_path):
    tiny()
    path = tmp_path / "data" / "tiny_imagenet" / "train.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(
        SystemExit, match=r"train\.npz is damaged .*: delete it and run `python scripts/prepare_data\.py"
    ):
        tiny()
    path.unlink()
    tiny()
    assert path.read_bytes() == whole


def test_own_images_are_prepared_once_from_one_folder(prepare, tmp_path):
    write_class_folders(tmp_path / "mine", CLASSES, 10, (40, 50))
    overrides = (f"source={tmp_path}/mine", "dataset.name=insects", "dataset.image_size=[32,32]", "test_share=0.3")
    prepared, line = prepare("image_folder", *overrides).splitlines()
    assert prepared == f"{tmp_path}/data/insects: prepared, 21 training and 9 test images of 3 classes"
    assert prepare("image_folder", *overrides).splitlines()[1] == line
    with np.load(tmp_path / "data" / "insects" / "train.npz") as train:
        mean = (train["x"] / 255).mean((0, 1, 2))
    assert "dataset.mean=[" + ",".join(str(round(value, 3)) for value in mean.tolist()) + "]" in line

    write_class_folders(tmp_path / "others", CLASSES, 10, (40, 50))
    with pytest.raises(SystemExit, match=rf"insects was prepared from {tmp_path}/mine: give another dataset.name=, or"):
        prepare("image_folder", f"source={tmp_path}/others", *overrides[1:])
    record = tmp_path / "data" / "insects" / "source.txt"
    assert record.read_text() == f"{tmp_path}/mine"
    record.unlink()
    prepare("image_folder", f"source={tmp_path}/others", *overrides[1:])
    assert not record.exists()  # their folder is not known


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("my images", "my images"),
        ("2024", "2024"),
        ('"[a] (b) {c} 100%, a=b"', "[a] (b) {c} 100%, a=b"),
        (r'''"it's the \"best\" Blüte 花 of $HOME\\"''', """it's the "best" Blüte 花 of $HOME\\"""),
    ],
)
def test_own_images_of_any_name_train_with_the_line_that_it_prints(prepare, script, tmp_path, typed, name):
    """Also where a channel is constant. Bash reads the line, as the user's shell does."""
    for label in CLASSES:
        for i, pixels in enumerate(crops(4, (16, 16))):
            pixels[..., 2] = 0
            write_image(tmp_path / "mine" / label / f"{i}.png", pixels)
    root = tmp_path / "my data [2], a=b"
    small = (f'dataset.root="{root}"', f"source={tmp_path}/mine", "dataset.image_size=[16,16]")
    line = prepare("image_folder", *small, f"dataset.name={typed}").splitlines()[1]
    shell = f"printf '%s\\0' {line.removeprefix('train with: ')}"
    program, *arguments, _ = subprocess.run(["bash", "-c", shell], capture_output=True, text=True).stdout.split("\0")
    assert (program, arguments.pop(0)) == ("python", "scripts/train.py")
    tiny = ("network.initial_channels=4", "recipe.epochs=1", "recipe.batch_size=3", "attack=none", "device=cpu")
    script("train", *arguments, *tiny, f"results_dir={tmp_path}")
    config = yaml.safe_load(next(tmp_path.glob("*/seed0/config.yaml")).read_text())["dataset"]
    assert (config["name"], config["root"], config["std"][2]) == (name, str(root), 1.0)
    assert next(tmp_path.glob("*/seed0/metrics.json")).parents[1].name.startswith(name)


@pytest.mark.parametrize("name", ["a/b", "..", "", "a\tb"])
def test_names_that_no_folder_can_have(prepare, tmp_path, name):
    write_class_folders(tmp_path / "mine", CLASSES, 2, (8, 8))
    with pytest.raises(SystemExit, match=r"^error: dataset\.name='.*' cannot be the name of a folder: [^\n]*$"):
        prepare("image_folder", f"source={tmp_path}/mine", f'dataset.name="{name}"')
    assert not (tmp_path / "data").exists()


def test_own_images_may_be_called_like_a_published_set(prepare, tmp_path):
    write_class_folders(tmp_path / "mine", CLASSES, 10, (40, 50))
    printed = prepare("image_folder", f"source={tmp_path}/mine", "dataset.name=imagenet", "dataset.image_size=[32,32]")
    assert printed.startswith(f"{tmp_path}/data/imagenet: prepared, 24 training and 6 test images of 3 classes\n")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"source must be given: add source=FOLDER"),
        (["source=nowhere"], r"nowhere does not exist: give source=FOLDER"),
        (["test_share=2", "source=mine"], r"test_share must lie in \(0, 1\), not 2"),
        (["dataset.num_classes=5", "source=mine"], r"train: 2 of 5 classes have no image"),
    ],
)
def test_own_images_that_cannot_be_prepared(prepare, tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    write_class_folders(tmp_path / "mine", CLASSES, 2, (20, 20))
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        prepare("image_folder", *overrides)
    assert not (tmp_path / "data").exists()


def test_imagenet_is_linked_and_copied_once(prepare, tmp_path):
    for split in ("train", "val"):
        write_class_folders(tmp_path / "elsewhere" / split, CLASSES, 2, (180, 200))

    def run(*overrides):
        return prepare("imagenet", *THREE_CLASSES, *overrides)

    with pytest.raises(SystemExit, match=r"imagenet/train does not exist: put or link the images"):
        run()
    with pytest.raises(SystemExit, match=r"nowhere/train does not exist: give the folder that holds train/ and val/"):
        run(f"source={tmp_path}/nowhere")
    folder = tmp_path / "data" / "imagenet"
    copies = [f"{folder}/{name}" for name in ("train_352", "train_160", "val_352")]
    assert run(f"source={tmp_path}/elsewhere").splitlines() == [f"{copy}: prepared" for copy in copies]
    assert sorted(path.name for path in folder.iterdir()) == ["train", "train_160", "train_352", "val", "val_352"]
    assert (folder / "val").resolve() == tmp_path / "elsewhere" / "val"
    assert pixels_of(folder / "train_160" / "bee" / "1.JPEG").shape == (160, 177, 3)
    for split in ("train", "val"):
        assert pixels_of(folder / f"{split}_352" / "bee" / "1.JPEG").shape == (352, 391, 3)  # enlarged, as released
    assert run().splitlines() == [f"{copy}: prepared before" for copy in copies]
    with pytest.raises(SystemExit, match=r"train_352 exists: delete it, and it is written again"):
        run("force=true")

    (tmp_path / "elsewhere").rename(tmp_path / "moved")  # as disks do
    for split in ("train", "val"):
        write_class_folders(tmp_path / "other" / split, CLASSES, 2, (180, 200))
    assert run(f"source={tmp_path}/moved") == run()
    assert (folder / "val").resolve() == tmp_path / "moved" / "val"
    with pytest.raises(SystemExit, match=rf"train leads to {tmp_path}/moved/train: delete it to read "):
        run(f"source={tmp_path}/other")


def test_digits_need_nothing(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script("prepare_data", "dataset=digits")
    assert "nothing to prepare" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit, match="nothing is read from source="):
        script("prepare_data", "dataset=digits", "source=here")


def test_a_part_of_a_dataset_is_not_prepared_itself(prepare, tmp_path):
    wanted = r"^error: cifar100_20classes is read from .*data/cifar100: give dataset=cifar100 instead$"
    with pytest.raises(SystemExit, match=wanted):
        prepare("cifar100_20classes", f"source={tmp_path}")
    assert not (tmp_path / "data").exists()


def test_a_dataset_must_be_named(script):
    with pytest.raises(SystemExit, match=r"error: You must specify 'dataset'.* cifar100 .* tiny_imagenet"):
        script("prepare_data")

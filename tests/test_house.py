"""The shape of the code: which folder may import which, how long files are, how deep calls go."""

import ast
import sys
from pathlib import Path

import pytest

import puzzlemix.mixing.puzzle
from puzzlemix.mixing.assembly import assemble

SRC = Path(__file__).parents[1] / "src" / "puzzlemix"
FLOORS = ("runtime",), ("networks", "mixing", "data"), ("evaluation",), ("training",), ("cli",), ("reporting",)
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}

CORE = (  # what a reader of the method, its training and its attacks has to read
    *("mixing/base", "mixing/draws", "mixing/losses", "mixing/input_mixup", "mixing/cutmix", "mixing/manifold_mixup"),
    *("mixing/models", "mixing/saliency", "mixing/puzzle", "mixing/blocks", "mixing/costs"),
    *("mixing/graph", "mixing/cut", "mixing/swap", "mixing/transport", "mixing/assembly", "mixing/parallel"),
    *("networks/normalize", "networks/preact_resnet", "networks/wide_resnet", "networks/resnet"),
    *("training/loop", "training/recipe", "evaluation/attacks"),
)


def imported(path):
    """The folders of the package that a file imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if names == ["puzzlemix"]:
            names = [f"puzzlemix.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("puzzlemix."))


def test_the_package_holds_its_public_names_and_eight_folders_at_most():
    assert {path.name for path in SRC.glob("*.*")} <= {"__init__.py", "py.typed"}
    folders = {path.name for path in SRC.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FLOOR_OF)
    assert len(folders) <= 8


@pytest.mark.parametrize("folder", FLOOR_OF)
def test_a_folder_imports_only_what_lies_below_it(folder):
    wrong = {
        f"{path.relative_to(SRC)} imports {other}"
        for path in (SRC / folder).rglob("*.py")
        for other in imported(path)
        if other != folder and FLOOR_OF[other] >= FLOOR_OF[folder]
    }
    assert wrong == set()


def test_no_file_is_longer_than_350_lines():
    lines = {path.relative_to(SRC): len(path.read_text().splitlines()) for path in SRC.rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > 350} == {}


def test_the_loop_has_200_lines_at_most():
    assert len((SRC / "training" / "loop.py").read_text().splitlines()) <= 200


def test_the_core_is_small():
    lines = {name: len((SRC / f"{name}.py").read_text().splitlines()) for name in CORE}
    assert sum(lines.values()) <= 2800, lines


def test_a_reader_follows_nine_calls_from_the_script_to_the_pixels(train, monkeypatch):
    seen = []

    def walked(*arguments):
        frame, own = sys._getframe(1), []
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if {"puzzlemix", "scripts"} & set(path.parts[-3:]) and "site-packages" not in path.parts:
                own.append(f"{path.name}:{frame.f_code.co_name}")
            frame = frame.f_back
        seen.append([*reversed(own), "assembly.py:assemble"])
        return assemble(*arguments)

    monkeypatch.setattr(puzzlemix.mixing.puzzle, "assemble", walked)
    train("mixup=puzzlemix")
    calls = seen[0]
    assert calls[0] == "script.py:command"
    assert len(calls) + 1 <= 9, calls  # and the script's own line `main()`
    assert len({call.partition(":")[0] for call in calls}) <= 6

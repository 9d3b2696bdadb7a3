"""The shape of the code: which folder may import which."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "puzzlemix"
FLOORS = ("runtime",), ("networks", "mixing", "data"), ("evaluation",), ("training",), ("cli",), ("reporting",)
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}


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

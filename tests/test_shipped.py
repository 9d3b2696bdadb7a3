"""What users install: the sdist has what git has and its tests run; the wheel leaves other people's programs alone."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OWN = ("results/runs/mine/metrics.json", "models/mine_seed0.pt", "data/cifar100/train.npz", "src/puzzlemix/x.pyc")


def build(what, source, target):
    """Build an `sdist` or a `wheel` offline, as `python -m build --no-isolation` does."""
    call = f"from setuptools import build_meta; print(build_meta.build_{what}({str(target)!r}))"
    done = subprocess.run([sys.executable, "-c", call], cwd=source, capture_output=True, text=True, check=True)
    return target / done.stdout.splitlines()[-1]


def tracked():
    """The files that git has or would take. In an sdist, all that came with it."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    git = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    names = git.stdout.splitlines() or next(ROOT.glob("src/*.egg-info/SOURCES.txt")).read_text().splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """An unpacked sdist. It is built in a copy of the repository that has files of a user too."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in (*tracked(), *OWN):
        path = folder / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes() if name not in OWN else b"")
    with tarfile.open(build("sdist", folder / "copy", folder)) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("puzzlemix-*/")
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist):
    """The folder of an unpacked wheel, which pip would put into site-packages."""
    with zipfile.ZipFile(build("wheel", sdist, sdist.parent)) as archive:
        archive.extractall(sdist.parent / "site")
    return sdist.parent / "site"


def test_the_sdist_has_what_git_has_and_nothing_of_the_users_own(sdist):
    packed = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert set(tracked()) - packed == set()
    assert packed & set(OWN) == set()


def test_the_sdists_tests_run(sdist):
    environment = {**os.environ, "PYTHONPATH": str(sdist / "src")}
    chosen = ("tests/networks/test_kept.py", "tests/test_readme.py", "-k", "kept_weights or links")
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen)
    done = subprocess.run(command, cwd=sdist, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_wheel_has_its_types_and_says_what_it_is(wheel):
    import puzzlemix

    (metadata,) = wheel.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    assert f"\nVersion: {puzzlemix.__version__}\n" in text
    assert "scripts and their configs are not installed" in " ".join(text.split())
    assert (wheel / "puzzlemix" / "py.typed").is_file()
    assert {path.name for path in wheel.iterdir()} == {"puzzlemix", "hydra_plugins", metadata.parent.name}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", text, re.MULTILINE) == tested


FOREIGN = """
import sys
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    print(sys.modules["hydra_plugins.puzzlemix_sweeper"].__file__)
    print(sorted({"numpy", "puzzlemix", "submitit", "torch"} & set(sys.modules)))

main()
"""


def test_somebody_elses_hydra_program_starts_as_without_the_wheel(wheel, tmp_path):
    """Hydra imports every plugin that is installed, whatever program it starts."""
    (tmp_path / "foreign.py").write_text(FOREIGN)
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "foreign.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(wheel / "hydra_plugins" / "puzzlemix_sweeper.py"), "[]"]
    assert done.stderr == ""


def test_make_alone_prints_what_there_is_to_make():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {*re.findall(r"^make ([\w-]+) ", shown, re.MULTILINE)} == {"demo", "test", "test-all", "lint"}

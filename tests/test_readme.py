"""What README and docs/ show works as it stands there: code runs, commands compose, links and names lead somewhere."""

import os
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from conftest import CONFIGS, SCRIPTS

from puzzlemix.cli import overrides

ROOT = CONFIGS.parent
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
PAGES = {page: (ROOT / page).read_text() for page in ("README.md", *DOCS)}
LINKED = (*PAGES, "results/README.md", "results/paper/README.md", "models/README.md")
FOLDERS = "benchmarks|configs|docs|examples|models|results|scripts|src|tests"
MADE = r"results/runs|results/report\.html|models/checkpoint\.pt"  # by the commands shown
VARIABLE = re.compile(r"\$\w+")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def added_files(page):
    """The files that a page shows whole: their name in a line, then their content."""
    shown = re.findall(r"^`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    return dict(shown)


def commands(page):
    """Each command of the page's shell blocks as a list of words; a variable is a word like any other."""
    for block in blocks(page, "sh"):
        for line in VARIABLE.sub("x", block.replace("\\\n", " ")).splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            command = []
            for word in (*lexer, ";"):
                if set(word) <= set("();<>|&"):
                    yield command
                    command = []
                else:
                    command.append(word)


def calls():
    """What is called of this repository's programs, and with which arguments: `train mixup=cutmix`."""
    for page in PAGES:
        for command in commands(page):
            for place, word in enumerate(command):
                if program := re.fullmatch(r"scripts/(\w+)\.py|(benchmarks(?:\.soak)?)", word):
                    yield shlex.join([program[1] or program[2], *command[place + 1 :]])


CALLS = sorted(set(calls()))
OF_HYDRA = [call for call in CALLS if not call.startswith(("benchmarks", "import_checkpoint"))]


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Those of the repository, and those that pages add."""
    folder = shutil.copytree(CONFIGS, tmp_path_factory.mktemp("configs") / "configs")
    for page in PAGES:
        for name, text in added_files(page).items():
            if name.startswith("configs/"):
                (folder.parent / name).write_text(text)
    return folder


@pytest.fixture
def names():
    """What a user has whose code a page shows a part of."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1568, 100)
    )
    batches = [(torch.rand(32, 3, 16, 16), torch.arange(32))] * 20
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "batches": batches}


def test_the_loop_trains_a_plain_model(names):
    losses = []
    names["model"].register_forward_hook(
        lambda module, inputs, logits: losses.append(logits.softmax(-1)[:, :32].sum().item())
    )
    exec(blocks("README.md", "python")[-1], names)
    assert losses[-1] > 2 * losses[0]  # probability on the classes that there are


@pytest.mark.parametrize("page", [page for page in DOCS if blocks(page, "python")])
def test_its_code_runs(page, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    for block in blocks(page, "python"):
        exec(block, names)


def test_it_links_to_the_one_file_first_and_shows_its_head():
    one_file = ROOT / "examples" / "puzzle_mix_in_one_file.py"
    assert next(links("README.md")) == (one_file, "")
    assert one_file.read_text().startswith(blocks("README.md", "python")[0])


@pytest.mark.parametrize("call", OF_HYDRA)
def test_its_commands_compose(call, configs):
    name, *arguments = shlex.split(call)
    if arguments and f"{name}_{arguments[0]}" in ("compare_curves", "compare_runs"):
        name = f"{name}_{arguments.pop(0)}"
    if name == "plan":
        name = "train"  # it plans runs of this script
    overrides.check(configs, name, overrides.complete(arguments))


@pytest.mark.parametrize("call", [call for call in CALLS if call not in OF_HYDRA])
def test_its_other_commands_have_these_arguments(call, monkeypatch, capsys):
    name, *arguments = shlex.split(call)
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with suppress(SystemExit):
        if name.startswith("benchmarks"):
            runpy.run_module(name, run_name="__main__")
        else:
            monkeypatch.syspath_prepend(SCRIPTS)  # as Python itself does
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    known = set(re.findall(r"[\w.-]+", capsys.readouterr().out))
    assert {argument.partition("=")[0] for argument in arguments} <= known


def test_a_method_a_network_and_a_dataset_are_added_with_one_file_and_one_yaml_each(tmp_path, monkeypatch):
    for folder in ("src", "configs", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    added = added_files("docs/adding.md")
    assert len(added) == 5
    for name, text in added.items():
        (tmp_path / name).write_text(text)
    (arrays,) = (block for block in blocks("docs/adding.md", "python") if block not in added.values())
    monkeypatch.chdir(tmp_path)
    exec(arrays, {})
    python, *command = next(commands("docs/adding.md"))
    assert python == "python"
    environment = {**os.environ, "PYTHONPATH": "src"}
    quick = ("attack=none", "logger.mixed_every=0", "device=cpu")
    subprocess.run([sys.executable, *command, *quick], env=environment, check=True)
    assert (tmp_path / "results/runs/stripes_smallnet_halfmix/seed0/metrics.json").is_file()

    names = {}
    exec(added["src/puzzlemix/mixing/halfmix.py"], names)
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 3])
    mixed, targets = names["HalfMix"](num_classes=4)(None, images, labels, partner=torch.tensor([1, 0]))
    assert torch.equal(mixed, torch.cat([images[..., :2], images.flip(0)[..., 2:]], dim=-1))
    assert torch.equal(targets, torch.tensor([[0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5]]))


@pytest.mark.parametrize("group", ["dataset", "network", "mixup", "recipe", "attack", "suite", "launcher"])
def test_the_options_that_it_lists_are_all_there_are(group):
    (listed,) = re.findall(rf"^\| `{group}` \| (.*) \|$", PAGES["docs/experiments.md"], re.MULTILINE)
    assert sorted(listed.split(", ")) == overrides.options(CONFIGS / group)


def test_the_sweeps_that_it_lists_are_all_there_are():
    (listed,) = re.findall(r"^\| sweeps in .*\n((?:\|.*\n)*)", PAGES["docs/experiments.md"], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", listed)) == overrides.options(CONFIGS / "sweep")


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/changes.md"])  # what is gone
def test_what_it_names_is_there(page, configs):
    text, added = PAGES[page], {name for page in PAGES for name in added_files(page)}
    for path in re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./]*\w", text):
        assert path in added or re.match(MADE, path) or (ROOT / path).exists(), path
    for group in (path.name for path in configs.iterdir() if path.is_dir()):
        for chosen in re.findall(rf"\b{group}=([a-z][\w*,]*)", text):
            for option in chosen.rstrip(",").split(","):
                assert list((configs / group).glob(f"{option}.yaml")), f"{group}={option}"
    for name in re.findall(r"`(puzzlemix(?:\.\w+)+)`", text):
        pkgutil.resolve_name(name)


def anchors(page):
    """The names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    """A page's relative links: the file, and the anchor in it."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        yield (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page, anchor


@pytest.mark.parametrize("page", LINKED)
def test_its_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path.read_text()), f"{path}#{anchor}"


def test_the_readme_is_short_and_links_to_every_page():
    assert len(PAGES["README.md"].splitlines()) <= 200
    assert {ROOT / page for page in DOCS} <= {path for path, _ in links("README.md")}


@pytest.mark.parametrize("page", [page for page in DOCS if page not in ("docs/changes.md", "docs/glossary.md")])
def test_a_page_begins_with_the_command_that_a_reader_came_for(page):
    assert re.match(r"# .+\n\n```sh\n", PAGES[page])


def test_scripts_are_those_that_are_there():
    (listed,) = re.findall(r"^scripts/ +(.*)$", PAGES["README.md"], re.MULTILINE)
    commands = {path.stem for path in SCRIPTS.glob("*.py")} - {"startup"}  # which the others import
    assert sorted(listed.split(", ")) == sorted(commands)

"""Sweeps: what their files select, and that a run that fails does not keep the others from theirs."""

import re
import shlex
from pathlib import Path

import hydra
import pytest
import yaml
from conftest import CONFIGS, SCRIPTS, TINY
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from puzzlemix.cli.sweep import check_runs
from puzzlemix.reporting.runs import find_runs
from puzzlemix.runtime.errors import InputError
from puzzlemix.training.settings import differences, settings

SWEEPS = {path.stem: path for path in (CONFIGS / "sweep").glob("*.yaml")}
TABLES = [name for name in SWEEPS if re.fullmatch(r"(sage_)?table\d", name)]


def params_of(sweep):
    return yaml.safe_load(SWEEPS[sweep].read_text())["hydra"]["sweeper"]["params"]


def configs_of(sweep, **given):
    """The config of every run of a sweep with the first seed, its references to the options resolved."""
    params = params_of(sweep) | {"seed": 0} | given
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    for run in batch:
        chosen = dict(override.split("=") for override in run if "." not in override.split("=")[0])
        choices = [f"choices.{group}={chosen.get(group, 'any')}" for group in ("network", "mixup")]
        yield hydra.compose("train", [f"sweep={sweep}", *run, *choices])


@pytest.mark.parametrize("sweep", sorted(SWEEPS))
def test_its_runs_compose_and_have_folders_of_their_own(sweep, hydra_configs):
    names = [config.name for config in configs_of(sweep)]
    assert len(names) >= (1 if sweep == "ablation_solver" else 2)  # there is one solver besides the default
    assert len(set(names)) == len(names)
    assert str(params_of(sweep)["seed"]).startswith("0,1,2")
    assert f"# Run: python scripts/train.py sweep={sweep}" in SWEEPS[sweep].read_text()


@pytest.mark.parametrize("sweep", sorted(TABLES))
def test_a_tables_sweep_has_all_its_experiments(sweep, hydra_configs):
    """Those whose heads name the table, as `# Table: 2 and 6 of the paper`."""
    source = "SAGE" if sweep.startswith("sage") else "the paper"
    named = re.compile(rf"^# Table: [\d, and]*\b{sweep[-1]}\b[\d, and]* of {source}", re.MULTILINE)
    of_table = {path.stem for path in (CONFIGS / "experiment").glob("*.yaml") if named.search(path.read_text())}
    assert of_table
    assert {config.name for config in configs_of(sweep)} == of_table


@pytest.mark.parametrize("experiment", [None, "cifar100_preactresnet18_puzzlemix"])
@pytest.mark.parametrize("sweep", sorted(name for name in SWEEPS if name.startswith("ablation")))
def test_an_ablation_varies_one_setting_and_leaves_out_the_releases(sweep, experiment, hydra_configs):
    key = f"mixup.{sweep.removeprefix('ablation_')}"
    given = {"experiment": experiment} if experiment else {}
    base = settings(hydra.compose("train", [f"experiment={experiment}" if experiment else "mixup=puzzlemix"]))
    for config in configs_of(sweep, **given):
        assert list(differences(base, settings(config))) == [key]


def test_a_run_that_fails_is_reported_and_the_others_go_on_and_started_again_it_trains_what_is_missing(
    script, tmp_path, capsys
):
    def sweep(*rates):
        varied = ("mixup=vanilla,cutmix", f"recipe.lr={','.join(rates)}", r"name=${choices.mixup}_${recipe.lr}")
        script("train", "-m", *varied, *TINY, f"results_dir={tmp_path}")

    with pytest.raises(SystemExit, match=r"^error: 2 of 4 runs failed, see above"):
        sweep("1e20", "0.1")
    assert {run.name: run.status for run in find_runs(tmp_path).runs} == {
        "cutmix_0.1": "finished",
        "cutmix_1e+20": "failed",
        "vanilla_0.1": "finished",
        "vanilla_1e+20": "failed",
    }
    *_, total, first, second = capsys.readouterr().out.splitlines()
    assert total == "sweep: 2 of 4 runs finished"
    assert first.startswith("  mixup=vanilla recipe.lr=1e+20: error: the loss or a gradient is not finite in step")
    assert second.startswith("  mixup=cutmix recipe.lr=1e+20: error: ")

    finished, lost = (tmp_path / name / "seed0" / "metrics.json" for name in ("cutmix_0.1", "vanilla_0.1"))
    written_ns, metrics = finished.stat().st_mtime_ns, lost.read_text()
    lost.unlink()
    sweep("0.1")
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "sweep: 2 of 2 runs finished"
    assert "cutmix_0.1/seed0: finished before, nothing to do" in told
    assert finished.stat().st_mtime_ns == written_ns
    assert re.findall('"top1_error": {[^}]*}', lost.read_text()) == re.findall('"top1_error": {[^}]*}', metrics)


def test_a_bug_in_one_run_is_shown_whole_and_the_others_go_on(script, tmp_path, monkeypatch, capsys):
    def broken(self):
        raise ZeroDivisionError("by a test")

    monkeypatch.setattr("puzzlemix.mixing.cutmix.CutMix.draw", lambda *_: broken(None))
    with pytest.raises(SystemExit, match=r"1 of 2 runs failed"):
        script("train", "-m", *TINY, f"results_dir={tmp_path}", "mixup=cutmix,vanilla")
    told = capsys.readouterr()
    assert f'File "{__file__}"' in told.err
    assert "mixup=cutmix: error: ZeroDivisionError: by a test" in told.out
    assert {run.method: run.state for run in find_runs(tmp_path).runs} == {
        "cutmix": "error: ZeroDivisionError: by a test",
        "vanilla": "",
    }


def test_a_sweep_needs_no_further_switch_and_takes_other_values(script, tmp_path):
    script("train", *TINY, "sweep=ablation_prob", "seed=5", "mixup.prob=0.1,0.9", f"results_dir={tmp_path}")
    found = {(run.name, run.seed) for run in find_runs(Path(tmp_path)).runs}
    assert found == {(f"digits_preactresnet18_narrow_puzzlemix_prob_{prob}", 5) for prob in (0.1, 0.9)}


TWO_RATES = "recipe.lr=0.1,0.05"
COLLIDING = {  # the keys that are named, and what is given
    "one key": ("recipe.lr", TWO_RATES, "mixup=vanilla,cutmix"),
    "two keys, one of lists": (
        "mixup.beta and mixup.blocks",
        "mixup=puzzlemix",
        "mixup.beta=0,1",
        "mixup.blocks=[2],[4,8]",
    ),
    "a group": ("recipe", "recipe=digits,cifar100_60"),
    "experiments": ("recipe.lr", TWO_RATES, "experiment=cifar100_wrn28_10_vanilla,cifar100_wrn28_10_input"),
    "a sweep's file": ("recipe.lr", TWO_RATES, "sweep=ablation_beta", "mixup.beta=0,1", "seed=0"),
    "a name with signs": ("recipe.lr", TWO_RATES, """name='a (b), \\c "d"'"""),
    "several batches": ("recipe.lr", TWO_RATES, "hydra.sweeper.max_batch_size=1"),
    "jobs of this machine": ("recipe.lr", TWO_RATES, "launcher=submitit_local"),
    "jobs of SLURM": ("recipe.lr", TWO_RATES, "launcher=slurm"),
}


@pytest.mark.parametrize("given", COLLIDING.values(), ids=COLLIDING)
def test_runs_that_would_share_a_folder_are_refused_with_the_name_to_add(script, tmp_path, monkeypatch, given):
    keys, *arguments = given
    arguments = ["-m", f"results_dir={tmp_path}", *arguments]
    with pytest.raises(SystemExit) as stop:
        script("train", *arguments)
    assert {path.name for path in tmp_path.rglob("*")} <= {"multirun.yaml"}
    wanted = f"error: runs that differ in {re.escape(keys)} would share the folder {tmp_path}/.*/seed0: add (.*)"
    advice = re.fullmatch(wanted, stop.value.code)[1]

    def checked(configs, check):
        check_runs(configs, check)
        raise InputError("no two share a folder")  # before any is launched

    monkeypatch.setattr("puzzlemix.cli.sweep.check_runs", checked)
    with pytest.raises(SystemExit, match="error: no two share a folder"):
        script("train", *arguments, *shlex.split(advice))


def test_with_the_name_that_is_printed_all_runs_are_trained(script, tmp_path):
    arguments = ["-m", *TINY, "recipe.epochs=1", f"results_dir={tmp_path}", TWO_RATES]
    with pytest.raises(SystemExit) as stop:
        script("train", *arguments)
    script("train", *arguments, *shlex.split(stop.value.code.partition(": add ")[2]))
    rates = {run.config["recipe"]["lr"] for run in find_runs(tmp_path).runs if run.status == "finished"}
    assert rates == {0.1, 0.05}


def test_the_same_run_twice_is_refused(script, tmp_path):
    with pytest.raises(SystemExit, match=r"two runs of this sweep are the same, in .*/seed0: give each value once"):
        script("train", "-m", f"results_dir={tmp_path}", "seed=1,0,0")


def test_a_folder_with_a_run_of_another_config_is_found_before_the_first_run_begins(script, train, tmp_path):
    train()  # seed 0
    with pytest.raises(
        SystemExit, match=r"run/seed0 holds a run of another config \(recipe\.lr: 0\.1 there, 0\.2 here\)"
    ):
        script("train", "-m", *TINY, f"results_dir={tmp_path}", "name=run", "recipe.lr=0.2", "seed=1,0")
    assert not (tmp_path / "run" / "seed1").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=table1"], "unknown sweep 'table1'; did you mean 'table"),
        (["seed=0,1"], "seed=0,1 has several values: add -m to start a run for each"),
    ],
)
def test_bad_input_is_one_line(script, arguments, message):
    with pytest.raises(SystemExit) as stop:
        script("train", *arguments)
    assert re.search(message, stop.value.code)
    assert len(stop.value.code.splitlines()) == 1


def test_the_sweep_for_wandb_has_parameters_that_a_run_takes(script, tmp_path):
    """Its bounds and values as a run's overrides, in the form in which wandb's agent writes them."""
    sweep = yaml.safe_load((CONFIGS / "wandb_sweep.yaml").read_text())
    assert (SCRIPTS.parent / sweep["program"]).is_file()
    for ends in (("min", 0), ("max", -1)):
        end, index = ends
        values = {
            key: wanted.get("value", wanted[end] if end in wanted else wanted.get("values", [None])[index])
            for key, wanted in sweep["parameters"].items()
        }
        assert None not in values.values()
        arguments = [f"{key}={value}" for key, value in values.items()]
        offline = ["logger.wandb=disabled", "recipe.epochs=1", f"results_dir={tmp_path}"]
        script("train", *arguments, *offline)
    names = {run.name for run in find_runs(tmp_path).runs}
    assert names == {"wandb_lr0.02_beta0.0_eta0.0_labels2", "wandb_lr0.5_beta4.0_eta0.8_labels4"}
    assert {run.metrics["evaluated_on"] for run in find_runs(tmp_path).runs} == {"validation"}
    records = [record for run in find_runs(tmp_path).runs for record in run.log]
    assert all(sweep["metric"]["name"] in record for record in records)

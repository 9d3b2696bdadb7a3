"""Runs as jobs: a sweep of them ends as without, and a job that was preempted or killed comes back and goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest
from conftest import CONFIGS, OF_TWO_PROCESSES, SCRIPTS, TINY
from hydra.core.utils import JobReturn, JobStatus
from submitit.core.utils import UncompletedJobError
from submitit.local.local import LocalJob
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from benchmarks.soak import descendants, differences
from puzzlemix.cli import jobs
from puzzlemix.cli.jobs import JobLog


def launch(results_dir, *arguments):
    """The command that starts jobs on this machine and waits for them."""
    arguments = [*arguments, "launcher=submitit_local", f"results_dir={results_dir}"]
    command = [sys.executable, SCRIPTS / "train.py", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def trainer_of(folder, launcher):
    """The process that trains in a run's folder, once it does."""
    lock = folder / ".lock"
    while launcher.poll() is None and not (lock.is_file() and lock.read_text()):
        time.sleep(0.005)
    assert launcher.poll() is None, launcher.communicate()
    return int(re.search(r"process (\d+)", lock.read_text())[1])


def test_of_two_jobs_one_fails_and_one_is_asked_to_stop_and_comes_back(script, tmp_path, monkeypatch):
    """The one that fails does so in its second step."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # for the network
    monkeypatch.setenv("ASKED_TO_STOP", str(tmp_path / "asked"))
    own = (*TINY, "network._target_=odd_networks.asked_to_stop", "name=${recipe.lr}")
    output, errors = launch(tmp_path / "jobs", "-m", *own, "recipe.lr=1e20,0.05").communicate(timeout=200)
    logs = {
        kind: [log.read_text() for log in tmp_path.glob(f"jobs/.submitit/*/*_log.{kind}")] for kind in ("out", "err")
    }

    (failed,) = [log.strip() for log in logs["err"] if "error: " in log]
    assert failed.startswith("error: the loss or a gradient is not finite in step")
    first, *last = output.splitlines()
    assert first == f"each run is a job and writes to {tmp_path}/jobs/.submitit/"
    assert last[-2:] == ["sweep: 1 of 2 runs finished", f"  recipe.lr=1e+20: {failed}"]
    remedy = "correct them, and start the sweep again"
    assert errors.splitlines()[-1] == f"error: 1 of 2 runs failed, see above: {remedy}"

    (log,) = [log for log in logs["out"] if "asked to stop: " in log]
    folder = tmp_path / "jobs" / "0.05" / "seed0"
    stop = log.index(f"asked to stop: {folder}/checkpoints/last.pt is of epoch 1 after 1 steps")
    assert log.index("Caught signal SIGUSR2") > stop
    assert log.index("Requeued job") > stop
    assert log.rindex("Starting with JobEnvironment") > stop
    assert log.rindex(f"{folder}: top1_error") > stop
    script("train", *own, "recipe.lr=0.05", f"results_dir={tmp_path}/here")
    assert differences(folder, tmp_path / "here" / "0.05" / "seed0") == []


@pytest.mark.slow
def test_a_job_of_two_tasks_is_one_run_and_goes_on_where_it_was_killed(tmp_path, one_node, monkeypatch):
    """SLURM runs the same script again, in the same environment, on jobs whose machine has failed."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # for the network
    monkeypatch.setenv("LET_GO", str(tmp_path / "let_go"))
    folder, held = tmp_path / "run" / "seed0", "network._target_=odd_networks.held"
    launcher = launch(tmp_path, *OF_TWO_PROCESSES, held, "name=run", "hydra.launcher.tasks_per_node=2")
    while launcher.poll() is None and not (folder / "checkpoints" / "last.pt").is_file():
        time.sleep(0.005)
    pids = descendants(launcher.pid)
    commands = [command_of(pid) for pid in pids]
    for pid in (launcher.pid, *pids):
        os.kill(pid, signal.SIGKILL)
    launcher.communicate()
    assert not (folder / "metrics.json").exists()

    (tmp_path / "let_go").touch()
    again = [(command, env) for command, env in commands if "submitit.core._submit" in command]
    tasks = [subprocess.Popen(command, env=env) for command, env in again]
    assert [task.wait(timeout=200) for task in tasks] == [0, 0]
    assert differences(folder, one_node) == []


@pytest.mark.slow
def test_a_job_that_is_killed_ends_the_command_in_one_line_and_the_other_jobs_go_on(tmp_path):
    launcher = launch(tmp_path, "-m", *TINY, "recipe.lr=0.1,0.05", r"name=${recipe.lr}", "recipe.epochs=100")
    os.kill(trainer_of(tmp_path / "0.1" / "seed0", launcher), signal.SIGKILL)
    _, errors = launcher.communicate(timeout=200)
    assert launcher.returncode == 1
    assert re.fullmatch("error: Job .*; the other jobs go on; .* shows which runs are not finished", errors.strip())
    until_s = time.monotonic() + 200
    while not (tmp_path / "0.05" / "seed0" / "metrics.json").is_file():
        assert time.monotonic() < until_s
        time.sleep(0.1)


def test_a_bug_in_a_job_keeps_its_traceback(capsys):
    done = JobReturn(overrides=["seed=0"], status=JobStatus.FAILED)
    try:
        raise ZeroDivisionError("by a test")
    except ZeroDivisionError as bug:
        done.return_value = bug
    JobLog().on_job_end(config=None, job_return=done)
    assert f'File "{__file__}"' in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError) as bug:
        _ = done.return_value
    assert f'File "{__file__}"' in bug.value.__notes__[0]


def test_a_job_that_left_no_result_is_told_in_one_line_with_the_end_of_its_log(tmp_path):
    job = LocalJob(tmp_path, "7")
    job._results_timeout_s = 0
    job.paths.stderr.write_text("a warning\nslurmstepd: error: Detected 1 oom_kill event in StepId=7.0\n")
    with pytest.raises(UncompletedJobError) as error:
        job.result()
    line, lost = jobs.lost_job(error.value).split("; ", 1)
    assert lost == jobs.LOST
    assert line.startswith(f"Job 7 (task: 0) with path {tmp_path}/7_0_result.pkl has not produced any output (state: ")
    assert line.endswith("): slurmstepd: error: Detected 1 oom_kill event in StepId=7.0")
    job.paths.stderr.unlink()
    job.paths.stdout.write_text("first\nlast\n")
    with pytest.raises(UncompletedJobError) as error:
        job.result()
    assert f"No error stream produced. Look at stdout: {job.paths.stdout}; " in jobs.lost_job(error.value)
    assert jobs.lost_job(RuntimeError("something else")) is None


def test_the_slurm_launcher_asks_sbatch_for_what_its_config_says():
    """The text that submitit hands to sbatch, made by submitit."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        overrides = ["launcher=slurm", "hydra.launcher.partition=gpu", "results_dir=/shared/runs"]
        config = hydra.compose("train", overrides, return_hydra_config=True)
    given = dict(hydra.utils.instantiate(config.hydra.launcher).params)
    folder = given.pop("submitit_folder")
    assert (folder, given.pop("max_num_timeout")) == ("/shared/runs/.submitit/%j", 20)
    asked = SlurmExecutor.__new__(SlurmExecutor)._convert_parameters({k: v for k, v in given.items() if v is not None})
    text = _make_sbatch_string("python", folder, map_count=4, **asked)
    assert set(re.findall(r"#SBATCH --(.*)", text)) >= {
        "array=0-3%4",
        "job-name=puzzlemix",
        "partition=gpu",
        "nodes=1",
        "ntasks-per-node=1",
        "gpus-per-node=1",
        "cpus-per-task=8",
        "mem=32GB",
        "time=1440",
        "signal=USR2@120",
        "requeue",
        "open-mode=append",
        "output=/shared/runs/.submitit/%A_%a/%A_%a_0_log.out",
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("launcher=slrum", "unknown launcher 'slrum'; did you mean 'slurm'"),
        ("launcher=slurm hydra.launcher.timeout_mn=5", r"'hydra\.launcher\.timeout_mn'; did you mean '.*timeout_min'"),
        ("hydra.launcher.timeout_min=5", r"hydra\.launcher\.timeout_min is of no use without a launcher"),
        ("launcher=slurm mixup=puzlemix", "unknown mixup 'puzlemix'"),
        ("launcher=slurm", "launcher=slurm, but there is no srun here"),
    ],
)
def test_what_cannot_be_launched_is_one_line(script, tmp_path, monkeypatch, overrides, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=message) as stop:
        script("train", "-m", f"results_dir={tmp_path}/runs", *overrides.split())
    assert "\n" not in str(stop.value)


def command_of(pid):
    """How a process was started: its arguments and its environment."""
    arguments, environment = (Path(f"/proc/{pid}/{part}").read_bytes().decode() for part in ("cmdline", "environ"))
    variables = (variable.split("=", 1) for variable in environment.split("\0") if "=" in variable)
    return arguments.rstrip("\0").split("\0"), dict(variables)

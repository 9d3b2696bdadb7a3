"""Write all results as one page, results/report.html, that any browser shows without a network.

python scripts/report.py [results_dir=results/runs] [output=results/report.html]
"""

from pathlib import Path

from omegaconf import DictConfig

from puzzlemix import cli
from puzzlemix.experiment import plain
from puzzlemix.files import output_file, write_text
from puzzlemix.reporting.experiments import experiment_files
from puzzlemix.reporting.report import report_page
from puzzlemix.reporting.results import read_results
from puzzlemix.runlog import git_commit

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "configs" / "experiment"


@cli.script("report")
def main(config: DictConfig) -> None:
    config = plain(config)
    output = output_file(config["output"], None, (".html",))
    results_dir = Path(config["results_dir"])
    folders = results_dir, ROOT / config["published"]
    results = read_results(*folders, experiment_files(EXPERIMENTS), config["tolerance"], config["table"])
    cli.warn(results.problems)
    write_text(output, report_page(results, results_dir, git_commit()))
    print(output)


if __name__ == "__main__":
    main()

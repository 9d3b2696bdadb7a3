"""Write all results as one page, results/report.html, that any browser shows without a network.

python scripts/report.py [results_dir=results/runs] [output=results/report.html]
"""

from pathlib import Path

from omegaconf import DictConfig

from puzzlemix import cli
from puzzlemix.environment import git_commit
from puzzlemix.experiment import plain
from puzzlemix.files import output_file, write_text
from puzzlemix.reporting.report import report_page
from puzzlemix.reporting.results import results_of

ROOT = Path(__file__).resolve().parents[1]


@cli.script("report")
def main(config: DictConfig) -> None:
    config = plain(config)
    output = output_file(config["output"], None, (".html",))
    results = results_of(config, ROOT)
    cli.warn(results.problems)
    write_text(output, report_page(results, Path(config["results_dir"]), git_commit()))
    print(output)


if __name__ == "__main__":
    main()

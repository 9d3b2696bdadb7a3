"""Write all results on one page, results/report.html, which any browser shows without an internet connection.

python scripts/report.py [results_dir=results/runs] [output=results/report.html]
"""

from pathlib import Path

from omegaconf import DictConfig

from puzzlemix.cli.config import plain
from puzzlemix.cli.script import script, warn
from puzzlemix.reporting.compare import results_of
from puzzlemix.reporting.page import report_page
from puzzlemix.runtime.environment import git_commit
from puzzlemix.runtime.files import output_file, write_text
from startup import ROOT


@script("report")
def main(config: DictConfig) -> None:
    config = plain(config)
    output = output_file(config["output"], None, (".html",))
    results = results_of(config, ROOT)
    warn(results.problems)
    write_text(output, report_page(results, Path(config["results_dir"]), git_commit()))
    print(output)


if __name__ == "__main__":
    main()

"""Set finished runs beside the published numbers.

python scripts/compare.py [output=results/tables/digits.md]
"""

from pathlib import Path

from omegaconf import DictConfig

from puzzlemix import cli
from puzzlemix.experiment import plain
from puzzlemix.reporting.tables import as_markdown, print_table, read_runs, table
from puzzlemix.runlog import write_text


@cli.script("compare")
def main(config: DictConfig) -> None:
    config = plain(config)
    rows = table(read_runs(Path(config["results_dir"])), Path(config["published"]))
    print_table(rows)
    if config["output"] is not None:
        write_text(Path(config["output"]), as_markdown(rows))
        print(config["output"])


if __name__ == "__main__":
    main()

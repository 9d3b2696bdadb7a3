"""Set finished runs beside the published numbers.

python scripts/compare.py [output=results/tables/digits.md]
"""

from pathlib import Path

from omegaconf import DictConfig

from puzzlemix import cli
from puzzlemix.experiment import plain
from puzzlemix.files import output_file, write_text
from puzzlemix.reporting.tables import as_markdown, print_table, read_runs, table


@cli.script("compare")
def main(config: DictConfig) -> None:
    config = plain(config)
    output = None if config["output"] is None else output_file(config["output"], default=Path())
    rows = table(read_runs(Path(config["results_dir"])), Path(config["published"]))
    print_table(rows)
    if output is not None:
        write_text(output, as_markdown(rows))
        print(output)


if __name__ == "__main__":
    main()

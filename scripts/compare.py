r"""Print the published tables with our runs next to them, tables and curves of our runs, and a list of all runs.

python scripts/compare.py                                        # a list of all tables, and how much of them has runs
python scripts/compare.py table=3 [output=table3.tex]            # Table 3 of the paper: its numbers, ours, the verdict
python scripts/compare.py table=digits_preactresnet18_narrow     # a table of our own runs; * matches any text
python scripts/compare.py curves table=cifar100_preactresnet18 output=curves.png     # errors at each epoch
python scripts/compare.py runs method=puzzlemix sort=error       # all runs, in any state
"""

from pathlib import Path

from omegaconf import DictConfig

from puzzlemix.cli.config import plain
from puzzlemix.cli.script import commands, script, warn
from puzzlemix.reporting.compare import results_of, tables_named
from puzzlemix.reporting.measures import TOP1
from puzzlemix.reporting.run_tables import listing, run_tables
from puzzlemix.reporting.runs import find_runs
from puzzlemix.reporting.tables import FORMATS, print_tables
from puzzlemix.runtime.errors import nearest, require
from puzzlemix.runtime.files import output_file, write_text
from startup import ROOT


@script("compare")
def compare(config: DictConfig) -> None:
    config = plain(config)
    output = None if config["output"] is None else output_file(config["output"], None, FORMATS)
    results = results_of(config, ROOT)
    warn(results.problems)
    tables = tables_named(results, config["table"])
    print_tables(tables)
    if output is not None:
        write_text(output, FORMATS[output.suffix.lower()](tables))
        print(output)


@script("compare_curves")
def draw_curves(config: DictConfig) -> None:
    from puzzlemix.reporting.figures import COLOURS, curves_of, save_curves  # here, since matplotlib loads for a second

    config = plain(config)
    output = output_file(config["output"], None, (".png",))
    found = find_runs(Path(config["results_dir"]))
    warn(found.problems)
    tables, wanted = {table.name: table for table in run_tables(found.runs)}, config["table"]
    require(bool(tables), f"{config['results_dir']} has no runs: train one, or give results_dir=")
    require(wanted is not None or len(tables) == 1, f"there are runs of {' and '.join(tables)}: add table=")
    name = wanted if wanted is not None else next(iter(tables))
    require(name in tables, f"{config['results_dir']} has no runs of {name}{nearest(name, tables)}")
    table = tables[name].only(config["rows"])
    rows = table.rows_to_draw(len(COLOURS))
    curves = curves_of(rows, TOP1.key)
    require(bool(curves), f"no run of {name} has an epoch in its log.jsonl")
    warn([f"{len(table.rows) - len(rows)} rows are not drawn"] if len(rows) < len(table.rows) else [])
    most = max(len(curve.values) for curve in curves)
    over = f", mean and range of up to {most} seeds" if most > 1 else ""
    save_curves(output, curves, TOP1.title, f"{name}\nerrors on the images evaluated on{over}")
    print(output)


@script("compare_runs")
def list_runs(config: DictConfig) -> None:
    config = plain(config)
    found = find_runs(Path(config["results_dir"]))
    filters = {key: config[key] for key in ("name", "table", "method", "status", "seed")}
    print_tables([listing(found.runs, filters, config["sort"], config["descending"])])
    warn(found.problems)


main = commands(compare, {"curves": draw_curves, "runs": list_runs})

if __name__ == "__main__":
    main()

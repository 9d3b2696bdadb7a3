"""Measure what mixing does to images, as a network sees it: the paper's Figure 2, next to the paper's own curves.

python scripts/mixing_statistics.py checkpoint=models/NAME.pt
python scripts/mixing_statistics.py checkpoint=models/NAME.pt images=10000 methods=[puzzlemix,input]
python scripts/mixing_statistics.py checkpoint=models/NAME.pt parts=true     # what each part of Puzzle Mix gives to (a)

The same command continues a measurement that was stopped.
"""

from startup import CONFIGS, ROOT, hold_signals

if __name__ == "__main__":
    hold_signals()

import json
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from puzzlemix.cli.config import build_part, load_experiment, plain
from puzzlemix.cli.script import script
from puzzlemix.evaluation.evaluator import Evaluator
from puzzlemix.evaluation.results import results_path
from puzzlemix.mixing import Mixer
from puzzlemix.reporting import mixing_statistics as figure2
from puzzlemix.reporting.tables import Table, as_csv, as_markdown, print_tables
from puzzlemix.runtime import distributed
from puzzlemix.runtime.checkpoint import digest
from puzzlemix.runtime.errors import require, require_whole
from puzzlemix.runtime.files import output_file, write_text
from puzzlemix.training.precision import Arithmetic


@script("mixing_statistics")
def main(config: DictConfig) -> None:
    config = plain(config)
    device = distributed.join(config["device"])
    require_whole("images", config["images"], least=2)
    require_whole("test_batch_size", config["test_batch_size"], least=2)
    (data, network, *_), _ = load_experiment(config["checkpoint"], CONFIGS, device)
    mixers = {name: mixer_of(name, data.num_classes) for name in config["methods"]}
    require(bool(mixers), "methods must name some, such as [puzzlemix,input]")
    name = figure2.NAME.replace(".json", "_parts.json") if config["parts"] else figure2.NAME
    output = output_file(config["output"], results_path(config["checkpoint"], name), (".json",))
    Arithmetic().prepare(network)

    of = {"weights": digest(network), "train_images": config["train_images"], "seed": config["seed"]}
    images = figure2.random_images(data, config["images"], config["train_images"], config["seed"])
    unfinished = output.with_name(f"{output.stem}_unfinished.json")
    evaluator = Evaluator(network, data, config["test_batch_size"], config["seed"])
    evaluator = evaluator.keeping(unfinished, f"{of} {config['images']}")
    pairs = figure2.Pairs(evaluator, images)
    if config["parts"]:
        show(output, figure2.parts_table(pairs))
        evaluator.kept.remove()
        return
    statistics = pairs.statistics(mixers)
    published = figure2.published_curves(ROOT / "results" / "paper" / "figure2" / "curves.csv")
    if distributed.is_main():
        curves = {name: {panel: curve._asdict() for panel, curve in of.items()} for name, of in statistics.items()}
        results = {**of, "images": len(images.places), "lambdas": figure2.LAMBDAS, "methods": curves}
        write_text(output, json.dumps(results, indent=2) + "\n")
        write_text(output.with_suffix(".csv"), as_csv([figure2.curves_table(statistics)]))
        figure2.draw_panels(output.with_suffix(".png"), statistics, published)
        show(output, figure2.middle_table(statistics, published))
    evaluator.kept.remove()
    distributed.wait_for_all()


def show(output: Path, table: Table) -> None:
    """Print a table, write it next to the output as Markdown, and name that file."""
    if distributed.is_main():
        print_tables([table])
        write_text(output.with_suffix(".md"), as_markdown([table]))
        print(output.with_suffix(".md"))


def mixer_of(name: Any, num_classes: int) -> Mixer:
    """The method of an option of `configs/mixup/`."""
    config = OmegaConf.to_container(hydra.compose("train", [f"mixup={name}"]).mixup, resolve=True)
    return build_part({**config, "num_classes": num_classes})


if __name__ == "__main__":
    main()

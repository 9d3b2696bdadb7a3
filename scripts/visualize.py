"""Draw the puzzles that a checkpoint's network makes: of its own dataset, of another, or of two image files.

python scripts/visualize.py checkpoint=results/runs/NAME/seed0/checkpoints/last.pt
python scripts/visualize.py checkpoint=... dataset=cifar10 blocks=8
python scripts/visualize.py checkpoint=... 'images=[cat.jpg,dog.jpg]' 'blocks=[2,4,8,16]'
"""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from puzzlemix.cli.config import Experiment, build_part, load_experiment, plain
from puzzlemix.cli.script import script
from puzzlemix.mixing import PuzzleMix, puzzle_mix
from puzzlemix.reporting.pictures import Batch, as_seen, batch_of, draw_puzzles, most_moved, read_images
from puzzlemix.runtime import distributed
from puzzlemix.runtime.errors import require, require_whole
from puzzlemix.runtime.files import next_to, output_file
from startup import CONFIGS

IMAGES = 100  # images of a dataset, from which the pairs with the most moved cells are selected


@script("visualize")
def main(config: DictConfig) -> None:
    config = plain(config)
    require_whole("pairs", config["pairs"], least=1)
    images, grids = config["images"], grids_of(config["blocks"])
    pair = isinstance(images, list) and len(images) == 2
    require(images is None or pair, "images must be two files: images=[first.jpg,second.jpg]")
    require(images is None or "dataset" not in config, "images= and dataset= are two sources: give one of them")
    device = distributed.join(config["device"])
    its_own = images is None and "dataset" not in config
    experiment = load_experiment(config["checkpoint"], CONFIGS, device, with_data=its_own).experiment
    output = output_file(config["output"], next_to(config["checkpoint"], "puzzles.png"), (".png",))
    network, mixer = experiment.network, experiment.mixer
    if not isinstance(mixer, PuzzleMix):
        mixer = PuzzleMix(num_classes=experiment.data.num_classes)
        print("the network was trained without Puzzle Mix: the puzzles have Puzzle Mix's default parameters")

    batch = batch_of(experiment.data, IMAGES, config["seed"]) if its_own else batch_to_guess(config, experiment, device)
    pairs = config["pairs"] if images is None else 1  # the second pair is the same one, swapped
    saliency, parameters = batch.saliency(network), vars(mixer.parameters)
    puzzles = [
        puzzle_mix(batch.images, saliency, batch.partner, lam=config["lam"], blocks=grid, **parameters)
        for grid in grids
    ]
    shown = most_moved(puzzles[-1])[:pairs]
    draw_puzzles(output, batch, saliency, [(puzzle, pair) for pair in shown for puzzle in puzzles])
    print(output)


def grids_of(blocks: Any) -> list[int]:
    """The number of blocks per side of each puzzle that is drawn for a pair."""
    grids = [16] if blocks is None else blocks if isinstance(blocks, list) else [blocks]
    whole = all(isinstance(grid, int) and not isinstance(grid, bool) for grid in grids)
    require(bool(grids) and whole, f"blocks must be a whole number or several, such as [4,16], not {blocks}")
    return grids


def batch_to_guess(config: Mapping[str, Any], experiment: Experiment, device: torch.device) -> Batch:
    """Images that the network was not trained on, with the labels that it gives them, which the saliency needs."""
    own = experiment.data
    if config["images"] is not None:
        images = read_images(config["images"], own.image_size, channels=len(own.mean)).to(device)
    else:
        other = build_part(config["dataset"])
        other.load(device)
        images = batch_of(other, IMAGES, config["seed"]).images
    print("the labels are those that the network gives")
    return as_seen(experiment.network, images, names=[f"class {label}" for label in range(own.num_classes)])


if __name__ == "__main__":
    main()

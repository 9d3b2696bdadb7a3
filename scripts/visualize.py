"""Draw the puzzles that a checkpoint's network makes of its own dataset.

python scripts/visualize.py checkpoint=results/runs/NAME/seed0/checkpoints/last.pt
"""

from omegaconf import DictConfig

from puzzlemix import cli, distributed
from puzzlemix.checkpoint import beside
from puzzlemix.errors import require
from puzzlemix.experiment import check_torchvision, load_experiment, plain
from puzzlemix.files import output_file
from puzzlemix.mixing import PuzzleMix
from puzzlemix.reporting.mixed import batch_of, draw_puzzles_of


@cli.script("visualize")
def main(config: DictConfig) -> None:
    check_torchvision()
    config = plain(config)
    require(config["pairs"] >= 1, f"pairs must be at least 1, not {config['pairs']}")
    device = distributed.join(config["device"])
    data, network, mixer, _ = load_experiment(config["checkpoint"], device)
    if not isinstance(mixer, PuzzleMix):
        mixer = PuzzleMix(num_classes=data.num_classes)
        print("trained without Puzzle Mix: the puzzles take its default parameters")
    output = output_file(config["output"], default=beside(config["checkpoint"], "puzzles.png"))

    batch = batch_of(data, 100, config["seed"])
    draw_puzzles_of(output, network, mixer, batch, config["lam"], config["blocks"], config["pairs"])
    print(output)


if __name__ == "__main__":
    main()

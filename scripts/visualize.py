"""Draw the puzzles that a checkpoint's network makes of its own dataset.

python scripts/visualize.py checkpoint=results/runs/NAME/seed0/checkpoints/last.pt
"""

import torch
from omegaconf import DictConfig

from puzzlemix import cli, distributed
from puzzlemix.checkpoint import beside
from puzzlemix.errors import require
from puzzlemix.experiment import check_torchvision, load_experiment, plain
from puzzlemix.files import output_file
from puzzlemix.mixing import Puzzle, PuzzleMix, puzzle_mix
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.reporting.puzzles import draw_puzzles, visible_moves


def most_moved(puzzle: Puzzle) -> list[int]:
    """The pairs of a batch, those in which most cells visibly move first: in most, transport moves none."""
    moves = torch.zeros(len(puzzle.share), dtype=torch.int64, device=puzzle.share.device)  # (B,)
    if puzzle.sources is not None:
        for source, visible in zip(puzzle.sources, (puzzle.mask > 0, puzzle.mask < 1), strict=True):
            moves += visible_moves(source, visible).sum((1, 2))
    return moves.argsort(descending=True, stable=True).tolist()


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

    images, labels = next(data.train_batches(100, False, config["seed"], epoch=0))
    partner = torch.arange(len(images), device=device).roll(1)
    saliency = saliency_of(input_gradient(network, images, labels), network)
    puzzle = puzzle_mix(images, saliency, partner, lam=config["lam"], blocks=config["blocks"], **vars(mixer.parameters))
    names = [data.classes[label] for label in labels.tolist()]
    draw_puzzles(output, images, saliency, partner, puzzle, names, most_moved(puzzle)[: config["pairs"]])
    print(output)


if __name__ == "__main__":
    main()

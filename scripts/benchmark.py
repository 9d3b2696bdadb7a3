"""Measure what costs how much time.

python scripts/benchmark.py mixing [--repeats=15] [--device=cpu]
"""

import argparse
import platform

import torch

from puzzlemix.benchmarks.mixing import STEPS, Setting, benchmark
from puzzlemix.mixing.saliency import input_gradient, saliency_of
from puzzlemix.networks import preactresnet18

HEADER = ("batch", "blocks", "", *STEPS, "sum, ms", "times faster")


def photographs(setting: Setting, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of scikit-learn's two photographs, and their saliency for a network as it is initialised."""
    from sklearn.datasets import load_sample_images

    torch.manual_seed(0)
    pictures = [torch.tensor(picture).permute(2, 0, 1) for picture in load_sample_images().images]
    crops = []
    for i in range(setting.batch):
        picture = pictures[i % 2]
        y, x = (int(torch.randint(length - setting.pixels, ())) for length in picture.shape[1:])
        crops.append(picture[:, y : y + setting.pixels, x : x + setting.pixels])
    images = (torch.stack(crops).float() / 255).to(device)
    network = preactresnet18(10, initial_channels=8, mean=[0.5] * 3, std=[0.25] * 3).to(device)
    labels = torch.arange(setting.batch, device=device) % 10
    return images, saliency_of(input_gradient(network, images, labels), network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mixing"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * 3 + "---:|" * (len(HEADER) - 3))
    for row in benchmark(lambda setting: photographs(setting, options.device), options.repeats):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

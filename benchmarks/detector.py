"""The early-bird detector beside the training that it watches: seconds of an update, bytes held.

    python benchmarks/detector.py                   # or: python benchmarks/detector.py vgg16
    python benchmarks/detector.py preresnet101 --steps 196 --epochs 4

Each network is trained by splinelib.train, as fast as the device allows it, on 32 x 32 colour
images made by formula, and an EarlyBird with 512 probe images looks at it after each epoch.  An
epoch of 50,000 images (CIFAR) is extrapolated from the steps that were taken; the first epoch, in
which things are compiled and warmed up, is left out.  The marks: 2 % of an epoch, and 64 MB.
"""

import argparse
import os
import statistics

import torch

from splinelib import nets
from splinelib.data import Batches, colour
from splinelib.earlybird import PUBLIC_CODE, EarlyBird
from splinelib.train import Recipe, train

IMAGES = 50_000
PROBE = 512
BATCH = 256
MARK_SHARE, MARK_BYTES = 2.0, 64e6  # percent, bytes


def measure(name: str, steps: int, epochs: int, device: str) -> dict[str, float]:
    """Seconds of an epoch and of an update, and bytes that the detector holds, in one run."""
    images, test = (part.to(device) for part in colour(max(steps * BATCH, 4 * PROBE)))
    images = images.subset(range(steps * BATCH))
    net = nets.build(name, 10).to(device)
    bird = EarlyBird(test.inputs(slice(PROBE)), PUBLIC_CODE)  # holds the most: three snapshots
    recipe = Recipe(epochs=epochs, batch=BATCH)
    log = train(net, Batches(images, BATCH, augment="crop-flip"), recipe, watch=[bird]).log[1:]
    epoch = statistics.median(row["seconds"] for row in log) * IMAGES / len(images)
    return {
        "epoch": epoch,
        "update": statistics.median(row["watch_seconds"] for row in log),
        **{rule: held(bird, stored) for rule, stored in (("Alg. 1", 1), ("code", 3))},
    }


def held(bird: EarlyBird, stored: int) -> float:
    """Bytes held when an update has its new snapshot beside those stored; its work takes more."""
    snapshot = bird.history[-1].nbytes
    return bird.nbytes + (stored + 1 - len(bird.history)) * snapshot


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["preresnet101", "vgg16"])
    gpu = torch.cuda.is_available()
    parser.add_argument("--steps", type=int, default=196 if gpu else 2, help="steps an epoch")
    parser.add_argument("--epochs", type=int, default=5, help="the first is not counted")
    options = parser.parse_args()
    device = "cuda" if gpu else "cpu"
    name = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {name}, load {os.getloadavg()[0]:.1f}")
    print(f"{options.steps} steps of {BATCH} an epoch, scaled to {IMAGES} images; {PROBE} probes")
    print(f"{'network':14} {'epoch s':>9} {'update s':>9} {'share':>8} {'Alg. 1':>9} {'code':>9}")
    for network in options.networks:
        found = measure(network, options.steps, options.epochs, device)
        share = 100 * found["update"] / found["epoch"]
        print(
            f"{network:14} {found['epoch']:9.2f} {found['update']:9.3f} {share:7.2f}% "
            f"{found['Alg. 1'] / 1e6:6.1f} MB {found['code'] / 1e6:6.1f} MB"
        )


if __name__ == "__main__":
    main()

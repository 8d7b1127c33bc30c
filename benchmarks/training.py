"""Training: images a second of splinelib's engine beside a plain loop, and its accuracy.

    python benchmarks/training.py                          # VGG-16, on the GPU if there is one
    python benchmarks/training.py --network preresnet101 --variants --json training.json
    python benchmarks/training.py --accuracy --data cifar10 --epochs 10 --seeds 3

The plain loop is the way of the papers' public codes: a DataLoader that crops, flips and
normalises one PIL image at a time, float32, NCHW, no compilation, and ``loss.item()`` at each step.
Both train on the same images with the same recipe, in one process, one after the other.  An epoch
has ``--steps`` steps; the first one is not counted (it compiles and warms up), and of the
``--rounds`` that follow the median is shown.  ``--workers`` load the plain loop's images; 1 is what
the public codes take.

FLOP/s count 3 x 2 x MACs for each image (forward, and twice as much backward), and stand beside a
product of two matrices of ``--size`` rows in the precision of the engine, measured in the same run.
torch's switches are left alone, so both loops may use TF32 for convolutions in float32.

``--accuracy`` trains instead with a short recipe, for each seed once fast and once in float32
without compilation, and shows both accuracies on the test images.  On a CPU, where the engine would
not, "fast" means bf16 and torch.compile.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from splinelib import cost, data, nets
from splinelib.data.images import ImageSet
from splinelib.train import Recipe, Speed, train

SLOW = Speed(precision="fp32", compile=False, channels_last=False, fused=False)


class Pictures(Dataset):
    """Images as PIL pictures, augmented and normalised one by one."""

    def __init__(self, images: ImageSet) -> None:
        from torchvision.transforms import v2

        side = images.shape[1]
        self.pictures = [v2.functional.to_pil_image(image) for image in images.images.cpu()]
        self.labels = images.labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(side, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(images.mean, images.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[row]), self.labels[row]


def plain(net: nn.Module, images: ImageSet, batch: int, rounds: int, workers: int) -> Iterator:
    """Seconds of each epoch of the plain loop."""
    device = images.device
    loader = DataLoader(
        Pictures(images), batch, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda"
    )
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    net.train()
    for _ in range(rounds + 1):
        start, loss_sum, right = time.monotonic(), 0.0, 0
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            out = net(x)
            loss = F.cross_entropy(out, y)
            loss_sum += loss.item() * len(y)
            right += out.argmax(1).eq(y).sum().item()
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield time.monotonic() - start


def engine(net: nn.Module, images: ImageSet, batch: int, rounds: int, speed: Speed) -> list:
    """Seconds of each epoch of the engine, the first included."""
    source = data.Batches(images, batch=batch, augment="crop-flip")
    recipe = Recipe(epochs=rounds + 1, batch=batch, drops=())
    return [row["seconds"] for row in train(net, source, recipe, speed=speed).log]


def product(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    repeats, seconds = 1, 0.0
    while seconds < 0.5:
        repeats *= 2
        start = time.monotonic()
        for _ in range(repeats):
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.monotonic() - start
    return 2 * size**3 * repeats / seconds


def build(args: argparse.Namespace, images: ImageSet, seed: int) -> nn.Module:
    """The network asked for, with weights of a seed, on the device."""
    options = {} if args.width == 1 else {"width": args.width}
    if images.shape[0] != 3:
        options["in_channels"] = images.shape[0]
    generator = torch.Generator().manual_seed(seed)
    return nets.build(args.network, len(images.classes), generator=generator, **options).to(
        args.device
    )


def throughput(args: argparse.Namespace) -> list[dict]:
    """One row for each way to train."""
    few, _ = data.load("colour")
    rows = torch.arange(args.steps * args.batch) % len(few)
    images = few.subset(rows, name="colour").to(args.device)
    net = build(args, images, 0)
    work = 6 * cost.macs(net, images.shape)
    auto = Speed()
    ways = {"engine": auto}
    if args.variants:
        ways |= {
            "engine, no CUDA graphs": replace(auto, compile=auto.resolve(net).mode is not None),
            "engine, not compiled": replace(auto, compile=False),
            "engine, fp32, not compiled": replace(auto, compile=False, precision="fp32"),
        }
    other = build(args, images, 0)
    found = {"plain loop": list(plain(other, images, args.batch, args.rounds, args.workers))}
    for name, speed in ways.items():
        found[name] = engine(net, images, args.batch, args.rounds, speed)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    peak = product(args.size, args.device, half[auto.resolve(net).precision])
    lines = []
    for name, seconds in found.items():
        rates = [len(images) / s for s in seconds[1:]]
        rate = statistics.median(rates)
        base = lines[0]["images/s"] if lines else rate
        lines.append(
            {
                "way": name,
                "images/s": rate,
                "least": min(rates),
                "most": max(rates),
                "times plain": rate / base,
                "FLOP/s": rate * work,
                "of a product": rate * work / peak,
                "first epoch, s": seconds[0],
            }
        )
    return lines


def accuracies(args: argparse.Namespace) -> list[dict]:
    """One row for each seed: test accuracy fast, and in float32 without compilation."""
    images, test = (part.to(args.device) for part in data.load(args.data))
    fast = Speed() if args.device.type == "cuda" else Speed(precision="bf16", compile=True)
    drops = (args.epochs // 2, args.epochs * 3 // 4)
    recipe = Recipe(epochs=args.epochs, batch=args.batch, drops=drops)
    lines = []
    for seed in range(args.seeds):
        source = data.Batches(images, args.batch, augment="crop-flip", seed=seed)
        line = {"seed": seed}
        for name, speed in (("fast", fast), ("fp32, not compiled", SLOW)):
            net = build(args, images, seed)
            run = train(net, source, recipe, test=data.Batches(test, 500), speed=speed)
            line[name] = run.log[-1]["test_accuracy"]
        lines.append(line)
    gaps = [line["fast"] - line["fp32, not compiled"] for line in lines]
    spread = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
    print(f"difference: mean {statistics.mean(gaps):+.4f}, its standard error {spread:.4f}")
    return lines


def show(lines: list[dict]) -> None:
    """Print rows as a table."""
    cells = [list(lines[0]), *([_text(v) for v in line.values()] for line in lines)]
    widths = [max(len(row[c]) for row in cells) for c in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arguments() -> argparse.Namespace:
    """Read the command line; without a GPU the defaults are small."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--width", type=float, default=1.0 if gpu else 0.25)
    parser.add_argument("--device", type=torch.device, default="cuda:0" if gpu else "cpu")
    parser.add_argument("--batch", type=int, default=256 if gpu else 64)
    parser.add_argument("--steps", type=int, default=196 if gpu else 8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--size", type=int, default=8192 if gpu else 1024)
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--data", default="colour")
    parser.add_argument("--epochs", type=int, default=10 if gpu else 3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    """Measure, show, and write down."""
    args = arguments()
    cuda = args.device.type == "cuda"
    setting = {
        "device": torch.cuda.get_device_name(args.device) if cuda else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: str(value) for name, value in vars(args).items() if name != "json"},
    }
    print(", ".join(f"{name} {value}" for name, value in setting.items()))
    lines = accuracies(args) if args.accuracy else throughput(args)
    show(lines)
    if args.json:
        args.json.write_text(json.dumps({"setting": setting, "rows": lines}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the compiler made of a net: which operators became one kernel, what they read and write, and the kernels' text.

Prints the report of a transformer's feed-forward block and the text of its largest fused kernel, and writes the graph
after every pass as a picture (SVG: open it in a browser). Next: docs/fusion.md.
"""

import argparse
from pathlib import Path

import minimx as mx
from minimx import np, npx
from minimx.gluon import HybridBlock, nn


class FeedForward(HybridBlock):
    """x + dropout(dense(gelu(dense(norm(x)))))."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm()
        self.wide, self.narrow = nn.Dense(4 * units, flatten=False), nn.Dense(units, flatten=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(N, length, units) -> (N, length, units)."""
        return x + self.dropout(self.narrow(npx.gelu(self.wide(self.norm(x)))))


def save_pictures(net: HybridBlock, x: np.ndarray, folder: Path) -> int:
    """One file a pass, numbered; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    passes = net.graph_passes(x, training=True)
    for i, (name, graph) in enumerate(passes):
        graph.save_svg(folder / f"{i:02}_{name.replace(': ', '_')}.svg")
    return len(passes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small block")
    parser.add_argument("--out", type=Path, default=Path("fusion"), help="folder for the pictures")
    args = parser.parse_args()
    units = 16 if args.tiny else 512
    net = FeedForward(units)
    net.initialize(mx.init.Xavier())
    x = np.random.normal(size=(2, 8, units) if args.tiny else (16, 128, units))
    report = net.fusion_report(x, training=True, time=True)
    print(report)
    fused = [k for k in report.kernels if k.source]
    largest = max(fused, key=lambda k: k.moved, default=None)
    if largest is not None:
        print(f"\nThe largest of {len(fused)} fused kernels, {', '.join(largest.members)}:\n{largest.source}")
    print(f"{save_pictures(net, x, args.out)} pictures in {args.out}/")

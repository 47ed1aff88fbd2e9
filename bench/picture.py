"""Draws README's picture, report/range-test.svg: README's lines on LeNet-5 and MNIST. Half a minute on a core.

python bench/picture.py
"""

import matplotlib
import torch
from matplotlib.figure import Figure

import lrlib
from lrlib.problems.data import load_dataset
from lrlib.project import project_folder


def main():
    torch.manual_seed(0)
    data = load_dataset("mnist")
    images = torch.utils.data.TensorDataset(*data.train)
    loader = torch.utils.data.DataLoader(images, batch_size=128, shuffle=True)
    model = lrlib.LeNet5()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    result = lrlib.range_test(model, optimizer, torch.nn.functional.cross_entropy, loader, progress=False)
    matplotlib.rcParams["svg.hashsalt"] = "lrlib"  # the same bytes each time
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    result.plot(figure.add_subplot())
    figure.savefig(project_folder() / "report" / "range-test.svg", metadata={"Date": None})
    print(result)


if __name__ == "__main__":
    main()

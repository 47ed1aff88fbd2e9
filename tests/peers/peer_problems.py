"""A small classification that every tool trains, and its raw losses as they were made."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

N_STEPS = 100
torch.set_num_threads(1)  # a layer this small is slower on two


def blobs():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (512,), generator=generator)
    return torch.randn(3, 6, generator=generator)[targets] + torch.randn(512, 6, generator=generator), targets


def build(seed=0, lr=1e-4, momentum=0.9, groups=False, dtype=torch.float32):
    """(model, optimizer, loader) from a seed; groups: the last layer in a group of its own, at ten times the rate."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    parameters = model.parameters()
    if groups:
        parameters = [{"params": model[:2].parameters()}, {"params": model[2].parameters(), "lr": 10 * lr}]
    return model, torch.optim.SGD(parameters, lr=lr, momentum=momentum), loader_of(seed, dtype)


def loader_of(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    points, targets = blobs()
    return DataLoader(TensorDataset(points.to(dtype), targets), batch_size=64, shuffle=True, generator=generator)


def lightning_trainer(pl, folder, **settings):
    """A silent Trainer on the CPU."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(**{"max_epochs": 4, "accelerator": "cpu", "default_root_dir": folder, **quiet, **settings})


def lightning_module(pl, loss_fn=nn.functional.cross_entropy, **problem):
    """A class of LightningModules on this problem."""

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, _, self.loader = build(**problem)
            self.lr = 1e-3

        def training_step(self, batch, batch_idx):
            return loss_fn(self.model(batch[0]), batch[1])

        def train_dataloader(self):
            return self.loader

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    return Module


class RecordedLoss(nn.Module):
    """Cross-entropy that remembers every loss it gave while gradients were on."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def forward(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets)
        if torch.is_grad_enabled():
            self.losses.append(loss.item())
        return loss


def weights_of(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_equal(now, before):
    assert len(now) == len(before)
    assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))

"""The optimizers that runs can ask for by name, and their settings. Part of every epoch's name."""

from typing import Any

import torch

# Settings of each optimizer: the protocol's of SGD and Adam; DeepOBS's of momentum; torch's of AdamW and Muon; of
# those that find a learning rate by themselves (from the packages prodigyopt and dadaptation), which then multiplies
# the lr given, their documented defaults. momentum is an optimizer's momentum or its first beta.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 5e-4},
    "momentum": {"momentum": 0.99, "weight_decay": 0.0},
    "adam": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "eps": 1e-9},
    "adamw": {"momentum": 0.9, "weight_decay": 0.01, "beta2": 0.999, "eps": 1e-8},
    "muon": {"momentum": 0.95, "weight_decay": 0.1, "beta2": 0.95, "eps": 1e-8},
    "prodigy": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "package": "prodigyopt"},
    "dadapt_adam": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "package": "dadaptation"},
    "dadapt_sgd": {"momentum": 0.0, "weight_decay": 0.0, "package": "dadaptation"},
}


def build_optimizer(
    name: str, parameters: Any, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of that name with its remaining settings (table OPTIMIZERS).

    parameters: tensors, or parameter groups. Raises ImportError where the package of one that is not torch's is not
    installed.
    """
    settings = OPTIMIZERS[name]
    if name == "muon":
        return MuonAndAdamW(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "prodigy":
        from prodigyopt import Prodigy as make
    elif name == "dadapt_adam":
        from dadaptation import DAdaptAdam as make
    elif name == "dadapt_sgd":
        from dadaptation import DAdaptSGD as make
    else:
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(name, torch.optim.SGD)
    # Of torch's own, the kernel that updates all parameters in one call.
    given = {"lr": lr, "weight_decay": weight_decay} | ({} if "package" in settings else {"fused": True})
    if "beta2" not in settings:
        return make(parameters, momentum=momentum, **given)
    eps = {"eps": settings["eps"]} if "eps" in settings else {}
    return make(parameters, betas=(momentum, settings["beta2"]), **given, **eps)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices, AdamW for all else, as one optimizer: Muon is defined for matrices only.

    Muon's updates are scaled to the root mean square of AdamW's, so that one learning rate and weight decay serve both
    (Liu et al. 2025, arXiv 2502.16982). parameters: tensors, or parameter groups, whose other entries are kept.
    A matrix is what has two dimensions; embeddings and output layers count as such.
    """

    def __init__(self, parameters, *, lr, momentum, weight_decay):
        settings = OPTIMIZERS["muon"]
        groups = [g if isinstance(g, dict) else {"params": [g]} for g in parameters]
        of_muon, of_adamw = ([], [])
        for group in groups:
            for wanted, is_matrix in ((of_muon, True), (of_adamw, False)):
                chosen = [parameter for parameter in group["params"] if (parameter.ndim == 2) is is_matrix]
                if chosen:
                    wanted.append(group | {"params": chosen})
        shared = {"lr": lr, "weight_decay": weight_decay}
        self._parts = []
        if of_muon:
            muon = torch.optim.Muon(of_muon, momentum=momentum, adjust_lr_fn="match_rms_adamw", **shared)
            self._parts.append(muon)
        if of_adamw:
            betas = (momentum, settings["beta2"])
            self._parts.append(torch.optim.AdamW(of_adamw, betas=betas, eps=settings["eps"], fused=True, **shared))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        # One state and the same groups, so that what is set or put back here holds for the parts.
        start = 0
        for part in self._parts:
            part.param_groups = self.param_groups[start : start + len(part.param_groups)]
            part.state = self.state
            start += len(part.param_groups)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for part in self._parts:
            part.step()

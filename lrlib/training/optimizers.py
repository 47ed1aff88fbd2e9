"""The optimizers that runs can ask for by name, and their settings. Part of every epoch's name."""

import torch

# Settings of each optimizer: the protocol's of SGD and Adam; of those that find a learning rate by themselves (from the
# packages prodigyopt and dadaptation), which then multiplies the lr given, their documented defaults.
# momentum is an optimizer's momentum or its first beta.
OPTIMIZERS = {
    "sgd": {"momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "eps": 1e-9},
    "prodigy": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "package": "prodigyopt"},
    "dadapt_adam": {"momentum": 0.9, "weight_decay": 0.0, "beta2": 0.999, "package": "dadaptation"},
    "dadapt_sgd": {"momentum": 0.0, "weight_decay": 0.0, "package": "dadaptation"},
}


def build_optimizer(name, parameters, *, lr, momentum, weight_decay):
    """The optimizer of that name with its remaining settings (table OPTIMIZERS).

    Raises ImportError where the package of one that is not torch's is not installed.
    """
    settings = OPTIMIZERS[name]
    if name == "prodigy":
        from prodigyopt import Prodigy as make
    elif name == "dadapt_adam":
        from dadaptation import DAdaptAdam as make
    elif name == "dadapt_sgd":
        from dadaptation import DAdaptSGD as make
    else:
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    if "beta2" not in settings:
        return make(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    eps = {"eps": settings["eps"]} if "eps" in settings else {}
    return make(parameters, lr=lr, betas=(momentum, settings["beta2"]), weight_decay=weight_decay, **eps)

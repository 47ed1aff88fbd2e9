"""The problems of the study. `Run(problem=locate("char_gpt"))` trains one."""

_MODULES = {
    "caffe_lenet_mnist": "caffe_lenet",
    "quadratic_deep": "quadratic",
    "fmnist_2c2d": "cnn_2c2d",
    "mnist_vae": "vae",
    "fmnist_vae": "vae",
    "fmnist_resnet": "resnet",
    "char_rnn": "char_rnn",
    "char_gpt": "char_gpt",
    "char_gpt_finetune": "char_gpt",
    "tabular": "tabular",
}
NAMES = tuple(_MODULES)


def locate(name: str) -> str:
    """The "module:name" of a problem of the study; a name of the package's own problems as it is."""
    return f"{__name__}.{_MODULES[name]}:{name}" if name in _MODULES else name

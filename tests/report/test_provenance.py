from lrlib.report.provenance import describe_backend
from lrlib.training.registry import describe_numerics


def test_what_trained_is_said_in_words():
    assert describe_backend(describe_numerics()) == "plain PyTorch"
    numerics = {"backend": "colossalai", "world_size": 2, "plugin": "TorchDDPPlugin", "colossalai": "0.5.0"}
    assert describe_backend(numerics) == (
        "backend colossalai (colossalai 0.5.0, plugin TorchDDPPlugin), 2 processes that share each batch"
    )
    assert describe_backend(numerics | {"world_size": 1}).endswith("one process")

"""result.log with the real TensorBoard and MLflow, and with what has W&B's log."""

import sys
from types import SimpleNamespace

import pytest
from test_reading import curve

import lrlib

RESULT = lrlib.read(*curve())
EXPECTED = {f"range_test/{name}": pytest.approx(getattr(RESULT.suggest(), name)) for name in ("lr", "lower", "upper")}


def test_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="TensorBoard is not installed (make peers)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard.SummaryWriter(tmp_path) as writer:
        RESULT.log(writer)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]} == EXPECTED
    assert events.Images("range_test/curves")[0].encoded_image_string.startswith(b"\x89PNG")


def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (make peers)")
    mlflow.set_tracking_uri(f"file:{tmp_path}/runs")
    with mlflow.start_run() as run:
        RESULT.log(mlflow)
    assert mlflow.get_run(run.info.run_id).data.metrics == EXPECTED
    [artifact] = mlflow.MlflowClient().list_artifacts(run.info.run_id, "range_test")
    assert artifact.path == "range_test/curves.png"


@pytest.mark.parametrize("with_matplotlib", [True, False])
def test_what_has_a_log_method(monkeypatch, with_matplotlib):
    if not with_matplotlib:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    values = {}
    RESULT.log(SimpleNamespace(log=values.update))
    picture = values.pop("range_test/curves", None)
    assert values == EXPECTED and (picture is not None) == with_matplotlib


def test_another_writer_is_refused():
    with pytest.raises(TypeError, match="must be a SummaryWriter, mlflow or a W&B run, got list"):
        RESULT.log([])

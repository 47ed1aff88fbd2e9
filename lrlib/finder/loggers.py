"""Send a result to an experiment tracker: TensorBoard, MLflow or W&B, told apart by their methods."""

from typing import TYPE_CHECKING, Any

from lrlib.extras import need

if TYPE_CHECKING:
    from lrlib.finder.result import RangeTestResult


def log(result: "RangeTestResult", writer: Any) -> None:
    """Log the suggestion's lr, lower and upper as numbers, and the curves as a picture if matplotlib is installed."""
    suggestion = result.suggest()
    numbers = {f"range_test/{name}": getattr(suggestion, name) for name in ("lr", "lower", "upper")}
    if not any(hasattr(writer, name) for name in ("add_scalar", "log_metric", "log")):
        raise TypeError(f"writer must be a SummaryWriter, mlflow or a W&B run, got {type(writer).__name__}")
    figure = _figure(result)
    if hasattr(writer, "add_scalar"):
        for name, number in numbers.items():
            writer.add_scalar(name, number)
        if figure is not None:
            writer.add_figure("range_test/curves", figure)
    elif hasattr(writer, "log_metric"):
        for name, number in numbers.items():
            writer.log_metric(name, number)
        if figure is not None:
            writer.log_figure(figure, "range_test/curves.png")
    else:
        if figure is not None and "wandb" in (type(writer).__module__ + str(getattr(writer, "__name__", ""))):
            figure = need("wandb", what="logging").Image(figure)  # else W&B asks for plotly
        writer.log(numbers if figure is None else {**numbers, "range_test/curves": figure})


def _figure(result: "RangeTestResult") -> Any:
    try:
        figure = need("matplotlib.figure", what="a picture").Figure(figsize=(7, 4), layout="constrained")
    except ModuleNotFoundError:
        return None
    result.plot(figure.add_subplot())
    return figure

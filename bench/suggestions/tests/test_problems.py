"""Every problem: its data, its model's size, that it trains, and that stopping between epochs changes no bit."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bench.suggestions import problems
from bench.suggestions.problems.char_gpt import CharGpt
from lrlib import Run
from lrlib.problems.data import DatasetMissing, is_present
from lrlib.problems.problem import Data
from lrlib.problems.registry import load_problem as load_by_name
from lrlib.schedules import Constant
from lrlib.training import epoch as epochs
from lrlib.training.epoch import epoch_noise, epoch_order
from lrlib.training.numerics import fix_numerics
from lrlib.training.optimizers import OPTIMIZERS

# As published (DeepOBS's layers counted by hand; Caffe's LeNet as its log says), or counted by hand here.
N_PARAMETERS = {
    "caffe_lenet_mnist": 431_080,
    "quadratic_deep": 100,
    "fmnist_2c2d": 832 + 51_264 + 3_212_288 + 10_250,
    "mnist_vae": 1_088 + 2 * 65_600 + 2 * 25_096 + 216 + 1_225 + 1_088 + 2 * 65_600 + 9_835_280,
    "fmnist_resnet": (144 + 32) + (2 * 2_304 + 64) + (4_608 + 9_216 + 512 + 192) + (18_432 + 36_864 + 2_048 + 384) + 650,
    "char_rnn": 128 * 128 + 2 * 4 * (2 * 128 * 128 + 2 * 128) + 128 * 129,
    "char_gpt": 128 * 96 + 64 * 96 + 2 * (4 * 96 + 96 * 97 * 3 + 96 * 97 + 97 * 384 + 385 * 96) + 2 * 96 + 96 * 128,
    "tabular": 31 * 64 + 65 * 64 + 65 * 2,
}  # fmt: skip
SMALL = ("quadratic_deep", "char_rnn", "char_gpt", "tabular")


def load_problem(name):
    return load_by_name(problems.locate(name))


def initial_state(seed, name, data=None):
    return epochs.initial_state(seed, problems.locate(name), data)


def evaluate(state, *, problem, **given):
    return epochs.evaluate(state, problem=problems.locate(problem), **given)


def load_model(state, name):
    return epochs.load_model(state, problems.locate(name))


def make_data(name, n=40):
    """The problem's own data where they are at hand in a moment, else made-up ones of their shape."""
    if name in SMALL:
        return load_problem(name).load_data()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=generator)
    targets = images if name.endswith("vae") else torch.randint(0, 10, (n,), generator=generator)
    return Data((images, targets), (images, targets))


def take_epochs(name, data, *, n_epochs=2, n_steps=4, batch_size=10, optimizer=None, lr=0.01, state=None, first=1):
    problem = load_problem(name)
    optimizer = optimizer or problem.optimizer
    settings = OPTIMIZERS[optimizer] | problem.settings.get(optimizer, {})
    state, losses = state or initial_state(0, name, data), []
    for number in range(first, first + n_epochs):
        state, part = epochs.train_epoch(
            state, problem=problems.locate(name), lr=[lr] * n_steps, momentum=[settings["momentum"]] * n_steps, inputs=data.train[0],
            targets=data.train[1], order=epoch_order(0, number, len(data.train[0]), n_steps * batch_size),
            batch_size=batch_size, optimizer=optimizer, weight_decay=settings["weight_decay"],
            noise=epoch_noise(0, number),
        )  # fmt: skip
        losses.extend(part)
    return state, losses


@pytest.fixture(autouse=True)
def deterministic():
    before = torch.get_num_threads()
    fix_numerics()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", problems.NAMES)
def test_a_problem_is_whole(name):
    problem = load_problem(name)
    assert problem.name == problems.locate(name)
    assert problem.optimizer in OPTIMIZERS and set(problem.settings) <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", N_PARAMETERS)
def test_a_model_has_as_many_parameters_as_its_layers(name):
    assert sum(p.numel() for p in load_problem(name).build_model().parameters()) == N_PARAMETERS[name]


@pytest.mark.parametrize("name", ["quadratic_deep", "char_rnn", "char_gpt", "tabular"])
def test_data_are_named_by_a_checksum_and_as_many_as_they_say(name):
    problem = load_problem(name)
    info, data = problem.find_data(), problem.load_data()
    assert len(info.checksum) == 64 and info == problem.find_data()
    for n, (inputs, targets) in ((info.n_train, data.train), (info.n_test, data.test)):
        assert n == len(inputs) == len(targets)


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_images_are_the_dataset_s(dataset):
    if not is_present(dataset):
        pytest.skip(f"{dataset} is not on this machine")
    data = load_problem({"mnist": "caffe_lenet_mnist", "fashion_mnist": "fmnist_2c2d"}[dataset]).load_data()
    assert data.train[0].shape == (60_000, 1, 28, 28) and data.train[0].dtype == torch.uint8
    assert data.test[1].shape == (10_000,) and torch.equal(data.test[1].unique(), torch.arange(10))


@pytest.mark.parametrize("name", N_PARAMETERS)
def test_a_problem_trains_and_gets_better(name):
    data = make_data(name)
    lr = {"quadratic_deep": 0.01, "mnist_vae": 1e-4, "caffe_lenet_mnist": 0.005, "fmnist_2c2d": 0.05}.get(name, 0.01)
    before = evaluate(
        initial_state(0, name), problem=name, inputs=data.train[0][:40], targets=data.train[1][:40], batch_size=20
    )
    state, losses = take_epochs(name, data, n_epochs=2, n_steps=10, lr=lr)
    after = evaluate(state, problem=name, inputs=data.train[0][:40], targets=data.train[1][:40], batch_size=20)
    assert np.isfinite(losses).all()
    assert after[0] < before[0]
    assert (after[1] is None) is (load_problem(name).hits is None)
    if after[1] is not None:
        assert 0 <= after[1] <= 40


@pytest.mark.parametrize("name", ["char_rnn", "char_gpt", "fmnist_resnet", "mnist_vae"])
def test_stopping_between_epochs_changes_no_bit(name):
    data = make_data(name)
    whole, losses = take_epochs(name, data, n_epochs=3, n_steps=2)
    state, found = None, []
    for number in (1, 2, 3):
        state, part = take_epochs(name, data, n_epochs=1, n_steps=2, state=state, first=number)
        state = {key: torch.from_numpy(value.numpy().copy()) for key, value in state.items()}  # as it is stored
        found.extend(part)
    assert found == losses
    assert state.keys() == whole.keys()
    assert all(torch.equal(state[key], whole[key]) for key in whole)


def test_batch_norm_s_running_statistics_are_part_of_the_state_and_of_what_is_evaluated():
    data = make_data("fmnist_resnet")
    state, _ = take_epochs("fmnist_resnet", data, n_epochs=1)
    assert state["model.stem.1.num_batches_tracked"] == 4
    given = {"inputs": data.test[0], "targets": data.test[1], "batch_size": 40, "problem": "fmnist_resnet"}
    loss, _ = evaluate(state, **given)
    shifted = state | {"model.stem.1.running_mean": state["model.stem.1.running_mean"] + 1}
    assert evaluate(shifted, **given)[0] != loss


def test_what_steps_draw_comes_from_seed_and_epoch_alone():
    data = make_data("mnist_vae")
    runs = []
    for caller_seed in (1, 2):
        torch.manual_seed(caller_seed)
        after = torch.rand(1)
        torch.manual_seed(caller_seed)
        runs.append(take_epochs("mnist_vae", data, n_epochs=1, n_steps=2, lr=1e-4)[1])
        assert torch.equal(torch.rand(1), after)
    assert runs[0] == runs[1]
    given = {"inputs": data.test[0], "targets": data.test[1], "batch_size": 20, "problem": "mnist_vae"}
    assert evaluate(initial_state(0, "mnist_vae"), **given) == evaluate(initial_state(0, "mnist_vae"), **given)
    assert epoch_noise(0, 1) != epoch_noise(0, 2) != epoch_noise(1, 1)


def test_gradients_are_clipped_to_the_problem_s_norm():
    data = make_data("char_rnn")
    before, lr = initial_state(0, "char_rnn"), 1e4
    after, _ = take_epochs("char_rnn", data, n_epochs=1, n_steps=1, optimizer="momentum", lr=lr)
    moved = sum(((after[key] - before[key]) ** 2).sum().item() for key in before)
    assert 0 < math.sqrt(moved) <= lr * load_problem("char_rnn").clip_norm * 1.001


def test_caffe_s_biases_move_at_twice_the_rate():
    data = make_data("caffe_lenet_mnist")
    before = initial_state(0, "caffe_lenet_mnist")
    after, _ = take_epochs("caffe_lenet_mnist", data, n_epochs=1, n_steps=1, lr=0.01)
    model = load_problem("caffe_lenet_mnist").build_model()
    model.load_state_dict({key.removeprefix("model."): value for key, value in before.items()})
    batch = epoch_order(0, 1, 40, 10)
    nn.functional.cross_entropy(model(data.train[0][batch]), data.train[1][batch]).backward()
    for name, parameter in model.named_parameters():
        step = parameter.grad + 5e-4 * parameter.detach()
        expected = parameter.detach() - 0.01 * (2 if name.endswith("bias") else 1) * step
        torch.testing.assert_close(after[f"model.{name}"], expected)


def test_caffe_s_initialisation_is_uniform_by_what_goes_in():
    state = initial_state(1, "caffe_lenet_mnist")
    for layer, n_in in (("conv1", 25), ("conv2", 500), ("ip1", 800), ("ip2", 500)):
        weight, bound = state[f"model.{layer}.weight"], math.sqrt(3 / n_in)
        assert bound * 0.95 < weight.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert not state[f"model.{layer}.bias"].any()


def test_2c2d_is_truncated_normal_with_positive_biases():
    state = initial_state(1, "fmnist_2c2d")
    weight = state["model.fc1.weight"]
    assert weight.abs().max() <= 0.1
    assert weight.std() == pytest.approx(0.05 * 0.87962566, rel=0.01)  # of a normal cut at two standard deviations
    assert all((value == 0.05).all() for key, value in state.items() if key.endswith("bias"))


def test_the_vae_is_glorot_uniform_and_its_shapes_are_tensorflow_s():
    state = initial_state(1, "mnist_vae")
    bounds = {"conv1": 16 * 65, "conv2": 16 * 128, "deconv1": 16 * 65, "deconv2": 16 * 128, "fc3": 12_544 + 784}
    for layer, fans in bounds.items():
        weight, bound = state[f"model.{layer}.weight"], math.sqrt(6 / fans)
        assert bound * 0.95 < weight.abs().max() <= bound
    model = load_model(state, "mnist_vae")
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    made, mean, log_std = model(images)
    assert (made.shape, mean.shape, log_std.shape) == ((3, 784), (3, 8), (3, 8))
    # By hand: squared error, and the divergence from a standard normal.
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    expected = ((made - images.flatten(1) / 255) ** 2).sum(1) + divergence
    torch.testing.assert_close(load_problem("mnist_vae").losses((made, mean, log_std), images), expected)


def test_the_quadratic_has_deepobs_s_curvatures_and_its_best_point_is_the_data_s_mean():
    problem = load_problem("quadratic_deep")
    data, model = problem.load_data(), problem.build_model()
    assert torch.equal(model.theta, torch.ones(100))
    hessian = torch.autograd.functional.hessian(lambda theta: 0.5 * _square(model, theta), torch.zeros(100))
    values = torch.linalg.eigvalsh(hessian)
    assert ((values > -1e-4) & (values < 1)).sum() == 90
    assert ((values > 30) & (values < 60)).sum() == 10
    with torch.no_grad():
        model.theta.copy_(data.train[0].mean(0))
    loss = problem.losses(model(data.train[0]), data.train[1]).mean()
    loss.backward()
    assert model.theta.grad.abs().max() < 1e-4
    assert data.train[0].std().item() == pytest.approx(0.6, rel=0.01)


def _square(model, theta):
    return 2 * torch.func.functional_call(model, {"theta": theta}, torch.zeros(1, 100)).sum()


# Test losses before the first step, of DeepOBS's published runs (fsschneider/DeepOBS_Baselines, commit 3da285a); its batches
# leave a short last one out. least, most: about the ten seeds' where the loss depends on them.
@pytest.mark.parametrize(
    ("name", "n", "least", "most"),
    [("quadratic_deep", 896, 353.4465, 353.4475), ("mnist_vae", 2000, 180.5, 182.5), ("fmnist_vae", 2000, 132.0, 134.0),
     ("fmnist_2c2d", 512, 2.29, 2.52)],
)  # fmt: skip
def test_training_starts_from_the_loss_that_deepobs_published(name, n, least, most):
    problem = load_problem(name)
    dataset = {"mnist_vae": "mnist"}.get(name, "fashion_mnist")
    if name != "quadratic_deep" and not is_present(dataset):
        pytest.skip(f"{dataset} is not on this machine")
    inputs, targets = problem.load_data().test
    given = {"inputs": inputs[:n], "targets": targets[:n], "batch_size": problem.batch_size, "problem": name}
    assert least < evaluate(initial_state(0, name), **given)[0] < most


def test_targets_of_text_are_its_next_characters():
    data = load_problem("char_gpt").load_data()
    for inputs, targets in (data.train, data.test):
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        assert inputs.max() < 128
    text = bytes(data.train[0][:40].flatten().tolist()).decode()
    assert "import" in text or "def " in text


def test_no_character_of_the_transformer_sees_what_comes_after_it():
    model = load_model(initial_state(0, "char_gpt"), "char_gpt")
    characters = torch.randint(0, 128, (1, 64), dtype=torch.uint8)
    changed = characters.clone()
    changed[0, 40:] = (changed[0, 40:] + 1) % 128
    with torch.no_grad():
        assert torch.equal(model(characters)[0, :40], model(changed)[0, :40])
        assert not torch.equal(model(characters)[0, 40:], model(changed)[0, 40:])


def test_fine_tuning_starts_from_the_same_trained_weights_whatever_the_seed(monkeypatch):
    monkeypatch.setattr("bench.suggestions.problems.char_gpt.STEPS_BEFORE", 60)
    monkeypatch.setattr("bench.suggestions.problems.char_gpt.RISE_BEFORE", 10)
    problem = load_problem("char_gpt_finetune")
    data = problem.load_data()
    first, second = (initial_state(seed, "char_gpt_finetune", data) for seed in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    given = {"inputs": data.before[0][:64], "targets": data.before[1][:64], "batch_size": 64, "problem": "char_gpt"}
    assert evaluate(first, **given)[0] < evaluate(initial_state(0, "char_gpt"), **given)[0] - 1
    code, prose = load_problem("char_gpt").find_data(), problem.find_data()
    assert code.checksum != prose.checksum
    assert not torch.equal(data.train[0][:10], data.before[0][:10])
    from bench.suggestions.problems import char_gpt

    char_gpt._pretrain.cache_clear()  # of the shortened training


def test_muon_moves_matrices_by_muon_and_the_rest_by_adamw():
    data = make_data("char_gpt")
    before = initial_state(0, "char_gpt")
    after, _ = take_epochs("char_gpt", data, n_epochs=1, n_steps=1, optimizer="muon", lr=0.01)
    assert "optimizer.blocks.0.widen.weight.momentum_buffer" in after
    assert "optimizer.norm.weight.exp_avg" in after
    model = CharGpt()
    model.load_state_dict({key.removeprefix("model."): value for key, value in before.items()})
    batch = epoch_order(0, 1, len(data.train[0]), 10)
    load_problem("char_gpt").losses(model(data.train[0][batch]), data.train[1][batch]).mean().backward()
    muon = torch.optim.Muon(
        [p for p in model.parameters() if p.ndim == 2],
        lr=0.01, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    adamw = torch.optim.AdamW(
        [p for p in model.parameters() if p.ndim != 2], lr=0.01, betas=(0.95, 0.95), weight_decay=0.1, fused=True
    )
    muon.step()
    adamw.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(after[f"model.{name}"], parameter), name


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw", "muon"])
def test_every_optimizer_goes_on_between_epochs_to_the_bit(optimizer):
    data = make_data("char_gpt")
    whole, losses = take_epochs("char_gpt", data, n_epochs=2, n_steps=2, optimizer=optimizer, lr=1e-3)
    state, first = take_epochs("char_gpt", data, n_epochs=1, n_steps=2, optimizer=optimizer, lr=1e-3)
    state, second = take_epochs(
        "char_gpt", data, n_epochs=1, n_steps=2, optimizer=optimizer, lr=1e-3, state=state, first=2
    )
    assert first + second == losses
    assert all(torch.equal(state[key], whole[key]) for key in whole)
    assert state.keys() == whole.keys()


def test_a_run_takes_what_is_usual_for_its_problem():
    run = Run(Constant(0.1), problem=problems.locate("mnist_vae"))
    assert (run.batch_size, run.momentum, run.weight_decay) == (64, 0.0, 0.0)
    run = Run(Constant(0.1), problem=problems.locate("mnist_vae"), optimizer="momentum")
    assert (run.momentum, run.weight_decay) == (0.99, 0.0)
    assert Run(Constant(0.1), problem=problems.locate("char_gpt")).optimizer == "adamw"


def test_data_that_cannot_be_had_are_said(monkeypatch, tmp_path):
    from bench.suggestions.problems import text

    monkeypatch.setattr(text, "_folder", lambda: tmp_path)
    text.cut_text.cache_clear()
    with pytest.raises(DatasetMissing, match="has no source code at .*; run lrlib with a Python that brings it"):
        text.cut_text(text.CODE)
    text.cut_text.cache_clear()

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_problems import make_images, train

from lrlib import LeNet5
from lrlib.problems.registry import load_problem
from lrlib.schedules import MultiStep, OneCycle
from lrlib.training.epoch import epoch_order, evaluate, initial_state, load_model, train_epoch

N, BATCH = 70, 32  # three steps an epoch, the last with 6 images
EPOCHS, STEPS = 3, 3


@pytest.fixture(scope="module")
def data():
    return make_images(N)


def train_plainly(data, make_optimizer, make_scheduler, *, step_every):
    torch.manual_seed(3)
    model = LeNet5()
    optimizer = make_optimizer(model.parameters())
    scheduler = make_scheduler(optimizer)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        for batch in epoch_order(3, epoch, N).split(BATCH):
            loss = F.cross_entropy(model(data[0][batch]), data[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if step_every == "step" and len(losses) < EPOCHS * STEPS:
                scheduler.step()
        if step_every == "epoch":
            scheduler.step()
    return model, losses


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)


@pytest.mark.parametrize(
    ("schedule", "optimizer", "make_optimizer", "make_scheduler", "step_every"),
    [
        (MultiStep(0.1, [1, 2]), "sgd", sgd, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 2]), "epoch"),
        (
            OneCycle(0.1, final_div_factor=4), "sgd", sgd,
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=EPOCHS * STEPS, final_div_factor=4),
            "step",
        ),
        (MultiStep(0.01, [2]), "adam", lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.999), eps=1e-9, fused=True),
         lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2]), "epoch"),
    ],
    ids=["multistep", "onecycle", "adam"],
)  # fmt: skip
def test_epochs_are_a_plain_loop_with_torch_s_optimizer_and_scheduler_to_the_bit(
    data, schedule, optimizer, make_optimizer, make_scheduler, step_every
):
    weight_decay = 5e-4 if optimizer == "sgd" else 0.0
    state, losses = train("torch", data, schedule, epochs=EPOCHS, optimizer=optimizer, weight_decay=weight_decay)
    model, expected = train_plainly(data, make_optimizer, make_scheduler, step_every=step_every)
    assert losses == pytest.approx(expected, rel=1e-6)  # sums of a batch's losses in another order
    for name, parameter in model.named_parameters():
        assert torch.equal(state[f"model.{name}"], parameter), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_epochs_go_on_where_the_last_one_stopped_with_buffers_and_any_optimizer(optimizer):
    data = load_problem("small_problems:normed").load_data()
    given = {"inputs": data.train[0], "targets": data.train[1], "batch_size": 20, "optimizer": optimizer}
    given |= {"weight_decay": 0.1, "problem": "small_problems:normed"}
    order, start = torch.arange(60), initial_state(0, "small_problems:normed")
    kept = {name: value.clone() for name, value in start.items()}
    whole, losses = train_epoch(start, lr=[0.01] * 6, momentum=[0.9] * 6, order=torch.cat([order, order]), **given)
    state, first = train_epoch(start, lr=[0.01] * 3, momentum=[0.9] * 3, order=order, **given)
    state, second = train_epoch(state, lr=[0.01] * 3, momentum=[0.9] * 3, order=order, **given)
    assert [*first, *second] == list(losses) and losses[-1] < losses[0]
    assert state.keys() == whole.keys() and all(torch.equal(state[key], whole[key]) for key in whole)
    assert whole["model.1.num_batches_tracked"] == 6
    assert all(torch.equal(start[name], kept[name]) for name in kept)


def test_initial_state_is_torch_s_initialisation_and_leaves_the_random_state_alone():
    torch.manual_seed(11)
    expected, after = LeNet5(), torch.rand(3)
    torch.manual_seed(11)
    LeNet5()
    state = initial_state(11)
    assert torch.equal(torch.rand(3), after)
    assert all(torch.equal(state[f"model.{name}"], p) for name, p in expected.named_parameters())


def test_an_order_is_a_permutation_of_its_own_for_each_seed_and_epoch():
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(3) for epoch in range(1, 4)}
    assert len(orders) == 9
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert torch.equal(epoch_order(1, 2, 50), epoch_order(1, 2, 50))


def test_a_loss_that_is_not_finite_ends_the_epoch_at_its_step(data):
    n_steps = 35
    state, losses = train_epoch(
        initial_state(0), lr=[1e30] * n_steps, momentum=[0.9] * n_steps, inputs=data[0], targets=data[1],
        order=epoch_order(0, 1, N), batch_size=2, optimizer="sgd", weight_decay=5e-4,
    )  # fmt: skip
    first = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert 1 <= first < n_steps - 1
    assert np.isnan(losses[first + 1 :]).all()


def test_evaluation_is_the_mean_of_batch_means_and_the_count_of_right_answers(data):
    state = initial_state(5)
    loss, n_correct = evaluate(state, inputs=data[0], targets=data[1], batch_size=BATCH)
    model = load_model(state)
    with torch.no_grad():
        logits = model(data[0])
    batches = [F.cross_entropy(logits[i : i + BATCH], data[1][i : i + BATCH]).item() for i in range(0, N, BATCH)]
    assert loss == pytest.approx(np.mean(batches), rel=1e-5)
    assert loss != pytest.approx(F.cross_entropy(logits, data[1]).item(), rel=1e-5)
    assert n_correct == int((logits.argmax(1) == data[1]).sum())

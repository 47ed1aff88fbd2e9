import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_problems import make_images, train

from lrlib import LeNet5
from lrlib.problems.registry import load_data
from lrlib.schedules import Constant, OneCycle
from lrlib.training.backends import compiled
from lrlib.training.epoch import epoch_order, evaluate, initial_state, load_model
from lrlib.training.registry import load_backend

N, BATCH = 70, 32  # three steps an epoch, the last with 6 images


@pytest.fixture(scope="module")
def data():
    return make_images(N)


@pytest.mark.parametrize(
    ("name", "make", "settings"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 5e-4}),
        ("adam", torch.optim.Adam, {"eps": 1e-9, "weight_decay": 0.0}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.01}),
    ],
)
def test_epochs_are_a_plain_loop_with_torch_s_optimizer_and_scheduler_to_the_bit(data, name, make, settings):
    schedule, decay = OneCycle(0.01, final_div_factor=4), settings["weight_decay"]
    state, losses = train("torch", data, schedule, epochs=3, optimizer=name, weight_decay=decay)
    torch.manual_seed(3)
    model, expected = LeNet5(), []
    optimizer = make(model.parameters(), lr=1.0, fused=True, **settings)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=9, final_div_factor=4)
    for epoch in (1, 2, 3):
        for batch in epoch_order(3, epoch, N).split(BATCH):
            loss = F.cross_entropy(model(data[0][batch]), data[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
            if len(expected) < 9:
                scheduler.step()
    assert losses == pytest.approx(expected, rel=1e-6)  # sums of a batch's losses in another order
    for name, parameter in model.named_parameters():
        assert torch.equal(state[f"model.{name}"], parameter), name


BACKENDS = ["torch", "compiled"] if compiled.is_available() else ["torch"]
CASES = [("small_problems:normed", optimizer, "torch") for optimizer in ("sgd", "adam", "adamw")]
CASES += [("lenet5_sample", "sgd", backend) for backend in BACKENDS]


@pytest.mark.parametrize(("problem", "optimizer", "backend"), CASES)
def test_epochs_go_on_where_the_last_one_stopped_with_buffers_and_any_optimizer(problem, optimizer, backend):
    inputs, targets = (part[:60] for part in load_data(problem).train)

    def go(state, order):
        rates = np.full(len(order) // 20, 0.01), np.full(len(order) // 20, 0.9)
        return load_backend(backend).train_epoch(
            state, processes=1, lr=rates[0], momentum=rates[1], inputs=inputs, targets=targets, order=order,
            batch_size=20, optimizer=optimizer, weight_decay=0.1, problem=problem,
        )  # fmt: skip

    order, start = torch.arange(60), initial_state(0, problem)
    kept = {name: value.clone() for name, value in start.items()}
    whole, losses = go(start, torch.cat([order, order]))
    state, first = go(start, order)
    state, second = go(state, order)
    assert [*first, *second] == list(losses) and losses[-1] < losses[0]
    torch.testing.assert_close(state, whole, rtol=0, atol=0)
    torch.testing.assert_close(start, kept, rtol=0, atol=0)
    assert whole.get("model.1.num_batches_tracked", 6) == 6


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


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_is_not_finite_ends_the_epoch_at_its_step(data, backend):
    state, losses = train(backend, data, Constant(1e30), epochs=1, batch_size=2)
    first = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert 1 <= first < len(losses) - 1
    assert np.isnan(losses[first + 1 :]).all()
    assert any(not torch.isfinite(value).all() for value in state.values())


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

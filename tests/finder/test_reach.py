"""Whatever a training changes is afterwards what it was, or is refused before its first step."""

import array
import collections
import ctypes
import io
import itertools
import queue
import random
import sqlite3
import threading
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset
from trainings import blobs, cross_entropy, plain, sweep

from lrlib.finder.restore import Snapshot


def everything(*roots):
    """[(path, id, value)] of all that is reachable through attributes and containers, without the code under test."""
    found, seen, waiting = [], set(), [(str(i), root) for i, root in enumerate(roots)]
    while waiting:
        path, thing = waiting.pop()
        if isinstance(thing, (str, int, float, bool, bytes, type(None), type, types.FunctionType, np.generic)):
            found.append((path, repr(thing)))
            continue
        found.append((path, id(thing)))
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            place = (thing.data_ptr(), thing.stride(), thing.requires_grad, thing.is_leaf)
            found.append((path, plain(thing), place, id(thing.grad) if thing.is_leaf else None))
        elif isinstance(thing, torch.Generator):
            found.append((path, plain(thing.get_state())))
        elif isinstance(thing, (np.random.Generator, random.Random)):
            state = thing.bit_generator.state if isinstance(thing, np.random.Generator) else thing.getstate()
            found.append((path, repr(state)))
        elif isinstance(thing, np.ndarray):
            found.append((path, thing.tobytes(), thing.shape))
        elif isinstance(thing, bytearray):
            found.append((path, bytes(thing)))
        elif isinstance(thing, io.BytesIO):
            found.append((path, thing.getvalue(), thing.tell()))
        elif isinstance(thing, queue.Queue):
            waiting.append((f"{path}.queue", thing.queue))
            continue
        elif isinstance(thing, ctypes._SimpleCData):
            found.append((path, thing.value))
        elif isinstance(thing, dict):
            found.append((path, [k if isinstance(k, (str, int)) else id(k) for k in thing]))
            waiting += [(f"{path}[{i}]", value) for i, value in enumerate(thing.values())]
        elif isinstance(thing, (list, tuple, collections.deque)):
            waiting += [(f"{path}[{i}]", value) for i, value in enumerate(thing)]
        elif isinstance(thing, (set, frozenset)):
            found.append((path, sorted(map(repr, thing))))
        waiting += [(f"{path}.{key}", value) for key, value in sorted(getattr(thing, "__dict__", {}).items())]
        for slot in getattr(type(thing), "__slots__", ()):
            waiting.append((f"{path}.{slot}", getattr(thing, slot, "missing")))
    return found


class Thing:
    """A user's own object."""

    def __init__(self, held):
        self.held = held


class Slotted:
    __slots__ = ("held", "unset")

    def __init__(self, held):
        self.held = held


def spoil(thing, depth=0):
    """Change a value in place, and all that it holds."""
    if depth > 8:
        return
    if isinstance(thing, torch.Tensor):
        with torch.no_grad():
            if thing.is_leaf and not thing.requires_grad and thing.is_floating_point() and thing.dim():
                thing.data = torch.full((2, 3), float("nan"))
            else:
                thing.data.fill_(1)
    elif isinstance(thing, torch.Generator):
        torch.rand(1, generator=thing)
    elif isinstance(thing, (np.random.Generator, random.Random)):
        thing.random()
    elif isinstance(thing, np.ndarray):
        thing.fill(7)
    elif isinstance(thing, io.BytesIO):
        thing.write(b"new")
    elif isinstance(thing, queue.Queue):
        thing.put(torch.zeros(2))
        thing.get()
    elif isinstance(thing, bytearray):
        thing[0] = 9
        thing.append(1)
    elif isinstance(thing, ctypes._SimpleCData):
        thing.value += 1
    elif isinstance(thing, dict):
        [spoil(value, depth + 1) for value in thing.values()]
        thing["new"] = 1
        for key in list(thing)[:1]:
            thing[key] = thing.pop(key)  # another order
    elif isinstance(thing, list):
        [spoil(value, depth + 1) for value in thing]
        thing.insert(0, None)
    elif isinstance(thing, collections.deque):
        [spoil(value, depth + 1) for value in thing]
        thing.append(None)
        thing.rotate(1)
    elif isinstance(thing, tuple):
        [spoil(value, depth + 1) for value in thing]
    elif isinstance(thing, set):
        thing.add("new")
    elif isinstance(thing, (Thing, Slotted, types.SimpleNamespace)):
        spoil(thing.held, depth + 1)
        thing.held = "another"
        if isinstance(thing, Slotted):
            thing.unset = 1
        else:
            thing.more = 2


leaves = st.one_of(
    st.none(),
    st.integers(-5, 5),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(["float", "integer", "scalar", "parameter", "expanded", "view", "array"]),
    st.sampled_from(["generator", "numpy", "python", "bytes", "counter", "file", "queue"]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(["list", "tuple", "dict", "deque", "ordered", "default", "thing", "slotted", "space", "again"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)
MADE = {
    "float": lambda: torch.rand(3, 2),
    "integer": lambda: torch.arange(4),
    "scalar": lambda: torch.tensor(2.0),
    "parameter": lambda: nn.Parameter(torch.rand(2)),
    "expanded": lambda: torch.rand(1, 3).expand(4, 3),
    "view": lambda: torch.rand(4, 4)[1:, ::2],
    "array": lambda: np.arange(5.0),
    "generator": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(0),
    "python": lambda: random.Random(0),
    "bytes": lambda: bytearray(b"abc"),
    "file": lambda: io.BytesIO(b"ab"),
    "queue": lambda: filled(queue.Queue()),
    "counter": lambda: ctypes.c_long(3),
    "list": list,
    "tuple": tuple,
    "dict": lambda items: dict(enumerate(items)),
    "deque": lambda items: collections.deque(items, maxlen=5),
    "ordered": lambda items: collections.OrderedDict(enumerate(items)),
    "default": lambda items: collections.defaultdict(list, enumerate(items)),
    "thing": Thing,
    "slotted": Slotted,
    "space": lambda items: types.SimpleNamespace(held=items),
    "again": lambda items: [items, items],  # the same object twice
}


def filled(waiting):
    waiting.put(1)
    waiting.put([2])
    return waiting


def make(tree):
    if isinstance(tree, tuple):
        kind, items = tree
        return MADE[kind]([make(item) for item in items])
    return MADE[tree]() if isinstance(tree, str) and tree in MADE else tree


@settings(max_examples=150, deadline=None)
@given(
    trees=st.lists(trees, min_size=1, max_size=4),
    where=st.sampled_from(["module", "inner", "optimizer", "state", "loss_fn", "extra_state"]),
)
def test_any_attribute_of_anything_that_was_given_is_put_back_to_the_bit(trees, where):
    things = [make(tree) for tree in trees]
    model, loss_fn, also = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(1, 1), Thing(None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    holder = {"module": model, "inner": model[0], "optimizer": optimizer, "loss_fn": loss_fn, "extra_state": also}.get(
        where
    )
    if holder is None:
        optimizer.state[model[0].weight]["mine"] = things
    else:
        for i, thing in enumerate(things):
            setattr(holder, f"mine_{i}", thing)
    roots = (model, optimizer, loss_fn, also)
    before = everything(*roots)
    with Snapshot(model, optimizer, loss_fn=loss_fn, extra_state=[also]) as state:
        for _ in range(2):
            for thing in things:
                spoil(thing)
            if holder is not None:
                holder.new = holder.__dict__.pop("mine_0", None)
            state.restore()
            assert everything(*roots) == before
        for thing in things:
            spoil(thing)
    assert everything(*roots) == before


# Optimizers inside optimizers


def data(n=256, bs=32):
    inputs, targets = blobs(n)
    return [(inputs[i : i + bs], targets[i : i + bs]) for i in range(0, n, bs)]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


class Lookahead(torch.optim.Optimizer):
    def __init__(self, inner, k=5, alpha=0.5):
        self.inner, self.k, self.alpha, self.n = inner, k, alpha, 0
        self.param_groups, self.state, self.defaults = inner.param_groups, {}, inner.defaults
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad()

    def step(self, closure=None):
        self.inner.step()
        self.n += 1
        if self.n % self.k == 0:
            for group in self.param_groups:
                for p in group["params"]:
                    slow = self.state.setdefault(p, {"slow": p.detach().clone()})["slow"]
                    slow += self.alpha * (p.detach() - slow)
                    p.data.copy_(slow)


WRAPPERS = {
    "lookahead": lambda model: Lookahead(torch.optim.Adam(model.parameters(), lr=0.01)),
    "slots": lambda model: SlottedWrapper(torch.optim.Adam(model.parameters(), lr=0.01)),
}


class SlottedWrapper:
    __slots__ = ("inner", "n")

    def __init__(self, inner):
        self.inner, self.n = inner, 0

    param_groups = property(lambda self: self.inner.param_groups)
    zero_grad = property(lambda self: self.inner.zero_grad)

    def step(self):
        self.n += 1
        self.inner.step()


@pytest.mark.parametrize("trained_before", [0, 7])
@pytest.mark.parametrize("name", WRAPPERS)
def test_optimizers_in_optimizers_are_put_back_also_between_sweeps(name, trained_before):
    model = net()
    optimizer, batches = WRAPPERS[name](model), data()
    for inputs, targets in batches[:trained_before]:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    before = everything(model, optimizer)
    result = sweep(model, optimizer, batches, repeats=2, end_lr=100)
    assert everything(model, optimizer) == before
    assert np.array_equal(result.sweeps[0].loss, result.sweeps[1].loss)


# Modules and functions


def gan():
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    first, second = torch.optim.Adam(generator.parameters(), lr=1e-3), torch.optim.Adam(critic.parameters(), lr=1e-3)
    softplus = nn.functional.softplus

    def train_critic(real, fake):
        second.zero_grad()
        (softplus(-critic(real)).mean() + softplus(critic(fake)).mean()).backward()
        second.step()

    def step_fn(real):
        fake = generator(torch.randn(len(real), 4))
        train_critic(real, fake.detach())
        return softplus(-critic(fake)).mean()

    return generator, critic, first, second, step_fn


@pytest.mark.parametrize("named", [True, False], ids=["in also", "found in the function"])
def test_the_other_half_of_a_gan_is_put_back_also_between_sweeps(named):
    generator, critic, first, second, step_fn = gan()
    real = [torch.randn(32, 2) + 2 for _ in range(4)]
    before = everything(generator, critic, first, second)
    also = [critic, second] if named else []
    hidden = (lambda batch, table={"step": step_fn}: table["step"](batch)) if named else step_fn
    result = sweep(generator, first, real, step_fn=hidden, extra_state=also, repeats=2)
    assert everything(generator, critic, first, second) == before
    alone = sweep(generator, first, real, step_fn=hidden, extra_state=also, seed=1)
    assert np.array_equal(result.sweeps[1].loss, alone.sweeps[0].loss)


def test_what_cannot_be_walked_is_put_back_by_its_own_state_dict():
    class Counting:
        def __init__(self):
            self.counter = itertools.count()
            self.n = next(self.counter)

        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, state):
            self.n, self.counter = state["n"], itertools.count(state["n"] + 1)

    model, counting = net(), Counting()
    with Snapshot(model, torch.optim.SGD(model.parameters(), lr=0.1), extra_state=[counting]):
        counting.n = next(counting.counter)
    assert counting.n == 0 and next(counting.counter) == 1


# Loaders


class OwnOrder(Sampler):
    """Counts its epochs and shuffles its own order in place."""

    def __init__(self, n):
        self.order, self.epoch, self.random, self.seen = np.arange(n), 0, np.random.default_rng(3), []

    def __len__(self):
        return len(self.order)

    def __iter__(self):
        self.epoch += 1
        self.seen.append(self.epoch)
        self.random.shuffle(self.order)
        return iter(self.order.tolist())


class Noisy(Dataset):
    def __init__(self):
        self.inputs, self.targets = blobs(64)
        self.generator, self.n_read, self.legacy = torch.Generator().manual_seed(5), 0, random.Random(2)

    def __len__(self):
        return 64

    def __getitem__(self, i):
        self.n_read += 1
        noise = torch.randn(6, generator=self.generator) * self.legacy.random()
        return self.inputs[i] + noise, self.targets[i]


def test_a_data_sets_generator_and_a_samplers_counter_are_put_back_and_repeats_differ():
    model, noisy, sampler = net(), Noisy(), OwnOrder(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(noisy, batch_size=16, sampler=sampler)
    before = everything(model, optimizer, loader)
    one = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    assert everything(model, optimizer, loader) == before
    two = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    assert [s.loss.tolist() for s in one.sweeps] == [s.loss.tolist() for s in two.sweeps]
    assert not np.array_equal(one.sweeps[0].loss, one.sweeps[1].loss)


def test_samples_are_not_copied_but_said_if_they_have_been_changed():
    model, (inputs, targets) = net(), blobs(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Snapshot(model, optimizer, loaders=[DataLoader(TensorDataset(inputs, targets))]) as state:
        assert not {id(inputs), id(targets)} & {id(kept_tensor.tensor) for kept_tensor in state._reach.tensors}
    weight = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"loader\[0\]\[0\] was changed in place"):
        sweep(model, optimizer, [(inputs, targets)], loss_fn=lambda out, y: inputs.add_(1).sum() * 0 + out.sum())
    assert torch.equal(model[0].weight, weight)


# Refusals, and restoring that cannot stop half way


@pytest.mark.parametrize(
    "held",
    [
        itertools.count(), iter([1, 2]), (i for i in range(3)), zip([1], [2], strict=True), memoryview(bytearray(3)),
        array.array("d", [1.0]), np.array([[1], None], dtype=object), types.MappingProxyType({}), np.random.PCG64(0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["model", "optimizer", "loss_fn", "extra_state", "loader"])
def test_what_cannot_be_put_back_is_refused_by_name_before_the_first_step(held, where):
    if where == "loader" and not hasattr(held, "__next__"):
        pytest.skip("samples may lie in any memory")
    model, loss_fn, also, loader = (
        net(),
        nn.CrossEntropyLoss(),
        Thing(1),
        DataLoader(TensorDataset(*blobs(64)), batch_size=32),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    holder = {
        "model": model[0],
        "optimizer": optimizer,
        "loss_fn": loss_fn,
        "extra_state": also,
        "loader": loader.sampler,
    }[where]
    holder.mine = [held]
    name = {"model": "model.0", "extra_state": r"extra_state\[0\]", "loader": "loader.sampler"}.get(where, where)
    model.register_forward_hook(lambda *_: pytest.fail("begun"))
    before = everything(model, optimizer)
    with pytest.raises(TypeError, match=rf"snapshot {name}\.mine\[0\] \(.*{type(held).__name__}\); ") as caught:
        sweep(model, optimizer, loader, loss_fn=loss_fn, extra_state=[also])
    assert "\n" not in str(caught.value)
    assert everything(model, optimizer) == before


def test_what_holds_no_state_of_the_training_is_let_pass():
    class Rows(TensorDataset):
        cursor = None

    rows = Rows(*blobs(64))
    rows.connection = sqlite3.connect(":memory:")
    rows.cursor = rows.connection.execute("select 1")
    model = net()

    def step_fn(batch):
        return cross_entropy(model(batch[0]), batch[1]).squeeze()

    step_fn.__globals__["squeeze"] = unrelated = nn.Linear(1, 1)  # a global that is named like an attribute
    unrelated.batches = iter([1])
    try:
        sweep(model, torch.optim.SGD(model.parameters(), lr=0.1), DataLoader(rows, batch_size=32), step_fn=step_fn)
    finally:
        del step_fn.__globals__["squeeze"]


def test_a_tensor_that_cannot_be_copied_is_refused_by_name():
    class Quantized(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, kinds, args=(), kwargs=None):
            if function is torch.Tensor.clone:
                raise NotImplementedError("aten.clone")
            return super().__torch_function__(function, kinds, args, kwargs or {})

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.state[model[0].weight]["codes"] = torch.zeros(3).as_subclass(Quantized)
    with pytest.raises(TypeError, match=r"cannot snapshot optimizer.state\[Parameter\]\[.codes.\] .*Quantized"):
        sweep(model, optimizer, data())


def test_a_dataset_that_runs_threads_is_named_in_a_warning_and_left_alone():
    class Cached(TensorDataset):
        thread, replaced = None, 0

    rows, model = Cached(*blobs(64)), net()
    rows.thread = threading.Thread(target=len)
    rows.replaced = 1

    def step_fn(batch):
        rows.replaced += 1
        return cross_entropy(model(batch[0]), batch[1])

    with pytest.warns(UserWarning, match=r"loader.dataset .* runs threads"):
        sweep(model, torch.optim.SGD(model.parameters(), lr=0.1), DataLoader(rows, batch_size=32), step_fn=step_fn)
    assert rows.replaced > 1


class HandWritten:
    """A moving average without a state_dict."""

    def __init__(self, model):
        self.model, self.n = model, 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

    def update(self):
        self.n += 1
        for name, p in self.model.named_parameters():
            self.shadow[name] = 0.9 * self.shadow[name] + 0.1 * p.detach()


@pytest.mark.parametrize("how", ["step_fn", "hook", "bound method", "dict", "extra_state"])
def test_a_hand_written_average_is_restored_and_the_users_records_are_not(how):
    model, records = net(), []
    optimizer, average = torch.optim.SGD(model.parameters(), lr=0.1), HandWritten(model)
    table, kept_in = (
        {"average": average},
        {"extra_state": [collections.deque([average])]} if how == "extra_state" else {},
    )
    update = {
        "hook": lambda *_: average.update(),
        "bound method": lambda o, a, k, f=average.update: f(),
        "dict": lambda *_: table["average"].update(),
    }.get(how, lambda *_: None)
    optimizer.register_step_post_hook(update)

    def step_fn(batch):
        records.append(len(batch))
        (average.update() if how in ("step_fn", "extra_state") else None)
        return cross_entropy(model(batch[0]), batch[1])

    before = everything(model, optimizer, average)
    sweep(model, optimizer, data(), step_fn=step_fn, repeats=2, **kept_in)
    assert everything(model, optimizer, average) == before and len(records) >= 60


class Static:
    shadow = {}


@pytest.mark.parametrize(
    "place", ["function attribute", "class attribute", "deep", "variable", "callable", "tensor hook", "first step"]
)
def test_an_average_is_restored_wherever_it_lies(place):
    model, variable = net(), torch.ones(1)
    optimizer, average, deep, empty = torch.optim.SGD(model.parameters(), lr=0.1), HandWritten(model), {}, {}
    Static.shadow = average.shadow
    deep["trainer"] = types.SimpleNamespace(parts=[types.SimpleNamespace(averaged={"copy": net()})])

    def update(shadow):
        for name, p in model.named_parameters():
            shadow[name] = 0.9 * shadow.get(name, 0) + 0.1 * p.detach()

    def step_fn(batch):
        nonlocal variable
        if place == "function attribute":
            update(step_fn.shadow)
        elif place == "class attribute":
            update(Static.shadow)
        elif place == "deep":
            deep["trainer"].parts[0].averaged["copy"][0].weight.data.mul_(0.9)
        elif place == "variable":
            variable = 0.9 * variable
        elif place == "first step":
            update(empty)
        return cross_entropy(model(batch[0]), batch[1])

    class Callable:
        def __call__(self, batch):
            update(average.shadow)
            return cross_entropy(model(batch[0]), batch[1])

    if place == "function attribute":
        step_fn.shadow = average.shadow
    elif place == "tensor hook":
        model[0].weight.register_post_accumulate_grad_hook(lambda p: update(average.shadow))
    held = (model, optimizer, average, deep["trainer"].parts[0].averaged["copy"], empty)
    before, value = everything(*held), variable
    sweep(model, optimizer, data(), step_fn=Callable() if place == "callable" else step_fn, repeats=2)
    assert everything(*held) == before and variable is value


def test_a_bare_tensor_that_step_fn_changes_is_named_in_a_warning():
    model, moving = net(), torch.zeros(3)

    def step_fn(batch):
        out = model(batch[0])
        moving.lerp_(out.detach().mean(0), 0.1)
        return cross_entropy(out - moving, batch[1])

    with pytest.warns(UserWarning, match="step_fn's moving was changed in place and is not restored"):
        sweep(model, torch.optim.SGD(model.parameters(), lr=0.1), data(), step_fn=step_fn)


def test_expanded_and_overlapping_buffers_are_put_back_and_keep_their_memory():
    model = net()
    model.register_buffer("expanded", torch.zeros(1, 3).expand(5, 3))
    model.register_buffer("overlapping", torch.arange(6.0).as_strided((4, 3), (1, 1)))
    model.register_buffer("base", torch.zeros(8))
    model.register_buffer("part", model.base[2:4])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = everything(model, optimizer)

    def step_fn(batch):
        model.expanded[0] += 1  # seen in all five rows
        model.overlapping[1, 2] = float("nan")
        model.part += 1
        return cross_entropy(model(batch[0]), batch[1])

    result = sweep(model, optimizer, data(), step_fn=step_fn, repeats=2, end_lr=1e6)
    assert everything(model, optimizer) == before
    assert np.array_equal(result.sweeps[0].loss, result.sweeps[1].loss, equal_nan=True)
    with torch.no_grad():
        model.part.fill_(3)
    assert model.base[2] == 3


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_whatever_one_part_raises_all_others_are_put_back_first(error):
    class Stubborn(nn.Linear):
        fails = False

        def get_extra_state(self):
            return {"seen": 1}

        def set_extra_state(self, state):
            if Stubborn.fails:
                raise error

    torch.manual_seed(0)
    model = nn.Sequential(Stubborn(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = everything(model, optimizer)
    random_state = plain(torch.get_rng_state())
    Stubborn.fails = True
    expected = (KeyboardInterrupt, "^$") if isinstance(error, KeyboardInterrupt) else (
        RuntimeError, "model.0's extra state could not be restored, everything else was: mine"
    )  # fmt: skip
    with pytest.raises(expected[0], match=expected[1]):
        sweep(model, optimizer, data(), end_lr=100)
    assert everything(model, optimizer) == before and plain(torch.get_rng_state()) == random_state

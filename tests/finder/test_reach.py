"""Whatever a training changes is afterwards what it was, or is refused before its first step."""

import array
import collections
import ctypes
import io
import itertools
import queue
import random
import signal
import sqlite3
import threading
import types
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset
from trainings import batches, blobs, children, cross_entropy, fingerprint, net, sweep, train

from lrlib.finder.restore import Snapshot


class Thing:
    """A user's own object."""

    def __init__(self, held):
        self.held = held


class Slotted:
    __slots__ = ("held", "unset")

    def __init__(self, held):
        self.held = held


def filled(waiting):
    waiting.put(1)
    waiting.put([2])
    return waiting


LEAVES = {
    "float": lambda: torch.rand(3, 2),
    "integer": lambda: torch.arange(4),
    "scalar": lambda: torch.tensor(2.0),
    "parameter": lambda: nn.Parameter(torch.rand(2)),
    "expanded": lambda: torch.rand(1, 3).expand(4, 3),
    "overlapping": lambda: torch.arange(6.0).as_strided((4, 3), (1, 1)),
    "sharing": lambda: (lambda base: [base, base[2:4]])(torch.zeros(8)),
    "view": lambda: torch.rand(4, 4)[1:, ::2],
    "array": lambda: np.arange(5.0),
    "generator": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(0),
    "legacy": lambda: np.random.RandomState(0),
    "python": lambda: random.Random(0),
    "bytes": lambda: bytearray(b"abc"),
    "file": lambda: io.BytesIO(b"ab"),
    "queue": lambda: filled(queue.Queue()),
    "counter": lambda: ctypes.c_long(3),
    "set": lambda: {1, 2},
}
HOLDERS = {
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
# How values are changed in place.
SPOILING = {
    torch.Generator: lambda g: torch.rand(1, generator=g),
    np.random.Generator: lambda g: g.random(),
    np.random.RandomState: lambda g: g.rand(),
    random.Random: lambda g: g.random(),
    np.ndarray: lambda a: a.fill(7),
    bytearray: lambda b: b.extend(b"new"),
    io.BytesIO: lambda f: f.write(b"new"),
    queue.Queue: lambda q: q.get() and q.put(torch.zeros(2)),
    ctypes._SimpleCData: lambda c: setattr(c, "value", 9),
    set: lambda s: s.add("new"),
    list: lambda items: items.insert(0, None),
    collections.deque: lambda items: items.append(None) or items.rotate(1),
    dict: lambda d: d.update({"new": d.pop(next(iter(d), "none"), 1)}),
    Thing: lambda thing: vars(thing).update(held="another", more=2),
    types.SimpleNamespace: lambda thing: vars(thing).update(held="another", more=2),
    Slotted: lambda thing: [setattr(thing, name, 1) for name in ("held", "unset")],
}


def spoil(thing, depth=0):
    """Change a value in place, and all that it holds."""
    for child in children(thing) if depth < 8 else ():
        spoil(child, depth + 1)
    if isinstance(thing, torch.Tensor):
        thing.data.as_strided((1,), (1,)).fill_(7)  # seen in every row of an expanded one
        if thing.is_leaf and not thing.requires_grad and thing.is_floating_point() and thing.dim():
            thing.data = torch.full((2, 3), float("nan"))
        else:
            thing.data.fill_(1)
    for kind, change in SPOILING.items():
        if isinstance(thing, kind):
            change(thing)


leaves = st.one_of(st.none(), st.integers(-5, 5), st.floats(allow_nan=False), st.text(max_size=3))
leaves = st.one_of(leaves, st.sampled_from(sorted(LEAVES)))
trees = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from(sorted(HOLDERS)), st.lists(inner, max_size=3)), max_leaves=8
)


def make(tree):
    if isinstance(tree, tuple):
        return HOLDERS[tree[0]]([make(item) for item in tree[1]])
    return LEAVES[tree]() if isinstance(tree, str) and tree in LEAVES else tree


@settings(max_examples=150, deadline=None)
@given(
    trees=st.lists(trees, min_size=1, max_size=4),
    where=st.sampled_from(["module", "inner", "optimizer", "state", "loss_fn", "extra_state"]),
)
def test_any_attribute_of_anything_that_was_given_is_put_back_to_the_bit(trees, where):
    things = [make(tree) for tree in trees]
    model, loss_fn, extra = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(1, 1), Thing(None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    holders = {"module": model, "inner": model[0], "optimizer": optimizer, "loss_fn": loss_fn, "extra_state": extra}
    if where == "state":
        optimizer.state[model[0].weight]["mine"] = things
    else:
        vars(holders[where]).update({f"mine_{i}": thing for i, thing in enumerate(things)})
    roots = (model, optimizer, loss_fn, extra)
    before = fingerprint(*roots)
    with Snapshot(model, optimizer, loss_fn=loss_fn, extra_state=[extra]) as state:
        for _ in range(2):
            for thing in things:
                spoil(thing)
            if where != "state":
                holders[where].new = vars(holders[where]).pop("mine_0", None)
            state.restore()
            assert fingerprint(*roots) == before
        for thing in things:
            spoil(thing)
    assert fingerprint(*roots) == before


# Modules, optimizers and functions


@pytest.mark.parametrize("named", [True, False], ids=["in extra_state", "found in the function"])
def test_the_other_half_of_a_gan_is_put_back_also_between_sweeps(named):
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    first, second = (torch.optim.Adam(module.parameters(), lr=1e-3) for module in (generator, critic))
    softplus = nn.functional.softplus

    def step_fn(real):
        fake = generator(torch.randn(len(real), 4))
        second.zero_grad()
        (softplus(-critic(real)).mean() + softplus(critic(fake.detach())).mean()).backward()
        second.step()
        return softplus(-critic(fake)).mean()

    hidden = (lambda batch, table={"step": step_fn}: table["step"](batch)) if named else step_fn
    options = {"step_fn": hidden, "extra_state": [critic, second] if named else []}
    real = [torch.randn(32, 2) + 2 for _ in range(4)]
    before = fingerprint(generator, critic, first, second)
    result = sweep(generator, first, real, repeats=2, **options)
    assert fingerprint(generator, critic, first, second) == before
    assert np.array_equal(result.sweeps[1].loss, sweep(generator, first, real, seed=1, **options).sweeps[0].loss)


class HandWritten:
    """A moving average without a state_dict."""

    def __init__(self, model):
        self.model, self.n = model, 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

    def update(self):
        self.n += 1
        for name, p in self.model.named_parameters():
            self.shadow[name] = 0.9 * self.shadow.get(name, 0) + 0.1 * p.detach()


class Static:
    average = None


IN_STEP_FN = ["itself", "extra_state", "function attribute", "class attribute", "deep", "first step", "callable"]
IN_HOOKS = ["hook", "bound method", "partial", "tensor hook"]


@pytest.mark.parametrize("place", [*IN_STEP_FN, *IN_HOOKS])
def test_an_average_is_restored_wherever_it_lies_and_the_users_records_are_not(place):
    (model, optimizer), records, empty = net(), [], {}
    average = HandWritten(model)
    deep = {"trainer": types.SimpleNamespace(parts=[{"average": average}])}
    Static.average = average
    update = {
        **dict.fromkeys(["itself", "extra_state"], lambda: average.update()),
        "function attribute": lambda: step_fn.average.update(),
        "class attribute": lambda: Static.average.update(),
        "deep": lambda: deep["trainer"].parts[0]["average"].update(),
        "first step": lambda: empty.update(mean=model[0].bias.detach().clone()),
    }.get(place, lambda: None)

    def step_fn(batch):
        records.append(len(batch))
        update()
        return cross_entropy(model(batch[0]), batch[1])

    class Callable:
        def __call__(self, batch):
            average.update()
            return step_fn(batch)

    step_fn.average = average
    hooks = {
        "hook": lambda *_: average.update(),
        "bound method": lambda o, a, k, f=average.update: f(),
        "partial": partial(lambda held, *_: held.update(), average),
    }
    if place in hooks:
        optimizer.register_step_post_hook(hooks[place])
    if place == "tensor hook":
        model[0].weight.register_post_accumulate_grad_hook(lambda p: average.update())
    extra_state = [collections.deque([average])] if place == "extra_state" else []
    before = fingerprint(model, optimizer, average, empty)
    used = Callable() if place == "callable" else step_fn
    sweep(model, optimizer, batches(), step_fn=used, repeats=2, extra_state=extra_state)
    assert fingerprint(model, optimizer, average, empty) == before and len(records) >= 60


def test_a_variable_gets_its_tensor_back_and_a_tensor_that_changed_in_place_is_named_in_a_warning():
    (model, optimizer), variable, moving = net(), torch.ones(1), torch.zeros(3)
    value = variable

    def step_fn(batch):
        nonlocal variable
        variable = 0.9 * variable
        out = model(batch[0])
        moving.lerp_(out.detach().mean(0), 0.1)
        return cross_entropy(out - moving, batch[1])

    with pytest.warns(UserWarning, match="step_fn's moving was changed in place and is not restored"):
        sweep(model, optimizer, batches(), step_fn=step_fn)
    assert variable is value


def test_what_cannot_be_walked_is_put_back_by_its_own_state_dict():
    class Counting:
        def __init__(self):
            self.counter = itertools.count()
            self.n = next(self.counter)

        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, state):
            self.n, self.counter = state["n"], itertools.count(state["n"] + 1)

    counting = Counting()
    with Snapshot(*net(), extra_state=[counting]):
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
        self.generator, self.n_read = torch.Generator().manual_seed(5), 0
        self.legacy, self.python = np.random.RandomState(2), random.Random(2)

    def __len__(self):
        return 64

    def __getitem__(self, i):
        self.n_read += 1
        noise = torch.randn(6, generator=self.generator) * self.legacy.rand() * self.python.random()
        return self.inputs[i] + noise, self.targets[i]


class Wrapped:
    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


@pytest.mark.parametrize("wrapped", [False, True])
def test_generators_and_counters_of_data_sets_and_samplers_are_seeded_and_put_back_and_repeats_differ(wrapped):
    (model, optimizer), data, order = net(), Noisy(), OwnOrder(64)
    loader = DataLoader(data, batch_size=16, sampler=order)
    loader = Wrapped(loader) if wrapped else loader
    before = fingerprint(model, optimizer, loader)
    one = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    assert fingerprint(model, optimizer, loader) == before
    for generator in (data.generator, data.legacy, data.python, order.random):
        spoil(generator)
    two = sweep(model, optimizer, loader, repeats=2, num_iter=20)
    assert [s.loss.tolist() for s in one.sweeps] == [s.loss.tolist() for s in two.sweeps]
    assert not np.array_equal(one.sweeps[0].loss, one.sweeps[1].loss)


@pytest.mark.filterwarnings("ignore:loss_fn's inputs")
def test_samples_are_not_copied_but_said_if_they_have_been_changed():
    (model, optimizer), (inputs, targets) = net(), blobs(64)
    weight = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"loader\[0\]\[0\] was changed in place"):
        sweep(model, optimizer, [(inputs, targets)], loss_fn=lambda out, y: inputs.add_(1).sum() * 0 + out.sum())
    assert torch.equal(model[0].weight, weight)


# Refusals, and restoring that cannot stop half way


HIDDEN = [itertools.count(), iter([1, 2]), (i for i in range(3)), zip([1], [2], strict=True)]  # refused in data too
HIDDEN += [memoryview(bytearray(3)), array.array("d", [1.0]), np.array([[1], None], dtype=object)]
HIDDEN += [types.MappingProxyType({}), np.random.PCG64(0)]


@pytest.mark.parametrize("where", ["model", "optimizer", "loss_fn", "extra_state", "loader"])
def test_what_cannot_be_put_back_is_refused_by_name_before_the_first_step(where):
    loader = DataLoader(TensorDataset(*blobs(64)), batch_size=32)
    (model, optimizer), loss_fn, extra = net(), nn.CrossEntropyLoss(), Thing(1)
    holders = {"model": model[0], "optimizer": optimizer, "loss_fn": loss_fn, "extra_state": extra}
    holder = (holders | {"loader": loader.sampler})[where]
    name = {"model": "model.0", "extra_state": r"extra_state\[0\]", "loader": "loader.sampler"}.get(where, where)
    model.register_forward_hook(lambda *_: pytest.fail("begun"))
    for held in HIDDEN[:4] if where == "loader" else HIDDEN:
        holder.mine = [held]
        before = fingerprint(model, optimizer)
        with pytest.raises(TypeError, match=rf"snapshot {name}\.mine\[0\] \(.*{type(held).__name__}\); ") as caught:
            sweep(model, optimizer, loader, loss_fn=loss_fn, extra_state=[extra])
        assert "\n" not in str(caught.value) and fingerprint(model, optimizer) == before


def test_what_holds_no_state_of_the_training_is_let_pass():
    class Rows(TensorDataset):
        cursor = None

    rows = Rows(*blobs(64))
    rows.connection = sqlite3.connect(":memory:")
    rows.cursor = rows.connection.execute("select 1")
    model, optimizer = net()

    def step_fn(batch):
        return cross_entropy(model(batch[0]), batch[1]).squeeze()

    step_fn.__globals__["squeeze"] = unrelated = nn.Linear(1, 1)  # a global that is named like an attribute
    unrelated.batches = iter([1])
    try:
        sweep(model, optimizer, DataLoader(rows, batch_size=32), step_fn=step_fn)
    finally:
        del step_fn.__globals__["squeeze"]


def test_a_tensor_that_cannot_be_copied_is_refused_by_name():
    class Quantized(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, kinds, args=(), kwargs=None):
            if function is torch.Tensor.clone:
                raise NotImplementedError("aten.clone")
            return super().__torch_function__(function, kinds, args, kwargs or {})

    model, optimizer = net()
    optimizer.state[model[0].weight]["codes"] = torch.zeros(3).as_subclass(Quantized)
    with pytest.raises(TypeError, match=r"cannot snapshot optimizer.state\[Parameter\]\[.codes.\] .*Quantized"):
        sweep(model, optimizer, batches())


def test_a_dataset_that_runs_threads_is_named_in_a_warning_and_left_alone():
    class Cached(TensorDataset):
        thread, replaced = None, 0

    rows, (model, optimizer) = Cached(*blobs(64)), net()
    rows.thread, rows.replaced = threading.Thread(target=len), 1

    def step_fn(batch):
        rows.replaced += 1
        return cross_entropy(model(batch[0]), batch[1])

    with pytest.warns(UserWarning, match=r"loader.dataset .* runs threads"):
        sweep(model, optimizer, DataLoader(rows, batch_size=32), step_fn=step_fn)
    assert rows.replaced > 1


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), "Ctrl-C"])
def test_whatever_one_part_raises_all_others_are_put_back_first(error):
    class Stubborn(nn.Linear):
        fails = False

        def get_extra_state(self):
            return {"seen": 1}

        def set_extra_state(self, state):
            if Stubborn.fails and error == "Ctrl-C":
                signal.raise_signal(signal.SIGINT)
            elif Stubborn.fails:
                raise error

    torch.manual_seed(0)
    model = nn.Sequential(Stubborn(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = fingerprint(model, optimizer)
    is_error = isinstance(error, RuntimeError)
    message = "model.0's extra state could not be restored, .*: mine" if is_error else "^$"
    with pytest.raises(RuntimeError if is_error else KeyboardInterrupt, match=message), Snapshot(model, optimizer):
        train(model, optimizer, batches())
        torch.rand(1)
        Stubborn.fails = True
    assert fingerprint(model, optimizer) == before

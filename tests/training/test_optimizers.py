"""The optimisers: the published rules to the letter, Muon, one decay for all, exact resumption."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models import make_model
from pipeline.models.depth import classifier_distances
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.muon import Muon, orthogonalise
from pipeline.training.optimizers import make_optimizer, optimizer_names

NAMES = optimizer_names()


def momentum(w, gradients, lr):
    a = 0
    for g in gradients:
        a = 0.9 * a + g
        w = w - lr * a
    return w


def averaged_momentum(w, gradients, lr):
    a = 0
    for g in gradients:
        a = 0.9 * a + 0.1 * g
        w = w - lr * a
    return w


def rmsprop(w, gradients, lr):
    s = gradients[0] ** 2
    for g in gradients:
        s = 0.99 * s + 0.01 * g**2
        w = w - lr * g / (s.sqrt() + 1e-5)
    return w


def adam(w, gradients, lr):
    a = s = 0
    for t, g in enumerate(gradients, 1):
        a = 0.9 * a + 0.1 * g
        s = 0.99 * s + 0.01 * g**2
        w = w - lr * (a / (1 - 0.9**t)) / (s / (1 - 0.99**t) + 1e-5).sqrt()
    return w


PUBLISHED = {
    "nntrain-momentum": momentum,
    "nntrain-averaged-momentum": averaged_momentum,
    "nntrain-rmsprop": rmsprop,
    "nntrain-adam": adam,
}


class Net(nn.Module):
    """One of each: a stem, a hidden kernel, a depthwise one, a factor, a norm, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3)
        self.hidden = nn.Conv2d(6, 6, 3, bias=False)
        self.depth = nn.Conv2d(6, 6, 3, groups=6, bias=False)
        self.select = nn.Parameter(torch.randn(8, 6) / 3)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.depth(self.hidden(self.stem(x).relu()).relu())
        return self.head(self.norm(x.mean((2, 3)) @ self.select.T).relu())


def net():
    torch.manual_seed(0)
    return Net()


def build(name, model, *, learning_rate=1e-2, momentum=0.9, weight_decay=0.0, **choices):
    return make_optimizer(
        name,
        model,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        **choices,
    )


def give_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def walk(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def learn(model, optimizer, first, last):
    losses = []
    for seed in range(first, last):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(32, 1, 8, 8, generator=generator)
        labels = (3 * images[:, 0, 2:6, 2:6].mean((1, 2))).clamp(-1, 1).round().long() + 1
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", PUBLISHED)
@settings(max_examples=15, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 12),
    exponent=st.floats(-6, 2),
    rate=st.floats(1e-4, 2),
)
def test_published_rules_are_followed_to_the_letter(name, seed, steps, exponent, rate):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(4, 3, generator=generator)
    gradients = 10**exponent * torch.randn(steps, 4, 3, generator=generator)
    model = nn.Linear(3, 4, bias=False)
    model.weight.data.copy_(start)

    ours = walk(build(name, model, learning_rate=rate), model.weight, gradients)

    expected = PUBLISHED[name](start.double(), gradients.double(), rate)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5 * rate + 1e-6)


def first_step(optimizer_of, gradient):
    parameter = nn.Parameter(torch.zeros_like(gradient))
    return walk(optimizer_of([parameter]), parameter, [gradient])


def ours_first(name, gradient):
    model = nn.Linear(*reversed(gradient.shape), bias=False)
    nn.init.zeros_(model.weight)
    return walk(build(name, model), model.weight, [gradient])


def test_classic_momentum_is_torchs_without_nesterov():
    model, gradients = nn.Linear(3, 4, bias=False), torch.randn(6, 4, 3)
    twin = nn.Parameter(model.weight.detach().clone())
    expected = walk(torch.optim.SGD([twin], lr=1e-2, momentum=0.9), twin, gradients)

    ours = walk(build("nntrain-momentum", model), model.weight, gradients)

    torch.testing.assert_close(ours, expected)


def test_averaged_momentum_starts_ten_times_as_slowly_as_torchs_dampened_sgd():
    gradient = torch.randn(4, 3)
    torchs = first_step(
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, dampening=0.9), gradient
    )

    torch.testing.assert_close(10 * ours_first("nntrain-averaged-momentum", gradient), torchs)


def test_rmsprop_starts_ten_times_as_slowly_as_torchs():
    gradient = torch.randn(4, 3).sign()
    torchs = first_step(lambda p: torch.optim.RMSprop(p, lr=1e-2), gradient)

    ours = ours_first("nntrain-rmsprop", gradient)

    torch.testing.assert_close(10 * ours, torchs, rtol=1e-3, atol=0)


def test_adam_shrinks_with_small_gradients_where_torchs_does_not():
    gradient = torch.full((4, 3), 1e-5)
    torchs = first_step(lambda p: torch.optim.Adam(p, lr=1e-2), gradient)

    ours = ours_first("nntrain-adam", gradient)

    torch.testing.assert_close(torchs, torch.full_like(torchs, -1e-2), rtol=2e-3, atol=0)
    expected = -1e-2 * 1e-5 / (1e-10 + 1e-5) ** 0.5  # 316 times shorter
    torch.testing.assert_close(ours, torch.full_like(ours, expected), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "torchs"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.8, nesterov=True)),
        ("adam", lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.8, 0.999))),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.8, 0.999), weight_decay=0.3)),
    ],
)
def test_torchs_own_are_torchs_own(name, torchs):
    model, gradients = nn.Linear(3, 4, bias=False), torch.randn(6, 4, 3)
    twin = nn.Parameter(model.weight.detach().clone())
    expected = walk(torchs([twin]), twin, gradients)
    decay = 0.3 if name == "adamw" else 0.0

    ours = walk(build(name, model, momentum=0.8, weight_decay=decay), model.weight, gradients)

    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", NAMES)
def test_weights_decay_ahead_of_the_update_norms_and_biases_do_not(name):
    plain, decayed = net(), net()
    start = snapshot(plain)
    for model, decay in ((plain, 0.0), (decayed, 0.5)):
        optimizer = build(name, model, weight_decay=decay)
        for group in optimizer.param_groups:
            group["lr"] = 0.1  # as a schedule would
        give_gradients(model)
        optimizer.step()

    for parameter, moved in snapshot(plain).items():
        update = moved - start[parameter]
        factor = 1 - 0.1 * 0.5 if moved.ndim > 1 else 1.0
        expected = factor * start[parameter] + update
        torch.testing.assert_close(snapshot(decayed)[parameter], expected, msg=parameter)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_gradient_stay(name):
    model = net()
    model.stem.weight.requires_grad_(False)
    optimizer = build(name, model, weight_decay=0.5)
    give_gradients(model)
    model.stem.weight.grad = model.hidden.weight.grad = None
    start = snapshot(model)

    optimizer.step()

    same = {key for key, value in snapshot(model).items() if torch.equal(value, start[key])}
    assert same == {"stem.weight", "hidden.weight"}


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "nntrain-adam"])
def test_a_step_whose_gradients_overflowed_changes_nothing(name):
    model = net()
    optimizer = build(name, model, weight_decay=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    start = snapshot(model)
    for fill in (float("inf"), 1.0):
        scaler.scale(torch.zeros(()))
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, fill)
        scaler.step(optimizer)
        scaler.update()
        unchanged = [torch.equal(value, start[key]) for key, value in snapshot(model).items()]
        assert all(unchanged) if fill == float("inf") else not any(unchanged)


RATES = {"sgd": 0.1, "nntrain-momentum": 0.1, "nntrain-averaged-momentum": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_learns(name):
    model = net()

    losses = learn(model, build(name, model, learning_rate=RATES.get(name, 1e-2)), 0, 60)

    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


@pytest.mark.parametrize("name", NAMES)
def test_an_optimiser_resumed_from_a_file_goes_on_to_the_same_bits(name, tmp_path):
    straight, resumed = net(), net()
    optimizer = build(name, straight, weight_decay=0.1)
    learn(straight, optimizer, 0, 3)
    save_checkpoint(
        tmp_path / "state.pt", {"model": straight.state_dict(), "optimizer": optimizer.state_dict()}
    )
    learn(straight, optimizer, 3, 6)

    saved = load_checkpoint(tmp_path / "state.pt", torch.device("cpu"))
    again = build(name, resumed, weight_decay=0.1)
    resumed.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    learn(resumed, again, 3, 6)

    for key, value in snapshot(straight).items():
        assert torch.equal(value, snapshot(resumed)[key]), key


def test_a_closure_is_evaluated_with_gradients():
    model = nn.Linear(2, 1)
    optimizer = build("nntrain-momentum", model, learning_rate=0.1)

    def closure():
        loss = model(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    before = optimizer.step(closure)
    optimizer.zero_grad()

    assert optimizer.step(closure) < before


def test_orthogonalised_matrices_keep_their_directions_and_lose_their_scale():
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 8), (4, 30), (30, 4), (4, 7), (64, 576)]
    matrices = [1e-3 * torch.randn(shape, generator=generator) for shape in shapes]

    for matrix, result in zip(matrices, orthogonalise(matrices), strict=True):
        values = torch.linalg.svdvals(result)
        scale = torch.linalg.svdvals(matrix)
        reached = scale > 0.01 * scale.max()  # five iterations do not lift the smallest so far
        assert values[reached].min() > 0.6
        assert values.max() < 1.3
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        diagonal = u.mT @ result @ vh.mT
        torch.testing.assert_close(diagonal, torch.diag(diagonal.diag()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dead", [1e-19, 1e-22, 1e-38, 1e-42])
def test_channels_that_died_make_no_subnormal_numbers_and_change_nothing(dead):
    matrix = torch.randn(64, 576, generator=torch.Generator().manual_seed(3))
    alive, dying = matrix.clone(), matrix.clone()
    alive[::8] = 0
    dying[::8] *= dead

    result = orthogonalise([dying])[0]

    assert torch.equal(result, orthogonalise([alive])[0])
    assert not result[::8].any()


def test_on_matrices_muon_is_torchs():
    gradients = torch.randn(5, 12, 40, generator=torch.Generator().manual_seed(2))
    ours, torchs = (nn.Parameter(torch.zeros(12, 40)) for _ in range(2))
    groups = [{"params": [ours], "orthogonal": True}]
    reference = torch.optim.Muon(
        [torchs], lr=0.1, momentum=0.9, weight_decay=0, adjust_lr_fn="match_rms_adamw"
    )

    moved = walk(Muon(groups, lr=0.1, momentum=0.9), ours, gradients)

    expected = walk(reference, torchs, gradients)
    assert (moved - expected).norm() < 0.02 * expected.norm()  # torch's computes in bf16


def test_muon_sees_a_kernel_as_a_matrix_whatever_lies_beside_it():
    gradients = torch.randn(3, 6, 4, 3, 3)
    kernel, twin = nn.Parameter(torch.zeros(6, 4, 3, 3)), nn.Parameter(torch.zeros(6, 4, 3, 3))
    matrix = nn.Parameter(torch.zeros(6, 36))
    groups = [{"params": [kernel, twin], "orthogonal": True}]
    both = Muon(groups, lr=0.1, momentum=0.9)
    alone = Muon([{"params": [matrix], "orthogonal": True}], lr=0.1, momentum=0.9)

    for gradient in gradients:
        twin.grad = torch.randn_like(twin)
        walk(both, kernel, [gradient.to(memory_format=torch.channels_last)])
        walk(alone, matrix, [gradient.flatten(1)])

    torch.testing.assert_close(kernel.flatten(1), matrix, atol=1e-5, rtol=1e-4)


def test_muon_moves_a_matrix_as_far_as_adam_would():
    model = net()
    start = snapshot(model)
    give_gradients(model)

    build("muon", model, learning_rate=1.0).step()

    moved = snapshot(model)["hidden.weight"] - start["hidden.weight"]
    assert 0.12 < moved.square().mean().sqrt() < 0.25


def test_an_unknown_optimiser_is_named_with_the_choices():
    with pytest.raises(ConfigError, match=r"optimizer='lion' is unknown; choose from adam, .*sgd"):
        build("lion", net())


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_that_learns_before_the_others_can_be_in_groups_of_its_own(name, layer_decay):
    model = net()
    apart = {"classifier_apart": True, "layer_decay": layer_decay}
    optimizer = build(name, model, learning_rate=0.1, weight_decay=0.01, **apart)
    head = set(model.head.parameters())
    backbone = [p for p in model.parameters() if p not in head]

    for frozen in (True, True, False, False):
        before = [p.detach().clone() for p in backbone]
        for parameter in backbone:
            parameter.requires_grad_(not frozen)
        model(torch.randn(4, 1, 9, 9)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        still = [torch.equal(p, old) for p, old in zip(backbone, before, strict=True)]
        assert all(still) if frozen else not any(still)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 9


def rates_by_block(optimizer, model):
    """The learning rates of all parameters, by the block or layer that they belong to."""
    rate_of = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {}
    for name, parameter in model.named_parameters():
        block = re.match(r"(blocks\.\d+|layer\d\.\d+|\w+)", name)[0]
        rates.setdefault(block, set()).add(rate_of[parameter])
    return rates


RESNET18 = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
SIX = [f"blocks.{number}" for number in range(6)]
BLOCKS = {
    "resnet14": [["stem"], *SIX, "head"],
    "resnet18": [["conv1", "bn1"], *RESNET18, "fc"],
    "test_vit.r160_in1k": [["cls_token", "pos_embed", "patch_embed"], *SIX, "head"],
}


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("name", BLOCKS)
def test_rates_fall_from_the_classifier_to_the_stem(name, optimizer):
    model = make_model(name, "subkernel", 3, 3, 0.0)
    first, *others = BLOCKS[name]

    rates = rates_by_block(build(optimizer, model, learning_rate=1.0, layer_decay=0.5), model)

    expected = {block: {0.5**steps} for steps, block in enumerate(reversed(others))}
    expected |= {block: {0.5 ** len(others)} for block in first}
    if "norm" in rates:  # of the ViT, behind its last block
        expected["norm"] = {0.5}
    assert rates == expected


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_moves_by_its_share_of_what_it_moves_at_one_rate(name):
    """The factor is a power of two and weights start at zero, so nothing is rounded."""
    moved = []
    for layer_decay in (1.0, 0.5):
        model = make_model("resnet14", "subkernel", 3, 3, 0.0)
        nn.utils.vector_to_parameters(
            torch.zeros(sum(p.numel() for p in model.parameters())), model.parameters()
        )
        give_gradients(model)
        build(name, model, weight_decay=0.1, layer_decay=layer_decay).step()
        moved.append(snapshot(model))

    distances = classifier_distances(model)
    for (key, parameter), whole in zip(model.named_parameters(), moved[0].values(), strict=True):
        share = 0.5 ** distances[parameter]
        if name == "muon":  # matrices go through together with others of their groups
            torch.testing.assert_close(moved[1][key], share * whole, rtol=1e-3, atol=1e-6)
        else:
            assert torch.equal(moved[1][key], share * whole), key
    assert {distances[p] for p in model.parameters()} == set(range(8))


@pytest.mark.parametrize("name", NAMES)
def test_layers_apart_keep_their_decay_and_their_half_of_muon(name):
    model = make_model("resnet14", "subkernel", 3, 3, 0.0)
    treated = []
    for choices in ({}, {"layer_decay": 0.5}):
        groups = build(name, model, weight_decay=0.1, **choices).param_groups
        treated.append(
            {p: (g["decoupled_decay"], g["orthogonal"]) for g in groups for p in g["params"]}
        )

    assert treated[0] == treated[1]
    assert set(treated[0]) == set(model.parameters())


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_without_layer_decay_there_is_one_rate_and_one_group_of_a_kind(name):
    model = make_model("resnet14", "subkernel", 3, 3, 0.0)

    groups = build(name, model, weight_decay=0.1, layer_decay=1.0).state_dict()["param_groups"]

    assert [len(group["params"]) for group in groups] == [14, 2, 30]
    assert [group["decoupled_decay"] for group in groups] == [0.1, 0.1, 0.0]
    assert {group["lr"] for group in groups} == {1e-2}

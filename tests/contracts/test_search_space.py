"""What every search space promises (tans_core/search_space/space.py), held against each keeper."""

import copy
import json
import pickle

import pytest
import torch
from torch import Tensor, nn

from tans_core.errors import ConfigError, InvalidTopology
from tans_core.search_space import KEEPERS, make_search_space
from tans_core.search_space.space import SearchSpace


@pytest.fixture(scope="module", params=[("ofa-lite", 1.0), ("ofa-mbv3", 1.0), ("ofa-mbv3", 1.2)], ids=str)
def space(request) -> SearchSpace:
    torch.set_num_threads(1)
    return make_search_space(*request.param)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    return [tuple(row) for row in space.sample(count, seeded(seed)).tolist()]


def images(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=seeded(7))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def blocks_of(space: SearchSpace) -> int:
    return (space.topology_length - 5) // 2


# --- topologies -----------------------------------------------------------------------------------


def test_sampling_depends_on_the_generator_alone(space):
    first, again, other = space.sample(8, seeded(3)), space.sample(8, seeded(3)), space.sample(8, seeded(4))
    assert first.dtype == torch.int64 and first.shape == (8, space.topology_length)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_sampling_is_uniform_over_choices(space):
    topology_CT = space.sample(3000, seeded())
    blocks = blocks_of(space)
    # The first block of a network is always there; each of three choices is due 1000 times, give or take 26.
    for entry, choices in ((0, (3, 5, 7)), (blocks, (3, 4, 6)), (-1, (2, 3, 4))):
        counts = [(topology_CT[:, entry] == choice).sum().item() for choice in choices]
        assert sum(counts) == 3000 and all(870 < count < 1130 for count in counts)
    # The fourth block of a stage is there in one network of three.
    assert (topology_CT[:, 3] > 0).float().mean().item() == pytest.approx(1 / 3, abs=0.05)


def test_topologies_round_trip_through_architectures(space):
    for topology in drawn(space, 50):
        assert space.architecture(topology).topology == topology
        assert space.architecture([float(value) for value in topology]).topology == topology  # as a zoo stores them


def test_equal_networks_have_equal_vectors_and_only_they(space):
    topologies = drawn(space, 12)
    for seed, topology in enumerate(topologies):
        noise = torch.tensor([3, 6])[torch.randint(2, (space.topology_length,), generator=seeded(seed))].tolist()
        noise = [3 if place < blocks_of(space) else value for place, value in enumerate(noise)]
        unmasked = [value or filler for value, filler in zip(topology, noise)]
        assert space.architecture(unmasked) == space.architecture(topology)
    configs = {
        json.dumps(space.export_config(space.subnet(space.architecture(topology), 4, seeded())))
        for topology in topologies
    }
    assert len(configs) == len(set(topologies))


def test_mutation_always_gives_another_valid_network(space):
    topology_CT = space.sample(300, seeded())
    for rate in (0.0, 0.1, 1.0):
        changed_CT = space.mutate(topology_CT, seeded(1), rate)
        assert (changed_CT != topology_CT).any(dim=1).all()
        assert all(space.architecture(row).topology == tuple(row) for row in changed_CT.tolist())
    assert torch.equal(space.mutate(topology_CT, seeded(1)), space.mutate(topology_CT, seeded(1)))


def test_mutation_changes_as_many_choices_as_its_rate_says(space):
    largest = torch.tensor([[7] * blocks_of(space) + [6] * blocks_of(space) + [4] * 5]).expand(400, -1)
    depths = space.mutate(largest, seeded(), rate=0.2)[:, -5:]
    assert (depths != 4).float().mean().item() == pytest.approx(0.2, abs=0.04)
    assert ((space.mutate(largest, seeded(), rate=0.0) != largest)[:, -5:].sum(dim=1) <= 1).all()


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (0, 4, "kernel size of block 1 is 4, which is none of 3, 5, 7"),
        (0, 0, "kernel size of block 1 is 0"),
        (3, 9, "kernel size of block 4 is 9"),
        (-1, 5, "depth of stage 5 is 5, which is none of 2, 3, 4"),
        (-1, 2.5, "depth of stage 5 is 2.5"),
        (-1, float("nan"), "depth of stage 5 is nan"),
    ],
)
def test_values_that_are_no_choice_are_refused(space, entry, value, message):
    topology = list(drawn(space, 1)[0])
    topology[entry] = value
    with pytest.raises(InvalidTopology, match=message):
        space.architecture(topology)
    with pytest.raises(InvalidTopology, match=message):
        space.costs(torch.tensor([topology]), 64, 2)


def test_vectors_of_another_length_are_refused(space):
    with pytest.raises(InvalidTopology, match=f"a topology has {space.topology_length} numbers"):
        space.architecture([3, 5, 7])
    with pytest.raises(InvalidTopology):
        space.mutate(torch.zeros(2, 9), seeded())


# --- costs ----------------------------------------------------------------------------------------


def counted(network: nn.Module, side: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates as a forward pass of the real network does them."""
    macs = 0

    def count(layer: nn.Conv2d | nn.Linear, _, output: Tensor) -> None:
        nonlocal macs
        positions = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        macs += layer.weight.numel() * positions

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, side, side))
    return sum(parameter.numel() for parameter in network.parameters()), macs


@pytest.mark.parametrize(("side", "classes"), [(32, 2), (64, 20), (96, 7)])
def test_costs_are_those_of_the_real_network(space, side, classes):
    topologies = drawn(space, 4, seed=side)
    params_C, flops_C = space.costs(torch.tensor(topologies), side, classes)
    assert params_C.dtype == flops_C.dtype == torch.int64
    networks = [space.subnet(space.architecture(topology), classes, seeded()) for topology in topologies]
    assert list(zip(params_C.tolist(), flops_C.tolist())) == [counted(network, side) for network in networks]


def seen_memory(network: nn.Module, side: int, batch: int) -> int:
    """Bytes of weights and statistics, and of the largest layer's maps as hooks see them in a forward pass.

    A layer beyond the first of a block with a shortcut keeps the block's input; those that squeeze and excite, a map.
    """
    peak, kept = 0, {}

    def enter(module: nn.Module, given: tuple[Tensor]) -> None:
        kept[module] = given[0]

    def leave(module: nn.Module, *_) -> None:
        del kept[module]

    def count(layer: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        nonlocal peak
        others = {id(each): each for each in kept.values() if each is not plain[layer]}
        peak = max(peak, plain.pop(layer).numel() + output.numel() + sum(each.numel() for each in others.values()))

    plain: dict[nn.Module, Tensor] = {}
    for module in network.modules():
        if getattr(module, "shortcut", None) is not None or type(module).__name__ == "SEModule":
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        if isinstance(module, nn.Conv2d | nn.Linear):  # as it comes, before padding is put around it
            module.register_forward_pre_hook(lambda layer, given: plain.__setitem__(layer, given[0]), prepend=True)
            module.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(torch.zeros(batch, 3, side, side))
    stored = [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]
    return 4 * (peak + sum(tensor.numel() for tensor in stored))


@pytest.mark.parametrize(("side", "classes", "batch"), [(32, 2, 1), (64, 20, 1), (96, 7, 3)])
def test_memory_is_that_of_the_real_network(space, side, classes, batch):
    topologies = drawn(space, 6, seed=side)
    bytes_C = space.memory(torch.tensor(topologies), side, classes, batch)
    assert bytes_C.dtype == torch.int64
    networks = [space.subnet(space.architecture(topology), classes, seeded()) for topology in topologies]
    assert bytes_C.tolist() == [seen_memory(network, side, batch) for network in networks]


def test_image_sizes_that_a_space_cannot_do_are_refused(space):
    with pytest.raises(ConfigError, match="image sizes"):
        space.costs(space.sample(1, seeded()), 16, 2)


# --- networks -------------------------------------------------------------------------------------


def test_a_subnet_depends_on_its_arguments_alone(space):
    architecture = space.architecture(drawn(space, 1)[0])
    state = torch.random.get_rng_state()
    first = space.subnet(architecture, 5, seeded(1))
    torch.rand(3)
    torch.random.set_rng_state(state)
    space.subnet(space.architecture(drawn(space, 2)[1]), 3, seeded())
    again = space.subnet(architecture, 5, seeded(1))
    assert same_state(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = space.subnet(architecture, 5, seeded(2)).state_dict()
    assert [name for name, value in first.state_dict().items() if not torch.equal(value, other[name])] == [
        "classifier.linear.weight"
    ]


def test_subnets_share_no_memory(space):
    architecture = space.architecture(drawn(space, 1)[0])
    spoiled = space.subnet(architecture, 5, seeded())
    untouched = copy.deepcopy(spoiled)
    assert all(value.is_contiguous() for value in spoiled.state_dict().values())
    with torch.no_grad():
        for value in spoiled.state_dict().values():
            value.fill_(1)
    assert same_state(space.subnet(architecture, 5, seeded()), untouched)


def test_a_subnet_is_ready_to_train(space):
    network = space.subnet(space.architecture(drawn(space, 1)[0]), 5, seeded())
    network(images()).square().mean().backward()
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())


def test_the_classifier_reads_the_features(space):
    network = space.subnet(space.architecture(drawn(space, 1)[0]), 5, seeded()).eval()
    with torch.inference_mode():
        features = space.features(network, images())
        assert features.shape == (2, space.feature_dim)
        assert torch.equal(network.classifier(features), network(images()))


def test_a_random_subnet_is_the_same_network_from_random_weights(space):
    architecture = space.architecture(drawn(space, 1)[0])
    start, random = space.subnet(architecture, 5, seeded()), space.random_subnet(architecture, 5, seeded(1))
    assert same_state(random, space.random_subnet(architecture, 5, seeded(1)))
    assert not torch.equal(random.first_conv.conv.weight, start.first_conv.conv.weight)
    assert space.export_config(random) == space.export_config(start)
    random.load_state_dict(start.state_dict())
    with torch.inference_mode():
        assert torch.equal(random.eval()(images()), start.eval()(images()))


def test_random_weights_are_he(space):
    network = space.random_subnet(space.architecture(drawn(space, 1)[0]), 5, seeded())
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert abs(layer.weight.mean().item()) < 0.1 * layer.weight.std().item()


def test_networks_survive_copies_and_pickles(space):
    network = space.subnet(space.architecture(drawn(space, 1)[0]), 5, seeded()).eval()
    with torch.inference_mode():
        logits = network(images())
        assert torch.equal(copy.deepcopy(network)(images()), logits)
        assert torch.equal(pickle.loads(pickle.dumps(network))(images()), logits)


def test_spaces_travel_by_pickle(space):
    data = pickle.dumps(space)
    there = pickle.loads(data)
    weights = sum(value.numel() * value.element_size() for value in space.supernet.state_dict().values())
    assert len(data) < 1.1 * weights
    assert there.supernet_hash == space.supernet_hash
    for topology in drawn(space, 2):
        architecture = space.architecture(topology)
        assert same_state(there.subnet(architecture, 5, seeded()), space.subnet(architecture, 5, seeded()))


def test_the_same_arguments_give_the_same_starting_weights(space):
    assert make_search_space(space.name, space.width).supernet_hash == space.supernet_hash


def test_every_keeper_is_held_to_the_contract():
    assert set(KEEPERS) == {"ofa-lite", "ofa-mbv3"}


def test_an_unknown_space_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="choose one of ofa-lite, ofa-mbv3"):
        make_search_space("ofa-resnet")

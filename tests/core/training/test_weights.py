"""Weights as bytes: what is written comes back, whatever the memory format, and nothing broken comes through."""

import pytest
import torch
from torch import nn

from tans_core.errors import WeightsError
from tans_core.training.weights import decode_weights, encode_weights, load_into


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten())


def test_e10_bytes_do_not_depend_on_the_memory_format():
    plain = encode_weights(network().state_dict())
    last = network().to(memory_format=torch.channels_last)
    assert not last.state_dict()["0.weight"].is_contiguous()
    assert encode_weights(last.state_dict()) == plain


def test_bytes_do_not_depend_on_the_order_of_names():
    state = network().state_dict()
    assert encode_weights(dict(reversed(state.items()))) == encode_weights(state)


def test_e10_a_network_loaded_has_the_logits_of_the_one_saved():
    saved, loaded = network().to(memory_format=torch.channels_last).eval(), network()
    nn.init.normal_(saved.get_parameter("0.weight"))
    load_into(loaded, decode_weights(encode_weights(saved.state_dict())))
    loaded = loaded.to(memory_format=torch.channels_last).eval()
    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded(images), saved(images))


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_matrices_are_stored_in_16_bits_and_vectors_as_they_are(dtype: str, step: float):
    # Above 1 the next number is one step further: a third of it is rounded off, where it is stored so.
    state = {"matrix": torch.full((4, 100), 1 + step / 3), "vector": torch.full((100,), 1 + step / 3)}
    data = encode_weights({**state, "count": torch.tensor(7)}, dtype)
    back = decode_weights(data)
    assert torch.equal(back["matrix"], torch.ones(4, 100)) and torch.equal(back["vector"], state["vector"])
    assert back["count"].item() == 7 and {back["matrix"].dtype, back["vector"].dtype} == {torch.float32}
    assert len(encode_weights(state)) - len(encode_weights(state, dtype)) == pytest.approx(2 * 400, abs=16)


def test_what_has_been_stored_is_stored_again_without_a_change():
    data = encode_weights(network().state_dict(), "float16")
    assert encode_weights(decode_weights(data), "float16") == data


def test_a_matrix_beyond_the_range_of_16_bits_stays_as_it_is():
    state = {"large": torch.tensor([[65504.0, 65536.0], [1 / 3, 0.0]]), "small": torch.tensor([[1 / 3]])}
    back = decode_weights(encode_weights(state, "float16"))
    assert torch.equal(back["large"], state["large"])
    assert back["small"].item() == 0.333251953125  # 1/3 in float16


def test_tensors_that_share_memory_are_saved():
    whole = torch.arange(6.0)
    back = decode_weights(encode_weights({"whole": whole, "again": whole, "part": whole[1:4]}))
    assert torch.equal(back["again"], whole)
    assert torch.equal(back["part"], whole[1:4])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(bad: float):
    state = network().state_dict()
    state["0.bias"][3] = bad
    with pytest.raises(WeightsError, match=r"0\.bias has 1 of 8 values that are not finite"):
        encode_weights(state)


def test_bytes_that_are_no_safetensors_are_refused():
    with pytest.raises(WeightsError, match="no safetensors"):
        decode_weights(b"\x80\x04pickle")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.bias"), "0.bias is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra is no part of the network"),
        (lambda state: state.update({"0.bias": torch.zeros(9)}), r"0.bias has shape \(9,\), the network \(8,\)"),
    ],
)
def test_weights_of_another_architecture_are_refused(change, message: str):
    state = network().state_dict()
    change(state)
    with pytest.raises(WeightsError, match=message):
        load_into(network(), state)

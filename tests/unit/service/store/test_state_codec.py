import torch
from hypothesis import given
from hypothesis import strategies as st

from service.store.state_codec import StateTag, decode, encode

TAG = StateTag("0123456789abcdef", "1767225600123456", 7)


def test_a_state_comes_back_bit_for_bit_with_its_tag() -> None:
    state = torch.randn(2, 5)

    found = decode(encode(TAG, state.numpy()), layers=2, width=5)

    assert found is not None
    assert found[0] == TAG
    assert torch.equal(found[1], state)


def test_a_state_of_another_shape_is_not_decoded() -> None:
    blob = encode(TAG, torch.randn(2, 6).numpy())

    assert decode(blob, layers=3, width=4) is None
    assert decode(None, layers=2, width=6) is None


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_of_the_numbers_is_detected(place: int, flip: int) -> None:
    blob = bytearray(encode(TAG, torch.arange(10.0).reshape(2, 5).numpy()))
    start = len(blob) - 40  # the numbers; a changed tag is another tag, which fits no session
    blob[start + place % 40] ^= flip

    assert decode(bytes(blob), layers=2, width=5) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_without_an_error(blob: bytes) -> None:
    found = decode(blob, layers=2, width=5)

    assert found is None or found[1].shape == (2, 5)

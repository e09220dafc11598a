"""What every error of ours has in common: the form of its text."""

from portfolio_stream.errors import ControlUnavailable


def test_a_reason_that_has_its_own_full_stop_gets_no_second_one() -> None:
    """Reasons of other libraries may be whole sentences."""
    assert ControlUnavailable("t", "node 0 is not ready.").cause.endswith("node 0 is not ready.")
    assert not ControlUnavailable("t", "node 0 is not ready.").cause.endswith("..")
    assert ControlUnavailable("t", "not ready").cause.endswith("not ready.")

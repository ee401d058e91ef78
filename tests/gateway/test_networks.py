import pytest

from services.gateway.access import networks


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:[2001:db8::7]:5000", "2001:db8::7"),
        ("10.0.0.1", "10.0.0.1"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
        ("", ""),
    ],
)
def test_the_other_end_of_a_call_has_an_address(peer: str, host: str) -> None:
    assert networks.host(peer) == host


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("::ffff:10.0.0.1", True),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("", False),
        ("localhost", False),
        ("10.0.0.1%eth0", False),
        ("010.0.0.1", False),
    ],
)
def test_an_address_is_in_a_network_or_not(address: str, inside: bool) -> None:
    assert networks.inside(("10.0.0.0/8", "2001:db8::/32", "192.0.2.7"), address) is inside


@pytest.mark.parametrize(
    ("inner", "outside"),
    [
        (("10.1.0.0/16", "192.0.2.7"), ""),
        (("10.0.0.0/8", "10.0.0.0/7"), "10.0.0.0/7"),
        (("::/0",), "::/0"),
        (networks.ALL, "0.0.0.0/0"),
        ((), ""),
    ],
)
def test_networks_are_within_others_or_the_first_that_is_not_is_named(inner: tuple[str, ...], outside: str) -> None:
    assert networks.within(inner, ("10.0.0.0/8", "192.0.2.0/24")) == outside


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "example.com", "", "10.0.0.0/8 ", "1/8", "::1%eth0/128"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        networks.check(text)

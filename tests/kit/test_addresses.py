import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.addresses import public, same

_FORMS = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.255.255.254 169.254.0.1 169.254.169.254
172.16.0.1 172.31.255.254 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.254 198.18.0.1
198.19.255.254 10.1.1.1 127.0.0.2 127.1.2.3 172.20.1.1 192.168.100.1 169.254.170.2 100.100.100.200 224.0.0.251 250.1.1.1
198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:7f00:1 ::ffff:8.8.8.8
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::192.168.1.1 64:ff9b:1::8.8.8.8
2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: 2002:c0a8:101::1 2002:808:808:: 2001:0:7f00:1::
2001:0:4136:e378:8000:63bf:80ff:fffe ::ffff:192.168.0.1 ::ffff:100.64.0.1 64:ff9b::100.64.0.1 ::ffff:a00:1
2001:db8::1 2001:10::1 2001:20::1 100::1 fc00::1 fd00::1 fdff:ffff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1
ff02::1 ff0e::1 fd00:ec2::254 ff05::2 ff01::1
2607:f8b0::5efe:10.0.0.1 2607:f8b0::200:5efe:127.0.0.1 4000::1 5f00::1 2000::1%eth0 localhost 127.1 0x7f.1
"""
PRIVATE = _FORMS.split()
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_everybodys_is_not_public(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_open_internet_is_public(address: str) -> None:
    assert public(address)


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_a_private_address_stays_private_however_ipv6_names_it(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    high, low = number >> 16, number & 0xFFFF
    wrapped = [
        f"::ffff:{high:x}:{low:x}",
        f"64:ff9b::{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
        f"::{high:x}:{low:x}",
    ]

    assert not any(public(text) for text in [str(address), *wrapped])


def test_one_address_has_many_spellings() -> None:
    assert same("2606:4700:0:0::1", "2606:4700::1")
    assert not same("127.0.0.1", "127.0.0.2")
    assert not same("", "127.0.0.1")

"""Where the server says it is."""

from ipaddress import ip_address

import pytest

from kubecosm.services.apiserver.config import Config
from kubecosm.services.apiserver.serving import advertised_address


@pytest.mark.parametrize(
    ("config", "address"),
    [
        pytest.param(Config(), "127.0.0.1", id="the address it listens on"),
        pytest.param(Config(advertise_address="10.1.2.3", bind_address="0.0.0.0"), "10.1.2.3", id="what the flag says"),
    ],
)
def test_the_advertised_address_is_the_flag_or_where_it_listens(config: Config, address: str) -> None:
    assert advertised_address(config) == address


def test_a_server_on_all_addresses_advertises_one_that_exists() -> None:
    assert not ip_address(advertised_address(Config(bind_address="0.0.0.0"))).is_unspecified

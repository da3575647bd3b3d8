"""An address that is written is read as the same one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bester.errors import BadAddress
from bester.protocol.addresses import ServerName, TcpAddress, UnixAddress, parse_address

labels = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,20}", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
hosts = st.one_of(names, names.map(str.upper), st.ip_addresses().map(str))
addresses = st.one_of(
    st.builds(TcpAddress, hosts, st.integers(1, 65535)),
    st.builds(ServerName, names),
    st.builds(UnixAddress, st.text(min_size=1, max_size=26).filter(str.isprintable)),
)


@given(addresses)
def test_written_and_read_again(address: TcpAddress | ServerName | UnixAddress) -> None:
    assert parse_address(str(address)) == address


@given(st.one_of(st.text(st.characters(), max_size=30), st.text("[]:.%-_ax1", max_size=30), addresses.map(str)))
def test_any_text_is_an_address_or_is_not(text: str) -> None:
    try:
        address = parse_address(text)
    except BadAddress:
        return
    assert parse_address(str(address)) == address

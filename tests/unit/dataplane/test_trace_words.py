"""Rules as people read them beside the object that they are of."""

from __future__ import annotations

import pytest

from dataplane.names import Name
from dataplane.trace_text import rule_text


@pytest.mark.parametrize(
    ("rule", "owner", "text"),
    [
        (Name("acl-rule", "shop/edge ingress 90 deny all"), Name("network-acl", "shop/edge"), "ingress 90 deny all"),
        (Name("route", "shop/public 0.0.0.0/0 -> local"), Name("route-table", "shop/public"), "0.0.0.0/0 -> local"),
        (Name("route", "shop/public 0.0.0.0/0 -> local"), Name("vpc", "shop"), "route shop/public 0.0.0.0/0 -> local"),
        (Name("route", "v/ab 10.0.0.0/8 -> local"), Name("route-table", "v/a"), "route v/ab 10.0.0.0/8 -> local"),
        (Name("security-group-rule", "v/web ingress all"), Name("interface", "web/eth0"), "group v/web ingress all"),
        (Name("route", "v/a ::/0 -> local"), None, "route v/a ::/0 -> local"),
    ],
)
def test_only_the_whole_name_of_the_owner_is_left_out(rule: Name, owner: Name | None, text: str) -> None:
    """What merely begins as the owner's name does is another's."""
    assert rule_text(rule, owner) == text

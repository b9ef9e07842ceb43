"""The network of lab.yaml, tested with real packets; README.md beside this file goes through it."""

import pytest


def test_visitors_reach_the_web_server(assert_reachable):
    assert not assert_reachable("visitor", "web", 80).refused


def test_visitors_reach_nothing_else(assert_dropped):
    assert_dropped("visitor", "web", 22, reason="GROUP_INGRESS", by="shop/web")
    assert_dropped("visitor", "10.40.2.10", 8080, reason="OUTSIDE_NO_ROUTE")


def test_only_the_application_reaches_the_database(assert_reachable, assert_dropped):
    assert_reachable("app", "db", 5432)
    assert_dropped("web", "db", 5432, by="network-acl shop/data")


def test_the_database_reaches_nobody(assert_dropped):
    assert_dropped("db", "partner", 80, reason="ACL_EGRESS", by="shop/data")


def test_programs_run_in_the_nodes(lab):
    page = lab["visitor"].run(["curl", "-sS", "http://web/"], check=True)
    assert "Directory listing" in page.stdout
    assert lab["app"].ping("partner")


def test_partners_see_the_address_of_the_nat_gateway(lab, capture):
    with capture("partner") as seen:
        lab["app"].connect("partner", 80).close()
    assert {packet.src for packet in seen.packets if packet.dst == "198.51.100.10"} == {"203.0.113.10"}


def test_the_nat_gateway_forgets_a_silent_connection(lab, clock):
    with lab["app"].connect("partner", 80) as line:
        clock.advance(350)
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            line.recv(1)

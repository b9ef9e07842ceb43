"""Endpoint services: what AWS refuses, and whom they let in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.building import expect, lab, problems, topology
from tests.unit.model.inspection import ENDPOINT, SERVICE, inspected


@pytest.mark.parametrize(
    ("service", "path", "code", "words"),
    [
        ({"gateway_load_balancer": "gv"}, "gateway_load_balancer", "InvalidParameter", "there is gw"),
        ({"accepted": ["app/e"]}, "accepted[0]", "InvalidVpcEndpointId.NotFound", "did you mean app/ep?"),
        ({"rejected": ["ep"]}, "rejected[0]", "InvalidVpcEndpointId.NotFound", "app/ep"),
        ({"accepted": ["app/ep", "app/ep"]}, "accepted[1]", "InvalidParameter", "listed twice"),
        ({"accepted": ["app/ep"], "rejected": ["app/ep"]}, "rejected[0]", "InvalidParameter", "accepted and rejected"),
        ({"allowed_principals": ["12345"]}, "allowed_principals[0]", "InvalidPrincipal", "12 digits"),
        (
            {"allowed_principals": ["*", "arn:aws:iam::123456789012:user/me"]},
            "allowed_principals[1]",
            "InvalidPrincipal",
            "is no account",
        ),
    ],
)
def test_what_aws_refuses(service: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(**inspected({"service": service})), f"{SERVICE}.{path}", code, words)


@pytest.mark.parametrize("principal", ["*", "210987654321", "arn:aws:iam::210987654321:root"])
def test_whom_it_allows(principal: str) -> None:
    other = {"account": "210987654321"}
    expect(lab(**inspected(shop=other)), f"{ENDPOINT}.service", "InvalidServiceName", "does not allow account 2109")
    assert problems(lab(**inspected({"service": {"allowed_principals": [principal]}}, other))) == []


def test_its_own_account_is_always_allowed() -> None:
    assert problems(lab(**inspected({"account": "210987654321"}, {"account": "210987654321"}))) == []


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ({}, "available"),
        ({"acceptance_required": True}, "pendingAcceptance"),
        ({"acceptance_required": True, "accepted": ["app/ep"]}, "available"),
        ({"rejected": ["app/ep"]}, "rejected"),
    ],
)
def test_what_becomes_of_an_endpoint(service: dict[str, Any], status: str) -> None:
    found = topology(**inspected({"service": service}))
    endpoint = found.vpc("app").gateway_load_balancer_endpoints["ep"]
    assert endpoint.status(found, "app", "ep") == status

"""What the daemon answers when things go wrong; the lab is a fake."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from dataplane.errors import LabError
from lab.control import RequestError
from lab.runtime import NoProgramError
from lab.verbs import Verbs


def test_only_a_wrong_question_about_a_restart_is_the_callers_fault() -> None:
    lab = Mock(plans={"web": Mock()})
    verbs = Verbs(lab, Mock())
    lab.restart.side_effect = NoProgramError("node web has no programs")
    with pytest.raises(RequestError, match="node web has no programs"):
        verbs.restart({"name": "web"})
    lab.restart.side_effect = LabError("the process that keeps the nodes has ended")
    with pytest.raises(LabError, match="the process that keeps the nodes has ended"):
        verbs.restart({"name": "web"})

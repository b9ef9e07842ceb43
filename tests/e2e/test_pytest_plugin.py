"""The pytest plugin as users have it: found by its entry point, in runs of their own, from folders of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import EXAMPLES
from vpclab import Lab

TUTORIAL = EXAMPLES / "pytest"
SMALL = """\
version: 1
name: {name}
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {{s: {{cidr: 10.0.1.0/24, availability_zone: a}}}}
    security_groups: {{open: {{ingress: [{{protocol: icmp, source: 0.0.0.0/0}}]}}, shut: {{}}}}
instances:
  a: {{vpc: v, subnet: s, private_ip: 10.0.1.10, security_groups: [open]}}
  b: {{vpc: v, subnet: s, private_ip: 10.0.1.11, security_groups: [shut]}}
"""


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """pytest in that folder, with nothing of this run's but the environment that vpclab is installed in."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**env, **variables}, capture_output=True, text=True, timeout=240, check=False
    )


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The last line of a run, e.g. {"passed": 3, "skipped": 1}."""
    return {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", done.stdout.strip().rpartition("\n")[2])}


def passed(done: subprocess.CompletedProcess[str]) -> int:
    found = counts(done)
    assert (done.returncode, set(found)) == (0, {"passed"}), done.stdout + done.stderr
    return found["passed"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n"
    )
    (tmp_path / "lab.yaml").write_text(SMALL.format(name="small"))
    return tmp_path


def test_the_tutorial_passes(tmp_path: Path) -> None:
    """As installed: `pip install` of this tree brings the plugin; run `make develop` again when it does not."""
    folder = shutil.copytree(TUTORIAL, tmp_path / "tutorial")
    assert passed(run(folder, "-q", "-W", "error")) == 9


def test_the_tutorial_is_what_the_files_say() -> None:
    """Every block of code in it is in one of the files, and every file is mentioned."""
    text = (TUTORIAL / "README.md").read_text()
    files = {each.name: each.read_text() for each in TUTORIAL.iterdir() if each.suffix in (".py", ".yaml")}
    assert [name for name in files if name not in text] == []
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL)
    assert blocks
    assert [block for block in blocks if not any(block in each for each in files.values())] == []


def test_each_module_has_a_lab_of_its_own_and_it_is_gone_afterwards(folder: Path) -> None:
    test = "def test_{0}(lab):\n    assert lab['a'].ping('a')\n    print('NAME', lab.name)\n"
    (folder / "test_one.py").write_text(test.format("a") + test.format("b"))
    (folder / "deeper").mkdir()
    (folder / "deeper" / "test_two.py").write_text(test.format("c"))
    done = run(folder, "-s")
    assert passed(done) == 3
    first, second, third = re.findall(r"NAME (\S+)", done.stdout)
    assert len({first, second, third}) == 2, "two tests of one module share one"
    assert not {first, second, third} & set(Lab.running())


@pytest.mark.parametrize(("scope", "labs"), [("function", 4), ("class", 3), ("module", 2), ("session", 1)])
def test_scopes(folder: Path, scope: str, labs: int) -> None:
    (folder / "conftest.py").write_text(
        f"from vpclab.testing import lab_fixture\nlab = lab_fixture('lab.yaml', scope={scope!r})\n"
    )
    (folder / "sub").mkdir()
    test = "def test_{0}(lab, clock):\n    print('NAME', lab.name, clock.offset_s)\n    clock.advance(1)\n"
    of_class = "class TestC:\n" + "".join(f"    def test_{x}(self, lab): print('NAME', lab.name, 0)\n" for x in "cd")
    (folder / "test_one.py").write_text(test.format("a") + of_class)
    (folder / "sub" / "test_two.py").write_text(test.format("b"))
    done = run(folder, "-s", "-p", "no:randomly")
    assert passed(done) == 4
    found = re.findall(r"NAME (\S+) (\S+)", done.stdout)
    assert len({name for name, _ in found}) == labs, "a relative path is beside the file that names it"
    assert ("1.0" in {offset for _, offset in found}) is (scope == "session"), "what tests did stays while the lab does"


def test_labs_declared_in_code_and_several_in_one_test(folder: Path) -> None:
    (folder / "test_two.py").write_text(
        "import yaml_free\n"
        "from vpclab.testing import lab_fixture\n"
        "other = lab_fixture(yaml_free.LAB, scope='function')\n"
        "def test_both(lab, other, assert_reachable, assert_dropped):\n"
        "    assert_dropped(other['a'], 'b', 80, by='v/shut')\n"
        "    assert_dropped('a', 'b', 80, by='v/shut')\n"
        "    assert_reachable(other['b'], other['a'], protocol='icmp')\n"
        "    assert other.name != lab.name\n"
    )
    (folder / "yaml_free.py").write_text(
        "LAB = {'version': 1, 'vpcs': {'v': {'cidr': '10.0.0.0/16', 'subnets': {'s': {'cidr': '10.0.1.0/24',"
        " 'availability_zone': 'a'}}, 'security_groups': {'open': {'ingress': [{'protocol': 'icmp', 'source':"
        " '0.0.0.0/0'}]}, 'shut': {}}}}, 'instances': {'a': {'vpc': 'v', 'subnet': 's', 'security_groups': ['open']},"
        " 'b': {'vpc': 'v', 'subnet': 's', 'security_groups': ['shut']}}}\n"
    )
    assert passed(run(folder, "--import-mode=importlib", "-o", "pythonpath=.")) == 1


def test_a_failed_assertion_shows_the_trace_and_where_the_packets_are(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "def test_reach(assert_reachable, capture):\n"
        "    with capture('b') as seen:\n"
        "        assert_reachable('a', 'b', 5432)\n"
        "def test_drop(assert_dropped):\n"
        "    assert_dropped('b', 'a', protocol='icmp')\n"
        "def test_typing_error(assert_dropped):\n"
        "    assert_dropped('a', 'b', reason='GROUP_INGRES')\n"
        "def test_wrong_name(assert_reachable):\n"
        "    assert_reachable('a', 'bb', 80)\n"
        "def test_wrong_gateway(assert_reachable):\n"
        "    assert_reachable('a', 'b', 80, via='peering:nowhere')\n"
        "def test_wrong_capture(capture):\n"
        "    capture('bb')\n"
    )
    done = run(folder)
    assert counts(done) == {"failed": 6}
    assert "AssertionError: can a -> b tcp 5432: not so: DROPPED by interface b/eth0 (security group" in done.stdout
    assert re.search(r"E +a/eth0 sends tcp 10.0.1.10:\d+ > 10.0.1.11:5432\nE +interface a/eth0 +new flow", done.stdout)
    assert "AssertionError: cannot b -> a icmp: not so: answered" in done.stdout
    assert "=> arrives at interface a/eth0" in done.stdout
    assert "ValueError: no drop reason is called 'GROUP_INGRES'; GROUP_INGRESS" in done.stdout
    assert "no peering is called nowhere" in done.stdout
    assert len(re.findall(r"^E .*did you mean b\?$", done.stdout, re.MULTILINE)) == 2
    assert set(re.findall(r"^(\S+\.py):\d+: ", done.stdout, re.MULTILINE)) == {"test_it.py"}, (
        "only the user's own lines"
    )
    assert "Traceback" not in done.stdout
    assert "During handling" not in done.stdout
    file = re.search(r"Captured packets call -+\n(\S+\.pcapng)", done.stdout)
    assert file is not None
    assert Path(file[1]).stat().st_size > 0


def test_what_was_captured_can_be_read(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "def test_it(lab, capture):\n"
        "    with capture('a') as seen, capture(lab['b']) as other:\n"
        "        assert all(lab['b'].ping('a') for _ in range(3))\n"
        "    echoes = [packet for packet in seen.packets if packet.haslayer('ICMP')]\n"
        "    assert [packet['ICMP'].type for packet in echoes] == [8, 0] * 3\n"
        "    assert [bytes(packet) for packet in other.packets] == [bytes(packet) for packet in echoes]\n"
        "    assert len(seen.frames) >= 6 and seen.file != other.file\n"
        "    assert seen.file.read_bytes()[:4] == bytes.fromhex('0a0d0d0a')\n"
    )
    assert passed(run(folder)) == 1


def test_workers_of_xdist_have_labs_of_their_own(folder: Path) -> None:
    (folder / "conftest.py").write_text(
        "from vpclab.testing import lab_fixture\nlab = lab_fixture('lab.yaml', scope='session')\n"
    )
    test = (
        "import time\n"
        "def test_{0}(lab, tmp_path_factory, worker_id):\n"
        "    place = tmp_path_factory.getbasetemp().parent\n"
        "    (place / worker_id).write_text(lab.name)\n"
        "    end = time.monotonic() + 60\n"
        "    while len(names := {{each.read_text() for each in place.glob('gw?')}}) < 2:\n"  # both are up at once
        "        assert time.monotonic() < end\n"
        "        time.sleep(0.05)\n"
        "    assert lab.name in names and lab['a'].ping('a')\n"
    )
    for name in "ab":
        (folder / f"test_{name}.py").write_text(test.format(name))
    assert passed(run(folder, "-n", "2", "--dist", "loadfile")) == 2


def test_where_no_lab_can_run_tests_are_skipped_with_the_reason(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "def test_it(assert_reachable):\n    assert_reachable('a', 'b')\ndef test_other(): ...\n"
    )
    done = run(folder, "-rs", PATH=str(folder))  # where no program is, ping is not either
    assert counts(done) == {"passed": 1, "skipped": 1}
    assert "no lab can run here: ping is not installed; run: " in done.stdout
    for required in (["--require-labs"], ["-o", "require_labs=true"]):
        done = run(folder, *required, PATH=str(folder))
        assert counts(done) == {"passed": 1, "failed": 1}
        assert "no lab can run here: ping is not installed; run: " in done.stdout


def test_what_is_wrong_with_the_lab_is_said_without_a_traceback(folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_it(lab): ...\n")
    (folder / "lab.yaml").write_text(
        SMALL.format(name="small").replace("10.0.1.11", "10.9.9.9").replace("vpc: v", "vpc: w")
    )
    done = run(folder)
    assert counts(done) == {"error": 1}
    assert "lab.yaml:9:" in done.stdout
    assert "lab.yaml:10:" in done.stdout
    assert "Traceback" not in done.stdout
    assert "During handling" not in done.stdout
    (folder / "lab.yaml").unlink()
    done = run(folder)
    assert counts(done) == {"error": 1}
    assert "no lab.yaml beside test_it.py or above; write one, or say which file" in done.stdout


def test_it_can_be_left_out_and_loaded_by_name(folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_it(lab):\n    assert lab['b'].ping('a')\n")
    assert passed(run(folder, "-p", "vpclab.testing.plugin")) == 1
    done = run(folder, "-p", "no:vpclab.testing.plugin")
    assert counts(done) == {"error": 1}
    assert "fixture 'lab' not found" in done.stdout


def test_runs_that_use_no_lab_import_little_and_need_no_hypothesis(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'vpclab.testing.plugin' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.startswith(('fastpath', 'ruamel', 'scapy', 'rich'))]\n"
    )
    (folder / "test_lab.py").write_text(
        "import sys\nsys.modules['hypothesis'] = None\n"
        "def test_it(assert_reachable):\n    assert_reachable('b', 'a', protocol='icmp')\n"
    )
    assert passed(run(folder, "-p", "no:hypothesispytest", "test_it.py")) == 1
    assert passed(run(folder, "-p", "no:hypothesispytest", "test_lab.py")) == 1

"""YAML text -> nodes: what is refused, where it is reported, and what is bounded."""

from __future__ import annotations

import itertools
import time

import pytest

from dataplane.load import compose as composing
from dataplane.load.compose import MAX_DEPTH, compose
from dataplane.load.nodes import Mapping, Node, Scalar, Sequence


def plain(node: Node | None) -> object:
    """The tree as dict, list and text."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    assert isinstance(node, Mapping)
    return {name: plain(entry.value) for name, entry in node.entries.items()}


def read(text: str) -> object:
    root, problems = compose(text, "lab.yaml")
    assert problems == []
    return plain(root)


def refused(text: str) -> list[str]:
    _, problems = compose(text, "lab.yaml")
    return [str(problem) for problem in problems]


def test_block_and_flow_and_quotes() -> None:
    text = "a: [1, {b: x}]\nc:\n  - 'y z'\n  - \"\\u00e9\"\nd: |\n  two\n  lines\n"
    assert read(text) == {"a": ["1", {"b": "x"}], "c": ["y z", "é"], "d": "two\nlines\n"}


def test_json_is_yaml() -> None:
    assert read('{"version": 1, "vpcs": {"shop": {"cidr": "10.0.0.0/16"}}}') == {
        "version": "1",
        "vpcs": {"shop": {"cidr": "10.0.0.0/16"}},
    }


def test_every_node_knows_its_line_and_column() -> None:
    root, _ = compose("a:\n  - x\n  - {b: 'y'}\n", "lab.yaml")
    assert isinstance(root, Mapping)
    assert (root.entries["a"].key.line, root.entries["a"].key.column) == (1, 1)
    items = root.entries["a"].value
    assert isinstance(items, Sequence)
    second = items.items[1]
    assert isinstance(second, Mapping)
    value = second.entries["b"].value
    assert isinstance(value, Scalar)
    assert (value.line, value.column, value.plain) == (3, 9, False)


def test_aliases_and_merge_keys() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nall: {b: own, <<: [*base, *more]}\nsame: *base\n"
    found = read(text)
    assert isinstance(found, dict)
    assert found["all"] == {"b": "own", "a": "1", "c": "4"}
    assert found["same"] == {"a": "1", "b": "2"}


def test_an_anchor_may_be_given_again() -> None:
    assert read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": "1", "b": "1", "c": "2", "d": "2"}


def test_all_double_keys_are_reported_with_both_places() -> None:
    text = "vpcs:\n  shop: {a: 1, a: 2}\n  shop: {}\n"
    assert refused(text) == [
        "lab.yaml:2:16: vpcs.shop.a: the key is written twice, first at line 2, column 10; keep one of the two",
        "lab.yaml:3:3: vpcs.shop: the key is written twice, first at line 2, column 3; keep one of the two",
    ]


def test_quotes_do_not_make_another_key() -> None:
    assert len(refused("a: 1\n'a': 2\n")) == 1


def test_two_merges_in_one_mapping_are_a_double_key() -> None:
    assert "written twice" in refused("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n")[0]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a:\n\tb: 1\n", "2:1", "this reader takes no tabs"),
        ("a: b: c\n", "1:5", "check the indentation"),
        # slips that YAML finds late
        ("a:\n  b:1\n  c: 1\n", "2:4", "write a blank after the colon"),
        ("a:1\nb: 1\n", "1:2", "write a blank after the colon"),
        ("a:\n\n  b:1\n\n  c: 1\n", "3:4", "write a blank after the colon"),
        ("a:\n\u00a0 b: 1\n  c: 1\n", "2:1", "a no-break space (U+00A0)"),
        ("a:\n  b:\u00a01\n  c: 1\n", "2:5", "a no-break space (U+00A0)"),
        ("a:\n  -{b: 1, c: 2}\n", "2:3", "write a blank after the hyphen"),
        ("a:\n  - b: 1\n  -c: 1\n", "3:3", "write a blank after the hyphen"),
        ("a:\n  \u2013 {b: 1, c: 2}\n", "2:3", "write - and a blank"),
        ("a:\n  \u2014 b: 1\n    c: 1\n", "2:3", "write - and a blank"),
        ("a:\n  b:1\n  c:2\n  d: 1\n", "3:4", "write a blank after the colon"),
        # and what is none
        ("a:\n  b:\n    - |\n      else:g()\n restart: x\n", "5:2", "give this line the indentation"),
        ("a:\n  b:\n    - |\n      -x\n\n restart: x\n", "6:2", "give this line the indentation"),
        ("a:\n  - nat:x\n b: 1\n", "3:2", "give this line the indentation"),
        ("a: x\u00a0y\n b: 1\n", "2:3", "check the indentation"),
        ("a: b\n  c: 1\n", "2:4", "check the indentation"),
        ("a: {b: ::/0}\n", "1:8", 'put text that begins with a colon in quotes: "::/0"'),
        ("a: [1, 2\n", "2:1", "close the list with ]"),
        ("a: {b: 1\n", "2:1", "close the keys with }"),
        ("a: 'x\n", "2:1", "close the quotes"),
        ("a: @x\n", "1:4", "in quotes"),
        ("a: 1\n- b\n", "2:1", "indentation"),
        ("a: \x07\n", "1:4", "U+0007"),
        ("a: 1\nbc: 2\n\u00e9: \x07\n", "3:4", "remove the character"),
        ("a: 1\nb\nc: 1\n", "3:1", "write KEY: VALUE, with a blank after the colon"),
        ("a:\n  b: [1,\n    2\nc: 3\n", "4:2", "parsing a flow sequence that begins at line 2, column 6"),
        ('a: "\\UFFFFFFFF"\n', "1:2", "after this place the text is not YAML"),
        ("a: *nowhere\n", "1:4", "no anchor &nowhere"),
        ("a: &x [*x]\n", "1:8", "inside what it stands for"),
        ("a: 1\n---\nb: 2\n", "2:1", "second document"),
        ("%YAML 1.1\n---\na: 1\n", "2:1", "YAML 1.1"),
        ("a: !!str 5\n", "1:4", "no tags (!!str)"),
        ("a: ! 5\n", "1:4", "no tags (!)"),
        ("a: !<tag:x> 5\n", "1:4", "no tags (tag:x)"),
        ("&a !!map {a: 1}\n", "1:1", "no tags (!!map)"),
        ("a: " + "!" * 200_000, "1:4", "no tags (!!!"),
        ("a: !python/object:os.system x\n", "1:4", "no tags (!python/object:os.system)"),
        ("? [x]\n: 1\n", "1:3", "a key must be text"),
        ("a: {<<: 1}\n", "1:9", "'<<' merges keys"),
        ("a: {<<: [1]}\n", "1:10", "'<<' merges keys"),
        ("", "1:1", "holds no lab"),
        ("# nothing\n", "1:1", "holds no lab"),
    ],
)
def test_refusals_say_where_and_what_to_write(text: str, place: str, words: str) -> None:
    (problem,) = refused(text)
    assert problem.startswith(f"lab.yaml:{place}: ")
    assert words in problem


def test_a_yaml_1_2_directive_is_fine() -> None:
    assert read("%YAML 1.2\n---\na: yes\n") == {"a": "yes"}


def test_what_was_noted_before_the_text_became_unreadable_is_kept() -> None:
    assert len(refused("a: 1\na: 2\nb: [\n")) == 2


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_one_problem(opening: str) -> None:
    for depth in (MAX_DEPTH + 1, 5_000):
        (problem,) = refused(opening * depth)
        assert "nested more than" in problem


def test_the_deepest_nesting_allowed_is_read() -> None:
    assert refused("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []


def test_aliases_cannot_nest_deeper_either() -> None:
    half = MAX_DEPTH // 2 + 1
    text = f"a: &a {'[' * half}{']' * half}\nb: {'[' * half}*a{']' * half}\n"
    (problem,) = refused(text)
    assert "nested more than" in problem


@pytest.mark.parametrize(
    "level", ["&{n} [{p}, {p}, {p}, {p}, {p}, {p}, {p}, {p}, {p}]", "&{n} {{x: {p}, y: {p}, z: {p}}}"]
)
def test_a_bomb_of_aliases_is_one_problem_soon(level: str) -> None:
    names = [f"n{i}" for i in range(40)]
    lines = ["n0: &n0 [lol]"]
    lines += [f"{n}: {level.format(n=n, p='*' + p)}" for p, n in itertools.pairwise(names)]
    begin = time.process_time()
    (problem,) = refused("\n".join(lines))
    assert "aliases stand for more than" in problem
    assert time.process_time() - begin < 5


def test_a_bomb_of_merges_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "MAX_NODES", 5_000)
    wide = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(500)) + "}\n"
    (problem,) = refused(wide + "".join(f"b{i}: {{<<: *a}}\n" for i in range(50)))
    assert "more than 5,000 values" in problem


def test_a_huge_plain_file_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "MAX_NODES", 1_000)
    (problem,) = refused("- 1\n" * 2_000)
    assert problem.startswith("lab.yaml:1000:")

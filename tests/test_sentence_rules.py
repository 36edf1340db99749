"""The sentence rules: each example holds, and no longer does without the alternative that it belongs to."""

import re
import unicodedata

import pytest
from conftest import SLOW
from suzuri.text import characters, sentence_rules, sentences
from suzuri.text.sentence_rules import DOUBT, Rule, any_of, atomic

TABLES = {
    name: table
    for name, table in vars(sentence_rules).items()
    if isinstance(table, list | tuple) and isinstance(table[0], Rule)
}


def outcome(example, pattern=DOUBT):
    """The example as split by a pattern; None if the pattern does not match it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "DOUBT", pattern)
        try:
            return sentences.split(example.replace("|", "")).strip("\n").split("\n")
        except AttributeError:  # neither `end` nor anything else matched
            return None


def wanted(example):
    return unicodedata.normalize("NFKC", example).strip("|\n").split("|")


def with_table(table, changed):
    """DOUBT with one table replaced wherever it occurs in it."""
    pattern = DOUBT.pattern
    for join in any_of, atomic:
        pattern = pattern.replace(join(table), join(changed))
    assert pattern != DOUBT.pattern
    return re.compile(pattern, DOUBT.flags)


def test_there_are_tables():
    assert len(TABLES) == 13
    assert sum(len(table) for table in TABLES.values()) > 150
    assert all(rule.examples for table in TABLES.values() for rule in table)


@pytest.mark.parametrize("name", TABLES)
def test_examples(name):
    examples = [e for rule in TABLES[name] for part in (rule, *rule.unless) for e in part.examples]
    wrong = [(example, found) for example in examples if (found := outcome(example)) != wanted(example)]
    assert not wrong


# These compile all rules once per row: the largest tables take up to a quarter of a minute.
BY_TIME = [pytest.param(name, marks=[SLOW] * (name in ("AFTER_BRACKET", "QUOTING"))) for name in TABLES]


@pytest.mark.parametrize("name", BY_TIME)
def test_every_alternative_is_needed_by_its_examples(name):
    table, idle = TABLES[name], []
    for rule in table:
        without = with_table(table, [other for other in table if other is not rule])
        idle += [(rule.pattern, example) for example in rule.examples if outcome(example, without) == wanted(example)]
    assert not idle


@pytest.mark.parametrize("name", [p for p in BY_TIME if any(rule.unless for rule in TABLES[p.values[0]])])
def test_every_exception_is_needed_by_its_examples(name):
    """The other rules of the table are left out meanwhile: a twentieth of the time to compile."""
    table, idle = TABLES[name], []
    for rule in table:
        for exception in rule.unless:
            left = tuple(other for other in rule.unless if other is not exception)
            without = with_table(table, [rule._replace(unless=left)])
            found = [outcome(example, without) == wanted(example) for example in exception.examples]
            idle += [(rule.pattern, exception)] if all(found) else []
    assert not idle


def test_blanks_are_those_of_str_split():
    """So removing invisible characters and reducing blanks to one give the same result in either order."""
    everything = "".join(map(chr, range(0x110000)))
    blanks = {c for c in everything if c.isspace()}
    removed = set(re.findall(f"[{characters.REMOVED}]", everything))
    assert set(re.findall(f"[{characters.BLANKS}{characters.SPACE}\n]", everything)) == blanks
    assert not blanks & removed
    assert {c for c in everything if unicodedata.category(c) in ("Cc", "Cs", "Co")} <= blanks | removed
    assert {unicodedata.category(c) for c in removed} == {"Cc", "Cf", "Cn", "Co", "Cs", "Lo", "Mn", "So"}
    assert "\ufffd" not in removed

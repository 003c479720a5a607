"""Code and pages use the words of docs/glossary.md: its last table of words that are not used has no hits.

Names come from the syntax tree and are split at underscores and capitals, so that `is_spared` contains `spared`.
Texts are docstrings, comments, strings and pages; they are searched for whole words, also over line ends.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tomosift"
GLOSSARY = ROOT / "docs" / "glossary.md"
LAST_SECTION = "## Words that are not used"
SCOPES = {"anywhere", "identifier", "definition", "whole name"}
PYTHON = ("src/tomosift/**/*.py", "tests/**/*.py", "benchmarks/**/*.py", "scripts/**/*.py", "docs/**/*.py", "dev")
TEXTS = (
    "src/tomosift/**/*.html", "src/tomosift/**/*.js", "src/tomosift/**/*.md",
    "docs/**/*.md", "README.md", "CONTRIBUTING.md", "CONVENTIONS.md", "CHANGELOG.md", "CITATION.cff",
    "pyproject.toml", "mkdocs.yml",
)  # fmt: skip
NOT_READ = {"tests/test_glossary.py"}
"""This file holds the words of its own made-up example. experiments/LOG.md, which is history, is no path of above."""

WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
CODE_SPAN = re.compile(r"```.*?```|``[^`]+``|`[^`\n]+`", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w.-]*")
NAME_LIKE = re.compile(r"-{0,2}[A-Za-z_][\w.-]*")


@dataclass(frozen=True)
class Rule:
    """A word or phrase that is not used, and where."""

    word: str
    scope: str


@dataclass(frozen=True)
class Exception_:
    """A use of a word that stays, with the reason."""

    path: str
    """Pattern; an asterisk stands for any characters, slashes included."""
    word: str
    containing: str
    """Part of the name or of the line of text."""
    reason: str


_MODELS = "names in model files of earlier versions, which stay readable"
_RUNS = "names in the config.json of earlier runs, which stay readable"
_SETS = "a key of existing sets on disk"
_RENAMED = "the entry of the changelog that names what it replaced"
_ENTRY = "name of a benchmark entry in the kept tables"
EXCEPTIONS: tuple[Exception_, ...] = (
    Exception_("src/tomosift/inference/legacy.py", "unfamiliar", "unfamiliar_below", _MODELS),
    Exception_("src/tomosift/inference/legacy.py", "spread", "encoder.spread", _MODELS),
    Exception_("tests/inference/test_legacy.py", "unfamiliar", "unfamiliar_below", _MODELS),
    Exception_("tests/inference/test_legacy.py", "spread", "spread", _RUNS),
    Exception_("tests/methods/test_conformance.py", "spread", "spread", _RUNS),
    Exception_("tests/methods/test_conformance.py", "unfamiliar", "unfamiliar_below", _RUNS),
    Exception_("tests/methods/test_conformance.py", "adversary", "adversary", _RUNS),
    Exception_("tests/methods/test_conformance.py", "translator", "translator_rate", _RUNS),
    Exception_("tests/methods/test_cycle_wgan.py", "translator", "translator.json", "file names of saved generators"),
    Exception_("tests/inference/test_legacy.py", "familiarity", "familiarity.center", _MODELS),
    Exception_("tests/inference/test_legacy.py", "asked", "head.asked.weight", _MODELS),
    Exception_("tests/inference/test_model_files.py", "spread", "encoder.spread", _MODELS),
    Exception_("tests/models/test_generators.py", "translator", "translator.", "file names of saved generators"),
    Exception_("src/tomosift/models/generator_files.py", "translator", "translator.", "file names of saved generators"),
    Exception_("src/tomosift/methods/cycle_wgan.py", "translator", "translator_rate", _RUNS),
    Exception_("src/tomosift/methods/cycle_wgan.py", "adversary", "adversary", _RUNS),
    Exception_("src/tomosift/methods/metric.py", "lessons", "lessons", _RUNS),
    Exception_("src/tomosift/methods/supervised.py", "spread", "spread", _RUNS),
    Exception_("src/tomosift/methods/supervised.py", "unfamiliar", "unfamiliar_below", _RUNS),
    Exception_("src/tomosift/picking/config.py", "places", "_places", _RUNS),
    Exception_("src/tomosift/data/extraction/*.py", "asked", "class_names_asked", _SETS),
    Exception_("src/tomosift/workflows/simulate_subtomograms.py", "translator", "translator", _SETS),
    Exception_("src/tomosift/evaluation/*.py", "adversaries", "cryo-shift-no-adversaries", _ENTRY),
    Exception_("docs/protocols/*.md", "adversaries", "adversaries", _ENTRY),
    Exception_("CHANGELOG.md", "familiarity", "tomosiftFamiliarity", _RENAMED),
    Exception_("CHANGELOG.md", "spread", "spread", _RENAMED),
    Exception_("CHANGELOG.md", "unfamiliar", "`unfamiliar_below` is `min_similarity`", _RENAMED),
    Exception_("CHANGELOG.md", "unfamiliar", "unfamiliar_below", _RENAMED),
)


@dataclass(frozen=True)
class Name:
    """An identifier, option or key."""

    line: int
    text: str
    is_definition: bool = False


@dataclass(frozen=True)
class Passage:
    """A piece of text and its first line."""

    line: int
    text: str


@dataclass(frozen=True)
class Hit:
    """A word where it should not be."""

    path: str
    line: int
    word: str
    text: str


@cache
def read_rules(page: str) -> list[Rule]:
    """Return the rules of the last table of the glossary."""
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", page.partition(LAST_SECTION)[2], re.MULTILINE)
    return [Rule(word.strip(), scope) for words, _, scope in rows if scope in SCOPES for word in words.split(",")]


def split_name(name: str) -> list[str]:
    """Return the words of an identifier in lower case."""
    return [word.lower() for word in WORDS.findall(name)]


def read_names(tree: ast.Module) -> Iterator[Name]:
    """Yield every identifier, and every string that could be one: keys, options, log events."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield Name(line, node.name, is_definition=True)
            case ast.Name():
                is_type = isinstance(node.ctx, ast.Store) and re.fullmatch(r"[A-Z][a-z]\w*", node.id) is not None
                yield Name(line, node.id, is_definition=is_type)
            case ast.Attribute():
                yield Name(line, node.attr)
            case ast.arg() | ast.keyword():
                yield Name(line, node.arg or "")
            case ast.alias():
                yield Name(line, f"{node.name}.{node.asname or ''}")
            case ast.Constant(value=str() as value) if NAME_LIKE.fullmatch(value):
                yield Name(line, value)
            case ast.Subscript():  # shapes such as Float[Tensor, "b places 3"]
                strings = [part.value for part in ast.walk(node.slice) if isinstance(part, ast.Constant)]
                yield from (Name(line, word) for value in strings if isinstance(value, str) for word in value.split())


def read_comments(text: str) -> Iterator[Passage]:
    """Yield comments; those on consecutive lines are one passage."""
    lines: list[str] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and lines:
            yield Passage(last - len(lines) + 1, "\n".join(lines))
            lines = []
        last = token.start[0]
        lines.append(token.string.lstrip("# "))
    if lines:
        yield Passage(last - len(lines) + 1, "\n".join(lines))


def read_python(text: str) -> tuple[list[Name], list[Passage]]:
    """Return the names and the texts of a Python file."""
    tree = ast.parse(text)
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    passages = [Passage(node.lineno, str(node.value)) for node in strings] + list(read_comments(text))
    quoted = [name for passage in passages for name in read_quoted_names(passage)]
    return [*read_names(tree), *quoted], passages


def read_quoted_names(passage: Passage) -> Iterator[Name]:
    """Yield the identifiers in code spans and the options of a text."""
    for span in [*CODE_SPAN.finditer(passage.text), *OPTION.finditer(passage.text)]:
        for name in re.finditer(r"[A-Za-z_]\w*", span.group()):
            start = span.start() + name.start()
            yield Name(passage.line + passage.text[:start].count("\n"), name.group())


def read_page(text: str) -> tuple[list[Name], list[Passage]]:
    """Return the names in code spans and the text of a page; the table of words that are not used is no part of it."""
    passage = Passage(1, text.partition(LAST_SECTION)[0])
    return list(read_quoted_names(passage)), [passage]


@cache
def compile_words(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of whole words, case ignored; any white space joins a phrase, longer phrases come first."""
    phrases = [r"\s+".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True)]
    return re.compile(rf"(?<![A-Za-z])(?:{'|'.join(phrases)})(?![A-Za-z])", re.IGNORECASE)


def find_hits(path: str, names: list[Name], passages: list[Passage], rules: list[Rule]) -> list[Hit]:
    """Return every use of a word that is not used, in the order of lines."""
    hits = set()
    scopes = {rule.word: rule.scope for rule in rules}
    for name in names:
        parts = split_name(name.text)
        for word in scopes.keys() & set(parts):
            is_free = scopes[word] in {"definition", "whole name"} and not name.is_definition
            if not is_free and (scopes[word] != "whole name" or parts == [word]):
                hits.add(Hit(path, name.line, word, name.text))
    pattern = compile_words(tuple(word for word, scope in scopes.items() if scope == "anywhere"))
    for passage in passages:
        for found in pattern.finditer(passage.text):
            start = passage.text.rfind("\n", 0, found.start()) + 1
            line = passage.line + passage.text[:start].count("\n")
            word = " ".join(found.group().lower().split())
            hits.add(Hit(path, line, word, passage.text[start:].split("\n")[0].strip()))
    return sorted(hits, key=lambda hit: (hit.line, hit.word, hit.text))


def is_excepted(hit: Hit, exception: Exception_) -> bool:
    """Return whether an exception covers a hit."""
    is_place = fnmatch(hit.path, exception.path) and hit.word == exception.word
    return is_place and exception.containing in hit.text


def held_files() -> list[Path]:
    """Return the files that are held to the glossary."""
    paths = {path for pattern in (*PYTHON, *TEXTS) for path in ROOT.glob(pattern)}
    return sorted(path for path in paths if path.relative_to(ROOT).as_posix() not in NOT_READ)


@cache
def hits_of_file(path: Path) -> list[Hit]:
    """Return the hits of a file and of its path, exceptions included."""
    text, rules = path.read_text(encoding="utf-8"), read_rules(GLOSSARY.read_text())
    read = read_python if path.suffix == ".py" or path.name == "dev" else read_page
    name = path.relative_to(ROOT).as_posix()
    names, passages = read(text)
    return find_hits(name, [Name(0, name.removeprefix("src/tomosift/")), *names], passages, rules)


def area_of(path: Path) -> str:
    """Return the room of a source file, or the top folder of another file."""
    parts = path.relative_to(ROOT).parts
    if parts[0] != "src":
        return parts[0] if len(parts) > 1 else "pages"
    return f"src/{parts[2]}" if len(parts) > 3 else "src"


@pytest.mark.parametrize("area", sorted({area_of(path) for path in held_files()}))
def test_area_uses_the_words_of_the_glossary(area: str) -> None:
    hits = [hit for path in held_files() if area_of(path) == area for hit in hits_of_file(path)]
    open_hits = [hit for hit in hits if not any(is_excepted(hit, exception) for exception in EXCEPTIONS)]
    listing = "\n".join(f"{hit.path}:{hit.line}: {hit.word}: {hit.text[:90]}" for hit in open_hits)
    assert not listing, f"{len(open_hits)} uses of words that docs/glossary.md replaces"


def test_every_exception_is_needed_and_has_a_reason() -> None:
    hits = [hit for path in held_files() for hit in hits_of_file(path)]
    for exception in EXCEPTIONS:
        assert exception.reason
        assert any(is_excepted(hit, exception) for hit in hits), exception


def glossary_rows() -> list[list[str]]:
    """Return the cells of every term of the glossary."""
    lines = GLOSSARY.read_text().partition(LAST_SECTION)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0] != "term" and not row[0].startswith("---")]


def test_glossary_defines_each_term_once_in_one_or_two_sentences() -> None:
    rows = glossary_rows()
    terms = [row[0] for row in rows]
    assert len(terms) == len(set(terms))
    for row in rows:
        assert len(row) == 4, row
        assert row[1].endswith("."), row
        assert 1 <= len(re.findall(r"\.(?= |$)", row[1])) <= 2, row


def test_names_in_the_glossary_exist_in_the_code() -> None:
    known: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        known |= {name.text for name in read_names(tree)} | set(path.relative_to(SOURCE).with_suffix("").parts)
    for term, _, code, _ in glossary_rows():
        for name in re.findall(r"`([A-Za-z_.]\w[\w.]*)`", code):
            parts = [name] if name.endswith(".json") else name.split(".")
            missing = [part for part in parts if part not in known and not part.startswith("_")]
            assert not missing, f"{term}: {missing}"


def test_table_of_words_has_known_scopes_and_no_word_twice() -> None:
    page = GLOSSARY.read_text()
    rows = page.partition(LAST_SECTION)[2].strip().splitlines()
    rules = read_rules(page)
    assert {row.split("|")[3].strip() for row in rows if row.startswith("| ")} == {"scope", *SCOPES}
    assert len({rule.word for rule in rules}) == len(rules)
    assert all(rule.word == rule.word.lower() for rule in rules)
    assert all(rule.scope == "anywhere" for rule in rules if " " in rule.word)


EXAMPLE = '''
"""Of the class that they told."""
import numpy as np

PLACES = 3  # labels that
# spread over places are not pseudo-labels


class Seen:
    """A place among places; see `is_spared`, ``wide_spread`` and --spread."""


def look(volume, told_by_averages=None, **seen):
    """Return what `look` gives; Asked twice."""
    seen["crossed_logits"] = f"{volume} was told, and took the toldo"
    return Seen.had, "log_event_spared", Shape[None, "b places 3"]


def sum_across(volume): ...
def _across(volume): ...
'''
EXAMPLE_RULES = [
    *(Rule(word, "anywhere") for word in ("told", "asked", "spared", "crossed", "labels that spread")),
    *(Rule(word, "identifier") for word in ("spread", "places", "had")),
    *(Rule(word, "definition") for word in ("look", "seen")),
    Rule("across", "whole name"),
]


def example_hits(word: str) -> list[int]:
    hits = find_hits("example.py", *read_python(EXAMPLE), EXAMPLE_RULES)
    return sorted({hit.line for hit in hits if hit.word == word})


@pytest.mark.parametrize(
    ("word", "lines"),
    [
        ("told", [2, 13, 15]),  # a docstring, a part of an argument, an f-string; not "toldo"
        ("asked", [14]),  # case does not matter
        ("spared", [10, 16]),  # a part of a name in a code span, a log event
        ("crossed", [15]),  # a key
        ("labels that spread", [5]),  # a phrase over two lines of comments
        ("spread", [10]),  # names in code spans and options, not the prose of line 6
        ("places", [5, 16]),  # a constant and a shape, not the prose of lines 6 and 10
        ("had", [16]),
        ("look", [13]),  # the function, not its mention
        ("seen", [9]),  # the class, not the argument
        ("across", [20]),  # the function of that name alone
    ],
)
def test_checker_finds_words_where_their_scope_says(word: str, lines: list[int]) -> None:
    assert example_hits(word) == lines


def test_checker_reads_code_spans_and_text_of_pages() -> None:
    page = f"# Page\n\nThe spread of `label_spread`\nis told.\n\n```sh\nrun --spread 1\n```\n{LAST_SECTION}\ntold\n"
    hits = find_hits("page.md", *read_page(page), EXAMPLE_RULES)
    assert [(hit.line, hit.word) for hit in hits] == [(3, "spread"), (4, "told"), (7, "spread")]


def test_checker_splits_names_at_underscores_and_capitals() -> None:
    assert split_name("is_spared") == ["is", "spared"]
    assert split_name("SeenPLDAHead") == ["seen", "plda", "head"]
    assert split_name("MOST_TO_ASK2") == ["most", "to", "ask"]

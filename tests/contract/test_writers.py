"""Each field of what the daemon keeps is written by one module: its class's own, or one that the class names.

A field names its writer in its docstring, "Written by :mod:`threadwatch.…`."; a class in its own, for all of
its fields. Such a module is the only one, beside the constructor. Written is what is assigned, augmented,
deleted or set by ``setattr``, the field itself or an element of it, and a list, set or dictionary of another
object that is changed by its methods.

Fields are told apart by their names, and by the class of the variable where an annotation or a constructor in
the same function tells that. Where it does not, any class with such a field may be meant.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed import CHECKOUT

NOT_CHECKED = frozenset({"publisher", "inject"})
"""What runs in a watched process keeps nothing for the daemon."""
CHANGES = frozenset(
    {
        *("add", "append", "clear", "difference_update", "discard", "extend", "insert"),
        *("intersection_update", "pop", "popitem", "remove", "setdefault", "subtract", "update"),
    }
)
"""Methods that change a list, a set or a dictionary."""
CONTAINERS = re.compile(r"(dict|list|set|Counter|OrderedDict|deque)\b")
WRITER = re.compile(r"Written by\s+:mod:`([\w.]+)`")


@dataclass(slots=True)
class Owned:
    """A class whose fields can be written."""

    module: str
    name: str
    writer: str | None
    """The module that its docstring names."""
    fields: dict[str, str | None] = field(default_factory=dict)
    """By name: the module that the field names."""
    containers: set[str] = field(default_factory=set)
    """Fields that are lists, sets and dictionaries."""

    def is_writer(self, module: str, name: str) -> bool:
        """Return whether a module may write a field."""
        return module == (self.fields[name] or self.writer or self.module)


@dataclass(frozen=True, slots=True)
class Write:
    """A place where a field is written."""

    module: str
    line: int
    name: str
    owner: str | None
    """The class of the object, if that can be told."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} writes {self.owner or '?'}.{self.name}"


def modules(root: Path) -> dict[str, ast.Module]:
    """Return the modules of a package by name, parsed."""
    return {
        ".".join(path.relative_to(root.parent).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(root.rglob("*.py"))
    }


def is_mutable(node: ast.ClassDef) -> bool:
    """Return whether the fields of its objects can be written: no frozen dataclass, tuple or protocol."""
    frozen = any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    bases = {ast.unparse(base) for base in node.bases}
    return not frozen and not bases & {"NamedTuple", "Protocol", "TypedDict", "Enum"}


def documented(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Return each statement with the docstring behind it."""
    for index, statement in enumerate(body):
        after = body[index + 1] if index + 1 < len(body) else None
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = str(after.value.value)
        yield statement, text


def own_fields(body: list[ast.stmt], *, of: str = "") -> Iterator[tuple[str, str, str]]:
    """Return the fields that statements define: name, annotation or value, and docstring.

    ``of``: how the body writes a field: ``self.`` in a constructor.
    """
    for statement, text in documented(body):
        targets: list[ast.expr] = []
        kind = ""
        if isinstance(statement, ast.AnnAssign):
            targets, kind = [statement.target], ast.unparse(statement.annotation)
        elif isinstance(statement, ast.Assign):
            targets, kind = statement.targets, ast.unparse(statement.value)
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Name | ast.Attribute):
                    written = ast.unparse(one)
                    if (name := written.removeprefix(of)).isidentifier() and written == of + name:
                        yield name, kind, text


def classes(parsed: dict[str, ast.Module]) -> list[Owned]:
    """Return the classes whose fields can be written."""
    found = []
    for module, tree in parsed.items():
        if module.split(".")[1] in NOT_CHECKED:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef) or not is_mutable(node):
                continue
            named = WRITER.search(ast.get_docstring(node) or "")
            owned = Owned(module, node.name, named and named[1])
            fields = list(own_fields(node.body))
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    fields += own_fields(method.body, of="self.")
            for name, kind, text in fields:
                writer = WRITER.search(text)
                owned.fields.setdefault(name, writer and writer[1])
                if CONTAINERS.match(kind):
                    owned.containers.add(name)
            found.append(owned)
    return found


class Writes(ast.NodeVisitor):
    """Finds the writes in one module."""

    def __init__(self, module: str, containers: set[str], known: set[str]) -> None:
        self.found: list[Write] = []
        self._module = module
        self._containers = containers
        self._known = known
        self._class = ""
        self._method = ""
        self._types: dict[str, str] = {}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Note in which class it is."""
        before, self._class = self._class, node.name
        self.generic_visit(node)
        self._class = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Learn the types of its arguments and variables, as far as they are written down."""
        self._visit_function(node)

    def visit_Import(self, node: ast.Import) -> None:
        """Note names of modules: what is written there is no field."""
        for alias in node.names:
            self._types[alias.asname or alias.name] = "module"

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        types, method = dict(self._types), self._method
        self._method = node.name
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if self._class and arguments and arguments[0].arg == "self":
            self._types["self"] = self._class
        for argument in arguments:
            if argument.annotation is not None:
                self._note(argument.arg, ast.unparse(argument.annotation))
        for inner in ast.walk(node):
            if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                self._note(inner.target.id, ast.unparse(inner.annotation))
            elif isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call):
                for target in inner.targets:
                    if isinstance(target, ast.Name):
                        self._note(target.id, ast.unparse(inner.value.func), annotated=False)
        self.generic_visit(node)
        self._types, self._method = types, method

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Learn the types of its arguments and variables, too."""
        self._visit_function(node)

    def _note(self, variable: str, kind: str, *, annotated: bool = True) -> None:
        words = re.findall(r"\w+", kind)
        ours = [word for word in words if word in self._known]
        if ours or annotated:
            self._types[variable] = (ours or words)[-1]

    def visit_Assign(self, node: ast.Assign) -> None:
        """Note what is assigned."""
        for target in node.targets:
            self._written(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Note what is augmented."""
        self._written(node.target)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Note what is assigned."""
        self._written(node.target)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        """Note what a loop assigns."""
        self._written(node.target)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        """Note what is deleted."""
        for target in node.targets:
            self._written(target)

    def visit_Call(self, node: ast.Call) -> None:
        """Note what ``setattr`` sets, and containers that are changed by their methods."""
        called = node.func
        if isinstance(called, ast.Name) and called.id in {"setattr", "delattr"}:
            if isinstance(node.args[1], ast.Constant):
                self._add(node.args[0], str(node.args[1].value), node.lineno)
        elif (
            isinstance(called, ast.Attribute)
            and called.attr in CHANGES
            and isinstance(called.value, ast.Attribute)
            and called.value.attr in self._containers
        ):
            self._add(called.value.value, called.value.attr, node.lineno)
        self.generic_visit(node)

    def _written(self, target: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for element in target.elts:
                self._written(element)
        elif isinstance(target, ast.Starred | ast.Subscript):
            self._written(target.value)
        elif isinstance(target, ast.Attribute):
            self._add(target.value, target.attr, target.lineno)

    def _add(self, value: ast.expr, name: str, line: int) -> None:
        variable = ast.unparse(value)
        if variable == "self" and self._method in {"__init__", "__post_init__"}:
            return
        self.found.append(Write(self._module, line, name, self._types.get(variable)))


def second_writers(parsed: dict[str, ast.Module]) -> list[str]:
    """Return the places where a module writes a field that is another module's."""
    owners = classes(parsed)
    containers = {name for owned in owners for name in owned.containers}
    known = {
        node.name for t in parsed.values() for node in ast.walk(t) if isinstance(node, ast.ClassDef)
    }
    wrong = []
    for module, tree in parsed.items():
        writes = Writes(module, containers, known)
        writes.visit(tree)
        for write in writes.found:
            meant = [
                owned
                for owned in owners
                if write.name in owned.fields and write.owner in {None, owned.name}
            ]
            if meant and not any(owned.is_writer(module, write.name) for owned in meant):
                writers = {o.fields[write.name] or o.writer or o.module for o in meant}
                wrong.append(f"{write}, which is for {' or '.join(sorted(writers))}")
    return wrong


def test_each_field_has_one_writer() -> None:
    """No module writes a field of what the daemon keeps that is another module's."""
    parsed = modules(CHECKOUT / "threadwatch")
    kept = classes(parsed)
    assert {"Process", "ThreadBook", "Series", "Group", "SampledProcess"} <= {o.name for o in kept}
    assert not (wrong := second_writers(parsed)), "\n".join(wrong)


def test_a_second_writer_is_found() -> None:
    """Field, module and line are told, however the field is written, also in an element or by a method."""
    books = '''
class Book:
    """A book."""
    def __init__(self) -> None:
        self.total = 0
        self.lines: list[int] = []
        self.seen = 0
        """Written by :mod:`shop.shop.clerk`."""
'''
    clerk = """
def write(book: Book, other: Other, things) -> None:
    book.seen += 1
    other.total = 1
    book.total += 1
    book.lines[0] = 1
    for thing in things:
        thing.lines.append(1)
    (book.total, rest) = 1, 2
    setattr(book, "total", 1)
    del book.lines
"""
    parsed = {
        "shop.shop.books": ast.parse(books),
        "shop.shop.clerk": ast.parse(clerk),
        "shop.shop.thief": ast.parse("def steal(book: Book) -> None:\n    book.seen = 0\n"),
    }
    wrong = second_writers(parsed)
    assert [line.partition(", which")[0] for line in wrong] == [
        *(
            f"shop.shop.clerk:{line} writes Book.{name}"
            for line, name in ((5, "total"), (6, "lines"))
        ),
        "shop.shop.clerk:8 writes ?.lines",
        *(f"shop.shop.clerk:{line} writes Book.total" for line in (9, 10)),
        "shop.shop.clerk:11 writes Book.lines",
        "shop.shop.thief:2 writes Book.seen",
    ]

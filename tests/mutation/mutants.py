"""Mutants: copies of a module that differ in one place, as a slip of the hand would make them differ."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: Calls that only tell people something: what they say is held by the tests of messages, or by none on purpose.
_MESSAGES = ("log.", "say(", "self._log.", "warnings.")


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    """One place of a file, and what stands there instead."""

    file: Path
    line: int
    before: str
    after: str
    place: int  # the number of the node in the order of the walk
    variant: int = 0  # of several at one node
    statement: int = 0  # the line on which its statement begins
    in_function: bool = False  # else it runs when the module is imported
    used: tuple[int, ...] = ()  # of what runs when the module is imported: where the file uses what it makes

    @property
    def name(self) -> str:
        """The file as it is called in the repository."""
        return self.file.relative_to(ROOT).as_posix()

    @property
    def module_name(self) -> str:
        """The module as it is imported."""
        return self.name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    def module(self) -> ast.Module:
        """Return the mutated module; raise LookupError if the file has changed."""
        tree = ast.parse(self.file.read_text(encoding="utf-8"))
        parents = _parents(tree)
        for number, node in enumerate(ast.walk(tree)):
            if number == self.place:
                _, changed = list(_changes(node))[self.variant]
                _replace(parents[node], node, changed)
                return ast.fix_missing_locations(tree)
        raise LookupError(f"{self.file} has changed")


def mutants_of(files: Sequence[Path]) -> list[Mutant]:
    """Return all mutants of the files, in order."""
    return [mutant for file in sorted(files) for mutant in _in_file(file)]


def sample(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return so many of them, the same for the same seed."""
    chosen = random.Random(seed).sample(list(mutants), min(count, len(mutants)))
    return sorted(chosen)


def _in_file(file: Path) -> Iterator[Mutant]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = set(_without_behaviour(tree))
    parents = _parents(tree)
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in skipped:
            for variant, (before, after) in enumerate(_changes(node)):
                line, statement, in_function, used = _whereabouts(node, parents)
                texts = ast.unparse(before), ast.unparse(after)
                yield Mutant(file, line, *texts, number, variant, statement, in_function, used)


def _whereabouts(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> tuple[int, int, bool, tuple[int, ...]]:
    """Return the line of a node, that of its statement, whether a function runs it, and if not, where it is used."""
    line, statement, in_function, used = getattr(node, "lineno", 0), 0, False, set[int]()
    while node in parents:
        parent = parents[node]
        if isinstance(node, ast.stmt):
            statement = statement or node.lineno
            used = used or set(_uses(node, parents))
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = parent.body if isinstance(parent.body, list) else [parent.body]
            in_function = in_function or node in body
        node = parent
    return line, statement, in_function, () if in_function else tuple(sorted(used))


def _uses(statement: ast.stmt, everything: Iterable[ast.AST]) -> Iterator[int]:
    """Yield the lines that read what a statement assigns, or those of the function that it defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from range(statement.lineno, (statement.end_lineno or 0) + 1)
    names = {one.id for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    for one in everything:
        if isinstance(one, ast.Name | ast.Attribute) and (one.id if isinstance(one, ast.Name) else one.attr) in names:
            yield one.lineno


def _without_behaviour(tree: ast.Module) -> Iterator[int]:
    """Yield the ids of nodes that a test cannot or need not notice.

    Those are annotations, flags of decorators, docstrings, talk, `__all__`, and what is imported for types alone.
    """
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            parts = [node.returns, *(argument.annotation for argument in every if argument), *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.decorator_list]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert) or _only_reports(node):
            parts = [node]
        for part in parts:
            if part is not None:
                yield from (id(inner) for inner in ast.walk(part))


def _only_reports(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or ast.unparse(node).removeprefix("await ").startswith(_MESSAGES)
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", "log", "__slots__"}


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield the node and what may stand in its place."""
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare) and type(changed.ops[0]) in _COMPARED:
        changed.ops[0] = _COMPARED[type(changed.ops[0])]()
        yield node, changed
    elif isinstance(changed, ast.BoolOp):
        changed.op = ast.Or() if isinstance(changed.op, ast.And) else ast.And()
        yield node, changed
    elif isinstance(changed, ast.BinOp | ast.AugAssign) and type(changed.op) in _COMPUTED:
        changed.op = _COMPUTED[type(changed.op)]()
        yield node, changed
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not):
        yield node, changed.operand
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, bool):
        changed.value = not changed.value
        yield node, changed
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, int | float):
        changed.value = changed.value + 1 if changed.value + 1 != changed.value else changed.value * 2
        yield node, changed
    elif isinstance(changed, ast.Call) and isinstance(changed.func, ast.Name) and changed.func.id in _CALLED:
        changed.func.id = _CALLED[changed.func.id]
        yield node, changed
    elif isinstance(changed, ast.Expr) and isinstance(changed.value, ast.Call | ast.Await):
        yield node, ast.Pass()
    elif isinstance(changed, ast.Continue):
        yield node, ast.Break()
    elif isinstance(changed, ast.IfExp):
        changed.body, changed.orelse = changed.orelse, changed.body
        yield node, changed


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _replace(parent: ast.AST, node: ast.AST, changed: ast.AST) -> None:
    ast.copy_location(changed, node)
    for name, value in ast.iter_fields(parent):
        if value is node:
            setattr(parent, name, changed)
        elif isinstance(value, list) and any(one is node for one in value):
            setattr(parent, name, [changed if one is node else one for one in value])

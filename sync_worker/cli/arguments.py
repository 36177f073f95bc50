"""An argument parser whose errors are one line that says what was meant, and whose help ends with examples.

Its help, with the defaults and exit codes, is laid out by `help_text`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from sync_worker.cli.output import print_help, print_json, say
from sync_worker.cli.reference import Reference
from sync_worker.errors import ExitCode
from sync_worker.wording import nearest

#: Commands of other programs, by which people look for one of these.
_SYNONYMS = {"start": "run", "sync": "once", "setup": "init", "configure": "init", "test": "check"}
_REQUIRED = "the following arguments are required: "
_NOT_SET = argparse.SUPPRESS


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints through `output`: arguments that it quotes may contain control characters.

    `add_argument` takes `otherwise` too: what holds without the option, where that is not its `default`.
    """

    def __init__(self, **options: Any) -> None:
        self.otherwise: dict[str, str] = {}  # by option
        self.reference: Reference | None = None  # of a command that has no commands
        self.groups: dict[str, list[str]] = {}  # the commands below this one, by what they are for
        self._typed: list[str] = []
        super().__init__(**{"allow_abbrev": False, **options})

    def add_argument(self, *names: Any, otherwise: str | None = None, **options: Any) -> argparse.Action:
        """Add an argument, with what holds without it."""
        action = super().add_argument(*names, **options)
        if otherwise is None and isinstance(action.default, str | int) and action.default not in {False, _NOT_SET}:
            otherwise = str(action.default)
        if otherwise is not None and action.option_strings:
            self.otherwise[action.option_strings[-1]] = otherwise
        return action

    def describe(self) -> None:
        """Describe each command below this one as its line in the help of this one does."""
        for does, parser in self.verbs().values():
            parser.description = parser.description or f"{does[:1].upper()}{does[1:]}."
            parser.describe()

    def verbs(self) -> dict[str, tuple[str, Parser]]:
        """Return the commands below this one, in the order of the help: what each does, and its parser."""
        return {
            choice.dest: (choice.help or "", action.choices[choice.dest])
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - argparse has no public name for it
            for choice in action._choices_actions  # noqa: SLF001 - nor for the help of a choice
        }

    def arguments(self) -> Iterator[argparse.Action]:
        """Yield the arguments and options of this command, without its commands and `--help`."""
        for action in self._actions:
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):  # noqa: SLF001
                yield action

    def options(self) -> set[str]:
        """Return the options of this command and of those below it."""
        return {*self._option_string_actions}.union(*(parser.options() for _, parser in self.verbs().values()))

    def find(self, words: Sequence[str]) -> Parser:
        """Return the parser of a command, `["dead-letters", "list"]`. Exits with 2 where there is none."""
        if not words:
            return self
        if not self.verbs():
            self._fail(f"one argument too many: {words[0]!r}", f"Try: {self.prog} --help")
        if words[0] not in self.verbs():
            self._refuse_command(words[0])
        return self.verbs()[words[0]][1].find(words[1:])

    # What follows replaces methods of ArgumentParser.

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is known, and remember all of it for the message of an error."""
        self._typed = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._typed, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments, or exit with 2."""
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            command: Parser = getattr(parsed, "parser", self)
            command.refuse(left, self.options())
        return parsed

    def refuse(self, left: Sequence[str], others: Iterable[str] = ()) -> NoReturn:
        """Exit with 2 for arguments that nothing takes; `others` are options that are known beside its own."""
        option = next((word for word in left if word.startswith("-") and word != "-"), None)
        if option is None:
            self._fail(f"one argument too many: {left[0]!r}", f"Try: {self.prog} --help")
        name, others = option.partition("=")[0], set(others)
        if name in others:
            self._fail(f"{name} is an option of other commands", f"Try: {self.prog} --help")
        near = nearest(name, self.options() | others)
        meant = f"Did you mean {near}?" if near else f"Try: {self.prog} --help"
        self._fail(f"there is no option {name!r}", meant)

    def error(self, message: str) -> NoReturn:
        """Print in one line what is wrong with the arguments, and exit with 2."""
        if message.startswith(_REQUIRED):
            unknown = self._unknown(self._typed)
            if unknown:
                self.refuse(unknown)
            missing = message.removeprefix(_REQUIRED).split(", ")
            if self.verbs():
                self._fail("a command is missing", f"Try: {' or '.join(self._starts())}")
            are = "is required" if len(missing) == 1 else "are required"
            self._fail(f"{' and '.join(missing)} {are}", f"Try: {self.prog} --help")
        self._fail(message.removeprefix("argument "), f"Try: {self.prog} --help")

    def _starts(self) -> list[str]:
        return [f"{self.prog} {name}" for name in self.verbs()] if " " in self.prog else [f"{self.prog} help"]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            unknown = self._unknown(self._typed[: self._typed.index(value)]) if value in self._typed else []
            if unknown:
                self.refuse(unknown)
            self._refuse_command(value)
        choices = [str(choice) for choice in action.choices]
        near = nearest(str(value), choices)
        self._fail(
            f"{'/'.join(action.option_strings)} {value!r}: expected {', '.join(choices[:-1])} or {choices[-1]}",
            f"Did you mean {near}?" if near else f"Try: {self.prog} --help",
        )

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            print_help(message, on_stdout=file is None or file is not sys.stderr)

    def format_help(self) -> str:
        """Return the help, laid out for the terminal."""
        from sync_worker.cli.help_text import columns, render  # noqa: PLC0415 - only for help

        return render(self, columns())

    def _unknown(self, words: Iterable[str]) -> list[str]:
        """Return which of these look like options and are none."""
        known = self.options()
        return [
            word
            for word in words
            if word.startswith("-")
            and word.strip("-")
            and not word[1].isdigit()
            and (word.partition("=")[0] if word.startswith("--") else word[:2]) not in known
        ]

    def _refuse_command(self, typed: str) -> NoReturn:
        names = {name: name for name in self.verbs()}
        for name, (_, parser) in self.verbs().items():
            for verb in parser.verbs():
                names.setdefault(verb, f"{name} {verb}")
        if " " not in self.prog:
            names |= {synonym: name for synonym, name in _SYNONYMS.items() if name in self.verbs()}
        near = names.get(nearest(typed, names), "")
        meant = f"Did you mean `{self.prog} {near}`?" if near else f"Try: {' or '.join(self._starts())}"
        self._fail(f"there is no command {typed!r}", meant)

    def _fail(self, problem: str, hint: str) -> NoReturn:
        message = f"{problem}. {hint}"
        say(f"{self.prog}: {message}")
        if "--json" in self._typed and "--json" in self.options():
            print_json({"error": message, "exit_code": ExitCode.USAGE})
        self.exit(ExitCode.USAGE)

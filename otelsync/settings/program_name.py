"""The default name of a service: that of the application which a command starts."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Final

_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*")
_MODULE: Final = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_]\w*(\(.*\))?)?")
_SHELLS: Final = frozenset(("sh", "bash", "dash", "zsh", "ksh", "ash"))
_ENDS_A_COMMAND: Final = frozenset((";", "&", "&&", "|", "||", "(", ")", "{", "}"))
_BEFORE_A_COMMAND: Final = frozenset(("exec", "env", "nohup", "time", "command", "then", "do", "else", "if", "while"))
_NO_PROGRAMS: Final = frozenset(("cd", "export", "set", "source", ".", "echo", "sleep", "wait", "done", "fi", "true"))
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_TAKES_A_VALUE: Final = frozenset(("-W", "-X", "--check-hash-based-pycs"))
"""Options of Python."""
_APP_OPTIONS: Final = {
    "celery": ("-A", "--app"),
    "flower": ("-A", "--app"),
    "faust": ("-A", "--app"),
    "flask": ("-A", "--app"),
    "uwsgi": ("-w", "--module", "--wsgi", "--wsgi-file", "--file"),
}
"""Programs that are told their application by an option, without which they are called after themselves."""
_RUNS_A_MODULE: Final = frozenset(
    (
        *("gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress"),
        *("dramatiq", "huey_consumer", "arq", "taskiq", "fastapi"),
    )
)
"""Programs that are told their application as a word, ``package.module`` or ``package.module:name``."""
_IS_NO_APP: Final = frozenset(
    (
        *("-b", "--bind", "--host", "-k", "--worker-class", "-c", "--config", "--config-file", "--log-config", "-n"),
        *(
            "--name",
            "--app-dir",
            "--chdir",
            "-u",
            "--user",
            "-g",
            "--group",
            "--logger-class",
            "--loop",
            "--http",
            "--ws",
        ),
        *("--interface", "--lifespan", "--log-level", "-m", "--umask", "--env-file", "-e", "--env", "-p", "--pid"),
    )
)
"""Their options with a value that looks like a module."""
_SETTINGS_MODULE: Final = re.compile(rb"""DJANGO_SETTINGS_MODULE["']\s*,\s*["']([A-Za-z_]\w*)""")
_LONGEST_FILE: Final = 65_536


def service_of(command: Sequence[str]) -> str:
    """The name of the service that a command starts; the same for all processes of one application.

    >>> service_of(["celery", "-A", "proj.worker:app", "worker", "-c", "4"])
    'proj'
    >>> service_of(["python", "-m", "gunicorn", "-w", "2", "shop.wsgi"])
    'shop'
    >>> service_of(["sh", "-c", "cd /srv && exec python -u jobs/sync.py --full"])
    'sync'
    """
    for place, word in enumerate(command):
        name = _program(word)
        if name in _SHELLS and place + 1 < len(command):
            return _of_shell(command[place + 1 :]) or name
        if _PYTHON.fullmatch(name):
            return _of_python(command[place + 1 :]) or name
        found = _of_program(word, command[place + 1 :])
        if found:
            return found
    for word in command[1:]:
        if ":" in word and _MODULE.fullmatch(word):
            return _package(word)
    return _program(command[0]) or command[0]


def _program(word: str) -> str:
    """Return a program's name without its folder and ending; ``__main__.py`` is called after its folder."""
    path = PurePath(word)
    if path.stem == "__main__":
        return path.parent.name or path.stem
    return path.stem if path.suffix in (".py", ".sh", ".exe") else path.name


def _of_program(word: str, arguments: Sequence[str]) -> str:
    """Return what a known program is told to run; its own name where it is not told, "" if it is not known."""
    name = _program(word)
    if name in _APP_OPTIONS:
        app = _option(arguments, _APP_OPTIONS[name])
        return _package(app) if app else name
    if name in _RUNS_A_MODULE:
        return next((_package(each) for each in _modules(arguments)), name)
    return _of_django(word) if PurePath(word).name == "manage.py" else ""


def _option(arguments: Sequence[str], names: tuple[str, ...]) -> str:
    """Return the value of an option, as a word of its own, after an equals sign, or right behind a short name."""
    for place, word in enumerate(arguments):
        if word in names:
            return arguments[place + 1] if place + 1 < len(arguments) else ""
        for name in names:
            if word.startswith(f"{name}=") or (len(name) == len("-A") and word.startswith(name)):
                return word.removeprefix(name).removeprefix("=")
    return ""


def _modules(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the words that may name a module, most likely first.

    An option's value may look like a module, and not every option has one: a word that does not follow an option comes
    before one that does.
    """
    pairs = list(zip(["", *arguments], arguments, strict=False))
    words = [(before, word) for before, word in pairs if before not in _IS_NO_APP and _is_module(word)]
    yield from (word for _, word in words if ":" in word)
    yield from (word for before, word in words if not before.startswith("-") and "." in word)
    yield from (word for _, word in reversed(words) if "." in word)
    yield from (word for before, word in reversed(words) if not before.startswith("-"))


def _is_module(word: str) -> bool:
    return word.endswith(".py") or _MODULE.fullmatch(word) is not None


def _of_django(script: str) -> str:
    """Return the project that ``manage.py`` belongs to: the package of its settings, or else its folder."""
    settings = os.environ.get("DJANGO_SETTINGS_MODULE", "").encode()
    found = re.match(rb"([A-Za-z_]\w*)", settings)
    try:
        if found is None:
            with Path(script).open("rb") as file:
                found = _SETTINGS_MODULE.search(file.read(_LONGEST_FILE))
        return found[1].decode() if found is not None else Path(script).resolve().parent.name or "manage"
    except OSError:
        return Path(script).absolute().parent.name or "manage"


def _of_shell(arguments: Sequence[str]) -> str:
    """Return the name of what a shell is told to run: a script, or the last command of a line that is known."""
    place = next((place for place, word in enumerate(arguments) if re.fullmatch(r"-\w*c", word)), None)
    if place is None:
        return next((_program(word) for word in arguments if not word.startswith("-")), "")
    line = arguments[place + 1] if place + 1 < len(arguments) else ""
    named = [name for name in map(_of_simple_command, _commands(line)) if name]
    return named[-1] if named else ""


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the simple commands of a line of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    try:
        for word in lexer:
            if word in _ENDS_A_COMMAND:
                yield command
                command = []
            else:
                command.append(word)
    except ValueError:  # a quotation that does not end
        pass
    yield command


def _of_simple_command(words: list[str]) -> str:
    while words and (words[0] in _BEFORE_A_COMMAND or _ASSIGNMENT.fullmatch(words[0])):
        words = words[1:]
    return service_of(words) if words and words[0] not in _NO_PROGRAMS else ""


def _of_python(arguments: Sequence[str]) -> str:
    for place, word in enumerate(arguments):
        if word == "-m" and place + 1 < len(arguments):
            module = arguments[place + 1].removesuffix(".__main__")
            name = module.rpartition(".")[2]
            return _of_program(module, arguments[place + 2 :]) or name
        if word in ("-", "-c"):
            return ""
        if word in _TAKES_A_VALUE:
            return _of_python(arguments[place + 2 :])
        if not word.startswith("-"):
            return _of_program(word, arguments[place + 1 :]) or _script(word)
    return ""


def _script(word: str) -> str:
    path = PurePath(word)
    return path.parent.name or path.stem if path.stem == "__main__" else path.stem


def _package(place: str) -> str:
    """The top-level package of ``package.module:name``, or the name of a file."""
    if place.endswith(".py"):
        return _script(place)
    return place.partition(":")[0].partition(".")[0] or place

"""The table of all options, for the documentation."""

from __future__ import annotations

from dataclasses import fields

from otelsync.settings.options import Settings


def markdown() -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from `otelsync/settings/options.py`. Each is an argument of `otelsync.configure()` or an",
        "environment variable; the argument wins. A wrong value fails in `configure()` and names the fix.",
        "",
        "| argument | variable | values | default | |",
        "|---|---|---|---|---|",
    ]
    for option in fields(Settings):
        about = option.metadata
        variables = ", ".join(f"`{variable}`" for variable in about["variables"])
        lines.append(f"| `{option.name}` | {variables} | {about['form']} | {about['shown']} | {about['says']} |")
    lines += [
        "",
        "`OTELSYNC_PURE_PYTHON=1`, read at import, leaves the C extension of the recording path unused.",
    ]
    return "\n".join(lines)

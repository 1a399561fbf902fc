"""Traces that AI tools leave in pull requests, by patterns: what is known at once, and without a model."""

from __future__ import annotations

import re
from typing import Final

_TOOLS: Final = {
    "claude": r"co-authored-by:\s*claude|generated with \[?claude|claude[ -]code|\bclaude\b.{0,20}\b(wrote|generated)",
    "copilot": r"co-authored-by:.{0,40}copilot|github copilot|copilot[- ](generated|agent|workspace)",
    "cursor": r"co-authored-by:\s*cursor|\bcursor[ -]?(ai|agent|bot)\b|(made|generated|written) (with|by|in) cursor",
    "codex": r"co-authored-by:.{0,20}codex|openai codex|codex[- ]cli",
    "devin": r"devin[- ]ai|co-authored-by:\s*devin",
    "aider": r"co-authored-by:\s*aider|\baider\b.{0,20}\b(commit|generated)",
    "gemini": r"co-authored-by:.{0,20}gemini|gemini[- ](cli|code assist)",
    "chatgpt": r"\bchat ?gpt\b|\bgpt-[45]",
    "windsurf": r"co-authored-by:.{0,20}windsurf|(made|generated|written) (with|by|in) windsurf",
    "other": r"\bai[- ](generated|assisted|written)\b|generated (with|by) (an )?(ai|llm)\b",
}
_PATTERNS: Final = {tool: re.compile(pattern, re.IGNORECASE) for tool, pattern in _TOOLS.items()}
LONGEST: Final = 65_536
"""Characters of a text that are looked at."""


def tools_in(*texts: str | None) -> list[str]:
    """Return the tools that have left a trace in any of the texts, by name, in alphabetical order."""
    whole = "\n".join(text for text in texts if text)[:LONGEST]
    return sorted(tool for tool, pattern in _PATTERNS.items() if pattern.search(whole))

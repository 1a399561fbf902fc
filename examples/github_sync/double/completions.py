"""Answers of a language model, by rules instead of a model: whether a pull request was written with AI, and a summary.

Only what the user says counts, not the instructions of the system, which may name tools as examples.
"""

from __future__ import annotations

import json
import re
import secrets
import time

from .shapes import JsonObject

_TOOLS = (
    ("claude", re.compile(r"\bclaude\b|\banthropic\b", re.IGNORECASE)),
    ("copilot", re.compile(r"\bcopilot\b", re.IGNORECASE)),
    ("cursor", re.compile(r"\bin cursor\b|\bcursor (?:ai|agent|ide)\b|cursor\.(?:com|sh)", re.IGNORECASE)),
    ("chatgpt", re.compile(r"\bchatgpt\b|\bgpt-\d", re.IGNORECASE)),
    ("gemini", re.compile(r"\bgemini\b", re.IGNORECASE)),
    ("devin", re.compile(r"\bdevin\b", re.IGNORECASE)),
    ("aider", re.compile(r"\baider\b", re.IGNORECASE)),
    ("windsurf", re.compile(r"\bwindsurf\b|\bcodeium\b", re.IGNORECASE)),
)
_LONGEST_SUMMARY = 120


def verdict(text: str) -> JsonObject:
    """What the model would say of a pull request with that text."""
    tools = [name for name, pattern in _TOOLS if pattern.search(text)]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    summary = (lines[0] if lines else "An empty pull request")[:_LONGEST_SUMMARY]
    return {
        "is_ai_assisted": bool(tools),
        "tools": tools,
        "confidence": 0.95 if tools else 0.8,
        "summary": summary,
    }


def completion(body: JsonObject) -> JsonObject:
    """A chat completion for a request's body, with the tokens that it would have used (four characters each)."""
    messages = [message for message in body.get("messages", ()) if isinstance(message, dict)]
    said = "\n".join(_text(message.get("content")) for message in messages if message.get("role") == "user")
    content = json.dumps(verdict(said))
    prompt = sum(len(_text(message.get("content"))) for message in messages) // 4 + 1
    answer = len(content) // 4 + 1
    return {
        "id": f"chatcmpl-{secrets.token_hex(16)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", ""),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "queue_time": 0.02,
            "prompt_tokens": prompt,
            "prompt_time": prompt / 20_000,
            "completion_tokens": answer,
            "completion_time": answer / 400,
            "total_tokens": prompt + answer,
            "total_time": prompt / 20_000 + answer / 400,
        },
        "system_fingerprint": "fp_double",
        "x_groq": {"id": f"req_{secrets.token_hex(13)}"},
    }


def _text(content: object) -> str:
    """A message's text, whether it is one or a list of parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""

"""Groq's batch API (https://console.groq.com/docs/batch) as far as a sync uses it, under ``/openai/v1/``.

Files go up, a batch runs through its stages in a time that can be set, and its results come in any order: match them by
``custom_id``.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from . import completions
from .faults import Fault
from .messages import Answer, Request
from .shapes import JsonObject

_MOST_BYTES = 100 * 1024 * 1024
_MOST_LINES = 50_000
_ENDPOINT = "/v1/chat/completions"
_PATH = re.compile(r"/openai/v1/(?P<kind>files|batches|chat)(/(?P<id>[\w-]+))?(/(?P<part>content|cancel))?")
_STAGES = ("validating", "in_progress", "finalizing", "completed")


class GroqError(Exception):
    """A request that Groq refuses."""

    def __init__(self, status: int, message: str, code: str | None = None, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.code, self.kind = status, code, kind


@dataclass(slots=True)
class File:
    """An uploaded file, or one with results."""

    id: str
    name: str
    purpose: str
    content: bytes
    created_at: int

    def told(self) -> JsonObject:
        """The file as the API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
        }


@dataclass(slots=True)
class Batch:
    """A batch; `fate` is the kind of fault that it meets, `failing` the number of its requests that fail."""

    id: str
    asked: JsonObject
    lines: list[JsonObject]
    started: float
    fate: str = ""
    failing: int = 0
    problems: list[JsonObject] = field(default_factory=list)
    results: tuple[str | None, str | None] | None = None
    cancelled: float | None = None


class GroqBatches:
    """Files and batches of all keys; safe to use from many threads. Each stage of a batch takes `stage_seconds`."""

    def __init__(self, *, stage_seconds: float = 0.2, seed: int = 0, clock: Callable[[], float] = time.time) -> None:
        self.stage_seconds = stage_seconds
        self._clock = clock
        self._random = random.Random(seed)
        self._files: dict[str, File] = {}
        self._batches: dict[str, Batch] = {}
        self._lock = threading.RLock()

    def answer(self, request: Request, fault: Fault | None = None) -> Answer:
        """The answer to one request."""
        if fault is not None and fault.kind == "drop":
            return Answer(0, dropped=True)
        try:
            if not request.token:
                raise GroqError(401, "Invalid API Key", "invalid_api_key")
            if fault is not None and fault.is_status:
                return _planned(fault)
            with self._lock:
                answer = self._routed(request, fault)
        except GroqError as wrong:
            return _refused(wrong)
        slow = fault.amount if fault is not None and fault.kind == "slow" else None
        return replace(answer, delay=slow or 0.0, cut=fault is not None and fault.kind == "cut")

    def _routed(self, request: Request, fault: Fault | None) -> Answer:
        match = _PATH.fullmatch(request.path)
        what = f"{request.method} {match['kind']}" if match else ""
        identity = match["id"] if match else None
        if what == "POST chat" and identity == "completions":
            return _json(200, completions.completion(_object(request.body)))
        if what == "POST files" and not identity:
            return _json(200, self._upload(request).told())
        if what == "GET files" and not identity:
            return _json(200, {"object": "list", "data": [file.told() for file in self._files.values()]})
        if match and identity and match["kind"] == "files":
            return self._file(request.method, identity, match["part"])
        if what == "POST batches" and not identity:
            return _json(200, self._told(self._create(_object(request.body), fault)))
        if what == "GET batches" and not identity:
            return _json(200, {"object": "list", "data": [self._told(each) for each in self._batches.values()]})
        if match and identity and match["kind"] == "batches":
            return _json(200, self._told(self._batch(identity, cancel=what == "POST batches")))
        raise GroqError(404, f"Unknown request URL: {request.method} {request.path}", "unknown_url")

    def _upload(self, request: Request) -> File:
        fields = _multipart(request)
        purpose, file = fields.get("purpose"), fields.get("file")
        if purpose is None or file is None:
            raise GroqError(400, "A file and its purpose are required")
        if purpose[1] != b"batch":
            raise GroqError(400, f"{purpose[1].decode(errors='replace')!r} is not a purpose: use 'batch'")
        if len(file[1]) > _MOST_BYTES:
            raise GroqError(413, "The file is larger than 100 MB")
        return self._store(file[0], "batch", file[1])

    def _store(self, name: str, purpose: str, content: bytes) -> File:
        identity = f"file_{secrets.token_hex(13)}"
        self._files[identity] = File(identity, name, purpose, content, int(self._clock()))
        return self._files[identity]

    def _file(self, method: str, identity: str, part: str | None) -> Answer:
        file = self._files.get(identity)
        if file is None:
            raise GroqError(404, f"No file with the id {identity}", "not_found")
        if method == "DELETE":
            del self._files[identity]
            return _json(200, {"id": identity, "object": "file", "deleted": True})
        if part == "content":
            return Answer(200, (("Content-Type", "application/octet-stream"),), file.content)
        return _json(200, file.told())

    def _create(self, asked: JsonObject, fault: Fault | None) -> Batch:
        file = self._files.get(str(asked.get("input_file_id")))
        if file is None:
            raise GroqError(404, f"No file with the id {asked.get('input_file_id')}", "not_found")
        if asked.get("endpoint") != _ENDPOINT:
            raise GroqError(400, f"endpoint must be {_ENDPOINT}")
        window = re.fullmatch(r"(\d+)([hd])", str(asked.get("completion_window")))
        hours = int(window[1]) * (24 if window[2] == "d" else 1) if window else 0
        if not 24 <= hours <= 7 * 24:
            raise GroqError(400, "completion_window must be between 24h and 7d")
        lines, problems = _lines(file.content)
        batch = Batch(f"batch_{secrets.token_hex(13)}", asked, lines, self._clock(), problems=problems)
        if fault is not None and fault.kind in ("batch-failed", "batch-expired"):
            batch.fate = fault.kind
        if fault is not None and fault.kind == "batch-errors":
            batch.failing = int(fault.amount or 1)
        self._batches[batch.id] = batch
        return batch

    def _batch(self, identity: str, *, cancel: bool) -> Batch:
        batch = self._batches.get(identity)
        if batch is None:
            raise GroqError(404, f"No batch with the id {identity}", "not_found")
        if cancel and batch.cancelled is None and self._status(batch) in _STAGES[:3]:
            batch.cancelled = self._clock()
        return batch

    def _status(self, batch: Batch) -> str:
        """The stage that the batch is in, from the time that has gone by."""
        if batch.cancelled is not None:
            return "cancelling" if self._clock() < batch.cancelled + self.stage_seconds else "cancelled"
        passed = self._clock() - batch.started
        stage = min(3, int(passed / self.stage_seconds)) if self.stage_seconds > 0 else 3
        if stage >= 1 and (batch.problems or batch.fate == "batch-failed"):
            return "failed"
        if stage >= 2 and batch.fate == "batch-expired":
            return "expired"
        return _STAGES[stage]

    def _told(self, batch: Batch) -> JsonObject:
        """The batch as the API shows it."""
        status = self._status(batch)
        begun, step = batch.started, self.stage_seconds
        done = self._done(batch, status)
        failed = min(batch.failing, done)
        if status in ("completed", "expired"):
            self._finish(batch, done)
        output, errors = batch.results or (None, None)
        times = {
            "in_progress_at": begun + step if status in (*_STAGES[1:], "expired") else None,
            "finalizing_at": begun + 2 * step if status in _STAGES[2:] else None,
            "completed_at": begun + 3 * step if status == "completed" else None,
            "failed_at": begun + step if status == "failed" else None,
            "expired_at": begun + 2 * step if status == "expired" else None,
            "cancelling_at": batch.cancelled,
            "cancelled_at": self._clock() if status == "cancelled" else None,
            "expires_at": begun + 24 * 3600,
            "created_at": begun,
        }
        problems = batch.problems or [{"code": "invalid_request", "message": "The batch failed", "line": 1}]
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": _ENDPOINT,
            "errors": {"object": "list", "data": problems} if status == "failed" else None,
            "input_file_id": batch.asked["input_file_id"],
            "completion_window": batch.asked["completion_window"],
            "status": status,
            "output_file_id": output,
            "error_file_id": errors,
            **{name: None if moment is None else int(moment) for name, moment in times.items()},
            "request_counts": {"total": len(batch.lines), "completed": done - failed, "failed": failed},
            "metadata": batch.asked.get("metadata"),
        }

    def _done(self, batch: Batch, status: str) -> int:
        """Requests of the batch that are through."""
        total = len(batch.lines)
        if status in ("validating", "failed"):
            return 0
        if status in ("finalizing", "completed"):
            return total
        if status == "in_progress":
            passed = self._clock() - batch.started - self.stage_seconds
            return min(total, int(total * passed / self.stage_seconds))
        return total // 2

    def _finish(self, batch: Batch, done: int) -> None:
        """Write the result files of a batch, once."""
        if batch.results is not None:
            return
        failed = [_failed_line(line) for line in batch.lines[: min(batch.failing, done)]]
        answered = [_result_line(line) for line in batch.lines[len(failed) : done]]
        self._random.shuffle(answered)
        files = [
            self._store(f"{batch.id}_{name}.jsonl", "batch_output", "".join(lines).encode()).id if lines else None
            for name, lines in (("output", answered), ("error", failed))
        ]
        batch.results = files[0], files[1]


def _result_line(line: JsonObject) -> str:
    response = {
        "status_code": 200,
        "request_id": f"req_{secrets.token_hex(13)}",
        "body": completions.completion(line["body"]),
    }
    told = {"id": f"batch_req_{secrets.token_hex(13)}", "custom_id": line["custom_id"], "response": response}
    return json.dumps({**told, "error": None}) + "\n"


def _failed_line(line: JsonObject) -> str:
    wrong = {"code": "internal_server_error", "message": "The request could not be completed"}
    told = {"id": f"batch_req_{secrets.token_hex(13)}", "custom_id": line["custom_id"], "response": None}
    return json.dumps({**told, "error": wrong}) + "\n"


def _lines(content: bytes) -> tuple[list[JsonObject], list[JsonObject]]:
    """The requests in a file, and what is wrong with it."""
    lines: list[JsonObject] = []
    problems: list[JsonObject] = []
    seen: set[str] = set()
    for number, text in enumerate(filter(None, content.decode(errors="replace").split("\n")), start=1):
        try:
            line = json.loads(text)
            custom_id, is_right = line["custom_id"], line["method"] == "POST" and line["url"] == _ENDPOINT
            is_right = is_right and bool(line["body"]["model"]) and bool(line["body"]["messages"])
        except (KeyError, TypeError, ValueError):
            custom_id, is_right = "", False
        if not is_right or custom_id in seen:
            message = "Each line needs custom_id (once a file), method POST, url and body with model and messages"
            problems.append({"code": "invalid_jsonl", "line": number, "message": message, "param": None})
            continue
        seen.add(custom_id)
        lines.append(line)
    if (not lines and not problems) or len(lines) > _MOST_LINES:
        problems.append({"code": "invalid_size", "line": None, "message": "1 to 50,000 requests", "param": None})
    return lines, problems


def _multipart(request: Request) -> dict[str, tuple[str, bytes]]:
    """The file name and content of each part of a form."""
    kind = request.headers.get("content-type", "")
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + request.body) if kind.startswith("multipart/form-data") else None
    parts: dict[str, tuple[str, bytes]] = {}
    for part in form.get_payload() if form is not None and form.is_multipart() else ():
        if isinstance(part, Message):
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            if isinstance(name, str) and isinstance(content, bytes):
                parts[name] = (part.get_filename() or "", content)
    return parts


def _object(body: bytes) -> JsonObject:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise GroqError(400, "The body is not a JSON object", "json_invalid")
    return found


def _planned(fault: Fault) -> Answer:
    if fault.kind == "401":
        return _refused(GroqError(401, "Invalid API Key", "invalid_api_key"))
    if fault.kind == "429":
        answer = _refused(GroqError(429, "Rate limit reached for model", "rate_limit_exceeded", "requests"))
        return replace(answer, headers=(*answer.headers, ("Retry-After", str(int(fault.amount or 1)))))
    return _refused(GroqError(int(fault.kind), "Internal Server Error", kind="internal_server_error"))


def _refused(wrong: GroqError) -> Answer:
    content: JsonObject = {"message": str(wrong), "type": wrong.kind}
    return _json(wrong.status, {"error": content | ({"code": wrong.code} if wrong.code else {})})


def _json(status: int, content: JsonObject) -> Answer:
    return Answer(status, (("Content-Type", "application/json"),), json.dumps(content).encode())

"""The line of the program that logs: whoever looks for it, where its logging is kept, finds no frame of ours."""

from __future__ import annotations

import inspect
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from recorded import Recorded
from structlog.processors import CallsiteParameter, CallsiteParameterAdder
from structlog.stdlib import ProcessorFormatter

LOGGER = "call.sites"


@pytest.fixture(params=["keep", "take over"])
def logger(record: Callable[..., Recorded], request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A logger of the program's, which does not propagate."""
    record(**({"logging": "keep"} if request.param == "keep" else {}))
    logger = logging.getLogger(LOGGER)
    logger.propagate = False
    yield logger
    logger.propagate = True
    logger.handlers.clear()
    structlog.reset_defaults()


def this_function_and_line() -> tuple[str, int]:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_code.co_name, frame.f_back.f_lineno


ADDER = CallsiteParameterAdder([CallsiteParameter.FUNC_NAME, CallsiteParameter.LINENO])


@pytest.mark.parametrize("way", ["in the formatter", "before"])
def test_structlog_over_the_standard_library(logger: logging.Logger, way: str) -> None:
    """The parameters are added where the event is made, or in the formatter."""
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    remove = ProcessorFormatter.remove_processors_meta
    last = structlog.processors.JSONRenderer()
    handler.setFormatter(ProcessorFormatter(processors=[*([ADDER] if "in" in way else []), remove, last]))
    logger.addHandler(handler)
    before = [ADDER] if way == "before" else []
    structlog.configure(
        processors=[*before, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    structlog.get_logger(LOGGER).error("said"), (here := this_function_and_line())  # one line
    said = json.loads(shown.getvalue())
    assert (said["func_name"], said["lineno"]) == here


def test_structlog_alone(logger: logging.Logger) -> None:
    """The program's own chain, which prints."""
    assert logger
    shown = io.StringIO()
    structlog.configure(
        processors=[ADDER, structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(shown)
    )
    structlog.get_logger().error("said"), (here := this_function_and_line())  # one line
    said = json.loads(shown.getvalue())
    assert (said["func_name"], said["lineno"]) == here


class _InTheWayOfLoguru(logging.Handler):
    """The handler of Loguru's documentation, which looks for the first frame outside logging."""

    found: tuple[str, int]

    def emit(self, record: logging.LogRecord) -> None:
        """Note where the record comes from."""
        assert record
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        assert frame is not None
        self.found = frame.f_code.co_name, frame.f_lineno


def test_a_handler_that_looks_for_the_program_s_frame(logger: logging.Logger) -> None:
    """It passes over logging's frames, and finds none of ours behind them."""
    handler = _InTheWayOfLoguru()
    logger.addHandler(handler)
    say: Any = logger.error
    say("said"), (here := this_function_and_line())  # one line
    assert handler.found == here


def test_what_a_record_says_of_its_caller(logger: logging.Logger) -> None:
    """Also with a stack level."""
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    def helper(**options: Any) -> Any:
        logger.error("said", **options)

    logger.addHandler(Kept())
    helper(), (here := this_function_and_line())  # one line
    helper(stacklevel=2), (there := this_function_and_line())  # one line
    helper(stack_info=True)
    assert (records[0].funcName, records[0].pathname) == ("helper", __file__)
    assert (records[1].funcName, records[1].lineno) == there != here
    assert "otelsync" not in (records[2].stack_info or "").replace(__file__, "").rpartition("in helper")[2]

"""The Celery project whose worker is measured: one small task.

``BENCH_BROKER`` names the broker. With ``BENCH_FLUSH`` a child hands over its spans when it ends, which
``opentelemetry-instrument`` leaves to the project: a prefork child ends without running what was registered by atexit.
"""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import worker_process_shutdown

app = Celery("benchmark", broker=os.environ.get("BENCH_BROKER", "memory://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=32)


@app.task(name="small")
def small(x: int, y: int) -> int:
    """Next to nothing, so that what is around it shows."""
    return x + y


if "BENCH_FLUSH" in os.environ:

    @worker_process_shutdown.connect
    def _flush(**_: object) -> None:
        from opentelemetry import _logs, trace

        for provider in (trace.get_tracer_provider(), _logs.get_logger_provider()):
            flush = getattr(provider, "force_flush", None)
            if flush is not None:
                flush()

"""Middleware of web services: a correlation id, a server span and one log record a request, with no framework known.

app = otelsync.middleware.ASGIMiddleware(app)
app = otelsync.middleware.WSGIMiddleware(app)
"""

from otelsync.middleware.asgi import ASGIMiddleware
from otelsync.middleware.wsgi import WSGIMiddleware

__all__ = ["ASGIMiddleware", "WSGIMiddleware"]

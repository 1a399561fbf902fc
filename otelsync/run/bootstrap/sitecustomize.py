"""Python runs this before a program whose ``PYTHONPATH`` names this directory; ``otelsync run`` puts it there.

Another ``sitecustomize`` further down the path is run first, as it would be without us, and stays in its place. What it
raises passes. Then :mod:`otelsync.run.bootstrap.watch` waits for the moment to set the program up.

Any Python may find this file, among them old ones and those that have no otelsync: it keeps to the syntax of Python
2.7, and imports nothing of otelsync.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  (pathlib takes 10 ms to import)

if __name__ == "sitecustomize":
    sys.path[:] = [entry for entry in sys.path if os.path.normpath(entry) != HERE]
    if sys.version_info >= (3, 5):  # noqa: UP036
        from importlib.machinery import PathFinder
        from importlib.util import module_from_spec

        try:
            spec = PathFinder.find_spec("sitecustomize", sys.path)
            if spec is not None and spec.loader is not None:
                other = sys.modules["sitecustomize"] = module_from_spec(spec)
                spec.loader.exec_module(other)
        finally:
            spec = PathFinder.find_spec("watch", [HERE]) if sys.version_info >= (3, 11) else None
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module(module_from_spec(spec))
    else:
        import imp

        try:
            found = imp.find_module("sitecustomize", sys.path)
        except ImportError:
            found = None
        if found is not None:
            imp.load_module("sitecustomize", *found)

"""Prints what of pyproject.toml's build requirements is not satisfied here.

One line per requirement: `NAME>=VERSION (have X)` or `NAME (missing)`.  No
output: `python3 -m build --no-isolation` can work.
"""
import importlib.metadata
import sys

try:
    import tomllib
except ImportError:  # Python < 3.11
    try:
        import tomli as tomllib
    except ImportError:
        print('tomllib (missing)')
        sys.exit(0)

from packaging.requirements import Requirement

with open('pyproject.toml', 'rb') as fp:
    wanted = tomllib.load(fp).get('build-system', {}).get('requires', [])
for text in wanted:
    req = Requirement(text)
    if req.marker is not None and not req.marker.evaluate():
        continue
    try:
        have = importlib.metadata.version(req.name)
    except importlib.metadata.PackageNotFoundError:
        print('%s%s (missing)' % (req.name, req.specifier))
        continue
    if not req.specifier.contains(have, prereleases=True):
        print('%s%s (have %s)' % (req.name, req.specifier, have))

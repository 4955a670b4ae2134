"""Builds the stand-in: one package, one C extension, one script."""
from setuptools import Extension, setup

setup(
    packages=['mercurial'],
    ext_modules=[Extension('mercurial._standin', ['mercurial/standin.c'])],
    scripts=['hg'],
)

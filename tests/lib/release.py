"""release.py DIR VERSION: makes the files of a release and their manifest, real by their form."""
import hashlib
import json
import os
import sys
import zipfile

METADATA = """Metadata-Version: 2.1
Name: mercurial
Version: %s
Summary: Fast scalable distributed SCM
Home-page: https://example.org/
Author: Somebody and "others"
License: GNU GPLv2 or any later version
Platform: UNKNOWN
Classifier: Development Status :: 6 - Mature
Classifier: Programming Language :: Python :: 3
Requires-Python: >=3.9
Project-URL: Tracker, https://example.org/tracker
Description-Content-Type: text/x-rst
License-File: COPYING

A description
of several lines; \u00e4.
"""


def main(where, version):
    os.makedirs(where, exist_ok=True)
    files = []

    def add(name, **more):
        path = os.path.join(where, name)
        with open(path, 'rb') as f:
            data = f.read()
        files.append(dict(more, name=name, size=len(data), os='windows', version=version,
                          sha256=hashlib.sha256(data).hexdigest(), simulated=False))

    for python in ['3.9', '3.10', '3.11', '3.12', '3.13']:
        for arch, tag in [('x86', 'win32'), ('x64', 'win_amd64')]:
            cp = 'cp' + python.replace('.', '')
            name = 'mercurial-%s-%s-%s-%s.whl' % (version, cp, cp, tag)
            with zipfile.ZipFile(os.path.join(where, name), 'w', zipfile.ZIP_DEFLATED) as z:
                z.writestr('mercurial/__init__.py', '# ' + name * 50)
                z.writestr('mercurial-%s.dist-info/METADATA' % version, METADATA % version)
            add(name, kind='wheel', python=python, arch=arch)
    for kind, form, head in [('inno', 'Mercurial-%s-%s.exe', b'MZ'),
                             ('wix', 'mercurial-%s-%s.msi', b'\xd0\xcf\x11\xe0')]:
        for arch in ['x86', 'x64']:
            name = form % (version, arch)
            with open(os.path.join(where, name), 'wb') as f:
                f.write(head + name.encode() * 1000)
            add(name, kind=kind, arch=arch)
    with open(os.path.join(where, 'manifest.json'), 'w') as f:
        json.dump({'v': 1, 'files': files}, f)


main(*sys.argv[1:])

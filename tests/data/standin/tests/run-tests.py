#!/usr/bin/env python3
"""The stand-in's test runner: the flags, files and exit codes of Mercurial's.

A test is an executable-by-sh file test-*.t beside this one: exit 0 passes, 80
skips (its output is the reason), anything else fails.  Without names, those run
whose second line does not say `# only when named`.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import time
from xml.sax.saxutils import escape, quoteattr

parser = argparse.ArgumentParser()
parser.add_argument('--hg-wheel', required=True)
parser.add_argument('--json', action='store_true')
parser.add_argument('--xunit')
parser.add_argument('--outputdir', required=True)
parser.add_argument('--shard-total', type=int)
parser.add_argument('--shard-index', type=int)
parser.add_argument('--retest', action='store_true')
parser.add_argument('-j', '--jobs', type=int, default=1)
parser.add_argument('tests', nargs='*')
opts = parser.parse_args()
if not os.path.exists(opts.hg_wheel):
    sys.exit('no wheel %s' % opts.hg_wheel)


def wanted():
    if opts.retest:
        return sorted(
            os.path.basename(f)[: -len('.err')]
            for f in glob.glob(os.path.join(opts.outputdir, '*.err'))
        )
    if opts.tests:
        return sorted(t for t in opts.tests if os.path.exists(t))
    out = []
    for name in sorted(glob.glob('test-*.t')):
        with open(name) as fp:
            if 'only when named' not in fp.read().splitlines()[1]:
                out.append(name)
    return out


names = wanted()
if opts.shard_total:
    names = names[opts.shard_index - 1 :: opts.shard_total]
report, cases, failed = {}, [], False
for name in names:
    start = time.time()
    p = subprocess.run(['sh', name], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    took = '%.3f' % (time.time() - start)
    text = p.stdout.decode('utf-8', 'replace')
    err = os.path.join(opts.outputdir, name + '.err')
    if os.path.exists(err):
        os.unlink(err)
    if p.returncode == 80:
        report[name] = {'result': 'skip'}
        cases.append('<testcase name=%s><skipped><![CDATA[%s]]></skipped>'
                     '</testcase>' % (quoteattr(name), text.strip()))
    elif p.returncode:
        failed = True
        report[name] = {'result': 'failure', 'time': took, 'cuser': '0',
                        'csys': '0', 'start': '0', 'end': took, 'diff': text}
        with open(err, 'w') as fp:
            fp.write(text)
        print('Failed %s' % name)
    else:
        report[name] = {'result': 'success', 'time': took, 'cuser': '0',
                        'csys': '0', 'start': '0', 'end': took, 'diff': ''}
        cases.append('<testcase name=%s time="%s"/>' % (quoteattr(name), took))
with open(os.path.join(opts.outputdir, 'report.json'), 'w') as fp:
    fp.write('testreport =' + json.dumps(report, indent=4))
if opts.xunit:
    with open(opts.xunit, 'w') as fp:
        fp.write('<testsuite name="run-tests">%s</testsuite>' % ''.join(cases))
print('# Ran %d tests' % len(names))
sys.exit(1 if failed else 0)

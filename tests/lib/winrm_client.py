"""The list of the WinRM peer test through python3-winrm; prints one JSON object.

usage: winrm_client.py URL PASSWORD [CA.pem]
"""
import json
import sys

from winrm.exceptions import InvalidCredentialsError, WinRMError
from winrm.protocol import Protocol


def protocol(url, password, ca, seconds=20):
    more = {'server_cert_validation': 'ignore'}
    if ca:
        more = {'server_cert_validation': 'validate', 'ca_trust_path': ca}
    return Protocol(endpoint=url, transport='basic', username='Administrator',
                    password=password, message_encryption='never',
                    operation_timeout_sec=seconds, read_timeout_sec=seconds + 20, **more)


def run(p, line, **shell):
    sid = p.open_shell(**shell)
    try:
        cid = p.run_command(sid, line)
        out, err, code = p.get_command_output(sid, cid)
        p.cleanup_command(sid, cid)
    finally:
        p.close_shell(sid)
    return [out.decode('utf-8', 'replace'), err.decode('utf-8', 'replace'), code]


def main():
    url, password = sys.argv[1:3]
    ca = sys.argv[3] if len(sys.argv) > 3 else None
    p = protocol(url, password, ca)
    r = {'echo': run(p, 'echo hi'), 'exit': run(p, 'echo no >&2; exit 3')}
    r['env'] = run(p, 'echo $HGA_X; pwd', env_vars={'HGA_X': 'a b'}, working_directory='/')
    r['utf8'] = run(p, "printf 'gr\\303\\274n'")
    r['unmatched'] = run(p, 'NOTSIMULATED')
    out = run(p, 'head -c 5000000 /dev/zero | tr "\\\\0" x')
    r['big'] = [len(out[0]), set(out[0]) == {'x'}, out[2]]
    r['slow'] = run(protocol(url, password, ca, 1), 'echo a; sleep 2.5; echo b')
    sid = p.open_shell()
    p.close_shell(sid)
    try:
        p.run_command(sid, 'echo')
        r['deleted'] = 'no error'
    except WinRMError as e:
        r['deleted'] = 'fault'
    try:
        run(protocol(url, 'wrong', ca), 'echo')
        r['wrong'] = 'no error'
    except InvalidCredentialsError:
        r['wrong'] = 'refused'
    print(json.dumps(r))


main()

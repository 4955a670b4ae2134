"""idle_close.py KEY PORTFILE: an SSH server that closes each session channel
which has no request after 0.3 s; a command's output is its own text.  Of "slow
TEXT" the second half comes a second later, "no" is refused.  Any key logs in.
Writes its port on 127.0.0.1 to PORTFILE; ends when its input does.
"""
import asyncio
import os
import sys

import asyncssh


class Session(asyncssh.SSHServerSession):
    """A channel that waits for its command, but not for long."""

    def connection_made(self, chan):
        self._chan = chan
        self._timer = asyncio.get_event_loop().call_later(0.3, chan.close)

    def exec_requested(self, command):
        self._timer.cancel()
        self._command = command
        return command != "no"

    def eof_received(self):
        return True  # it may go on writing

    def session_started(self):
        if self._command.startswith("slow "):
            text = self._command[5:]
            half = len(text) // 2
            self._chan.write(text[:half])
            asyncio.get_event_loop().call_later(1, self._end, text[half:])
        else:
            self._end(self._command)

    def _end(self, text):
        self._chan.write(text)
        self._chan.exit(0)

    def connection_lost(self, exc):
        self._timer.cancel()


class Server(asyncssh.SSHServer):
    """Everybody may come in."""

    def begin_auth(self, username):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return True

    def session_requested(self):
        return Session()


async def main():
    """Serves until the input ends."""
    server = await asyncssh.create_server(
        Server, "127.0.0.1", 0, server_host_keys=[sys.argv[1]])
    with open(sys.argv[2] + ".new", "w", encoding="ascii") as f:
        f.write(str(server.sockets[0].getsockname()[1]))
    os.rename(sys.argv[2] + ".new", sys.argv[2])
    await asyncio.get_event_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())

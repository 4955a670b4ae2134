#!/bin/sh
# Runs moto's server (>= 5.1) on a free loopback port until stdin ends.
# Prints "port N" when it listens; without moto a reason and exit code 77.
# HGAUTO_MOTO names a dist-packages directory that holds moto;
# HGAUTO_VECTORS the shared cases, whose machine images are loaded if there.
set -eu
py=${PYTHON:-/usr/bin/python3}
if [ -n "${HGAUTO_MOTO:-}" ]; then
	PYTHONPATH=$HGAUTO_MOTO
	export PYTHONPATH
fi
amis=${HGAUTO_VECTORS:-../shared/vectors}/aws/common/moto-hg-amis.json
[ ! -f "$amis" ] || export MOTO_AMIS_PATH="$amis"
# Attaching AWS's own policies fails without it.
export MOTO_IAM_LOAD_MANAGED_POLICIES=true
exec "$py" - 3<&0 <<'END'
import logging
import os
import sys

try:
    import moto
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer
except ImportError as e:
    print("moto cannot be imported: %s" % e)
    sys.exit(77)
if tuple(int(x) for x in moto.__version__.split(".")[:2]) < (5, 1):
    print("moto %s is older than 5.1" % moto.__version__)
    sys.exit(77)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("port %d" % server.get_host_and_port()[1], flush=True)
while os.read(3, 4096):
    pass
server.stop()
END

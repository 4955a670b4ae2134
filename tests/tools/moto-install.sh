#!/bin/sh
# moto-install.sh DIR: puts trixie's python3-moto (Architecture: all) below
# DIR and what it imports onto the system, all through apt; prints the
# dist-packages directory for HGAUTO_MOTO.  For continuous integration.
set -eu
dir=$1
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
site=$dir/usr/lib/python3/dist-packages
if [ ! -d "$site/moto" ]; then
	DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
		python3-flask python3-flask-cors python3-werkzeug python3-jinja2 \
		python3-responses python3-xmltodict python3-cryptography \
		python3-boto3 python3-requests python3-dateutil >&2
	sh vendor/vendor.sh --apt trixie "$dir" download python3-moto >&2
	dpkg-deb -x "$dir"/python3-moto_*.deb "$dir"
fi
PYTHONPATH=$site /usr/bin/python3 -c 'import moto.moto_server.threaded_moto_server' >&2
echo "$site"

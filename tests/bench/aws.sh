#!/bin/sh
# AWS client against boto3 (and, where installed, the AWS CLI) in one run:
# start to the first DescribeInstances, one page of 1,000 instances, ten such
# pages, signatures.  Interleaved rounds (ROUNDS, default 9), minimum; user+sys
# CPU and peak RSS of the whole process.  The bars are ratios, which hold on any
# machine; exit 1 when one is missed.
set -eu
py=${PYTHON:-/usr/bin/python3}
"$py" -c 'import boto3' 2>/dev/null || {
	echo "# SKIP bench aws: python3-boto3 is not installed"
	exit 0
}
case ${HGAUTO:=$BUILD/$MODE/hgauto} in
/*) ;;
*) HGAUTO=$(pwd)/$HGAUTO ;;
esac
export HGAUTO
SIGN=$(dirname "$HGAUTO")/bench/aws_sign
export SIGN
exec "$py" tests/bench/aws.py

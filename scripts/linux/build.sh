#!/bin/sh
# build.sh KIND OUT NODE ISOLATION REQUIRES: builds one artifact of the
# checked-out revision into the new directory OUT.  KIND wheel or sdist;
# ISOLATION auto, yes or no; REQUIRES the path of build_requires.py.
set -eu
# A login may bring any umask; modes are part of what is built.
umask 022
kind=$1 out=$2 node=$3 isolation=$4 requires=$5
export HGPLAIN=1 HGRCPATH='' MERCURIAL_SETUP_FORCE_TRANSLATIONS=1
export PIP_DISABLE_PIP_VERSION_CHECK=1
at=$(hg log -r . -T '{node} {date|hgdate}')
if [ "${at%% *}" != "$node" ]; then
	echo "the working directory is at ${at%% *} instead of $node" >&2
	exit 1
fi
SOURCE_DATE_EPOCH=${at#* }
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH%% *}
export SOURCE_DATE_EPOCH
# Leftovers of another kind would change what goes into this one.
hg --config extensions.purge= purge --all
rm -rf "$out"
mkdir -p "$out"

flag=
case $isolation in
no | auto)
	lacking=$(python3 "$requires" | paste -sd , - | sed 's/,/, /g')
	if [ -z "$lacking" ]; then
		flag=--no-isolation
	elif [ "$isolation" = no ]; then
		echo "needs $lacking" >&2
		exit 1
	else
		echo "building in isolation from PyPI: this machine lacks $lacking"
	fi
	;;
esac
case $kind in
wheel)
	# shellcheck disable=SC2086
	python3 -m build --wheel $flag --outdir "$out" .
	;;
sdist)
	make -j"$(nproc)" doc PYTHON=python3
	# shellcheck disable=SC2086
	python3 -m build --sdist $flag --outdir "$out" .
	;;
*)
	echo "build.sh: unknown kind $kind" >&2
	exit 2
	;;
esac

#!/bin/sh
# Canary secrets of AWS calls in no stream, file or memory image.
exec "${PYTHON:-/usr/bin/python3}" tests/security/aws_secrets.py

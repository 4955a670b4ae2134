#!/bin/sh
# passes
exit 0

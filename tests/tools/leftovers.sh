#!/bin/sh
# Prints what a test run could leave behind: processes of ours, mounts, loop
# devices, network namespaces.  Compared before and after the suite.
ps -eo args= 2>/dev/null | grep -E 'hgauto|/proc/self/fd/[0-9]+ (run|keeper)|sshd.*hgauto' |
	grep -vE 'grep|leftovers|check\.sh|run-one|make |prove' | LC_ALL=C sort
sed 's/ .*//' /proc/self/mounts | wc -l
if command -v losetup >/dev/null; then losetup -a | wc -l; fi
if command -v lsns >/dev/null; then lsns -rno TYPE 2>/dev/null | sort | uniq -c; fi

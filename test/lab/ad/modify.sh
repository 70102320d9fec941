#!/usr/bin/env bash
# modify.sh: applies the LDIF on standard input to DC 1's database, as the system. @BASE@ stands for the domain's DN.
. "$(dirname "$0")/common.sh"
sed "s/@BASE@/$base/g" | db ldbmodify >/dev/null

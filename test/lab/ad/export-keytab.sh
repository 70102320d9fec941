#!/usr/bin/env bash
# export-keytab.sh NAME FILE: the controller's own keytab of one account, as an administrator would make it.
. "$(dirname "$0")/common.sh"
at samba-tool domain exportkeytab --principal="${1:?name}" "${2:?file}" -s "$AD_STATE/dc1/etc/smb.conf" >/dev/null

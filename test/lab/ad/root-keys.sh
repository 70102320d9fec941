#!/usr/bin/env bash
# root-keys.sh ldbsearch|samba-tool: prints the domain's KDS root keys, with their secret, as that tool does.
# root-keys.sh add TIME: adds one that is usable from TIME on (ISO 8601).
. "$(dirname "$0")/common.sh"
container="CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,$base"
samba_root_key() { at samba-tool domain kds root-key "$@" -s "$AD_STATE/dc1/etc/smb.conf"; }
case "${1:?ldbsearch, samba-tool or add}" in
  ldbsearch) db ldbsearch -b "$container" -s one '(objectClass=msKds-ProvRootKey)' ;;
  samba-tool) samba_root_key list --json --verbose --show-secrets ;;
  add) samba_root_key create --use-start-time="${2:?time}" >/dev/null ;;
esac

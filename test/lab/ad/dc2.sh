#!/usr/bin/env bash
# Joins and starts a second DC on the next loopback address. Seed first: later objects do not replicate by themselves.
. "$(dirname "$0")/common.sh"
if [ ! -s "$AD_STATE/dc2/private/sam.ldb" ]; then
  mkdir -p "$AD_STATE/join"/{private,state,cache}
  cat >"$AD_STATE/join.conf" <<CONF
[global]
  netbios name = DC2
  realm = $AD_REALM
  workgroup = $AD_DOMAIN
  interfaces = $(dc_ip 2)/8
  bind interfaces only = yes
  private dir = $AD_STATE/join/private
  lock directory = $AD_STATE/join
  state directory = $AD_STATE/join/state
  cache directory = $AD_STATE/join/cache
  tls cafile = $AD_STATE/ca.crt
  ad dc functional level = 2016
CONF
  printf 'username = Administrator\npassword = %s\ndomain = %s\n' "$AD_ADMIN_PASSWORD" "$AD_DOMAIN" >"$AD_STATE/join.auth"
  at with_hosts samba-tool domain join "$dns" DC --server="dc1.$dns" \
    --targetdir="$AD_STATE/dc2" --dns-backend=NONE --no-dns-updates --use-kerberos=off \
    -A "$AD_STATE/join.auth" -s "$AD_STATE/join.conf" >"$AD_STATE/join.log" 2>&1 ||
    { tail -n 5 "$AD_STATE/join.log" >&2; exit 1; }
  write_conf 2
  issue_cert 2
fi
start_dc 2

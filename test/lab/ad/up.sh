#!/usr/bin/env bash
# Provisions a fresh domain in $AD_STATE and starts its first DC; does nothing that is already done.
. "$(dirname "$0")/common.sh"
[ -s "$AD_STATE/clock" ] || echo "$AD_START_OFFSET" >"$AD_STATE/clock"
cat >"$AD_STATE/hosts" <<HOSTS
127.0.0.1 localhost
$(dc_ip 1) dc1.$dns $dns dc1
$(dc_ip 2) dc2.$dns dc2
HOSTS

cat >"$AD_STATE/krb5.conf" <<CONF
[libdefaults]
  default_realm = $AD_REALM
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
  allow_weak_crypto = true
[realms]
  $AD_REALM = {
    kdc = $(dc_ip 1)
    kdc = $(dc_ip 2)
  }
[domain_realm]
  .$dns = $AD_REALM
  $dns = $AD_REALM
CONF

if [ ! -s "$AD_STATE/provisioned" ]; then
  printf '[global]\n' >"$AD_STATE/empty.conf"   # keeps the machine's own smb.conf out of it
  # Without --adminpass Samba makes one up; ours is set below, from standard input.
  at samba-tool domain provision -s "$AD_STATE/empty.conf" \
    --targetdir="$AD_STATE/dc1" --realm="$AD_REALM" --domain="$AD_DOMAIN" --host-name=dc1 --host-ip="$(dc_ip 1)" \
    --server-role=dc --dns-backend=NONE --function-level=2016 --option='ad dc functional level=2016' \
    >"$AD_STATE/provision.log" 2>&1 || { tail -n 5 "$AD_STATE/provision.log" >&2; exit 1; }
  write_conf 1
  issue_cert 1
  # Without Samba's dnsupdate service nobody adds the DC's ldap SPNs, which GSSAPI binds need.
  db ldbmodify >/dev/null <<LDIF
dn: CN=DC1,OU=Domain Controllers,$base
changetype: modify
add: servicePrincipalName
servicePrincipalName: ldap/dc1.$dns
servicePrincipalName: ldap/dc1.$dns/$dns
servicePrincipalName: ldap/dc1

dn: $base
changetype: modify
replace: maxPwdAge
maxPwdAge: -9223372036854775808
-
replace: minPwdAge
minPwdAge: 0
-
replace: pwdProperties
pwdProperties: 0

dn: CN=Administrator,CN=Users,$base
changetype: modify
replace: unicodePwd
unicodePwd:: $(quoted "$AD_ADMIN_PASSWORD")
LDIF
  echo yes >"$AD_STATE/provisioned"
fi
start_dc 1

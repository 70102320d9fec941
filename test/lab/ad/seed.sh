#!/usr/bin/env bash
# Fills the domain, once: an impersonation user, an outsider, a reader group, a KDS root key and three gMSAs.
#   web01$    readers: gmsa-readers; interval 1 day (rolls every 20 h)    SPN HTTP/web01.<dns>
#   sql01$    readers: gmsa-readers; interval 30 days (rolls every 720 h) SPN MSSQLSvc/sql01.<dns>:1433
#   secret01$ readers: Domain Admins only
. "$(dirname "$0")/common.sh"
[ -z "$(attr 'secret01$' objectSid)" ] || exit 0

# Provisioning at level 2016 already made a root key usable from ten hours back. New gMSAs take the key created
# last, and this one is usable for any past time a test asks for.
at samba-tool domain kds root-key create --use-start-time=2020-01-01T00:00:00Z --json \
  -s "$AD_STATE/dc1/etc/smb.conf" >"$AD_STATE/root-key.json"

db ldbadd >/dev/null <<LDIF
dn: CN=svc-ccg,CN=Users,$base
objectClass: user
sAMAccountName: svc-ccg
userPrincipalName: svc-ccg@$dns
userAccountControl: 512
clearTextPassword:: $(utf16 "$AD_CCG_PASSWORD")

dn: CN=outsider,CN=Users,$base
objectClass: user
sAMAccountName: outsider
userPrincipalName: outsider@$dns
userAccountControl: 512
clearTextPassword:: $(utf16 "$AD_OUTSIDER_PASSWORD")

dn: CN=gmsa-readers,CN=Users,$base
objectClass: group
sAMAccountName: gmsa-readers
member: CN=svc-ccg,CN=Users,$base
LDIF

# gmsa NAME DAYS SDDL SPN: enctypes 28 are RC4, AES128 and AES256; without them service tickets come out as RC4.
gmsa() {
  cat <<LDIF
dn: CN=$1,CN=Managed Service Accounts,$base
objectClass: msDS-GroupManagedServiceAccount
sAMAccountName: $1\$
dNSHostName: $1.$dns
userAccountControl: 4096
msDS-ManagedPasswordInterval: $2
msDS-SupportedEncryptionTypes: 28
msDS-GroupMSAMembership: $3
servicePrincipalName: $4

LDIF
}
readers=$(attr gmsa-readers objectSid)
{ gmsa web01 1 "O:SYD:(A;;RP;;;$readers)" "HTTP/web01.$dns"
  gmsa sql01 30 "O:SYD:(A;;RP;;;$readers)" "MSSQLSvc/sql01.$dns:1433"
  gmsa secret01 30 "O:SYD:(A;;RP;;;DA)" "HTTP/secret01.$dns"; } | db ldbadd >/dev/null

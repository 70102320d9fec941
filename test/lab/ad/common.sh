# Settings and helpers shared by the lab scripts. Source it; do not run it.
# AD_STATE is the lab's folder. What a lab is made of (realm, network, passwords) stands in its file `env`, mode 0600,
# which whoever starts the lab writes: passwords never appear in an argument list.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${AD_STATE:?folder of the lab}"
. "$AD_STATE/env"
: "${AD_REALM:?}" "${AD_DOMAIN:?}" "${AD_NET:?DC n listens on AD_NET.(9+n), standard ports}"
: "${AD_ADMIN_PASSWORD:?}" "${AD_CCG_PASSWORD:?}" "${AD_OUTSIDER_PASSWORD:?}"
AD_START_OFFSET=${AD_START_OFFSET:-+0}   # the DCs' clock against this machine's, at the start
dns=${AD_REALM,,}
base="DC=${dns//./,DC=}"
export KRB5_CONFIG=$AD_STATE/krb5.conf
# The system Python carries the samba module; another python3 may come first in PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
umask 077

dc_ip() { echo "$AD_NET.$((9 + $1))"; }
# at CMD...: runs it under the DCs' clock.
# Not by the faketime command: its semaphores are named after process ids, and those of killed ones get in the way.
at() { LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) FAKETIME="$(cat "$AD_STATE/clock")" "$@"; }
# db TOOL [args]: an ldb tool on DC 1's own database, as the system.
# The tools must see the lab's smb.conf: without a realm the stored Kerberos salts come out wrong.
db() {
  local tool=$1; shift
  SMB_CONF_PATH=$AD_STATE/dc1/etc/smb.conf at "$tool" -H "$AD_STATE/dc1/private/sam.ldb" "$@" 2>>"$AD_STATE/ldb.log" ||
    { tail -n 5 "$AD_STATE/ldb.log" >&2; return 1; }
}
attr() { db ldbsearch -b "$base" "(sAMAccountName=$1)" "$2" | sed -n "s/^$2: //p"; }
utf16() { printf %s "$1" | iconv -t utf-16le | base64 -w0; }
quoted() { printf '"%s"' "$1" | iconv -t utf-16le | base64 -w0; }

# Runs a command that sees the lab's names through a private /etc/hosts.
with_hosts() { unshare -m bash -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$AD_STATE/hosts" "$@"; }

# write_conf N: smb.conf of DC n, loopback only.
write_conf() {
  local d=$AD_STATE/dc$1
  mkdir -p "$d"/{etc,private/tls,state,cache,run,log,bind-dns}
  cat >"$d/etc/smb.conf" <<CONF
[global]
  netbios name = DC$1
  realm = $AD_REALM
  workgroup = $AD_DOMAIN
  server role = active directory domain controller
  ad dc functional level = 2016
  server services = rpc, ldap, cldap, kdc, drepl
  interfaces = $(dc_ip "$1")/8
  bind interfaces only = yes
  private dir = $d/private
  state directory = $d/state
  cache directory = $d/cache
  lock directory = $d
  pid directory = $d/run
  ncalrpc dir = $d/run/ncalrpc
  ntp signd socket directory = $d/run/ntp
  winbindd socket directory = $d/run/winbindd
  binddns dir = $d/bind-dns
  log file = $d/log/samba.log
  log level = 1
  create krb5 conf = no
  tls keyfile = $d/private/tls/key.pem
  tls certfile = $d/private/tls/cert.pem
  tls cafile = $AD_STATE/ca.crt
CONF
}

# issue_cert N: LDAPS server certificate of DC n from the lab's own CA.
issue_cert() {
  local t=$AD_STATE/dc$1/private/tls ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
  if [ ! -s "$AD_STATE/ca.key" ]; then
    openssl req -x509 $ec -days 3650 -subj '/CN=AD lab CA' -keyout "$AD_STATE/ca.key" -out "$AD_STATE/ca.crt" \
      -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
  fi
  mkdir -p "$t"
  openssl req $ec -subj "/CN=dc$1.$dns" -keyout "$t/key.pem" -out "$t/req.pem" 2>/dev/null
  chmod 600 "$t/key.pem"   # Samba refuses to start TLS with a key others can read
  printf 'subjectAltName=DNS:dc%s.%s,DNS:%s,IP:%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' \
    "$1" "$dns" "$dns" "$(dc_ip "$1")" >"$t/ext"
  openssl x509 -req -in "$t/req.pem" -CA "$AD_STATE/ca.crt" -CAkey "$AD_STATE/ca.key" -CAcreateserial \
    -days 825 -extfile "$t/ext" -out "$t/cert.pem" 2>/dev/null
}

open_port() { timeout 1 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }

# start_dc N: single process under the fake clock; returns when LDAPS and the KDC answer.
start_dc() {
  local d=$AD_STATE/dc$1 ip
  ip=$(dc_ip "$1")
  if running "$1"; then return; fi
  ( export LD_PRELOAD=libfaketimeMT.so.1 LD_LIBRARY_PATH=$(dirname "$(ls /usr/lib/*/faketime/libfaketimeMT.so.1)")
    export FAKETIME_TIMESTAMP_FILE=$AD_STATE/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
    unset AD_ADMIN_PASSWORD AD_CCG_PASSWORD AD_OUTSIDER_PASSWORD
    with_hosts setsid samba -F --no-process-group -M single -s "$d/etc/smb.conf" </dev/null >>"$d/log/stdout" 2>&1 & )
  for _ in $(seq 600); do
    if open_port "$ip" 636 && open_port "$ip" 88; then return; fi
    sleep 0.05
  done
  echo "DC $1 did not come up on $ip" >&2
  tail -n 10 "$d/log/stdout" "$d/log/samba.log" >&2 || true
  return 1
}

dc_pid() { cat "$AD_STATE/dc$1/run/samba.pid" 2>/dev/null; }
# A process id alone could be someone else's by now, and samba hides its command line: its output must go to our log.
running() {
  local p
  p=$(dc_pid "$1") && [ "$(readlink "/proc/$p/fd/1")" = "$AD_STATE/dc$1/log/stdout" ]
}

stop_dc() {
  local p
  running "$1" || return 0
  p=$(dc_pid "$1")
  kill "$p"
  for _ in $(seq 60); do running "$1" || return 0; sleep 0.05; done
  kill -9 "$p"
}

#!/usr/bin/env bash
# Installs the agent by its one line on a Debian that is booted with a systemd of its own, and looks at what becomes of it.
# For root on Linux, after `npm ci`; takes debootstrap, systemd-container, iproute2 and curl:
#
#   deploy/agent/try-systemd.sh [suite]        bookworm, trixie, …
#
# Two minutes, of which the first run fetches Debian for most. BEACON_TRY_FOLDER keeps that for the next run.
# shellcheck disable=SC2016,SC2317 # What is quoted is for the machine; what looks unreachable is called by check.
set -euo pipefail

suite=${1:-bookworm}
repository=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/var/tmp}/beacon-try.XXXXXX")
# PostgreSQL has a user of its own.
chmod o+x "$work"
base=${BEACON_TRY_FOLDER:-$work}/$suite
unset BEACON_TRY_FOLDER
root=$work/root
name=beacon-try-$$
# Of the blocks that are there for examples.
here=198.51.100.1 there=198.51.100.2 port=18480
url=http://$here:$port
failed=0 server='' machine=''

for program in debootstrap systemd-nspawn ip nsenter curl node; do
  command -v "$program" >/dev/null || { echo "$program is needed" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'this is for root' >&2; exit 2; }

end() {
  [ -z "$machine" ] || kill -KILL "$machine" 2>/dev/null || :
  [ -z "$server" ] || kill "$server" 2>/dev/null || :
  wait 2>/dev/null || :
  ip netns delete "$name" 2>/dev/null || :
  rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

# inside <command>: as root of the machine.
inside() {
  nsenter -t "$(first_process)" -a -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    sh -c "$1" </dev/null
}
first_process() {
  local process
  # shellcheck disable=SC2013 # They stand in one line.
  for process in $(cat "/proc/$machine/task/$machine/children"); do
    ! grep -q 'NSpid:.*[[:space:]]1$' "/proc/$process/status" || echo "$process"
  done
}
# within <seconds> <command>: until it succeeds on the machine.
within() {
  for ((tries = $1 * 2; tries > 0; tries--)); do
    ! inside "$2" >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  return 1
}
check() {
  local what=$1
  shift
  if "$@" >"$work/said" 2>&1; then
    echo "ok    $what"
  else
    failed=1
    echo "FAIL  $what"
    sed 's/^/        /' "$work/said"
    inside 'journalctl -u beacon-agent -n 12 --no-pager -o cat' 2>/dev/null | sed 's/^/        | /' || :
  fi
}
boot() {
  # Newer ones know no other kind of control groups, whatever the host has.
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$root" --machine="$name" --register=no --keep-unit --resolv-conf=off \
    --timezone=off --link-journal=no --network-namespace-path="/run/netns/$name" </dev/null >"$work/boot.log" 2>&1 &
  machine=$!
  # Two steps, for the first process is there before systemd answers.
  within 60 'systemctl is-system-running --wait | grep -qE "running|degraded"'
}
power_off() {
  inside 'systemctl poweroff' || :
  wait "$machine" || :
  machine=''
}
# Every file but those that a running system keeps changing.
files() {
  (cd "$root" && find . \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path './var/log' -o -path './var/tmp' \
    -o -path ./tmp -o -path './var/lib/systemd' -o -path './var/lib/private' -o -path './etc/*-' \) -prune -o -printf '%p %y %m %U\n' | sort)
}
api() {
  local method=$1 path=$2 field=$3 body=${4:-}
  curl -fsS -X "$method" -H "authorization: Bearer $owner" ${body:+-H 'content-type: application/json' -d "$body"} "$url$path" |
    node -p "JSON.parse(require('fs').readFileSync(0))$field"
}
key() { api POST /api/enrollment-keys .key_value "{\"site_id\":\"$site\",\"fleet_id\":\"$fleet\",\"name\":\"key $RANDOM\"}"; }
robot_id() { inside "sed -n 's/^robot_id = \"\\(.*\\)\"/\\1/p' /var/lib/beacon/agent.toml"; }
property() { inside "systemctl show --value -p $1 beacon-agent"; }
online() { within "${1:-30}" 'systemctl is-active -q beacon-agent && systemctl show -p StatusText beacon-agent | grep -q "Connected as"'; }
# gives_up <exit code>: and is not started again.
gives_up() {
  within 30 'systemctl is-failed -q beacon-agent' || return 1
  sleep 12
  [ "$(property ExecMainStatus)" = "$1" ] && [ "$(property ActiveState)" = failed ]
}

[ -e "$repository/dist/install/beacon-agent-linux-x64.tar.gz" ] || (cd "$repository" && npm run --silent build:agent)
if [ ! -e "$base/usr/bin/systemctl" ]; then
  echo "fetching Debian $suite"
  mkdir -p "$base"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,curl,ca-certificates,procps \
    "$suite" "$base" >"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log" >&2; exit 1; }
fi
cp -a "$base" "$root"
echo robot >"$root/etc/hostname"
: >"$root/etc/machine-id"
chroot "$root" useradd -m ada
chroot "$root" useradd -m bob

ip netns add "$name"
ip link add "bt$$" type veth peer name machine0 netns "$name"
ip address add "$here/30" dev "bt$$"
ip link set "bt$$" up
ip -n "$name" address add "$there/30" dev machine0
ip -n "$name" link set machine0 up
ip -n "$name" link set lo up

owner=$(node -e 'const b="rf_pat_"+require("crypto").randomBytes(32).toString("hex");let c=-1;for(const x of Buffer.from(b)){c^=x;for(let i=0;i<8;i++)c=c>>>1^(c&1?0xedb88320:0)}console.log(b+((~c)>>>0).toString(16).padStart(8,"0"))')
BEACON_HOST=$here BEACON_PORT=$port BEACON_PUBLIC_URL=$url BEACON_DATA_DIR=$work/data BEACON_ADMIN_TOKEN=$owner \
  BEACON_HEARTBEAT_SECONDS=2 BEACON_GATEWAY_ENGINE=ws node "$repository/bin/beacon.js" server </dev/null >"$work/server.log" 2>&1 &
server=$!
for ((tries = 60; tries > 0; tries--)); do
  ! grep -q '^beacon ready' "$work/server.log" || break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.5
done
grep -q '^beacon ready' "$work/server.log" || { tail -5 "$work/server.log" >&2; exit 1; }
site=$(api POST /api/sites .id '{"name":"site"}')
fleet=$(api POST /api/fleets .id "{\"name\":\"fleet\",\"site_id\":\"$site\"}")
enrollment_key=$(key)

boot
echo "      $(inside 'systemctl --version | head -1') is booted"
within 30 true
files >"$work/before"
line="curl -fsSL $url/install.sh | sh -s --"

check 'the dry run says what it would do' inside "$line --enrollment-key $enrollment_key --dry-run"
files >"$work/tried"
check 'and does nothing' diff "$work/before" "$work/tried"
check 'the one line installs' inside "$line --enrollment-key $enrollment_key"
check 'it is ready, and says of itself that it is connected' online
id=$(robot_id)
check 'the control plane sees it' test "$(api GET "/api/robots/$id" .connection)" = online
check 'systemd finds nothing wrong with the unit' inside \
  '[ -z "$(systemd-analyze verify /etc/systemd/system/beacon-agent.service 2>&1)" ]'
check 'no key or token is in the unit, the settings, a command line, an environment or the journal' inside '
  { systemctl show beacon-agent; cat /etc/systemd/system/beacon-agent.service /etc/beacon/agent.env
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; journalctl; } 2>/dev/null |
    tr "\0" "\n" | { ! grep -aE "rf_(enroll|robot)_[0-9a-f]{16}"; }'
check 'the key is used up and gone' inside '! ls /var/lib/private/beacon | grep -q enrollment-key'
check 'doctor finds nothing wrong' inside 'beacon-agent doctor'
check 'status agrees that it is ready' within 10 'beacon-agent status --check ready'
inside 'usermod -aG beacon-robot ada'
check 'a member of its group may report' inside 'su ada -c "beacon-agent metric set load=1"'
check 'others may not' inside '! su bob -c "beacon-agent metric set load=1"'

inside 'mkdir -p /run/systemd/system/beacon-agent.service.d
  printf "[Service]\nWatchdogSec=6s\nRestartSec=1s\n" >/run/systemd/system/beacon-agent.service.d/try.conf
  systemctl daemon-reload; systemctl restart beacon-agent'
check 'it comes back from a restart' online
inside 'kill -KILL $(systemctl show --value -p MainPID beacon-agent)'
check 'it comes back from SIGKILL' within 30 '[ "$(systemctl show --value -p NRestarts beacon-agent)" = 1 ] && systemctl is-active beacon-agent'
inside 'kill -STOP $(systemctl show --value -p MainPID beacon-agent)'
check 'the watchdog ends one that hangs, and it comes back' within 60 \
  '[ "$(systemctl show --value -p NRestarts beacon-agent)" = 2 ] && systemctl is-active beacon-agent'
inside 'rm -r /run/systemd/system/beacon-agent.service.d; systemctl daemon-reload'

power_off
boot
check 'it comes back from a power cycle' online 60
check 'as the same robot' test "$(robot_id)" = "$id"
check 'the one line again, without a key, brings it up to date' inside "$line"
check 'and it is back' online
check 'as the same robot' test "$(robot_id)" = "$id"

inside 'cp /etc/machine-id /root/machine-id; echo 0123456789abcdef0123456789abcdef >/etc/machine-id
  systemctl --no-block restart beacon-agent'
check 'on another machine it stops with 5, and stays stopped' gives_up 5
inside 'cp /root/machine-id /etc/machine-id; rm /root/machine-id; systemctl --no-block restart beacon-agent'
check 'back on its own it goes on' online
api POST "/api/robots/$id/revoke-token" .id '{}' >/dev/null
check 'with its token revoked it stops with 3, and stays stopped' gives_up 3
check 'a new key enrols it again' inside "$line --enrollment-key $(key)"
check 'and it is back' online
check 'as the same robot' test "$(robot_id)" = "$id"

check '--uninstall --purge removes it' inside "$line --uninstall --purge"
files >"$work/after"
check 'and leaves nothing' diff "$work/before" "$work/after"
check 'no group, no folder, no process' inside \
  '! grep -q beacon /etc/group && ! ls -d /run/beacon /var/lib/private/beacon 2>/dev/null && ! pgrep -f "[b]eacon-agent run"'

inside 'loginctl enable-linger ada'
as_ada() { inside "su - ada -c 'export XDG_RUNTIME_DIR=/run/user/\$(id -u); $1'"; }
within 20 'test -S /run/user/$(id -u ada)/systemd/private'
check 'a user installs a service of their own' as_ada "$line --enrollment-key $(key)"
check 'which is connected' within 30 "su - ada -c 'XDG_RUNTIME_DIR=/run/user/\$(id -u) systemctl --user show -p StatusText beacon-agent | grep \"Connected as\"'"
check 'doctor knows it' as_ada '.local/bin/beacon-agent doctor | grep "ok .*service"'
check '--uninstall --purge removes that, too' as_ada "$line --uninstall --purge"
check 'and leaves no file of it' inside '[ -z "$(find /home/ada/.config /home/ada/.local -type f)" ]'

power_off
[ "$failed" = 0 ] && echo 'all is well' || echo 'something failed'
exit "$failed"

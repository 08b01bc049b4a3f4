#!/bin/sh
# Installs the Beacon agent on this machine, or removes it:
#
#   curl -fsSL https://beacon.example/install.sh | sh -s -- --enrollment-key rf_enroll_…
#
# As root it becomes a service of the machine, as anybody else one of that user. Everything stands between two braces:
# a shell runs nothing of it before it has read the last of them, so that a download cut short does nothing.
{

# Filled in by the control plane that hands this script out. With its sums in here, no mirror can give out anything else.
BEACON_OWN_SERVER='@BEACON_SERVER@'
BEACON_OWN_SUMS='@BEACON_SUMS@'

usage() {
  cat <<'TEXT'
Usage: install.sh [options]

  --enrollment-key KEY         key or provisioning token to enrol with (BEACON_ENROLLMENT_KEY)
  --enrollment-key-file FILE   file that holds it (BEACON_ENROLLMENT_KEY_FILE)
  --setup-token TOKEN          token that was made for this one robot (BEACON_SETUP_TOKEN)
  --setup-token-file FILE      file that holds it (BEACON_SETUP_TOKEN_FILE)
  --server URL                 the control plane, where this script did not come from it (BEACON_SERVER)
  --name NAME                  name the robot asks for (BEACON_NAME)
  --ca-file FILE               certificates in PEM form that the control plane is believed by, too (BEACON_CA_FILE)
  --user                       install for this user, also as root
  --mirror URL|FOLDER          where the agent's files are taken from (BEACON_INSTALL_MIRROR)
  --prefix FOLDER              instead of /usr/local, or ~/.local for a user (BEACON_INSTALL_PREFIX)
  --dry-run                    say what would be done, and do nothing
  --uninstall                  remove the agent and its service; the robot's identity stays
  --purge                      with --uninstall: the identity, the settings and the key go, too
  --help                       print this

A key in an argument can be seen by other users of this machine while this script runs; one in the environment or in a
file cannot. Exit codes: 0 fine, 1 error, 2 usage, 4 unreachable.
TEXT
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
# fail <exit code> <line>...
fail() {
  beacon_code=$1
  shift
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
  exit "$beacon_code"
}
has() { command -v "$1" >/dev/null 2>&1; }

# A word as a shell reads it back.
quoted() {
  case $1 in
    '' | *[!A-Za-z0-9_./:@=+-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
  esac
}

read_arguments() {
  key=${BEACON_ENROLLMENT_KEY:-} key_file=${BEACON_ENROLLMENT_KEY_FILE:-}
  token=${BEACON_SETUP_TOKEN:-} token_file=${BEACON_SETUP_TOKEN_FILE:-}
  server=${BEACON_SERVER:-} name=${BEACON_NAME:-}
  mirror=${BEACON_INSTALL_MIRROR:-} prefix=${BEACON_INSTALL_PREFIX:-} ca_file=${BEACON_CA_FILE:-}
  for_user='' dry_run='' uninstall='' purge='' from_arguments=''
  # Nothing that is started from here needs to know them.
  unset BEACON_ENROLLMENT_KEY BEACON_SETUP_TOKEN

  while [ $# -gt 0 ]; do
    option=$1
    shift
    case $option in
      --enrollment-key | --enrollment-key-file | --setup-token | --setup-token-file | --server | --name | --mirror | --prefix | \
        --ca-file)
        [ $# -gt 0 ] || fail 2 "$option needs a value"
        value=$1
        shift
        ;;
      --*=*)
        value=${option#*=}
        option=${option%%=*}
        ;;
      *) value='' ;;
    esac
    case $option in
      --enrollment-key | --enrollment-key-file | --setup-token | --setup-token-file)
        # What the command line says outranks all that the environment says.
        [ -n "$from_arguments" ] || key='' key_file='' token='' token_file='' from_arguments=yes
        ;;
    esac
    case $option in
      --enrollment-key) key=$value ;;
      --enrollment-key-file) key_file=$value ;;
      --setup-token) token=$value ;;
      --setup-token-file) token_file=$value ;;
      --server) server=$value ;;
      --name) name=$value ;;
      --mirror) mirror=$value ;;
      --prefix) prefix=$value ;;
      --ca-file) ca_file=$value ;;
      --user) for_user=yes ;;
      --dry-run) dry_run=yes ;;
      --uninstall) uninstall=yes ;;
      --purge) purge=yes ;;
      -h | --help)
        usage
        exit 0
        ;;
      # Not repeated: it may be a key in the wrong place.
      *) fail 2 'there is an argument that is not known here' '"install.sh --help" tells what there is' ;;
    esac
  done
  [ -z "$purge" ] || [ -n "$uninstall" ] || fail 2 '--purge goes with --uninstall'
}

# Where everything is put: for the machine, or for one user.
find_places() {
  [ "$(id -u)" = 0 ] || for_user=yes
  if [ -n "$for_user" ]; then
    [ -n "${HOME:-}" ] || fail 2 'HOME is not set, and says where a user has their files'
    config=${XDG_CONFIG_HOME:-$HOME/.config}/roboflare
    state=$config
    prefix=${prefix:-$HOME/.local}
  else
    config=/etc/beacon
    state=/var/lib/beacon
    prefix=${prefix:-/usr/local}
  fi
  case $prefix in
    /*) ;;
    *) fail 2 '--prefix has to begin with /' ;;
  esac
  library=$prefix/lib/beacon
  launcher=$prefix/bin/beacon-agent
}

# The service of the machine has its identity in its state folder.
is_enrolled() {
  [ -e "$config/agent.toml" ] || [ -e "$state/agent.toml" ]
}

# One that was left for the agent, and is not used yet.
has_credential() {
  [ -e "$state/agent.toml.enrollment-key" ] || [ -e "$state/agent.toml.setup-token" ]
}

# The one credential that was given, in: credential, kind (its file's name and flag), credential_file.
find_credential() {
  credential='' kind='' credential_file='' given=0
  [ -z "$key" ] || { given=$((given + 1)) kind=enrollment-key credential=$key; }
  [ -z "$key_file" ] || { given=$((given + 1)) kind=enrollment-key credential_file=$key_file; }
  [ -z "$token" ] || { given=$((given + 1)) kind=setup-token credential=$token; }
  [ -z "$token_file" ] || { given=$((given + 1)) kind=setup-token credential_file=$token_file; }
  [ "$given" -le 1 ] || fail 2 'more than one key or token is given; one is needed'
  case $credential in
    *[!A-Za-z0-9_]*) fail 2 'the key or token has characters that none has' ;;
  esac
  if [ -n "$credential_file" ]; then
    [ -r "$credential_file" ] || fail 2 "the file of the key or token cannot be read: $credential_file"
    # Services start elsewhere.
    case $credential_file in
      /*) ;;
      *) credential_file=$(pwd)/$credential_file ;;
    esac
  elif [ -z "$credential" ] && ! is_enrolled && ! has_credential; then
    fail 2 'this robot is not enrolled yet, and there is no key to enrol it with' \
      'give one with --enrollment-key, --enrollment-key-file or --setup-token'
  fi
}

find_server() {
  case $BEACON_OWN_SERVER in
    @*) BEACON_OWN_SERVER='' BEACON_OWN_SUMS='' ;;
  esac
  server=${server:-$BEACON_OWN_SERVER}
  server=${server%/}
  case $server in
    https://?* | http://127.* | http://localhost* | http://\[::1\]*) ;;
    http://?*) warn "$server is not encrypted: whoever is on the way there reads and changes what is sent" ;;
    '') is_enrolled || fail 2 'the address of the control plane is missing: give it with --server' ;;
    *) fail 2 '--server has to begin with https:// or http://' ;;
  esac
  source=${mirror:-${BEACON_OWN_SERVER:-$server}/install}
  source=${source%/}
  [ "$source" != /install ] || fail 2 'there is nowhere to take the agent from: give --server or --mirror'
}

# Sets node to a Node that can run the agent, or to nothing.
find_node() {
  node=''
  has node || return 0
  # Version managers put scripts in the way; a service needs the program itself.
  found=$(node -p 'const [a, b] = process.versions.node.split("."); a > 20 || (a == 20 && b >= 19) ? process.execPath : ""' \
    2>/dev/null </dev/null) || found=''
  case $found in
    /home/* | /root/*)
      # Services of the machine do not see the files of people.
      [ -n "$for_user" ] || found=''
      ;;
  esac
  node=$found
}

# Sets file to what has to be fetched: the agent alone, or with a Node of its own.
choose_file() {
  file=beacon-agent.mjs
  [ -z "$node" ] || return 0
  system=$(uname -s) machine=$(uname -m) bits=$(getconf LONG_BIT 2>/dev/null || echo 64)
  case $system-$machine-$bits in
    Linux-x86_64-64 | Linux-amd64-64) file=beacon-agent-linux-x64.tar.gz loader=/lib64/ld-linux-x86-64.so.2 ;;
    Linux-aarch64-64 | Linux-arm64-64) file=beacon-agent-linux-arm64.tar.gz loader=/lib/ld-linux-aarch64.so.1 ;;
    *) need_node "there is no self-contained agent for $system on $machine with $bits bits" ;;
  esac
  [ -e "$loader" ] || need_node 'the Node that comes with the agent needs glibc, which Alpine and others with musl do not have' \
    'on Alpine: apk add nodejs'
  case $sums in
    *"  $file"*) ;;
    *) need_node "$source has no self-contained agent; \"npm run build:agent\" makes it there" ;;
  esac
}

# need_node <why>...
need_node() {
  fail 1 "the agent needs Node 20.19 or newer, and there is none on this machine that it could use" "$@" \
    'install Node from https://nodejs.org/en/download or with the package manager, then run this again'
}

# Whoever is believed for the download is believed by the agent, wherever the file lies that names them: sets ca_file, and
# kept_ca_file for the copy that the agent goes by. The same line again needs no file.
find_ca_file() {
  kept_ca_file=''
  if [ -z "$ca_file" ]; then
    [ ! -r "$config/agent-ca.pem" ] || ca_file=$config/agent-ca.pem kept_ca_file=$config/agent-ca.pem
    return 0
  fi
  { [ -r "$ca_file" ] && [ ! -d "$ca_file" ]; } || fail 2 "the file of certificates cannot be read: $ca_file"
  case $(cat "$ca_file") in
    *-----BEGIN\ CERTIFICATE-----*) kept_ca_file=$config/agent-ca.pem ;;
    *) fail 2 "there is no certificate in PEM form in $ca_file" ;;
  esac
}

# Sets believed: the authorities of the system and those in ca_file. A mirror may have a certificate of either.
join_authorities() {
  believed=''
  [ -n "$ca_file" ] || return 0
  believed=$workplace/authorities.pem
  for of_system in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
    /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
    [ ! -f "$of_system" ] || { cat "$of_system" && break; }
  done >"$believed"
  { printf '\n' && cat "$ca_file"; } >>"$believed"
}

keep_ca_file() {
  [ -n "$kept_ca_file" ] && [ "$ca_file" != "$kept_ca_file" ] || return 0
  mkdir -p "$config" || fail 1 "$config cannot be made"
  place "$ca_file" "$kept_ca_file" 644
}

# fetch <name> <target>
fetch() {
  case $source in
    http://* | https://*) ;;
    *)
      cp "$source/$1" "$2" 2>/dev/null || fail 1 "$1 is not in $source"
      return 0
      ;;
  esac
  if has curl; then
    name_of_file=$1
    set -- -fsSL --connect-timeout 20 --speed-limit 1 --speed-time 60 --retry 3 -o "$2"
    [ -z "$believed" ] || set -- "$@" --cacert "$believed"
    # What was asked for encrypted is not taken from where it is not.
    case $source in
      https://*) set -- "$@" --proto-redir '=https' ;;
    esac
    curl "$@" "$source/$name_of_file" </dev/null || not_fetched "$name_of_file"
  elif has wget; then
    name_of_file=$1
    set -- -q -O "$2"
    # There is more than one wget: what it does not know it is not asked for.
    known=$(wget --help 2>&1) || :
    case $known in
      *--tries*) set -- "$@" --tries=3 --timeout=30 ;;
    esac
    if [ -n "$believed" ]; then
      case $known in
        *--ca-certificate*) set -- "$@" --ca-certificate="$believed" ;;
        *) fail 1 'the wget of this machine cannot be told whom to believe' \
          "install curl, or put the files of $source into a folder and name it with --mirror" ;;
      esac
    fi
    wget "$@" "$source/$name_of_file" </dev/null || not_fetched "$name_of_file"
  else
    fail 1 'neither curl nor wget is on this machine' \
      "install one of them, or put the files of $source into a folder and name it with --mirror"
  fi
}

not_fetched() {
  fail 4 "$source/$1 could not be fetched" 'nothing was changed; try again, or give --mirror' \
    'a control plane with a certificate of its own authority needs --ca-file, here and for the script itself'
}

sum_of() {
  if has sha256sum; then
    sha256sum <"$1" | cut -d ' ' -f 1
  elif has shasum; then
    shasum -a 256 <"$1" | cut -d ' ' -f 1
  elif has openssl; then
    openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
  else
    fail 1 'there is no sha256sum, shasum or openssl to check the download with' 'install one of them'
  fi
}

# check <name> <file>
check() {
  wanted=$(printf '%s\n' "$sums" | while read -r sum of; do [ "$of" != "$1" ] || printf '%s\n' "$sum"; done)
  [ "${#wanted}" = 64 ] || fail 1 "there is no checksum for $1"
  actual=$(sum_of "$2")
  [ "$actual" = "$wanted" ] ||
    fail 1 "$1 from $source is not what it should be" "SHA-256 $actual, not $wanted" \
      'nothing was changed; it may have been damaged on its way, or be of another version: try again'
}

# What is unpacked fits there and may be run there.
is_roomy() {
  free=$(df -Pk "$1" 2>/dev/null | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\) .*/\1/p')
  [ "${free:-0}" -ge 204800 ] || return 1
  tried=$(mktemp "$1/beacon-install.XXXXXX" 2>/dev/null) || return 1
  runs=''
  printf '#!/bin/sh\n' >"$tried" && chmod 700 "$tried" && "$tried" 2>/dev/null && runs=yes
  rm -f "$tried"
  [ -n "$runs" ]
}

make_workplace() {
  # Many robots have a small /tmp in memory, or none that programs may be run from.
  if [ -z "$node" ] && [ -z "${TMPDIR:-}" ] && ! is_roomy /tmp && is_roomy /var/tmp; then TMPDIR=/var/tmp; fi
  workplace=$(umask 077 && mktemp -d "${TMPDIR:-/tmp}/beacon-install.XXXXXX") ||
    fail 1 'there is no place for temporary files' 'name a folder for them in TMPDIR'
  trap 'rm -rf "$workplace"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

find_sums() {
  sums=$BEACON_OWN_SUMS
  [ -z "$sums" ] || return 0
  fetch SHA256SUMS "$workplace/SHA256SUMS"
  sums=$(cat "$workplace/SHA256SUMS")
}

# place <file> <target> <mode>: whole or not at all.
place() {
  { cp "$1" "$2.new" && chmod "$3" "$2.new" && mv -f "$2.new" "$2"; } || {
    rm -f "$2.new" 2>/dev/null || :
    fail 1 "$2 cannot be written" 'where that folder is full or read-only, another can be named with --prefix'
  }
}

# What is unpacked has to fit where temporary files are, and to run from there.
unpack() {
  (cd "$workplace" && gzip -dc "$file" | tar -xf -) ||
    fail 1 "$file cannot be unpacked in $workplace" \
      'nothing was changed; it takes 170 MB: where there is no room, name another folder in TMPDIR'
  node=$workplace/beacon-agent/node
  ! "$node" --version >/dev/null 2>&1 </dev/null || return 0
  printf '#!/bin/sh\n' >"$workplace/try" && chmod 755 "$workplace/try"
  "$workplace/try" 2>/dev/null ||
    fail 1 "nothing may be run in $workplace" 'nothing was changed; name another folder in TMPDIR, such as /var/tmp'
  need_node 'the Node that comes with the agent does not run here; it needs Linux with glibc 2.28 or newer'
}

place_agent() {
  brought=''
  [ -n "$node" ] || { unpack && brought=$workplace/beacon-agent; }
  # Before anything is replaced.
  version=$("$node" "${brought:-$workplace}/beacon-agent.mjs" --version 2>&1 </dev/null) ||
    fail 1 "the agent does not run here: $version" 'nothing was changed'
  mkdir -p "$library" "$prefix/bin" || fail 1 "$library cannot be made" 'run this as root, or give --user or --prefix'
  if [ -n "$brought" ]; then
    place "$brought/node" "$library/node" 755
    place "$brought/LICENSE" "$library/LICENSE.node" 644
    place "$brought/beacon-agent.mjs" "$library/beacon-agent.mjs" 644
    node=$library/node
  else
    place "$workplace/$file" "$library/beacon-agent.mjs" 644
  fi
  cat >"$workplace/launcher" <<TEXT
#!/bin/sh
# The Beacon agent, as install.sh put it here.
exec $(quoted "$node") $(quoted "$library/beacon-agent.mjs") "\$@"
TEXT
  place "$workplace/launcher" "$launcher" 755
  version=$("$launcher" --version 2>&1 </dev/null) || fail 1 "the agent does not run: $version"
  # Not before the launcher names another.
  [ -n "$brought" ] || rm -f "$library/node" "$library/LICENSE.node"
}

# keep_credential <file>: leaves the credential there, for its owner alone. Not by printf, a program to some shells: its
# arguments could be seen.
keep_credential() {
  (
    umask 077
    mkdir -p "${1%/*}" && cat >"$1.new" <<TEXT && mv -f "$1.new" "$1"
$credential
TEXT
  ) || fail 1 "$1 cannot be written"
}

# say_command <argument>...
say_command() {
  line="$(quoted "$launcher") run"
  for word in "$@"; do line="$line $(quoted "$word")"; done
  say "  $line"
}

# Root has the service of the machine, and no other.
has_service() {
  [ -d /run/systemd/system ] && has systemctl || return 1
  [ -z "$for_user" ] || [ "$(id -u)" != 0 ]
}

plan() {
  say 'nothing is done; this would be:'
  say "  fetch $file from $source and check its SHA-256"
  if [ -n "$node" ]; then
    say "  put it into $library, to be run by $node"
  else
    say "  put it into $library, with a Node of its own"
  fi
  say "  make the command $launcher"
  if has_service; then
    say '  install and start it as a service of systemd'
  else
    [ -z "$credential" ] || say "  leave the key in $state/agent.toml.$kind, until it is used"
    say '  say how to start it: there is no systemd for it here'
  fi
}

install_agent() {
  find_credential
  find_server
  find_ca_file
  find_node
  make_workplace
  join_authorities
  find_sums
  choose_file
  if [ -n "$dry_run" ]; then
    plan
    return 0
  fi
  fetch "$file" "$workplace/$file"
  check "$file" "$workplace/$file"
  place_agent
  say "Beacon's agent $version is in $library"
  keep_ca_file
  if [ -n "$credential" ]; then
    if has_service; then
      # From there "install" takes it to where the service finds it.
      credential_file=$workplace/$kind
      keep_credential "$credential_file"
    else
      # Where the agent finds it by itself, and removes it once it has enrolled with it.
      keep_credential "$state/agent.toml.$kind"
    fi
  fi
  set --
  [ -z "$server" ] || set -- "$@" --server "$server"
  [ -z "$credential_file" ] || set -- "$@" "--$kind-file" "$credential_file"
  [ -z "$name" ] || set -- "$@" --name "$name"
  if has_service; then
    [ -z "$for_user" ] || set -- --user "$@"
    [ -z "$kept_ca_file" ] || set -- "$@" --set "BEACON_CA_FILE=$kept_ca_file"
    "$launcher" install "$@" </dev/null
  else
    [ -z "$kept_ca_file" ] || set -- "$@" --ca-file "$kept_ca_file"
    # Root's agent is the machine's, unless it is told otherwise.
    [ -z "$for_user" ] || [ "$(id -u)" != 0 ] || set -- "$@" --config "$config/agent.toml"
    say 'There is no systemd for it here. Have this run whenever the machine does:'
    say_command "$@"
  fi
}

uninstall_agent() {
  ours=''
  for path in "$launcher" "$library/beacon-agent.mjs" "$library/node" "$library/LICENSE.node"; do
    [ ! -e "$path" ] || ours=yes
  done
  if [ -z "$ours" ]; then
    say "there is nothing to remove: no agent is in $library"
    say_what_stays
    return 0
  fi
  if [ -n "$dry_run" ]; then
    say 'nothing is done; this would be:'
    ! has_service || say '  stop and remove the service'
    [ -z "$purge" ] || say "  remove the identity, the settings and the key in $config and $state"
    say "  remove $library and $launcher"
    return 0
  fi
  [ -z "$purge" ] || [ -z "$for_user" ] || [ "$(id -u)" != 0 ] ||
    fail 2 "--purge with --user is for other users than root: remove $config by hand"
  if has_service || [ -n "$purge" ]; then
    set --
    [ -z "$for_user" ] || set -- --user
    [ -z "$purge" ] || set -- "$@" --purge
    "$launcher" uninstall "$@" </dev/null || fail 1 'the service could not be removed; nothing else was'
  fi
  rm -f "$launcher" "$library/beacon-agent.mjs" "$library/node" "$library/LICENSE.node"
  # Whatever else is there is not ours.
  rmdir "$library" 2>/dev/null || :
  if [ -n "$purge" ]; then
    rm -f "$config/agent-ca.pem"
    rmdir "$config" 2>/dev/null || :
  fi
  say 'the agent is removed'
  say_what_stays
}

say_what_stays() {
  for folder in "$state" "$config"; do
    [ ! -e "$folder/agent.toml" ] || {
      say "who this robot is stays in $folder; remove that, too, unless it is to come back"
      return 0
    }
  done
}

beacon_install() {
  set -eu
  umask 022
  read_arguments "$@"
  find_places
  if [ -n "$uninstall" ]; then uninstall_agent; else install_agent; fi
}

beacon_install "$@"
exit
}

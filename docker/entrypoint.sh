#!/usr/bin/env bash
# The image's entry point, started by tini. Without a command it runs Jupyter and, if keys were
# given, SSH, until it is told to stop; with a command it runs that instead.
#
#   JUPYTER_TOKEN            the token to ask for; or
#   JUPYTER_TOKEN_FILE       a file with it. Without either one is made and printed
#   JUPYTER_PORT, SSH_PORT   8888 and 22
#   SSH_AUTHORIZED_KEYS      public keys, one a line; or
#   SSH_AUTHORIZED_KEYS_FILE a file of them. Without either there is no SSH.
#   TORCHGAUGE_DOCTOR        report (the default), require (a fault ends the container),
#                            require-gpu (so does a GPU that is missing) or off
#   TORCHGAUGE_STATE         where host keys and the token are kept: ~/.torchgauge
#
# Exit status: 0 after a stop, 2 for a wrong setting, else that of the service that ended.
set -euo pipefail

readonly grace_seconds=4 # docker kills after ten; people wait less
services=()              # process ids
doctor=''

say() { printf 'torchgauge: %s\n' "$*"; }
fail() {
  printf 'torchgauge: error: %s\n' "$*" >&2
  stop_services
  exit 2
}

stop_services() {
  local pid deadline=$((SECONDS + grace_seconds)) running
  for pid in "${services[@]}" $doctor; do kill -TERM "$pid" 2>/dev/null || true; done
  while ((SECONDS < deadline)); do
    running=0
    for pid in "${services[@]}" $doctor; do if kill -0 "$pid" 2>/dev/null; then running=1; fi; done
    # In a trap, a bare `return` would give the status from before the signal.
    if ((running == 0)); then return 0; fi
    sleep 0.05
  done
  for pid in "${services[@]}" $doctor; do kill -KILL "$pid" 2>/dev/null || true; done
}

# shellcheck disable=SC2317 # the trap below calls it
on_signal() {
  trap '' TERM INT HUP
  say 'stopping'
  stop_services
  say 'stopped'
  exit 0
}

# ------------------------------------------------------------------ settings

listening() { # listening PORT: whether any process here listens on it
  local hex
  printf -v hex '%04X' "$1"
  # The kernel's table, so that no server is disturbed by a probe: state 0A is LISTEN.
  grep -qsE "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6
}

check_port() { # check_port NAME VALUE
  local name="$1" port="$2"
  if [[ ! $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
    fail "$name=$port is no port: give a number from 1 to 65535"
  fi
  if listening "$port"; then
    fail "port $port is taken by another process: set $name to a free one and publish that"
  fi
  local first=1024
  if [[ -r /proc/sys/net/ipv4/ip_unprivileged_port_start ]]; then
    read -r first </proc/sys/net/ipv4/ip_unprivileged_port_start
  fi
  if ((port < first && EUID != 0)); then
    fail "user $EUID may not use port $port here (the first it may is $first):" \
      "set $name=2222 and publish 2222:2222," \
      "or start with --sysctl net.ipv4.ip_unprivileged_port_start=0"
  fi
}

prepare_state() {
  state="${TORCHGAUGE_STATE:-$HOME/.torchgauge}"
  umask 077
  mkdir -p "$state/ssh" 2>/dev/null || fail "$state cannot be written by user $(id -u):" \
    "set TORCHGAUGE_STATE (and HOME) to a folder that can"
  rm -f "$state/ssh/started"
  umask 022
}

check_workspace() {
  local owner
  if [[ -w $PWD ]]; then return; fi
  owner="$(stat -c %u:%g .)"
  if [[ ${owner%:*} == "$(id -u)" ]]; then
    say "warning: $PWD is on a read-only file system: mount a folder there with -v"
  else
    say "warning: $PWD belongs to user $owner and user $(id -u) may not write there:" \
      "start with --user $owner -e HOME=/tmp," \
      "or build with --build-arg USER_UID=${owner%:*} --build-arg USER_GID=${owner#*:}"
  fi
}

# ------------------------------------------------------------------ Jupyter

prepare_token() {
  local file="${JUPYTER_TOKEN_FILE:-}"
  token="${JUPYTER_TOKEN:-}"
  token_origin='the one in JUPYTER_TOKEN'
  if [[ -z $token && -n $file ]]; then
    if [[ ! -f $file || ! -r $file ]]; then
      fail "JUPYTER_TOKEN_FILE=$file: there is no such file that user $(id -u) may read"
    fi
    token="$(<"$file")"
    token_origin="the one in $file"
    if [[ -z $token ]]; then fail "JUPYTER_TOKEN_FILE=$file: the file is empty"; fi
  fi
  if [[ -z $token ]]; then
    token="$(python -c 'import secrets; print(secrets.token_hex(24))')"
    token_origin='made for this start'
  fi
  # It becomes part of an address, and a file's line end part of the token.
  if [[ ! $token =~ ^[A-Za-z0-9._~-]+$ ]]; then
    fail "${token_origin/#the one/the token} may have letters, digits and . _ ~ - alone"
  fi
  # In a file of its own: no process list shows it and no kernel inherits it.
  (umask 077 && printf '%s' "$token" >"$state/jupyter-token")
  unset JUPYTER_TOKEN
  export JUPYTER_TOKEN_FILE="$state/jupyter-token"
}

start_jupyter() {
  # Away from the terminal: Ctrl-C must reach this script alone, or Jupyter asks a question.
  setsid jupyter lab --ServerApp.port="$JUPYTER_PORT" </dev/null &
  jupyter=$!
  services+=("$jupyter")
}

# ------------------------------------------------------------------ SSH

prepare_keys() { # leaves $state/ssh/authorized_keys, or returns 1 if no keys were given
  local file="${SSH_AUTHORIZED_KEYS_FILE:-}" keys="$state/ssh/authorized_keys" origin
  rm -f "$keys"
  if [[ -z $file && -z ${SSH_AUTHORIZED_KEYS:-} ]]; then return 1; fi
  if ! user="$(id -un 2>/dev/null)"; then # neither ssh-keygen nor sshd would start
    fail "SSH needs a user with a name, and user $(id -u) has none in this image:" \
      "leave --user out, or build with --build-arg USER_UID=$(id -u)"
  fi
  if [[ -n $file ]]; then
    origin="SSH_AUTHORIZED_KEYS_FILE=$file"
    if [[ ! -e $file ]]; then fail "$origin: there is no such file in the container; mount it"; fi
    if [[ ! -f $file ]]; then
      fail "$origin: this is no file (a missing file mounted with -v becomes a folder)"
    fi
    if [[ ! -r $file ]]; then
      fail "$origin: user $user may not read it (it is" \
        "$(stat -c '%A, of user %u' "$file")); give it mode 644: public keys are no secret"
    fi
    (umask 077 && cat "$file" >"$keys")
  else
    origin=SSH_AUTHORIZED_KEYS
    (umask 077 && printf '%s\n' "$SSH_AUTHORIZED_KEYS" >"$keys")
  fi
  if grep -q 'PRIVATE KEY' "$keys"; then
    rm -f "$keys"
    fail "$origin: this is a private key; give the public one (it ends in .pub)"
  fi
  if ! ssh-keygen -l -f "$keys" >"$state/ssh/fingerprints" 2>/dev/null; then
    fail "$origin: there is no public key in it (a line such as 'ssh-ed25519 AAAA... name')"
  fi
}

start_ssh() {
  local host_key="$state/ssh/ssh_host_ed25519_key"
  if [[ ! -e $host_key ]]; then
    ssh-keygen -q -t ed25519 -N '' -C torchgauge -f "$host_key"
    say 'SSH host key made (keep the home folder in a volume and it stays the same)'
  fi
  setsid /usr/sbin/sshd -D -e -f /usr/local/lib/torchgauge/sshd_config -p "$SSH_PORT" \
    -o HostKey="$host_key" -o AuthorizedKeysFile="$state/ssh/authorized_keys" \
    -o AllowUsers="$user" -o SetEnv="PATH=$PATH VIRTUAL_ENV=${VIRTUAL_ENV:-}" </dev/null &
  ssh=$!
  services+=("$ssh")
}

# ------------------------------------------------------------------ start

wait_for() { # wait_for NAME PORT PID
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    if ! kill -0 "$3" 2>/dev/null; then fail "$1 ended before it answered; its messages are above"; fi
    if listening "$2"; then return; fi
    sleep 0.1
  done
  fail "$1 did not answer on port $2 within a minute"
}

announce() {
  say "Jupyter  http://127.0.0.1:$JUPYTER_PORT/lab?token=$token  ($token_origin)"
  if [[ -n ${ssh:-} ]]; then
    say "SSH      ssh -p PUBLISHED_PORT $user@HOST  (container port $SSH_PORT)"
    say "         host key $(ssh-keygen -l -f "$state/ssh/ssh_host_ed25519_key")"
    sed 's/^/torchgauge:          lets in /' "$state/ssh/fingerprints"
  else
    say 'SSH      off: give SSH_AUTHORIZED_KEYS or SSH_AUTHORIZED_KEYS_FILE'
  fi
}

run_doctor() { # run_doctor [OPTION...]
  local status=0
  torchgauge doctor "$@" || status=$?
  say "doctor: exit status $status"
  return "$status"
}

serve() {
  local ended='' status=0 mode="${TORCHGAUGE_DOCTOR:-report}"
  local -A known=([report]='' [require]='' [require-gpu]=--require-gpu [off]='')
  if [[ ! -v known[$mode] ]]; then
    fail "TORCHGAUGE_DOCTOR=$mode: choose report, require, require-gpu or off"
  fi
  prepare_state
  check_port JUPYTER_PORT "$JUPYTER_PORT"
  check_workspace
  if [[ $mode == require* ]]; then
    # shellcheck disable=SC2086 # one option or none
    run_doctor ${known[$mode]} &
    doctor=$!
    wait "$doctor" || fail "the doctor found a fault (above) and TORCHGAUGE_DOCTOR=$mode"
    doctor=''
  fi
  if prepare_keys; then
    check_port SSH_PORT "$SSH_PORT"
    start_ssh
    wait_for SSH "$SSH_PORT" "$ssh"
    touch "$state/ssh/started"
  fi
  prepare_token
  start_jupyter
  wait_for Jupyter "$JUPYTER_PORT" "$jupyter"
  announce
  if [[ $mode == report ]]; then
    run_doctor &
    doctor=$!
  fi
  # Whichever service ends first takes the container with it: a restart policy brings back both.
  wait -n -p ended "${services[@]}" || status=$?
  say "$([[ $ended == "$jupyter" ]] && echo Jupyter || echo SSH) ended with status $status"
  stop_services
  exit $((status == 0 ? 1 : status))
}

if (($#)); then exec "$@"; fi
trap on_signal TERM INT HUP
serve

#!/usr/bin/env bash
# keygate's unit under a real systemd, from installation to removal of what it leaves in /run.
# Runs as root inside the box; /mnt/box holds the binary, the unit and the files that go with it.
# One "ok" line per fact; the first that does not hold ends the run with what is known about it.
set -uo pipefail
box=/mnt/box
unit=/etc/systemd/system/keygate.service
config=/etc/keygate/keygate.yaml
key=demo-openai-key-opens-only-the-mock

ok() { echo "ok - $*"; }
fail() {
    echo "not ok - $*"
    systemctl status keygate.service --no-pager --full 2>&1 | sed 's/^/    /'
    journalctl --no-pager -o cat -n 40 -u keygate.service 2>&1 | sed 's/^/    | /'
    exit 1
}
# is WHAT EXPECTED ACTUAL
is() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$1: expected '$2', got '$3'"; fi; }
# has WHAT PART TEXT
has() { if [[ "$3" == *"$2"* ]]; then ok "$1"; else fail "$1: no '$2' in: $3"; fi; }
# Polls a command until it succeeds, for at most 20 seconds.
eventually() {
    local end=$((SECONDS + 20))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}
property() { systemctl show keygate.service -P "$1"; }
status() { curl -s -o /dev/null -w '%{http_code}' "$@"; }
# A request for the list of models with this token, to this port.
ask() { status -H "authorization: Bearer $1" "http://127.0.0.1:${2:-8080}/v1/models"; }
digest() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
# The configuration with this text at its end.
configure() {
    cat > "$config" <<YAML
listen: [{ address: "127.0.0.1:${port:-8080}" }]
admin: { address: "127.0.0.1:9090" }
store: { sqlite: /var/lib/keygate/keygate.db }
access_log: { file: /var/log/keygate/access.log }
providers:
  openai: { kind: openai, url: "http://$mock", keys: [{ credential: openai-key }] }
$1
YAML
}

# A provider that wants its key: the mock of a demo.
TMPDIR=/tmp "$box/keygate" demo --port 0 > /tmp/demo.out 2>&1 &
eventually grep -qs 'Ctrl-C' /tmp/demo.out || { cat /tmp/demo.out; fail "the mock provider starts"; }
mock=$(sed -n 's|^  provider  http://\([0-9.:]*\).*|\1|p' /tmp/demo.out)
is "the mock takes its key" 200 "$(status -H "authorization: Bearer $key" "http://$mock/v1/models")"
is "the mock takes nothing else" 401 "$(status "http://$mock/v1/models")"

# Installation.
ln -s "$box/keygate" /usr/bin/keygate
cp "$box/keygate.service" "$unit"
install -D -m 644 "$box/keygate.sysusers" /usr/lib/sysusers.d/keygate.conf
install -D -m 644 "$box/keygate.tmpfiles" /usr/lib/tmpfiles.d/keygate.conf
systemd-sysusers /usr/lib/sysusers.d/keygate.conf || fail "the user is created"
systemd-tmpfiles --create /usr/lib/tmpfiles.d/keygate.conf || fail "the directories are created"
is "the configuration's directory is root's" "755 root:root" "$(stat -c '%a %U:%G' /etc/keygate)"
is "the keys' directory is root's alone" "700 root:root" "$(stat -c '%a %U:%G' /etc/credstore)"
systemctl daemon-reload
is "the unit has no complaint" "" "$(systemd-analyze verify "$unit" 2>&1 | grep keygate)"
# The threshold is in tenths; the number is printed for whoever reads the result.
security=$(systemd-analyze security --offline=yes --threshold=15 "$unit" | tail -1)
systemd-analyze security --offline=yes --threshold=15 "$unit" > /dev/null \
    || fail "the exposure is at most 1.5: $security"
ok "the exposure is at most 1.5: ${security#*: }"

# A key that is missing keeps the service from starting, and its place is said.
configure ""
chmod 644 "$config"
systemctl start keygate.service 2> /dev/null && fail "without its key it must not start"
has "the place of the missing credential is said" 'providers.openai.keys[0]' "$(journalctl -o cat -u keygate.service --no-pager)"
systemctl stop keygate.service
systemctl reset-failed keygate.service 2> /dev/null

# With the key it starts, though the other credentials of the unit are not there.
(umask 077; printf '%s\n' "$key" > /etc/credstore/keygate.openai-key)
systemctl start keygate.service || fail "it starts"
# At once, without waiting: start returned because the service said that it is ready.
is "start returns when it serves" 200 "$(status http://127.0.0.1:9090/readyz)"
is "start returns when its status is active" active "$(systemctl is-active keygate.service)"
main=$(property MainPID)

# Who it is and what it has.
is "it runs as its user" "keygate" "$(stat -c %U "/proc/$main")"
is "it has no capabilities" "0000000000000000" "$(sed -n 's/^CapBnd:\t//p' "/proc/$main/status")"
is "it gains no privileges" "1" "$(sed -n 's/^NoNewPrivs:\t//p' "/proc/$main/status")"
# A machine whose root lacks CAP_SYS_RESOURCE (bit 24) can't raise its own limit; it gives what it has.
files() { awk '/^Max open files/ { print $5 }' "/proc/$1/limits"; }
most=1048576
(((0x$(sed -n 's/^CapEff:\t//p' /proc/1/status) >> 24) & 1)) || [ "$(files 1)" -ge "$most" ] || most=$(files 1)
is "the unit asks for a million open files" 1048576 "$(property LimitNOFILE)"
is "it gets as many as the machine can give" "$most" "$(files "$main")"
for dir in /var/lib/keygate /run/keygate /var/log/keygate; do
    is "$dir is its own alone" "700 keygate:keygate" "$(stat -c '%a %U:%G' "$dir")"
done
is "the store is its own alone" "600 keygate" "$(stat -c '%a %U' /var/lib/keygate/keygate.db)"
is "the control socket is its own alone" "600 keygate" "$(stat -c '%a %U' /run/keygate/control.sock)"
runuser -u nobody -- cat /run/credentials/keygate.service/openai-key 2> /dev/null \
    && fail "another user must not read the credential"
ok "another user can't read the credential"

# It serves; the mock's answer shows that the credential reached it and was swapped in.
token=$(keygate token create -c "$config" --name box --json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p')
[ -n "$token" ] || fail "a token is created beside the running service"
opens() { [ "$(ask "$token")" = 200 ]; }
eventually opens || fail "the token opens the gate: $(ask "$token")"
ok "the token opens the gate, the key opens the provider"
is "the token does not open the provider" 401 "$(ask "$token" "${mock#*:}")"
is "a wrong token is refused" 401 "$(ask ptk_nobody)"
has "root may ask the running service for its status" uptime_seconds "$(keygate status -c "$config" 2>&1)"

# A good reload changes what it does.
second=ptk_added_by_a_reload
is "before the reload a token is unknown" 401 "$(ask $second)"
configure "tokens: [{ name: second, sha256: \"$(digest $second)\" }]"
systemctl reload keygate.service || fail "a good file can be reloaded"
is "after the reload it is known" 200 "$(ask $second)"

# A bad one fails, and says so to whoever asked; the old one serves on.
cp "$config" /tmp/good.yaml
echo 'no_such_key: 1' >> "$config"
systemctl reload keygate.service 2> /dev/null && fail "a bad file must make the reload fail"
ok "a bad file makes the reload fail"
has "the reason is in the journal" no_such_key "$(journalctl -o cat -u keygate.service --no-pager)"
is "the service is still active" active "$(systemctl is-active keygate.service)"
is "the old configuration serves on" "200 200" "$(ask $second) $(ask "$token")"
cp /tmp/good.yaml "$config"
systemctl reload keygate.service || fail "the service can be reloaded again"
is "all this was one process" "$main 0" "$(property MainPID) $(property NRestarts)"

# A crash is not the end.
kill -KILL "$main"
back() { [ "$(systemctl is-active keygate.service)" = active ] && [ "$(property MainPID)" != "$main" ]; }
eventually back || fail "it comes back after a crash"
is "it serves after a crash" "200" "$(ask "$token")"

# Idle, it stops at once and leaves nothing in /run.
begun=$(date +%s%N)
systemctl stop keygate.service || fail "it stops"
took=$((($(date +%s%N) - begun) / 1000000))
[ "$took" -lt 2000 ] || fail "an idle service stops quickly, not in $took ms"
ok "an idle service stops quickly"
is "it stopped in good order" "success inactive" "$(property Result) $(property ActiveState)"
is "nothing is left in /run" "" "$(ls -d /run/keygate /run/credentials/keygate.service 2> /dev/null)"
is "nobody listens any more" 000 "$(ask "$token")"
[ -e /var/lib/keygate/keygate.db ] || fail "the store stays"
is "no secret is in the journal" "" "$(journalctl -o cat -u keygate.service --no-pager | grep -F -e "$key" -e "$token")"

# A port below 1024: refused as the unit stands, possible with the drop-in that its comment gives.
port=80 configure ""
systemctl start keygate.service 2> /dev/null && fail "port 80 must need the drop-in"
systemctl stop keygate.service
systemctl reset-failed keygate.service 2> /dev/null
mkdir -p "$unit.d"
sed -n '/^# Ports below 1024/,/^$/s/^#     //p' "$unit" > "$unit.d/port.conf"
grep -q CAP_NET_BIND_SERVICE "$unit.d/port.conf" || fail "the unit's comment holds the drop-in"
systemctl daemon-reload
systemctl start keygate.service || fail "with the drop-in it binds port 80"
is "it serves on port 80" 200 "$(ask "$token" 80)"
systemctl stop keygate.service
ok "done"

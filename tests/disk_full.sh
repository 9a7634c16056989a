#!/usr/bin/env bash
# A full disk: every command says so and names the file, leaves nothing half-written under a final name, and keeps what was
# good before. The disk is a small tmpfs in a mount namespace of the test's own.
set -eu
if [ "${1:-}" != --inside ]; then
	. "$(dirname "$0")/pipeline.sh"
	need unshare mount
	as=(unshare -m)
	if [ "$(id -u)" != 0 ]; then
		as=(unshare -r -m)
	fi
	"${as[@]}" mount -t tmpfs -o size=1m tmpfs "$tmp" 2>/dev/null || skip "no mount namespace here: needs root or user namespaces"
	rc=0
	"${as[@]}" "$0" --inside "$netssm" || rc=$?
	exit $rc
fi
shift
. "$(dirname "$0")/pipeline.sh"

disk=$tmp/disk
mkdir "$disk"
mount -t tmpfs -o size=4m tmpfs "$disk"
trap 'umount "$disk"; clean_up' EXIT
full='No space left on device'
# fill KIB: leaves that much.
fill() {
	rm -f "$disk/filler"
	local free
	free=$(df -k --output=avail "$disk" | tail -1)
	[ "$free" -gt "$1" ] || fail "the disk is smaller than the test needs: $free KiB free"
	head -c $(((free - $1) * 1024)) /dev/zero >"$disk/filler"
}
# only NAMES…: nothing else lies on the disk.
only() {
	local found
	found=$(find "$disk" -mindepth 1 -maxdepth 1 ! -name filler -printf '%f\n' | sort | paste -sd' ')
	[ "$found" = "$*" ] || fail "left on the disk: '$found', expected '$*'"
}

corpus_of dns "$tmp/train.nssm"
train() {
	"$netssm" train --corpus "$tmp/train.nssm" --steps 200 "${tiny[@]}" "$@"
}

echo "--- prepare"
fill 64
refused 1 "$disk/c.nssm.*$full" corpus_of dns "$disk/c.nssm"
only

echo "--- train: no room for the first checkpoint"
fill 64
refused 1 "$disk/run.*$full" train --out "$disk/run" --save-every 0
[ ! -e "$disk/run/last" ] || fail "a checkpoint that was not written whole is there"
rm -rf "$disk/run"

echo "--- train: no room for the next checkpoint"
rm -f "$disk/filler"
train --out "$tmp/whole" >/dev/null
# Again where a fast machine was done before the signal came.
for _ in 1 2 3 4 5; do
	rm -rf "$disk/run"
	"$netssm" train --corpus "$tmp/train.nssm" --steps 200 "${tiny[@]}" --out "$disk/run" >"$tmp/first.txt" 2>&1 &
	child=$!
	while [ "$(rows "$disk/run/log.csv")" -lt 3 ] && kill -0 $child 2>/dev/null; do
		sleep 0.01
	done
	kill -INT $child 2>/dev/null || true
	rc=0
	wait $child || rc=$?
	child=""
	[ $rc = 0 ] || break
done
cat "$tmp/first.txt"
[ "$rc" = 130 ] || fail "expected the training to be stopped on its way (130), found exit code $rc"
cp -r "$disk/run/last" "$tmp/kept"
fill 64
refused 1 "$disk/run.*$full" train --out "$disk/run" --resume --save-every 0
[ -z "$(find "$disk/run" -name '*.tmp*')" ] || fail "left over: $(find "$disk/run" -name '*.tmp*')"
diff -r "$tmp/kept" "$disk/run/last" || fail "the checkpoint that was good before has changed"
rm -f "$disk/filler"
run train --out "$disk/run" --resume
losses "$tmp/whole/log.csv" >"$tmp/whole.losses"
losses "$disk/run/log.csv" | cmp "$tmp/whole.losses" - || fail "losses differ after the disk was full"

echo "--- generate"
rm -rf "$disk/run"
fill 4
generate() {
	"$netssm" generate --model "$tmp/whole" --label dns --sessions 8 --packets 50 --tokens 8k --seed 7 \
		--prompt "$samples/dns-001.pcap.gz" --prompt-packets 40 --progress none "$@"
}
refused 1 "$disk/a.pcap.*$full" generate --pcap-out "$disk/a.pcap"
only
rm -f "$disk/filler"
generate --pcap-out "$disk/a.pcap" >/dev/null
only a.pcap
# Standard output has no name; the code must say it all the same.
refused 1 "$full" sh -c 'exec "$@" >/dev/full' sh "$netssm" generate --model "$tmp/whole" --label dns --sessions 1 \
	--packets 20 --prompt "$samples/dns-001.pcap.gz" --progress none --pcap-out -

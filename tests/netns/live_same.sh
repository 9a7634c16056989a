#!/usr/bin/env bash
# What leaves by a port is what a file gets: the same packets in order a session, for generated traffic, its clones, and clones of
# a replay; and every checksum on the wire is right.
set -eu
# shellcheck source=tests/netns/live.sh
. "$(dirname "$0")/live.sh"
live_begin same tshark
ns_add gen rx
quiet gen rx
veth_add gen p0 rx r0

# both COMMAND…: into a file, and live.
both() {
	run "$netssm" "$@" --pcap-out "$tmp/file.pcap" --truth "$tmp/file.csv" --progress none >"$tmp/out" || fail "$(cat "$tmp/out")"
	# A model makes packets of up to 64 KiB; a port drops what is longer than its MTU, and says so.
	tcpdump -r "$tmp/file.pcap" -w "$tmp/fits.pcap" 'len <= 1514' 2>/dev/null
	n=$(packets "$tmp/fits.pcap")
	capture rx r0 "$tmp/live.pcap"
	run ns gen "$netssm" "$@" --port af_packet:p0 --truth "$tmp/live.csv" --progress none
	capture_end "$n"
	same "packets on the wire" "$caught" "$n"
	look same "$tmp/fits.pcap" "$tmp/live.pcap" "$tmp/file.csv"
	same "rows of the truth" "$(wc -l <"$tmp/live.csv")" "$(wc -l <"$tmp/file.csv")"
	good_checksums "$tmp/live.pcap"
}

echo "== generated, with clones"
both generate --model "$root/model/pretrained" --label web,dns --sessions 6 --packets 40 --seed 7 --clones 3 --rate 1kpps
cp "$tmp/fits.pcap" "$tmp/made.pcap"

echo "== clones of a capture"
both replay "$tmp/made.pcap" --session-split client --clones 20 --seed 9 --rate 20kpps

#!/usr/bin/env bash
# A replay arrives whole and in order through every kind of port there is without a card: af_packet, af_xdp, tap, and memif between
# two of our own processes.
set -eu
# shellcheck source=tests/netns/live.sh
. "$(dirname "$0")/live.sh"
live_begin ports
ns_add gen rx
quiet gen rx
veth_add gen p0 rx r0
"$netssm" replay "$samples"/{web,video}-00*.pcap.gz --merge --pad --pcap-out "$tmp/file.pcap" --progress none >/dev/null
n=$(packets "$tmp/file.pcap")

# What a run says in the end, and that it counts what it sent.
over() {
	wait "$1" || fail "netssm:" "$(cat "$tmp/out")"
	grep -E '^(made|port|late)' "$tmp/out"
	same "packets sent" "$(of packets.sent)" "$n"
	same "packets dropped" "$(of packets.dropped)" 0
	rm -f "$tmp/stats.json" "$tmp/figures"
}
play=("$netssm" replay "$tmp/file.pcap" --rate 20kpps --progress none --stats-json "$tmp/stats.json")

for port in af_packet af_xdp; do
	echo "== $port"
	capture rx r0 "$tmp/live.pcap"
	ns_bg gen "${play[@]}" --port "$port:p0" >"$tmp/out" 2>&1
	over "$ns_pid"
	capture_end "$n"
	look equal "$tmp/file.pcap" "$tmp/live.pcap"
done

echo "== frames that the capture cut"
arrived() { ns rx cat /sys/class/net/r0/statistics/rx_bytes; }
before=$(arrived)
run ns gen "$netssm" replay "$samples"/video-00*.pcap.gz --port af_packet:p0 --rate 20Mbps --vlan 7 --stats-json "$tmp/stats.json" \
	--progress none >"$tmp/out"
same "bytes that a rate counts, and that arrived" "$(of ports.0.bytes)" $(($(arrived) - before))
rm -f "$tmp/stats.json" "$tmp/figures"

# What begins when somebody reads the stream that goes out beside the port: hold COMMAND…, then go.
hold() {
	rm -f "$tmp/control"
	ns_bg gen "$@" --pcap-over-ip listen:7000 --wait-for-reader --control "$tmp/control" >"$tmp/out" 2>&1
	held=$ns_pid
	wait_for "netssm's control socket" test -S "$tmp/control"
}
# shellcheck disable=SC2016 # bash -c's own
go() { ns_bg gen bash -c 'exec cat </dev/tcp/127.0.0.1/7000 >"$1"' bash "$tmp/stream.pcap"; }

echo "== tap"
# The interface goes with the process: it waits a while for what could come back.
hold "${play[@]}" --port tap:t0 --measure --measure-wait 10s
ns gen ip link set t0 up
capture gen t0 "$tmp/live.pcap"
go
capture_end "$n"
over "$held"
look equal "$tmp/file.pcap" "$tmp/live.pcap"

echo "== memif"
# One process sends, the other waits for a reader that never comes and takes what arrives meanwhile. Each spins on a CPU of its own, the
# last and the first.
cpu=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\([0-9]*\).*/\1/p' /proc/self/status)
hold "${play[@]}" --port "memif:role=server,socket=$tmp/memif"
ns_bg gen "$netssm" replay "$tmp/file.pcap" --port "memif:role=client,socket=$tmp/memif" --cpus "$cpu" --pcap-over-ip listen:7001 \
	--wait-for-reader --control "$tmp/taker" --progress none >"$tmp/taker.out" 2>&1
taker=$ns_pid
asked() { look ask "$tmp/$1" stats 2>/dev/null | sed -n "s/^stats\.ports\.0\.$2 //p"; }
both_up() { [ "$(asked control up)$(asked taker up)" = TrueTrue ]; }
wait_for "memif's link at both ends" both_up
go
over "$held"
same "packets that arrived" "$(asked taker received)" "$n"
kill -INT "$taker"
wait "$taker" && fail "the other netssm was stopped and says nothing of it"
grep -q stopped "$tmp/taker.out" || fail "the other netssm:" "$(cat "$tmp/taker.out")"

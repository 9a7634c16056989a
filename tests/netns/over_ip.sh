#!/usr/bin/env bash
# tshark reads a replay as pcap over IP to its end, by connecting to netssm and by being connected to: all packets, as in the file.
set -eu
# shellcheck source=tests/netns/live.sh
. "$(dirname "$0")/live.sh"
live_begin overip tshark
ns_add gen

"$netssm" replay "$samples"/{web,dns}-00*.pcap.gz --merge --pcap-out "$tmp/file.pcap" --progress none >/dev/null
n=$(packets "$tmp/file.pcap")
# What tshark says of each packet, its time apart.
fields=(-T fields -e frame.len -e frame.cap_len -e eth.src -e ip.src -e ipv6.src -e ip.id -e tcp.seq_raw -e tcp.ack_raw
	-e tcp.checksum -e udp.checksum -e dns.id)
tshark -r "$tmp/file.pcap" "${fields[@]}" >"$tmp/file" 2>/dev/null

listens() { ns gen cat /proc/net/tcp | grep -q ":1B58 00000000:0000 0A"; }
play=("$netssm" replay "$tmp/file.pcap" --rate 20kpps --wait-for-reader --progress none --stats-json "$tmp/stats.json")
ns_bg gen "${play[@]}" --pcap-over-ip listen:7000 >"$tmp/out" 2>&1
wait_for "netssm at port 7000" listens
ns gen tshark -i TCP@127.0.0.1:7000 "${fields[@]}" >"$tmp/live" 2>"$tmp/tshark" || fail "tshark:" "$(cat "$tmp/tshark")"
wait "$ns_pid" || fail "netssm:" "$(cat "$tmp/out")"
cat "$tmp/out"
same "packets of tshark" "$(wc -l <"$tmp/live")" "$n"
diff -q "$tmp/file" "$tmp/live" || fail "other packets than in the file"
same "packets sent" "$(of packets.sent)" "$n"
same "packets dropped" "$(of packets.dropped)" 0

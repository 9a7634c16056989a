# shellcheck shell=bash
# Shared by the tests with a Linux router between netssm's two ports, IPv4 and IPv6; sourced as live.sh is, then dut_begin.
#   gen: c0 ──── r0 rt r1 ──── s0 :gen
. "$(dirname "${BASH_SOURCE[0]}")/live.sh"

# dut_begin NAME TOOL…: $tmp/in.pcap is what can be sent through it, $n_in its packets.
dut_begin() {
	live_begin "$@"
	ns_add gen rt
	quiet gen
	router_between gen rt gen
	whole "$tmp/in.pcap" "$samples"/{web,dns,video}-00*.pcap.gz
	# shellcheck disable=SC2034 # the tests use it
	n_in=$(packets "$tmp/in.pcap")
}

# How often the kernel had no room for a neighbour: its table has 1024 places for all namespaces together, so another's run can fill it.
overflows() { cat /proc/net/stat/{arp,ndisc}_cache 2>/dev/null | awk '{ print $13 }'; }

# through FLAGS…: plays $tmp/in.pcap through the router; figures are in $tmp/stats.json.
through() {
	local before
	for _ in 1 2 3; do
		before=$(overflows)
		ns rt ip neigh flush all
		rm -f "$tmp/figures" "$tmp/stats.json"
		run ns gen "$netssm" replay "$tmp/in.pcap" --clients 198.18.0.128/26 --servers 198.19.0.128/26 --clients 2001:db8:1::100/122 \
			--servers 2001:db8:2::100/122 --gateway 0:198.18.0.1 --gateway 1:198.19.0.1 --gateway '0:[2001:db8:1::1]' \
			--gateway '1:[2001:db8:2::1]' --port af_packet:c0 --port af_packet:s0 --measure --label mix \
			--stats-json "$tmp/stats.json" --progress none "$@"
		[ "$(overflows)" != "$before" ] || return 0
		echo "somebody filled the kernel's table of neighbours: once more"
	done
	fail "the kernel's table of neighbours is full: $(paste -sd' ' <<<"$before")"
}

# went PACKETS: all were sent, each port sent its share, and the router had to ask for addresses on both sides.
went() {
	local port
	same "packets sent" "$(of packets.sent)" "$1"
	same "packets dropped before the wire" "$(of packets.dropped)" 0
	same "packets left" "$(of packets.left)" 0
	for port in 0 1; do
		[ "$(of ports.$port.sent)" -gt $(($1 / 10)) ] || fail "port $port sent next to nothing: $(of ports.$port.sent)"
		[ "$(of ports.$port.arp_replies)" -gt 1 ] || fail "the router asked for no address behind port $port (ARP)"
		[ "$(of ports.$port.nd_replies)" -gt 1 ] || fail "the router asked for no address behind port $port (ND)"
	done
	[ "$(of measure.matched)" -gt $((9 * $1 / 10)) ] || fail "$(of measure.matched) of $1 packets came back"
	same "latencies" "$(of measure.latency_ns.count)" "$(of measure.matched)"
	[ "$(of measure.latency_ns.p50)" -gt 0 ] || fail "packets came back in no time"
	same "packets that came twice" "$(of measure.duplicate)" 0
}

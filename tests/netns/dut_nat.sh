#!/usr/bin/env bash
# Clones through a router that hides its clients behind its own address, and through one that changes every client's address
# without looking at connections: all is matched in spite of that, nothing is lost.
set -eu
# shellcheck source=tests/netns/dut.sh
. "$(dirname "$0")/dut.sh"
dut_begin dutn nft

# play FLAGS…: how many packets of clients came out behind the router is in $own and $others, by the addresses they had there.
play() {
	capture rt r1 "$tmp/r1.pcap" -s 64 ip or ip6
	through --clones 3 --rate 10kpps "$@"
	capture_end "$(of measure.matched)"
	went $((3 * n_in))
	same "packets lost" "$(of measure.lost)" 0
	own=$(tcpdump -n -r "$tmp/r1.pcap" '(src net 198.18.0.0/24 or src net 2001:db8:1::/64) and (tcp or udp)' 2>/dev/null | wc -l)
	others=$(tcpdump -n -r "$tmp/r1.pcap" 'dst net (198.19.0.0/24 or 2001:db8:2::/64) and (tcp or udp)' 2>/dev/null | wc -l)
	others=$((others - own))
	echo "packets of clients behind the router: $others with another address, $own with their own"
}

echo "== masquerading"
nat_on rt r1
play
# A connection's first packet is translated; a server that answers the client itself, as ours do, is no answer to the kernel,
# and what the client says next on such a connection is invalid: passed on as it is.
[ "$others" -ge $((3 * n_in / 20)) ] || fail "hardly a packet was translated"
play --signature
ns rt nft delete table inet nat

echo "== addresses changed in every packet"
ns rt nft -f - <<END
table inet stateless {
	chain forward {
		type filter hook forward priority filter;
		oifname "r1" ip saddr 198.18.0.0/24 ip saddr set 203.0.113.7
		oifname "r1" ip6 saddr 2001:db8:1::/64 ip6 saddr set 2001:db8:7::7
	}
}
END
for flag in --no-signature --signature; do
	play $flag
	same "clients' packets with their own address" "$own" 0
	[ "$others" -ge "$n_in" ] || fail "hardly a client's packet came through"
done

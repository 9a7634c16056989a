#!/usr/bin/env bash
# A Linux router between two ports: plain, with NAT, and with one that loses. Its own programs first (ping), then ports that
# netssm's neighbour and measuring play (port_tool).
set -eu
# shellcheck source=tests/netns/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -eq 1 ] || {
	echo "usage: $0 PORT_TOOL" >&2
	exit 2
}
port_tool=$(realpath "$1")
ns_begin router nft ethtool ping

# value NAME FILE: of NAME=NUMBER
value() {
	sed -n "s/.*\b$1=\([0-9]*\).*/\1/p" "$2" | head -n1
}
# expect NAME FROM TO FILE
expect() {
	local got
	got=$(value "$1" "$4")
	if [ -z "$got" ] || [ "$got" -lt "$2" ] || [ "$got" -gt "$3" ]; then
		fail "expected $1 from $2 to $3, found '$got':" "$(cat "$4")"
	fi
}

echo "== hosts on both sides: what the namespaces can do"
ns_add cli dut srv
router_between cli dut srv
addr_add cli c0 198.18.0.2/24 2001:db8:1::2/64
addr_add srv s0 198.19.0.2/24 2001:db8:2::2/64
ip -n "$ns_tag-cli" route add default via 198.18.0.1
ip -n "$ns_tag-cli" route add default via 2001:db8:1::1
ip -n "$ns_tag-srv" route add default via 198.19.0.1
ip -n "$ns_tag-srv" route add default via 2001:db8:2::1
ns cli ping -q -c 3 -i 0.01 -W 2 198.19.0.2 >"$tmp/ping"
grep -q ' 0% packet loss' "$tmp/ping" || fail "$(cat "$tmp/ping")"
ns cli ping -q -c 3 -i 0.01 -W 2 2001:db8:2::2 >"$tmp/ping"
grep -q ' 0% packet loss' "$tmp/ping" || fail "$(cat "$tmp/ping")"

drop_on dut 40
# ping -f waits 10 ms for each that is lost, at most.
ns cli ping -q -f -c 400 -W 1 198.19.0.2 >"$tmp/ping" || true
lost=$(sed -n 's/\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 \2/p' "$tmp/ping" | awk '{ print $1 - $2 }')
[ "$lost" = "$(dropped dut)" ] || fail "$(dropped dut) were dropped, ping missed $lost"
ns dut nft delete table inet lossy

nat_on dut r1
# Without a way back to the client, only translated packets are answered.
ip -n "$ns_tag-srv" route del default
ip -n "$ns_tag-srv" -6 route del default
ns cli ping -q -c 3 -i 0.01 -W 2 198.19.0.2 >"$tmp/ping"
ns cli ping -q -c 3 -i 0.01 -W 2 2001:db8:2::2 >"$tmp/ping"

echo "== a neighbour that Linux believes"
ns_add gen rt
router_between gen rt gen
port_only gen c0 s0
mkfifo "$tmp/hold"
# It runs until the other end of its input is closed.
exec 3<>"$tmp/hold"
ns_bg gen "$port_tool" c0 s0 0 0 <"$tmp/hold" >"$tmp/answers" 3>&-
for _ in $(seq 100); do
	grep -q resolved "$tmp/answers" && break
	sleep 0.1
done
grep -q resolved "$tmp/answers" || fail "the gateways were not found"
# The port's own addresses answer; those played only to ARP and ND.
for addr in 198.18.0.2 198.19.0.2 2001:db8:1::2 2001:db8:2::2; do
	ns rt ping -q -c 2 -i 0.01 -W 2 "$addr" >"$tmp/ping" || fail "$(cat "$tmp/ping")"
done
for addr in 198.18.0.77 2001:db8:1::77; do
	! ns rt ping -q -c 1 -W 1 "$addr" >/dev/null || fail "$addr answers an echo request"
	ip -n "$ns_tag-rt" neigh show "$addr" dev r0 | grep -q "$(mac_of gen c0)" ||
		fail "the router does not know $addr:" "$(ip -n "$ns_tag-rt" neigh show dev r0)"
done
# The router is told that an address is taken (RFC 4862).
ns_set rt net/ipv6/conf/r0/accept_dad 1
ns_set rt net/ipv6/conf/r0/dad_transmits 1
ip -n "$ns_tag-rt" addr add 2001:db8:1::88/64 dev r0
for _ in $(seq 30); do
	ip -n "$ns_tag-rt" addr show dev r0 | grep -q 'db8:1::88.*dadfailed' && break
	sleep 0.1
done
ip -n "$ns_tag-rt" addr show dev r0 | grep -q 'db8:1::88.*dadfailed' ||
	fail "a duplicate address was not found:" "$(ip -n "$ns_tag-rt" addr show dev r0)"
ip -n "$ns_tag-rt" addr del 2001:db8:1::88/64 dev r0
exec 3>&-
wait "$ns_pid" || fail "port_tool:" "$(cat "$tmp/answers")"
expect malformed 0 0 "$tmp/answers"
cat "$tmp/answers"

echo "== measuring through it"
# play NAME ARGUMENTS…: the result is in $tmp/NAME.
play() {
	local name=$1
	shift
	ns gen "$port_tool" c0 s0 "$@" >"$tmp/$name" || fail "port_tool $*:" "$(cat "$tmp/$name")"
	printf '%s: ' "$name"
	sed -n 's/^sent/sent/p' "$tmp/$name"
	expect duplicate 0 0 "$tmp/$name"
	expect overflow 0 0 "$tmp/$name"
	expect refused 0 0 "$tmp/$name"
	# What the router says on its own (MLD).
	expect unmatched 0 20 "$tmp/$name"
}
for how in signature headers; do
	play "plain-$how" 10000 20000 $how
	expect sent 10000 10000 "$tmp/plain-$how"
	expect matched 10000 10000 "$tmp/plain-$how"
	expect lost 0 0 "$tmp/plain-$how"
done
expect marked 0 0 "$tmp/plain-headers"
# Payloads of 30 bytes and more have room for 24.
expect marked 10000 10000 "$tmp/plain-signature"

drop_on rt 1
for how in signature headers; do
	before=$(dropped rt)
	play "lossy-$how" 20000 20000 $how
	now=$(dropped rt)
	[ "$(value lost "$tmp/lossy-$how")" = $((now - before)) ] ||
		fail "$((now - before)) were dropped:" "$(cat "$tmp/lossy-$how")"
	# 1 % of 20,000: five standard deviations are 70.
	expect lost 130 270 "$tmp/lossy-$how"
done
ns rt nft delete table inet lossy

nat_on rt r1
for how in signature headers; do
	play "nat-$how" 10000 20000 $how oneway
	expect matched 10000 10000 "$tmp/nat-$how"
	expect lost 0 0 "$tmp/nat-$how"
done
ns rt nft list table inet nat | grep -q masquerade || fail "there was no NAT"

#!/usr/bin/env bash
# Clones through a Linux router: addresses are found on both sides, and everything comes back, with signatures and without.
set -eu
# shellcheck source=tests/netns/dut.sh
. "$(dirname "$0")/dut.sh"
dut_begin dutp tshark

echo "== by headers"
through --clones 3 --rate 10kpps
went $((3 * n_in))
same "packets lost" "$(of measure.lost)" 0

echo "== by signatures"
capture rt r1 "$tmp/r1.pcap" ip or ip6
through --clones 3 --rate 10kpps --signature
capture_end "$(of measure.matched)"
went $((3 * n_in))
same "packets lost" "$(of measure.lost)" 0
signed=$(tshark -r "$tmp/r1.pcap" -Y 'frame contains "nSSm"' 2>/dev/null | wc -l)
echo "packets with a signature: $signed"
[ "$signed" -gt $((n_in / 2)) ] || fail "hardly a packet has a signature"
good_checksums "$tmp/r1.pcap"

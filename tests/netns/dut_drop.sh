#!/usr/bin/env bash
# Clones through a router that drops one packet in a hundred: that is the loss that is reported, and to the packet what nftables
# says it dropped.
set -eu
# shellcheck source=tests/netns/dut.sh
. "$(dirname "$0")/dut.sh"
dut_begin dutd nft
drop_on rt 1
# What has no key is neither sent nor lost to those who count (ARP, MLD, Neighbor Discovery).
"$netssm" replay "$tmp/in.pcap" --filter 'tcp or udp' --pcap-out "$tmp/keyed.pcap" --progress none >/dev/null
mv "$tmp/keyed.pcap" "$tmp/in.pcap"
n_in=$(packets "$tmp/in.pcap")

for how in headers signature; do
	echo "== by $how"
	flags=()
	if [ $how = signature ]; then
		flags=(--signature)
	fi
	before=$(dropped rt)
	through --clones 8 --rate 20kpps "${flags[@]}"
	went $((8 * n_in))
	lost=$(of measure.lost)
	same "packets lost" "$lost" $(($(dropped rt) - before))
	look share "$lost" $(($(of measure.matched) + lost)) 0.01
done

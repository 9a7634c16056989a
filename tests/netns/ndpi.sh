#!/usr/bin/env bash
# ndpiReader looks at a live replay of 20 kpps: it gets every packet, and the flows it names are those of the file.
set -eu
# shellcheck source=tests/netns/live.sh
. "$(dirname "$0")/live.sh"
live_begin ndpi ndpiReader

# Real captures have payload to look at; samples are headers.
captures=("$samples"/*.pcap.gz)
if [ -n "${NETSSM_CORPUS:-}" ]; then
	captures=("$NETSSM_CORPUS"/pcaps/{discord,meet,netflix,signal,skype,twitch,whatsapp,youtube,zoom}/*.pcap*)
fi
"$netssm" replay "${captures[@]}" --rate 20kpps --mtu truncate --limit 100000 --pcap-out "$tmp/file.pcap" --label mix \
	--progress none
n=$(packets "$tmp/file.pcap")
ndpiReader -i "$tmp/file.pcap" >"$tmp/file"

ns_add gen rx
quiet gen rx
veth_add gen p0 rx r0
ns_bg rx "${first[@]}" ndpiReader -i r0 >"$tmp/live" 2>&1
listens() { [ "$(ns rx cat /proc/net/packet | wc -l)" -gt 1 ]; }
wait_for "ndpiReader on r0" listens
run ns gen "$netssm" replay "$tmp/file.pcap" --rate 20kpps --port af_packet:p0 --label mix --progress none
# Until it has had nothing to do for a second.
busy() { cut -d' ' -f14,15 "/proc/$ns_pid/stat"; }
for _ in $(seq 100); do
	was=$(busy)
	sleep 1
	[ "$(busy)" != "$was" ] || break
done
kill -INT "$ns_pid"
wait "$ns_pid" || fail "ndpiReader:" "$(tail -n3 "$tmp/live")"

read_packets() { sed -n 's/.* of \([0-9]*\) packets total.*/\1/p' "$1"; }
same "packets that the interface got" "$(seen rx r0)" "$n"
same "packets of ndpiReader -i r0" "$(read_packets "$tmp/live")" "$n"
same "packets of ndpiReader -i file.pcap" "$(read_packets "$tmp/file")" "$n"
protocols() { sed -n '/^Detected protocols/,/^$/p' "$1"; }
protocols "$tmp/file"
[ "$(protocols "$tmp/file" | wc -l)" -gt 4 ] || fail "ndpiReader names no protocols"
diff <(protocols "$tmp/file") <(protocols "$tmp/live") || fail "other protocols than in the file"

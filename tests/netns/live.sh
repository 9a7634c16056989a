# shellcheck shell=bash
# Shared by the tests that run netssm itself in network namespaces: sourced after `set -eu` with the program as $1, then
#
#   live_begin ndpi ndpiReader      as ns_begin: a name for this test, and the programs it needs
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -ge 1 ] || {
	echo "usage: $0 NETSSM" >&2
	exit 2
}
netssm=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # the tests use them
root=${here%/*/*} samples=${here%/*/*}/samples

live_begin() {
	ns_begin "$@" ethtool tcpdump /usr/bin/python3
	# Receivers run before others where the machine is busy, or their buffers would overflow.
	first=()
	if command -v chrt >/dev/null && chrt -f 1 true 2>/dev/null; then
		first=(chrt -f 1)
	fi
}

# run COMMAND…
run() {
	printf '+'
	printf ' %q' "$@"
	printf '\n'
	"$@"
}

# wait_for WHAT COMMAND…: until it succeeds. A minute is for machines that are very busy, not for us.
wait_for() {
	local what=$1 i
	shift
	for ((i = 0; i < 600; i++)); do
		if "$@" >/dev/null 2>&1; then
			return
		fi
		sleep 0.1
	done
	fail "waited a minute for $what"
}

# quiet NS…: its kernel says nothing of its own accord on the interfaces it gets from now on.
quiet() {
	local name
	for name in "$@"; do
		ns_set "$name" net/ipv6/conf/default/disable_ipv6 1
	done
}

# seen NS IF: packets that came by the interface.
seen() { ns "$1" cat "/sys/class/net/$2/statistics/rx_packets"; }

# capture NS IF FILE [FILTER…]: every packet from when this returns until capture_end.
capture() {
	local name=$1 iface=$2 file=$3
	shift 3
	: >"$tmp/tcpdump"
	# Root stays: the file is in a folder of root's.
	ns_bg "$name" "${first[@]}" tcpdump -i "$iface" -n -Z root -B 65536 --time-stamp-precision=nano -w "$file" "$@" 2>"$tmp/tcpdump"
	tcpdump_pid=$ns_pid
	wait_for "tcpdump on $iface" grep -q 'listening on' "$tmp/tcpdump"
}
# capture_end PACKETS: when it has that many, or seems to get no more. $caught: how many it has.
capture_end() {
	local i
	for ((i = 0; i < 200; i++)); do
		kill -USR1 "$tcpdump_pid"
		sleep 0.1
		caught=$(sed -n 's/^tcpdump: \([0-9]*\) packets\? captured.*/\1/p' "$tmp/tcpdump" | tail -n1)
		[ "${caught:-0}" -lt "$1" ] || break
	done
	kill -INT "$tcpdump_pid"
	wait "$tcpdump_pid" || true
	grep -q '^0 packets dropped by kernel' "$tmp/tcpdump" || fail "tcpdump itself lost packets:" "$(tail -n3 "$tmp/tcpdump")"
	caught=$(sed -n 's/ packets\? captured$//p' "$tmp/tcpdump" | tail -n1)
}

# look WHAT…: look.py says what it found, or fails.
look() { /usr/bin/python3 "$here/look.py" "$@" || fail "look.py $*"; }
# of NAME: a figure of the run whose --stats-json is $tmp/stats.json
of() {
	if [ ! "$tmp/figures" -nt "$tmp/stats.json" ]; then
		look figures "$tmp/stats.json" >"$tmp/figures"
	fi
	sed -n "s/^$1 //p" "$tmp/figures"
}

# whole FILE CAPTURE…: side by side, cut frames made whole, checksums right: traffic that a kernel takes.
whole() {
	local file=$1
	shift
	"$netssm" replay "$@" --merge --pad --fix-checksums --pcap-out "$file" --progress none >"$tmp/whole" || fail "$(cat "$tmp/whole")"
}
# packets FILE
packets() { tcpdump -n -r "$1" 2>/dev/null | wc -l; }

# good_checksums FILE: tshark finds none that is bad, and some of TCP and UDP that are good.
good_checksums() {
	tshark -r "$1" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -T fields -E occurrence=f \
		-e ip.checksum.status -e tcp.checksum.status -e udp.checksum.status -e icmp.checksum.status \
		-e icmpv6.checksum.status 2>/dev/null >"$tmp/checksums" || fail "tshark -r $1"
	# TCP or UDP inside an ICMP error is a quotation.
	awk -F'\t' '{ for (i = 1; i <= NF; i++) n[i, (i == 2 || i == 3) && $4 $5 != "" ? "" : $i]++ }
		END {
			split("IPv4 TCP UDP ICMP ICMPv6", name, " ")
			for (i = 1; i <= 5; i++) {
				bad += n[i, 0]
				printf "%s%s %d good, %d bad, %d untold", (i > 1 ? "; " : "checksums: "), name[i], n[i, 1], n[i, 0], n[i, 2]
			}
			printf "\n"
			exit !(n[2, 1] > 0 && n[3, 1] > 0) || bad > 0
		}' "$tmp/checksums" || fail "checksums in $1"
}

# same WHAT FOUND EXPECTED
same() {
	[ "$2" = "$3" ] || fail "$1: found $2, expected $3"
	echo "$1: $2"
}

# shellcheck shell=bash
# Shared by the tests in network namespaces: sourced after `set -eu`. Everything is made in namespaces whose names begin with
# the test's name and its PID, and goes away with them when the test ends, however it ends.
#
#   ns_begin router ip nft ethtool ping      a name for this test, and the programs it needs
#   ns_add gen dut                           namespaces
#   veth_add gen c0 dut r0                   a cable between two of them
#   addr_add dut r0 198.18.0.1/24 2001:db8:1::1/64
#   router_on dut                            dut forwards
#   ns dut ping -c1 198.18.0.2               a command in a namespace

ns_tag=""
ns_list=()
ns_pids=()
# shellcheck disable=SC2034 # the tests use it
tmp=$(mktemp -d)

clean_up() {
	local pid name
	for pid in "${ns_pids[@]}"; do
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	for name in "${ns_list[@]}"; do
		ip netns del "$name" 2>/dev/null || true
	done
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

fail() {
	printf 'FAILED: %s\n' "$@"
	exit 1
}
skip() {
	printf 'skipped: %s\n' "$@"
	exit 77
}

# ns_begin NAME TOOL…: skips the test where it cannot be run.
ns_begin() {
	local tool
	ns_tag=$1$$
	shift
	[ "$(id -u)" = 0 ] || skip "needs root: it makes network namespaces"
	for tool in ip "$@"; do
		command -v "$tool" >/dev/null || skip "no $tool (scripts/setup test installs it)"
	done
	ip netns add "$ns_tag-try" 2>/dev/null || skip "network namespaces cannot be made here"
	ns_list+=("$ns_tag-try")
	ip -n "$ns_tag-try" link add name v0 type veth peer name v1 2>/dev/null || skip "this kernel has no veth"
}

# ns NAME COMMAND…
ns() {
	local name=$1
	shift
	ip netns exec "$ns_tag-$name" "$@"
}

# ns_bg NAME COMMAND…: in the background until the test ends; its PID is in $ns_pid.
ns_bg() {
	local name=$1
	shift
	# Not through the function: the PID must be the command's own, and ip becomes it. Its input is the caller's; else it would
	# be /dev/null.
	ip netns exec "$ns_tag-$name" "$@" <&0 &
	ns_pid=$!
	ns_pids+=("$ns_pid")
}

# ns_set NAME KEY VALUE: a kernel parameter of a namespace, as sysctl names it with slashes.
ns_set() {
	ns "$1" sh -c "echo $3 >/proc/sys/$2"
}

# ns_add NAME…: namespaces in which little is sent that nobody asked for: no router solicitations, no duplicate address
# detection. (Link-local addresses stay: a router asks from them.)
ns_add() {
	local name key
	for name in "$@"; do
		ip netns add "$ns_tag-$name"
		ns_list+=("$ns_tag-$name")
		ip -n "$ns_tag-$name" link set lo up
		for key in accept_ra autoconf accept_dad dad_transmits router_solicitations; do
			ns_set "$name" net/ipv6/conf/default/$key 0
		done
		ns_set "$name" net/ipv4/conf/all/rp_filter 0
		ns_set "$name" net/ipv4/conf/default/rp_filter 0
	done
}

# veth_add NS IF NS IF [MTU [MAC MAC]]: both ends up; checksums and segments are made in software, so that what is seen on the
# wire is what a wire would carry.
veth_add() {
	local mtu=${5:-1500} i n f mac
	ip link add name "$2" netns "$ns_tag-$1" type veth peer name "$4" netns "$ns_tag-$3"
	for i in 1 3; do
		n=${!i}
		f=$((i + 1))
		f=${!f}
		mac=$((i == 1 ? 6 : 7))
		if [ $# -ge $mac ]; then
			ip -n "$ns_tag-$n" link set "$f" address "${!mac}"
		fi
		ip -n "$ns_tag-$n" link set "$f" mtu "$mtu"
		ns "$n" ethtool -K "$f" rx off tx off tso off gso off gro off >/dev/null
		ip -n "$ns_tag-$n" link set "$f" up
	done
}

# port_only NS IF…: the kernel keeps quiet there: an interface that a program plays on.
port_only() {
	local name=$1 f
	shift
	for f in "$@"; do
		ns_set "$name" "net/ipv6/conf/$f/disable_ipv6" 1
		ip -n "$ns_tag-$name" link set "$f" promisc on
	done
}

# addr_add NS IF ADDRESS/LEN…
addr_add() {
	local name=$1 f=$2 addr
	shift 2
	for addr in "$@"; do
		if [[ $addr == *:* ]]; then
			ip -n "$ns_tag-$name" addr add "$addr" dev "$f" nodad
		else
			ip -n "$ns_tag-$name" addr add "$addr" dev "$f"
		fi
	done
}

# mac_of NS IF
mac_of() {
	ns "$1" cat "/sys/class/net/$2/address"
}

# router_on NS: it forwards, and says nothing about better ways.
router_on() {
	ns_set "$1" net/ipv4/ip_forward 1
	ns_set "$1" net/ipv6/conf/all/forwarding 1
	ns_set "$1" net/ipv4/conf/all/send_redirects 0
	ns_set "$1" net/ipv4/conf/default/send_redirects 0
}

# nat_on NS IF: what leaves by IF has IF's address as its source, IPv4 and IPv6.
nat_on() {
	ns "$1" nft -f - <<END || skip "this kernel has no nftables NAT"
table inet nat {
	chain out { type nat hook postrouting priority srcnat; oifname "$2" masquerade; }
}
END
}

# drop_on NS PERCENT: loses that share of what is forwarded, at random; dropped NS says how many those were.
drop_on() {
	ns "$1" nft -f - <<END || skip "this kernel has no nftables"
table inet lossy {
	counter dropped { }
	chain forward {
		type filter hook forward priority filter;
		numgen random mod 100 < $2 counter name dropped drop
	}
}
END
}
dropped() {
	ns "$1" nft list counter inet lossy dropped | sed -n 's/.*packets \([0-9]*\).*/\1/p'
}

# router_between CLIENT DUT SERVER: three namespaces in a row, c0-r0 and r1-s0. The router has 198.18.0.1/24 and 2001:db8:1::1/64
# towards the client, 198.19.0.1/24 and 2001:db8:2::1/64 towards the server. CLIENT and SERVER may be the same.
router_between() {
	veth_add "$1" c0 "$2" r0
	veth_add "$3" s0 "$2" r1
	addr_add "$2" r0 198.18.0.1/24 2001:db8:1::1/64
	addr_add "$2" r1 198.19.0.1/24 2001:db8:2::1/64
	router_on "$2"
}

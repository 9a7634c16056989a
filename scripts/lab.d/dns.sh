# shellcheck shell=bash
# shellcheck disable=SC2154 # work, dir and dns_server are set by scripts/lab
# dns — a host that resolves names: bursts of A and AAAA as programs start, MX, TXT, SRV and reverse look-ups, names that do
# not exist, answers too long for UDP that are asked for again over TCP, a second server when the mood takes it.

lab_dns_hosts=160

lab_dns_content() {
	local i n j size
	{
		for i in $(seq $lab_dns_hosts); do
			rnd n 1 4
			for j in $(seq "$n"); do
				echo "host-record=h$i.example.test,10.53.$i.$j"
			done
			if chance 55; then
				echo "host-record=h$i.example.test,fd53::$i:1"
			fi
			if chance 70; then
				echo "cname=alias$i.example.test,h$i.example.test"
			fi
		done
		for i in $(seq 24); do
			echo "mx-host=d$i.example.test,h$i.example.test,10"
			echo "mx-host=d$i.example.test,h$((i + 1)).example.test,20"
			echo "srv-host=_sip._udp.d$i.example.test,h$i.example.test,5060"
			rnd size 20 250
			printf 'txt-record=d%d.example.test,v=%0*d\n' "$i" "$size" 0
		done
		# Over 1,232 bytes: truncated over UDP.
		for i in $(seq 6); do
			for j in 1 2 3 4 5 6 7; do
				rnd size 190 250
				printf 'txt-record=long%d.example.test,%0*d\n' "$i" "$size" "$j"
			done
		done
	} >>"$work/dns.conf"
}

# lab_dns_question: appends one question to the array `questions`, dig's arguments in one word.
lab_dns_question() {
	local h d kind
	rnd h 1 $lab_dns_hosts
	rnd d 1 24
	rnd kind 1 100
	if [ "$kind" -le 45 ]; then
		questions+=("h$h.example.test A" "h$h.example.test AAAA")
	elif [ "$kind" -le 60 ]; then
		questions+=("h$h.example.test A")
	elif [ "$kind" -le 68 ]; then
		questions+=("alias$h.example.test A")
	elif [ "$kind" -le 76 ]; then
		questions+=("d$d.example.test MX")
	elif [ "$kind" -le 83 ]; then
		questions+=("d$d.example.test TXT")
	elif [ "$kind" -le 87 ]; then
		questions+=("_sip._udp.d$d.example.test SRV")
	elif [ "$kind" -le 91 ]; then
		questions+=("-x 10.53.$h.1")
	elif [ "$kind" -le 97 ]; then
		questions+=("nobody$h.example.test A")
	else
		questions+=("long$((d % 6 + 1)).example.test TXT")
	fi
}

# lab_dns_ask FLAGS…: asks all `questions`, each from a port of its own, then forgets them.
lab_dns_ask() {
	local q file=$dir/questions
	printf '%s\n' "${questions[@]}" >"$file"
	if chance 40; then
		# One process, one after the other.
		cli dig "$@" -f "$file" >"$dir/dig.log" 2>&1 || true
	else
		while IFS= read -r q; do
			# shellcheck disable=SC2086 # name and type
			cli dig "$@" $q >"$dir/dig.log" 2>&1 </dev/null || true
			if chance 30; then
				pause 5 120
			fi
		done <"$file"
	fi
	questions=()
}

lab_dns_session() {
	local bursts burst_len i server=$dns_server other=192.0.2.54
	local -a flags questions=()
	flags=(+time=1 +tries=3)
	case $server in
	*:*) other=fd00:2::54 ;;
	esac
	if chance 35; then
		flags+=(+noedns)
	elif chance 40; then
		flags+=(+bufsize=1232 +nocookie)
	fi
	rnd bursts 4 9
	for _ in $(seq "$bursts"); do
		rnd burst_len 2 10
		for i in $(seq "$burst_len"); do
			lab_dns_question
		done
		if chance 12; then
			lab_dns_ask "@$other" "${flags[@]}"
		elif chance 6; then
			lab_dns_ask "@$server" "${flags[@]}" +tcp
		else
			lab_dns_ask "@$server" "${flags[@]}"
		fi
		pause 100 2500
	done
	# Every session has one answer that must be fetched over TCP.
	rnd i 1 6
	questions=("long$i.example.test TXT")
	lab_dns_ask "@$server" "${flags[@]}"
}

# shellcheck shell=bash
# shellcheck disable=SC2154 # work, dir and dns_server are set by scripts/lab
# web — pages with several objects from two hosts: a browser's few parallel keep-alive connections, HTTP/1.1 in the clear or
# over TLS, or HTTP/2 over one; think time between pages; a form sent now and then; some links that lead nowhere.

lab_web_objects=48
lab_web_pages=12

lab_web_content() {
	local i size
	mkdir -p "$1/page" "$1/obj"
	for i in $(seq $lab_web_pages); do
		rnd_size size 1500 24000
		truncate -s "$size" "$1/page/$i.html"
	done
	for i in $(seq $lab_web_objects); do
		rnd_size size 200 48000
		truncate -s "$size" "$1/obj/$i"
	done
	cat >>"$work/dns.conf" <<'END'
host-record=www.example.test,198.51.100.10,fd00:3::10
host-record=origin.example.test,198.51.100.11,fd00:3::11
host-record=origin.example.test,198.51.100.12,fd00:3::12
cname=static.example.test,origin.example.test
END
}

lab_web_session() {
	local scheme=http h2=no pages=1 page conns objects c i obj size cookie_len pids
	local -a common urls
	common=(-A "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0")
	if chance 55; then
		scheme=https
		if chance 30; then
			h2=yes
		elif chance 40; then
			common+=(--tls-max 1.2)
		fi
	fi
	[ $h2 = yes ] || common+=(--http1.1)
	rnd cookie_len 0 400
	common+=(-H "Cookie: id=$(printf "%0${cookie_len}d" 0)" -H "Accept: text/html,*/*;q=0.8" -H "Accept-Language: en")
	rnd pages 1 3

	while [ "$pages" -gt 0 ]; do
		rnd page 1 $lab_web_pages
		rnd conns 1 4
		rnd objects 2 9
		pids=()
		if [ $h2 = yes ]; then
			conns=1
		fi
		# The first connection fetches the page, then its share of the objects; the others start when the page has been seen.
		for c in $(seq "$conns"); do
			urls=()
			if [ "$c" = 1 ]; then
				urls+=("$scheme://www.example.test/web/page/$page.html")
			fi
			for i in $(seq "$c" "$conns" "$objects"); do
				rnd obj 1 $lab_web_objects
				if chance 4; then
					obj=gone
				fi
				if [ $((c % 2)) = 1 ]; then
					urls+=("$scheme://www.example.test/web/obj/$obj")
				else
					urls+=("$scheme://static.example.test/web/obj/$obj")
				fi
			done
			[ ${#urls[@]} -gt 0 ] || continue
			if [ $h2 = yes ]; then
				fetch "${common[@]}" -Z --parallel-max 6 "${urls[@]}" &
			else
				fetch "${common[@]}" "${urls[@]}" &
			fi
			pids+=($!)
			if [ "$c" = 1 ]; then
				pause 40 250
			else
				pause 1 20
			fi
		done
		wait "${pids[@]}"
		if chance 15; then
			rnd_size size 100 6000
			head -c "$size" /dev/zero | fetch "${common[@]}" --data-binary @- "$scheme://www.example.test/post"
		fi
		pages=$((pages - 1))
		[ "$pages" = 0 ] || pause 300 4000
	done
}

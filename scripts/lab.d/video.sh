# shellcheck shell=bash
# shellcheck disable=SC2154 # work, dir and dns_server are set by scripts/lab
# video — adaptive streaming: manifest, a first burst that fills the buffer, then segment after segment at the pace of
# playing, on keep-alive connections, in two qualities between which the player switches; sound on a connection of its own.

lab_video_films=4
lab_video_segments=40

lab_video_content() {
	local film i size
	for film in $(seq $lab_video_films); do
		mkdir -p "$1/$film"
		rnd size 600 4000
		truncate -s "$size" "$1/$film/manifest.mpd"
		truncate -s 780 "$1/$film/init"
		for i in $(seq $lab_video_segments); do
			rnd size 5000 13000
			truncate -s "$size" "$1/$film/low-$i.m4s"
			rnd size 17000 36000
			truncate -s "$size" "$1/$film/high-$i.m4s"
			rnd size 3200 4600
			truncate -s "$size" "$1/$film/sound-$i.m4s"
		done
	done
	cat >>"$work/dns.conf" <<'END'
host-record=play.example.test,203.0.113.20,fd00:4::20
host-record=edge.example.test,203.0.113.21,fd00:4::21
END
}

lab_video_session() {
	local film first fill steady i quality=low per_minute scheme=http base sound="" pids=()
	local -a common urls
	common=(-A "VideoPlayer/4.2" --http1.1 -H "Accept: */*")
	if chance 50; then
		scheme=https
	fi
	rnd film 1 $lab_video_films
	rnd first 1 20
	rnd fill 2 4
	rnd steady 4 10
	rnd per_minute 45 110
	base=$scheme://edge.example.test/video/$film
	if chance 25; then
		common+=(--limit-rate 90k)
	fi
	if chance 40; then
		quality=high
	fi
	fetch "${common[@]}" "$scheme://play.example.test/video/$film/manifest.mpd"
	pause 30 300

	urls=("$base/init")
	for i in $(seq "$first" $((first + fill - 1))); do
		urls+=("$base/$quality-$i.m4s")
	done
	fetch "${common[@]}" "${urls[@]}"
	pause 100 900

	# --rate starts one request every so often and keeps the connection between them.
	urls=()
	for i in $(seq $((first + fill)) $((first + fill + steady - 1))); do
		if chance 22; then
			if [ $quality = low ]; then
				quality=high
			else
				quality=low
			fi
		fi
		urls+=("$base/$quality-$i.m4s")
	done
	fetch "${common[@]}" --rate "$per_minute/m" "${urls[@]}" &
	pids+=($!)
	if chance 50; then
		sound=yes
	fi
	if [ -n "$sound" ]; then
		urls=("$base/init")
		for i in $(seq $((first + fill)) $((first + fill + steady - 1))); do
			urls+=("$base/sound-$i.m4s")
		done
		fetch "${common[@]}" --rate "$per_minute/m" "${urls[@]}" &
		pids+=($!)
	fi
	wait "${pids[@]}"
}

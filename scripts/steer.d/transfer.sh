# shellcheck shell=bash
# shellcheck disable=SC2154 # work is set by scripts/lab
# transfer — files up and down over one connection after another: little but TCP, so that a session shows its line.

lab_transfer_files=16

lab_transfer_content() {
	local i size
	for i in $(seq $lab_transfer_files); do
		rnd_size size 8000 96000
		truncate -s "$size" "$1/$i"
	done
}

lab_transfer_session() {
	local n i size
	rnd n 1 2
	while [ "$n" -gt 0 ]; do
		if chance 50; then
			rnd_size size 8000 96000
			head -c "$size" /dev/zero | fetch --data-binary @- "http://198.51.100.10/post"
		else
			rnd i 1 $lab_transfer_files
			fetch "http://198.51.100.10/transfer/$i"
		fi
		n=$((n - 1))
		[ "$n" = 0 ] || pause 20 200
	done
}

# shellcheck shell=bash
# Shared by the pipeline tests: sourced after `set -eu` with the program as $1. Work goes on in $tmp, which is removed.

[ $# -ge 1 ] || {
	echo "usage: $0 NETSSM" >&2
	exit 2
}
netssm=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
samples=${here%/*}/samples
tmp=$(mktemp -d)
child=""
clean_up() {
	if [ -n "$child" ]; then
		kill -9 "$child" 2>/dev/null || true
	fi
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
need() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || skip "no $tool (scripts/setup test installs it)"
	done
}
run() {
	printf '+'
	printf ' %q' "$@"
	printf '\n'
	"$@"
}
# refused CODE WORDS COMMAND…: it must exit with CODE and say WORDS (an extended regular expression).
refused() {
	local want=$1 words=$2 rc=0
	shift 2
	"$@" >"$tmp/refused.out" 2>&1 || rc=$?
	cat "$tmp/refused.out"
	[ $rc = "$want" ] || fail "expected exit code $want, found $rc: $*"
	grep -Eq "$words" "$tmp/refused.out" || fail "expected a message with '$words': $*"
}

# shellcheck disable=SC2034 # the tests use it
# A model that trains in no time, and the corpus for it (the whole of one label's training half).
tiny=(--d-model 32 --n-layer 2 --d-state 16 --headdim 16 --chunk-size 16 --batch 4 --seq-tokens 64 --lr 3e-3 --threads 2
	--progress none)
corpus_of() {
	run "$netssm" prepare --captures "$samples" --labels "$samples/labels.csv" --split train --only "$1" --out "$2" \
		--progress none
}

# Rows of a log under its heading; 0 where there is no log yet.
rows() {
	if [ -s "$1" ]; then
		awk 'END { print NR - 1 }' "$1"
	else
		echo 0
	fi
}
# The log without the column that holds the time.
losses() {
	awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") skip = i }
		{ line = ""; for (i = 1; i <= NF; i++) if (i != skip) line = line "," $i; print line }' "$1"
}

#!/usr/bin/env bash
# A training that is killed at any instant goes on with the losses it would have had, bit for bit; SIGINT saves and stops.
# $NETSSM_TEST_SEED chooses where it is killed.
set -eu
. "$(dirname "$0")/pipeline.sh"

seed=${NETSSM_TEST_SEED:-$(date +%s)}
echo "NETSSM_TEST_SEED=$seed"
RANDOM=$((seed % 32768))

# Short sessions and packets cut to 64 bytes: in 300 steps every lane changes sessions and the order is drawn anew.
captures=()
for number in 005 009 012 020 022; do
	captures+=(--captures "$samples/dns-$number.pcap.gz")
done
run "$netssm" prepare "${captures[@]}" --label dns --codec raw --packet-len 64 --out "$tmp/train.nssm" --progress none
steps=300
train() { "$netssm" train --corpus "$tmp/train.nssm" --steps $steps --save-every 0 "${tiny[@]}" "$@"; }

# start OUT ARGS…: in the background, as $child, without a shell between.
start() {
	out=$1
	shift
	"$netssm" train --corpus "$tmp/train.nssm" --steps $steps --save-every 0 "${tiny[@]}" --out "$out" "$@" \
		>"$out.txt" 2>&1 &
	child=$!
}
# upto ROWS: until that many steps are in the log.
upto() {
	while [ "$(rows "$out/log.csv")" -lt "$1" ] && kill -0 $child 2>/dev/null; do
		sleep 0.01
	done
}
reap() {
	rc=0
	wait "$child" || rc=$?
	child=""
}

# Saved once, while the others save after every step: saving must not move anything.
run train --out "$tmp/whole" --save-every 1h
[ "$(rows "$tmp/whole/log.csv")" = $steps ] || fail "expected $steps rows, found $(rows "$tmp/whole/log.csv")"
losses "$tmp/whole/log.csv" >"$tmp/whole.losses"
head -3 "$tmp/whole.losses"

# Killed four times, each time somewhere in the next quarter, once going on with another number of threads.
killed=0
more=()
at=0
for quarter in 1 2 3 4; do
	at=$((at + 5 + RANDOM % 40))
	start "$tmp/killed" "${more[@]}"
	upto $at
	kill -9 $child 2>/dev/null || true
	reap 2>/dev/null
	cat "$tmp/killed.txt"
	if [ $rc = 137 ]; then
		killed=$((killed + 1))
		echo "killed after step $(tail -1 "$tmp/killed/log.csv" | cut -d, -f1)"
	else
		[ $rc = 0 ] || fail "exit code $rc, neither killed nor finished"
	fi
	more=(--resume)
	if [ $quarter = 2 ]; then
		more=(--resume --threads 1)
	fi
done
[ $killed -ge 1 ] || fail "the training was over before it could be killed: the test needs more steps"
run train --out "$tmp/killed" --resume
losses "$tmp/killed/log.csv" >"$tmp/killed.losses"
diff "$tmp/whole.losses" "$tmp/killed.losses" | head -5
cmp "$tmp/whole.losses" "$tmp/killed.losses" || fail "losses differ after kill and resume"
cmp "$tmp/whole/last/model.safetensors" "$tmp/killed/last/model.safetensors" || fail "weights differ after kill and resume"
echo "killed $killed times, $steps losses the same"

# SIGINT and SIGTERM: a whole checkpoint, exit code 130, a word of where it lies; then on to the same end.
more=()
for signal in INT TERM; do
	at=$(($(rows "$tmp/stopped/log.csv") + 5 + RANDOM % 30))
	# Again where a fast machine was done before the signal came.
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		rm -rf "$tmp/before"
		[ ! -d "$tmp/stopped" ] || cp -r "$tmp/stopped" "$tmp/before"
		# Far from saving by itself, so what is there afterwards was written because of the signal.
		start "$tmp/stopped" "${more[@]}" --save-every 1h
		upto $at
		kill -$signal $child 2>/dev/null || true
		reap
		[ $rc = 0 ] || break
		rm -rf "$tmp/stopped"
		[ ! -d "$tmp/before" ] || cp -r "$tmp/before" "$tmp/stopped"
	done
	cat "$tmp/stopped.txt"
	[ "$rc" = 130 ] || fail "SIG$signal: expected exit code 130, found $rc"
	grep -q 'resume' "$tmp/stopped.txt" || fail "SIG$signal: expected a word about --resume"
	echo "stopped by SIG$signal after step $(tail -1 "$tmp/stopped/log.csv" | cut -d, -f1)"
	more=(--resume)
done
run train --out "$tmp/stopped" --resume
losses "$tmp/stopped/log.csv" | cmp "$tmp/whole.losses" - || fail "losses differ after signals and resume"

# A log that was deleted meanwhile begins anew, with its header and the steps that come.
start "$tmp/lost" --save-every 1h
upto 5
kill -INT $child 2>/dev/null || true
reap
if [ $rc = 130 ]; then # 0: a fast machine was done before
	done_steps=$(rows "$tmp/lost/log.csv")
	rm "$tmp/lost/log.csv"
	run train --out "$tmp/lost" --resume
	cmp <(head -1 "$tmp/whole/log.csv") <(head -1 "$tmp/lost/log.csv") || fail "the new log has no header"
	cmp <(tail -n +$((done_steps + 2)) "$tmp/whole.losses") <(losses "$tmp/lost/log.csv" | tail -n +2) || fail "losses of the new log differ"
fi

# The test can fail: another seed must give other losses.
train --out "$tmp/other" --save-every 1h --seed 2 >/dev/null
! losses "$tmp/other/log.csv" | cmp -s "$tmp/whole.losses" - || fail "another seed gave the same losses"

# A run that is not the same one is refused, and the old one left as it was.
refused 1 'lr' train --out "$tmp/stopped" --resume --lr 1e-2
refused 1 'resume' train --out "$tmp/stopped"
losses "$tmp/stopped/log.csv" | cmp "$tmp/whole.losses" - || fail "a refused run touched the log"

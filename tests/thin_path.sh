#!/usr/bin/env bash
# The whole way: samples, corpus, training, generation, and another program that reads what came out.
set -eu
. "$(dirname "$0")/pipeline.sh"
need tshark capinfos

train=$tmp/train.nssm val=$tmp/val.nssm
run "$netssm" prepare --captures "$samples" --labels "$samples/labels.csv" --split train --out "$train" --progress none
run "$netssm" prepare --captures "$samples" --labels "$samples/labels.csv" --split val --out "$val" --progress none
run "$netssm" info --verify "$train"

run "$netssm" train --corpus "$train" --val "$val" --steps 60 --val-every 20 --out "$tmp/run" \
	--config "${here%/*}/conf/tiny.yaml" --batch 8 --seq-tokens 256 --threads 2 --progress none
[ "$(rows "$tmp/run/log.csv")" = 60 ] || fail "log.csv: expected 60 rows, found $(rows "$tmp/run/log.csv")"
# A model that has learned something: below ln 260, what guessing costs, by far.
awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) col[$i] = i }
	NR == 2 { first = $col["loss"] }
	END { last = $col["loss"]; print "loss " first " -> " last; exit !(first > 4 && first < 7 && last > 0 && last < 0.6 * first) }' \
	"$tmp/run/log.csv" || fail "the loss did not fall as it must"

# A model this young needs a start: the first packets of a real session. It then goes on until it has 30.
generate() {
	"$netssm" generate --model "$tmp/run" --label dns:2,web:1 --sessions 4 --packets 30 --tokens 6k --seed 7 \
		--prompt "$samples/dns-001.pcap.gz" --prompt-packets 10 --progress none "$@"
}
run generate --pcap-out "$tmp/a.pcap" --manifest "$tmp/a.json"
generate --pcap-out "$tmp/b.pcap" --lanes 1 --threads 1 >/dev/null
cmp "$tmp/a.pcap" "$tmp/b.pcap" || fail "the same seed gave other packets with one lane and one thread"
generate --pcap-out "$tmp/c.pcap" --seed 8 >/dev/null
! cmp -s "$tmp/a.pcap" "$tmp/c.pcap" || fail "another seed gave the same packets"

tshark -r "$tmp/a.pcap" -o ip.check_checksum:TRUE -T fields -e frame.number -e ip.checksum.status -e frame.time_epoch \
	>"$tmp/tshark.out" 2>"$tmp/tshark.err" || fail "tshark: $(cat "$tmp/tshark.err")"
# Running as root is none of the capture's business.
if grep -v 'Running as user "root"' "$tmp/tshark.err"; then
	fail "tshark complained"
fi
n=$(wc -l <"$tmp/tshark.out")
[ "$n" -ge 40 ] || fail "expected at least the 10 packets of the start in 4 sessions, tshark sees $n"
[ "$(capinfos -TMrc "$tmp/a.pcap" | awk '{ print $NF }')" = "$n" ] || fail "tshark and capinfos count differently"
! awk -F'\t' '$2 == "0"' "$tmp/tshark.out" | grep . || fail "wrong IP checksums"
awk -F'\t' '$3 + 0 < last + 0 { exit 1 } { last = $3 }' "$tmp/tshark.out" || fail "time goes back"
echo "$n packets"

# What generate writes, prepare reads.
run "$netssm" prepare --captures "$tmp/a.pcap" --label made --out "$tmp/again.nssm" --progress none

/* Any frames, sent and received: counts that add up, and a signature that changes its 24 bytes and a checksum and nothing else.
 * First byte: window (3 bits), signature. Then steps: what, label, length in two bytes, the frame; a length of 0xffff means the
 * frame last sent, as it left, one byte of it changed. */
#include <stdlib.h>
#include <string.h>

#include "model/packet.h"
#include "replay/measure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SENT, RECEIVED, UNSENT, EXPIRE, N_LABELS = 2, FRAME_MAX = 4096 };

static void require(int ok)
{
	if (!ok)
		abort();
}

/* What changed in sending lies at the end and in one field of two bytes before it. */
static void check_marked(const uint8_t *before, const uint8_t *after, uint32_t len, uint32_t may_overwrite)
{
	uint32_t first = 0, last = 0;
	uint32_t fixed = len - (may_overwrite < len ? may_overwrite : len);
	for (uint32_t i = 0; i < fixed; i++) {
		if (before[i] == after[i])
			continue;
		first = first != 0 ? first : i;
		last = i;
	}
	require(last - first <= 1);
}

static void check(const struct nssm_measure *m)
{
	const struct nssm_measure_counters *all = nssm_measure_all(m), *a = nssm_measure_label(m, 0),
	                                   *b = nssm_measure_label(m, 1);
	const struct nssm_measure_extra *x = nssm_measure_extra(m);
	require(x->remembered == all->matched + all->lost + nssm_measure_waiting(m));
	require(all->matched == a->matched + b->matched && all->lost == a->lost + b->lost);
	require(all->duplicate == a->duplicate + b->duplicate &&
	        all->reordered == a->reordered + b->reordered);
	require(all->latency.count == all->matched && x->marked <= x->remembered &&
	        all->reordered <= all->matched);
}

/* One that remembers nothing of the input before: opening one anew would take most of the time. Its first frames are pushed out by
 * others. */
static struct nssm_measure *empty(unsigned kind)
{
	static struct nssm_measure *kept[16];
	struct nssm_err err;
	const struct nssm_measure_cfg cfg = {.n_labels = N_LABELS,
	        .window_max = 1 + (kind & 7u),
	        .timeout_ns = 5,
	        .signature = (kind & 8) != 0};
	if (kept[kind] == NULL)
		require(nssm_measure_open(&kept[kind], &cfg, &err) == 0);
	uint8_t frame[42] = {[12] = 8, [14] = 0x45, [17] = 28, [23] = 255};
	for (uint8_t i = 0; i < 8; i++) {
		frame[34] = i;
		nssm_measure_sent(kept[kind], frame, sizeof frame, 0, 0, 0);
	}
	nssm_measure_expire(kept[kind], UINT64_MAX);
	return kept[kind];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t last[FRAME_MAX];
	uint32_t last_len = 0;
	if (size < 1)
		return 0;
	struct nssm_measure *m = empty(data[0] & 15);
	uint64_t now_ns = 0;
	size_t at = 1;
	while (at + 4 <= size) {
		uint8_t what = data[at] & 3, label = data[at + 1] % N_LABELS, more = data[at] >> 2;
		uint32_t len = (uint32_t)data[at + 2] << 8 | data[at + 3];
		at += 4;
		bool again = len == 0xffff;
		if (again)
			len = last_len;
		else
			len = len < size - at ? len : (uint32_t)(size - at);
		len = len < FRAME_MAX ? len : FRAME_MAX;
		/* An exact copy: the sanitizer sees reads and writes beyond it. */
		uint8_t *frame = malloc(len + (len == 0));
		require(frame != NULL);
		memcpy(frame, again ? last : data + at, len);
		at += again ? 0 : len;
		if (again && more < len && more > 0)
			frame[more] ^= label;
		if (what == SENT) {
			uint8_t before[FRAME_MAX];
			memcpy(before, frame, len);
			nssm_measure_sent(m, frame, len, more * 8u, label, now_ns);
			check_marked(before, frame, len, more * 8u);
			memcpy(last, frame, len);
			last_len = len;
		} else if (what == RECEIVED) {
			uint64_t matched = nssm_measure_all(m)->matched;
			bool is = nssm_measure_received(m, frame, len, now_ns);
			require(nssm_measure_all(m)->matched == matched + is);
		} else if (what == UNSENT) {
			nssm_measure_unsent(m, frame, len);
		} else {
			nssm_measure_expire(m, now_ns);
		}
		free(frame);
		check(m);
		now_ns += more % 4;
	}
	nssm_measure_expire(m, UINT64_MAX);
	require(nssm_measure_waiting(m) == 0);
	check(m);
	return 0;
}

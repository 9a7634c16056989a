/* How long a frame's sending and coming back keep the measuring busy, with many frames in flight: bench_measure [IN_FLIGHT [PAIRS]].
 * Prints ns per pair: the median of parts of 9,600 pairs, less the median of making the frames alone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/measure.h"
#include "measure_frames.h"
#include "replay/measure.h"

#define PART      9600
#define PARTS_MAX 4096
#define GAP_NS    1000ull /* 1 Mpps */

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)(v >> 32));
	put32(p + 4, (uint32_t)v);
}

/* Frame i of a stream; with a signature as it comes back. same: all but their IDs alike. */
static void set_frame(struct frame *f, uint64_t i, bool signature, bool same)
{
	uint8_t *l4 = f->data + f->l4;
	if (signature) {
		memcpy(f->data + f->len - 24, "nSSm\1\0\0\0", 8);
		put64(f->data + f->len - 16, i);
		put64(f->data + f->len - 8, i * GAP_NS);
		put16(l4 + 6, 0);
	} else {
		put16(f->data + f->l3 + 4, (unsigned)i & 0xffff);
		put32(l4 + 4, same ? 0 : (uint32_t)i * 1448);
		put32(l4 + 8, same ? 0 : (uint32_t)(i >> 20));
	}
}

/* NSSM_BURST frames are sent, as many come back; as an engine does it. */
static uint64_t burst(struct nssm_measure *m, struct frame *out, struct frame back[NSSM_BURST], uint64_t i,
        uint64_t in_flight, bool signature, bool same)
{
	const uint8_t *data[NSSM_BURST];
	uint32_t len[NSSM_BURST];
	for (uint32_t k = 0; k < NSSM_BURST; k++, i++) {
		set_frame(out, i, signature, same);
		set_frame(&back[k], i - in_flight, signature, same);
		data[k] = back[k].data;
		len[k] = back[k].len;
		/* Keeps the frames from being made once. */
		__asm__ volatile("" : : "r"(out->data), "r"(back[k].data) : "memory");
		if (m != NULL)
			nssm_measure_sent(m, out->data, out->len, signature ? 100 : 0, 0, i * GAP_NS);
	}
	if (m == NULL)
		return i;
	nssm_measure_received_burst(m, data, len, NSSM_BURST, i * GAP_NS + 1);
	nssm_measure_expire(m, i * GAP_NS + 1);
	return i;
}

static double run(
        struct nssm_measure *m, const struct spec *spec, uint64_t in_flight, uint64_t n_pairs, bool same)
{
	bool signature = spec->proto == UDP;
	static struct frame out[1], back[NSSM_BURST];
	out[0] = make(spec);
	for (uint32_t k = 0; k < NSSM_BURST; k++)
		back[k] = nat(out, false);
	uint64_t i = 0;
	for (; i < in_flight; i++) {
		set_frame(out, i, signature, same);
		if (m != NULL)
			nssm_measure_sent(m, out->data, out->len, signature ? 100 : 0, 0, i * GAP_NS);
	}
	static double part_ns[PARTS_MAX];
	size_t n_parts = 0;
	for (uint64_t end = i + n_pairs; i < end && n_parts < PARTS_MAX;) {
		uint64_t begin = nssm_now_ns();
		for (uint64_t k = 0; k < PART; k += NSSM_BURST)
			i = burst(m, out, back, i, in_flight, signature, same);
		part_ns[n_parts++] = (double)(nssm_now_ns() - begin) / PART;
	}
	return nssm_median(part_ns, n_parts);
}

int main(int argc, char **argv)
{
	uint64_t in_flight = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	uint64_t n_pairs = argc > 2 ? strtoull(argv[2], NULL, 10) : 4000000;
	static const struct {
		const char *name;
		struct spec spec;
		bool same;
	} cases[] = {
	        {"headers, bare ACKs", {.ip = 4, .proto = TCP, .flags = ACK}, false},
	        {"headers, 1448 bytes of payload", {.ip = 4, .proto = TCP, .flags = ACK, .n_payload = 1448},
	                false},
	        {"headers, all the same but for IDs", {.ip = 4, .proto = TCP, .flags = ACK}, true},
	        {"signature, 200 bytes of payload", {.ip = 4, .proto = UDP, .n_payload = 200}, false},
	};
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		const struct nssm_measure_cfg cfg = {.n_labels = 1, .signature = cases[k].spec.proto == UDP};
		struct nssm_measure *m;
		struct nssm_err err;
		if (nssm_measure_open(&m, &cfg, &err) != 0) {
			fprintf(stderr, "bench_measure: %s\n", err.msg);
			return 1;
		}
		double bare = run(NULL, &cases[k].spec, in_flight, n_pairs, cases[k].same);
		double ns = run(m, &cases[k].spec, in_flight, n_pairs, cases[k].same) - bare;
		const struct nssm_measure_counters *c = nssm_measure_all(m);
		printf("%-36s %6.1f ns per pair, %" PRIu64 " in flight, %" PRIu64 " matched, %" PRIu64
		       " lost\n",
		        cases[k].name, ns, nssm_measure_waiting(m), c->matched, c->lost);
		bool right = c->matched >= n_pairs && c->lost == 0 && c->unmatched == 0;
		nssm_measure_close(&m);
		if (!right) {
			fprintf(stderr, "bench_measure: not all of them matched\n");
			return 1;
		}
	}
	return 0;
}

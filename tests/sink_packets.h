/* sink_packets — for tests of sinks: packets to hand over, and alloc_count.h. */
#ifndef NSSM_TESTS_SINK_PACKETS_H
#define NSSM_TESTS_SINK_PACKETS_H

#include <stdlib.h>

#include "replay/sink.h"
#include "tests/alloc_count.h"

#define T0_NS (1700000000ull * 1000000000u)

/* Packet i: 60 to 159 bytes, each byte known from i; every third one was cut by its capture; 1 ms 123 ns apart. */
static inline struct nssm_tx packet(uint64_t i, uint8_t data[160])
{
	uint32_t len = 60 + (uint32_t)(i * 7 % 100);
	for (uint32_t k = 0; k < 160; k++)
		data[k] = (uint8_t)(i * 31 + k * 7 + 1);
	return (struct nssm_tx){.data = data, .len = len, .wirelen = i % 3 == 2 ? 1514 : len, .due_ns = i * 1000123,
		.time_ns = T0_NS + i * 1000123, .session = i / 4, .clone = (uint32_t)(i % 5), .label_idx = (uint32_t)(i % 3),
		.dir = i % 2};
}

/* Packets [from, to) in bursts of up to NSSM_BURST; returns at the first error. */
static inline int burst(struct nssm_sink *s, uint64_t from, uint64_t to, struct nssm_err *err)
{
	static uint8_t data[NSSM_BURST][160];
	struct nssm_tx pkt[NSSM_BURST];
	while (from < to) {
		uint32_t n = 0;
		for (; n < NSSM_BURST && from < to; n++, from++)
			pkt[n] = packet(from, data[n]);
		int rc = nssm_sink_burst(s, pkt, n, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static inline uint64_t n_dropped(const struct nssm_sink *s)
{
	uint64_t n = 0;
	for (int i = 0; i < NSSM_DROP_N; i++)
		n += nssm_sink_stats(s)->dropped[i];
	return n;
}

#endif

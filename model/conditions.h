/* conditions — what a session was like, measured while its packets pass, and as the bytes that stand after its label.
 *
 * Measures
 *   round trip   median over TCP's acknowledgements. One that ends exactly where a segment (SYN and FIN count) does gives the time of one
 *                half, from the capture to that segment's receiver and back, as Wireshark's tcp.analysis.ack_rtt; the round trip is
 *                that and the shortest time of the flow's other half so far, so it is the same wherever on the path the capture was
 *                made; a handshake gives Wireshark's initial_rtt. As long as only one half was seen there is none. Nothing that was
 *                under way when something was sent again gives a time (Karn & Partridge 1987: nor what waits behind the gap).
 *   loss         TCP segments with data that were sent again, of all with data. Below what was seen already is sent again; what was
 *                missing in front of others is, too, when it comes half a round trip (3 ms if that is not known) or more after the
 *                gap showed: what comes sooner was reordered. Keep-alives count neither way.
 *   throughput   bits on the wire a second, from the first packet to the last; unknown where that is no time.
 *   duration, packets
 * Steps      : 2 an octave: 1 + round(2·log2(v / base)) in 1..255, base 1 µs, 1 bit/s, 1 packet; loss: 1 for none, else
 *              2 + round(2·log2(p / 10⁻⁵)). 0: unknown.
 * Time       : a packet stamped before its predecessor comes at the same time as it.
 * Memory     : fixed: NSSM_METER_FLOWS flows, of a set of 4 the one unseen for longest makes room and is anew when it goes on; of a
 *              flow's direction 32 segments under way (more give no time until these are acknowledged) and 8 gaps. No allocation
 *              after open.
 * Checked    : tests/test_conditions.c (hand-made sessions), tests/conditions_tshark.py (captures, beside tshark)               */
#ifndef NSSM_CONDITIONS_H
#define NSSM_CONDITIONS_H

#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"

/* In the order in which their bytes stand. */
enum nssm_condition {
	NSSM_COND_RTT,
	NSSM_COND_LOSS,
	NSSM_COND_THROUGHPUT,
	NSSM_COND_DURATION,
	NSSM_COND_PACKETS,
	NSSM_N_CONDITIONS
};
/* "rtt", "loss", "throughput", "duration", "packets". */
const char *nssm_condition_name(enum nssm_condition c);
/* The step of a value in seconds, as a share, in bits a second, seconds, packets; v >= 0. */
uint8_t nssm_condition_step(enum nssm_condition c, double v);
/* What a step stands for, in the same units: the middle of it. 1 of loss: 0. step > 0. */
double nssm_condition_value(enum nssm_condition c, uint8_t step);

#define NSSM_METER_FLOWS 256

struct nssm_measures {
	uint64_t n_packets, n_bytes; /* bytes on the wire */
	uint64_t duration_ns;
	uint64_t n_data, n_again;    /* TCP segments with data; of these sent again */
	uint64_t n_rtt;              /* times that the median is of */
	double rtt_s;                /* within 5 %; 0 where n_rtt is 0 */
};
void nssm_conditions_of(uint8_t step[NSSM_N_CONDITIONS], const struct nssm_measures *m);

struct nssm_meter;
int nssm_meter_open(struct nssm_meter **m, struct nssm_err *err);
void nssm_meter_close(struct nssm_meter **m);
/* A session begins; open does it for the first one. */
void nssm_meter_begin(struct nssm_meter *m);
void nssm_meter_packet(struct nssm_meter *m, const struct nssm_pkt *pkt);
/* Of the packets so far. */
void nssm_meter_read(const struct nssm_meter *m, struct nssm_measures *out);

#endif

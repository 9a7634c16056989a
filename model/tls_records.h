/* tls_records — where the records of a TLS stream begin whose bytes are not known: one direction of a TCP connection.
 * Source : RFC 8446, sections 4.1, 5.1, 5.2 and appendix D.4 (what a handshake of version 1.3 looks like from outside)
 * Rule   : the stream is cut into records as its segments come, in the order of their sequence numbers. A record that begins in a
 *          segment ends with it if that has PSH or FIN or is shorter than the longest so far; else it may go on over some more, of the
 *          same length: up to a fourth of what the flight had before, 16 KiB at most. A hole in the numbers is made of records that end
 *          where it ends, so that it fits what may fill it later. At most 5 bytes are no record: it goes on into the next segment.
 *          A stream that is seen from its SYN on begins with a ClientHello or ServerHello of the right length, a change_cipher_spec
 *          follows; all others are application data. Bytes that are known (payload that was kept) are followed where they hold headers.
 * State  : what was cut last (NSSM_TLS_RECORDS records), so that what is sent again is the same; behind that it is without headers.
 * Owns   : nothing, allocates nothing.
 * Checked: tests/test_tls_records.c, tests/tls_fill.py (tshark)                                                                   */
#ifndef NSSM_TLS_RECORDS_H
#define NSSM_TLS_RECORDS_H

#include <stdbool.h>
#include <stdint.h>

#define NSSM_TLS_RECORDS    64
#define NSSM_TLS_RECORD_MAX (5 + 16384 + 17) /* bytes; with a type and a tag */
#define NSSM_TLS_SID_BYTES  32

struct nssm_tls_record {
	uint32_t at;   /* sequence number */
	uint16_t len;  /* with its header of 5 bytes */
	uint8_t type, minor;
};

/* All zeros, then nssm_tls_begin. */
struct nssm_tls_stream {
	bool begun, lost, client; /* lost: what is known of it is no TLS */
	uint8_t phase;
	uint16_t flight;          /* segments since the last PSH */
	uint32_t next;            /* where the last record ends */
	uint32_t n;               /* records so far */
	uint8_t sid[NSSM_TLS_SID_BYTES]; /* the client's session id, which a server repeats */
	struct nssm_tls_record record[NSSM_TLS_RECORDS];
};

struct nssm_tls_segment {
	uint32_t seq, len;
	uint32_t n_known; /* bytes of its payload that are there already */
	bool push;        /* or FIN */
	bool longest;     /* none in this direction was longer */
};

/* seq: the stream's first byte. fresh: the handshake is still to come. */
void nssm_tls_begin(struct nssm_tls_stream *t, uint32_t seq, bool client, bool fresh);
/* Cuts the stream as far as the segment goes, and writes what of its payload from n_known on is not random: headers, hellos. */
void nssm_tls_segment(struct nssm_tls_stream *t, uint8_t *payload, const struct nssm_tls_segment *s);

#endif

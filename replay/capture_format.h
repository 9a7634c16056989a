/* capture_format — the bytes of the capture formats that netssm writes, into memory. Little-endian, Ethernet.
 * pcap   : a file header, then per packet a record header and the frame (draft-ietf-opsawg-pcap; ns by its magic number).
 * pcapng : draft-ietf-opsawg-pcapng. Section header (hardware, os, userappl "netssm VERSION"), one interface with stamps in
 *          ns, enhanced packet blocks, and at the end the interface's statistics. Nothing in it depends on the host or on the
 *          clock, so that the same packets give the same bytes.
 *          Direction: a capture has no "this host", so the flow's initiator is taken for it: what it sends is outbound.
 * Owns   : nothing. Where p stands there must be room for what is returned.
 * Checked: tests/test_capture_writer.c, tests/test_sink.c, tests/sink_stream.py                                          */
#ifndef NSSM_CAPTURE_FORMAT_H
#define NSSM_CAPTURE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replay/capture.h"

#define NSSM_PCAP_HEAD_BYTES   24u
#define NSSM_PCAP_RECORD_BYTES 16u
#define NSSM_PCAP_SECONDS_MAX  UINT32_MAX /* the format's last second, in 2106 */

static inline void nssm_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 24);
}

void nssm_pcap_head(uint8_t *p, bool ns, uint32_t snaplen);
/* False: the time is beyond what the format has. */
static inline bool nssm_pcap_record(uint8_t *p, bool ns, uint64_t ts_ns, uint32_t caplen, uint32_t wirelen)
{
	uint64_t s = ts_ns / 1000000000;
	uint32_t frac = (uint32_t)(ts_ns - s * 1000000000);
	if (s > NSSM_PCAP_SECONDS_MAX)
		return false;
	nssm_put32(p, (uint32_t)s);
	nssm_put32(p + 4, ns ? frac : frac / 1000);
	nssm_put32(p + 8, caplen);
	nssm_put32(p + 12, wirelen);
	return true;
}

#define NSSM_PCAPNG_HEAD_MAX 256u
#define NSSM_PCAPNG_END_MAX  128u
#define NSSM_PCAPNG_NOTE_MAX 1024u
/* Bytes beside the frame: fixed fields, padding, and flags and comment with theirs. */
#define NSSM_PCAPNG_PACKET_OVER (32u + 3u + 4u + NSSM_PCAPNG_NOTE_MAX + 3u + 8u + 4u)

size_t nssm_pcapng_head(uint8_t *p, uint32_t snaplen);
/* note NULL: no options. */
size_t nssm_pcapng_packet(uint8_t *p, uint64_t ts_ns, const void *frame, uint32_t caplen, uint32_t wirelen, enum nssm_capture_dir dir,
	const char *note, uint32_t n_note);
/* Times of the first and last packet; packets that came, and those of them that are not in the file. */
size_t nssm_pcapng_end(uint8_t *p, uint64_t first_ns, uint64_t last_ns, uint64_t n_came, uint64_t n_dropped);

#endif

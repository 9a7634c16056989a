/* capture — packet captures in and out. Every capture becomes Ethernet frames with ns time stamps.
 * In     : pcap and pcapng through libpcap; µs and ns, either byte order, gz, any snaplen, several interfaces of one link
 *          type. Link types: Ethernet; Linux cooked v1 and v2, raw IP (v4, v6), null and loopback are given an Ethernet
 *          header (counted in n_normalised). Any other link type is refused at open.
 * Out    : classic pcap, little-endian, ns (or µs), Ethernet.
 * Bad in : a packet that the file format itself breaks ends the reading with an error that names file, packet number and
 *          file offset; what came before it was given. A frame too short for its link header is counted and skipped.
 * Checked: tests/test_capture.c, tests/hostile.py                                                                   */
#ifndef NSSM_CAPTURE_H
#define NSSM_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"

struct nssm_capture;

struct nssm_capture_info {
	int link_type;            /* LINKTYPE_* of the file */
	const char *link_name;    /* "EN10MB" … */
	uint32_t snaplen;
	bool ns;                  /* stamps have ns resolution in the file */
	uint64_t file_bytes;      /* size of the file on disk (compressed size for gz) */
	uint64_t n_packets;       /* given so far */
	uint64_t n_bytes;         /* captured bytes given so far */
	uint64_t n_normalised;    /* packets whose link header was replaced by an Ethernet header */
	uint64_t n_short_link;    /* skipped: shorter than their link header */
	uint64_t n_wirelen_raised;/* captured more than the stated wire length */
	uint64_t n_bad_time;      /* stamps that cannot be (fraction of a second >= 1 s, before 1970): clamped */
	uint64_t read_bytes;      /* position in the file, for progress; 0 where unknown (gz) */
};

int nssm_capture_open(struct nssm_capture **c, const char *path, struct nssm_err *err);
/* 1: *pkt is the next packet (data valid until the next call); 0: end of file; < 0: error. */
int nssm_capture_next(struct nssm_capture *c, struct nssm_pkt *pkt, struct nssm_err *err);
const struct nssm_capture_info *nssm_capture_info(const struct nssm_capture *c);
void nssm_capture_close(struct nssm_capture **c);

struct nssm_capture_writer;

/* snaplen 0: whole frames; else frames are cut there and keep their wire length. Written to a temporary name; "-" is stdout. */
int nssm_capture_create(struct nssm_capture_writer **w, const char *path, bool ns, uint32_t snaplen, struct nssm_err *err);
/* wirelen >= len. */
int nssm_capture_write(struct nssm_capture_writer *w, uint64_t ts_ns, const void *frame, uint32_t len, uint32_t wirelen,
	struct nssm_err *err);
int nssm_capture_commit(struct nssm_capture_writer **w, struct nssm_err *err);
void nssm_capture_abort(struct nssm_capture_writer **w);

#endif

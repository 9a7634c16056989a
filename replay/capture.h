/* capture — packet captures in and out. Every capture becomes Ethernet frames with ns time stamps.
 * In     : pcap and pcapng through libpcap; µs and ns, either byte order, gz (as a stream, no temporary file), any
 *          snaplen, files, pipes and "-" (stdin). pcapng: several interfaces of one link type and snaplen (what libpcap
 *          takes; other mixes are its error), at most NSSM_CAPTURE_IFACES_MAX of them.
 * Link   : Ethernet as it is (zero-copy; an FCS that the file header announces is cut off). Linux cooked v1 and v2, raw
 *          IP, IPv4, IPv6, null and loopback are given an Ethernet header (n_normalised), and the wire length changes by
 *          the difference of the headers. Any other link type is refused at open.
 *          Addresses: the capturing host is 02:00:00:00:00:01. Cooked: the other end is the address in the cooked header
 *          if it has 6 bytes, else 02:00:00:00:00:02, and outgoing packets (type 4) have the host as source, all others
 *          as destination. Without a cooked header: from 02:00:00:00:00:02 to the host.
 *          Ethertype: the cooked protocol, or by the IP version, or by the null/loopback family (either byte order; 24,
 *          28, 30, 10 and 23 are IPv6). What has none (cooked protocols below 0x600 and those of netlink, radiotap and
 *          frame relay devices, raw packets that are neither IPv4 nor IPv6) gets 0xffff (n_no_ethertype).
 * Out    : classic pcap, little-endian, ns (or µs), Ethernet; or pcapng (capture_format.h). Records are put together in the
 *          buffer that goes to the kernel: one copy of a frame, no system call a record.
 * Bad in : a packet that the file format itself breaks ends the reading with an error that names file, packet number and
 *          file offset (gz: in the uncompressed stream); what came before it was given. A frame too short for its link
 *          header is counted and skipped.
 * Memory : constant but for libpcap's block buffer (<= 16 MiB) and interface table (<= 16 MiB).
 * Checked: tests/test_capture.c, tests/hostile.py, tests/fuzz/fuzz_capture.c                                        */
#ifndef NSSM_CAPTURE_H
#define NSSM_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/packet.h"

#define NSSM_CAPTURE_CAPLEN_MAX 262144 /* libpcap's and tcpdump's own bound on one packet */
#define NSSM_CAPTURE_IFACES_MAX 262144

struct nssm_capture;

struct nssm_capture_info {
	int link_type;            /* LINKTYPE_* of the file */
	const char *link_name;    /* "Ethernet", "Linux cooked v1" … */
	uint32_t snaplen;
	bool ns;                  /* pcap: stamps have ns resolution in the file; pcapng: one finer than 1 µs was given */
	bool gz;
	uint64_t file_bytes;      /* size of the file on disk (compressed size for gz) */
	uint64_t n_packets;       /* given so far */
	uint64_t n_bytes;         /* captured bytes given so far */
	uint64_t n_normalised;    /* packets whose link header was replaced by an Ethernet header */
	uint64_t n_no_ethertype;  /* of these: given ethertype 0xffff */
	uint64_t n_short_link;    /* skipped: shorter than their link header */
	uint64_t n_wirelen_raised;/* captured more than the stated wire length */
	uint64_t n_bad_time;      /* stamps that cannot be (fraction of a second >= 1 s, before 1970, after 2262): clamped */
	uint64_t read_bytes;      /* bytes of file_bytes read, for progress; 0 where unknown (pipes) */
};

/* path "-": stdin. A pipe's packets are given as soon as they are there whole. */
int nssm_capture_open(struct nssm_capture **c, const char *path, struct nssm_err *err);
/* For what cannot wait for a pipe: idle is called before waiting for more bytes of it, and again every 50 ms. Not 0: reading ends
 * with NSSM_EINTR. */
struct nssm_capture_idle {
	int (*idle)(void *ctx);
	void *ctx;
};
int nssm_capture_open_idle(struct nssm_capture **c, const char *path, const struct nssm_capture_idle *idle, struct nssm_err *err);
/* 1: *pkt is the next packet (data valid until the next call); 0: end of file; < 0: error. End and error stay. */
int nssm_capture_next(struct nssm_capture *c, struct nssm_pkt *pkt, struct nssm_err *err);
const struct nssm_capture_info *nssm_capture_info(const struct nssm_capture *c);
void nssm_capture_close(struct nssm_capture **c);

enum nssm_capture_format { NSSM_CAPTURE_PCAP_NS, NSSM_CAPTURE_PCAP_US, NSSM_CAPTURE_PCAPNG };

struct nssm_capture_cfg {
	enum nssm_capture_format format;
	uint32_t snaplen; /* 0: whole frames; else frames are cut there and keep their wire length */
	bool in_place;    /* false: written to a temporary name and renamed by commit; true: grows at its own name */
};

/* As pcapng's epb_flags have it. */
enum nssm_capture_dir { NSSM_DIR_UNKNOWN, NSSM_DIR_INBOUND, NSSM_DIR_OUTBOUND };

struct nssm_capture_writer;

/* "-" is stdout; it, pipes and devices are always written in place. */
int nssm_capture_create_as(struct nssm_capture_writer **w, const char *path, const struct nssm_capture_cfg *cfg,
	struct nssm_err *err);
/* The same for pcap, not in place. */
int nssm_capture_create(struct nssm_capture_writer **w, const char *path, bool ns, uint32_t snaplen, struct nssm_err *err);
/* wirelen >= len, len <= NSSM_CAPTURE_CAPLEN_MAX (else an error), pcap: ts_ns before 2106 (else an error: the format's end of
 * time). The first error stays and is what commit returns. */
int nssm_capture_write(struct nssm_capture_writer *w, uint64_t ts_ns, const void *frame, uint32_t len, uint32_t wirelen,
	struct nssm_err *err);
/* pcapng: with a comment (n_note <= NSSM_PCAPNG_NOTE_MAX, UTF-8) and the direction as epb_flags have it. */
int nssm_capture_write_note(struct nssm_capture_writer *w, uint64_t ts_ns, const void *frame, uint32_t len, uint32_t wirelen,
	enum nssm_capture_dir dir, const char *note, uint32_t n_note, struct nssm_err *err);
/* What was written reaches the file, for its readers and against a kill. */
int nssm_capture_flush(struct nssm_capture_writer *w, struct nssm_err *err);
/* Packets and the sum of their wire lengths that are in the file even if nothing more succeeds: all up to the last
 * flush in place, else none. */
void nssm_capture_kept(const struct nssm_capture_writer *w, uint64_t *n_packets, uint64_t *wire_bytes);
/* pcapng: n_dropped goes into the closing statistics. */
void nssm_capture_set_dropped(struct nssm_capture_writer *w, uint64_t n_dropped);
int nssm_capture_commit(struct nssm_capture_writer **w, struct nssm_err *err);
/* In place: what was written stays. */
void nssm_capture_abort(struct nssm_capture_writer **w);

#endif

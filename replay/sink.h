/* sink — where packets go that is no live port: capture files and streams. One interface, several kinds; an engine hands each
 * burst to every sink and never asks which kind it is. A sink never knows where a packet came from.
 *   pcap      FILE: classic pcap, ns or µs stamps
 *   pcapng    FILE: pcapng, ns stamps, one interface; with cfg.comments each packet carries
 *             "label=web session=3 clone=0 dir=client" (no label where it has no name; names are cut at 256 bytes) and a
 *             direction: what the client sends is outbound
 *   stream    pcap-over-IP (listen:[ADDR:]PORT, connect:HOST:PORT) or a FIFO/stdout: classic µs pcap, flushed within 10 ms.
 *             One reader at a time (stream_end.h says who); each gets a file header and the packets from then on. Up to 4 MiB
 *             wait for it; what finds no room there is lost, by whole packets. finish waits for it for up to 2 s
 * Whole  : cfg.in_place false: a file is written to a temporary name and put in place by finish (virtual time). true: it grows
 *          at its own name, by whole records a write, and is flushed at least once a second, so that a kill at any time leaves a
 *          readable capture (wall clock). What was flushed is there; a SIGKILL within a write can leave the beginning of one
 *          more record behind it, as with any program that writes captures.
 * Threads: one at a time.
 * Errors : a file that cannot be written (disk full) makes burst return the error, as does every later call, and the run ends;
 *          packets that are not in the file then count under NSSM_DROP_ERROR: those of a file that grows in place behind the last
 *          whole write (to which it is cut back), else all. A pcap has no time beyond 2106: an error too.
 *          A stream whose reader goes away is no error: packets are counted under NSSM_DROP_NO_READER until the next reader
 *          comes (listen, FIFO) or until the end (connect, stdout). burst and tick block for no longer than 10 ms.
 * Counts : handed = sent + queued + sum(dropped).
 * Checked: tests/test_sink.c, tests/test_sink_stream.c, tests/sink_stream.py (tshark, tcpdump); speed: tests/bench_sink.c      */
#ifndef NSSM_SINK_H
#define NSSM_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/tx.h"

struct nssm_sink_cfg {
	const char *const *label;  /* [n_labels] names for comments, borrowed until close; may be NULL */
	uint32_t n_labels;
	bool us;                   /* pcap: µs stamps */
	uint32_t snaplen;          /* 0: whole frames; else cut there, the wire length is kept */
	bool in_place;
	bool comments;             /* pcapng */
	bool wait_for_reader;      /* stream: open returns at once, but nssm_sink_ready is false until the first reader was there */
};

struct nssm_sink_stats {
	uint64_t sent, bytes;             /* bytes: of frames on the wire */
	uint64_t queued;                  /* stream: taken, and neither sent nor dropped yet; 0 after finish */
	uint64_t cut;                     /* shortened by snaplen */
	uint64_t dropped[NSSM_DROP_N];
	uint64_t n_readers;               /* stream: readers that came so far */
};

struct nssm_sink;
int nssm_sink_pcap(struct nssm_sink **s, const char *path, const struct nssm_sink_cfg *cfg, struct nssm_err *err);
int nssm_sink_pcapng(struct nssm_sink **s, const char *path, const struct nssm_sink_cfg *cfg, struct nssm_err *err);
/* "listen:PORT", "listen:ADDR:PORT" (default address 127.0.0.1, [::1]:PORT works; port 0: a free one, which the name tells),
 * "connect:HOST:PORT" (waits for up to 5 s). */
int nssm_sink_pcap_over_ip(struct nssm_sink **s, const char *where, const struct nssm_sink_cfg *cfg, struct nssm_err *err);
/* "-": stdout, unless it is a terminal; else a FIFO, made if nothing is there (and removed at close if made). */
int nssm_sink_fifo(struct nssm_sink **s, const char *path, const struct nssm_sink_cfg *cfg, struct nssm_err *err);

/* Takes all n (sent or counted as dropped). 0, or a negative NSSM_E*: the sink is broken and the run should end. Packets
 * come in the order in which they are to stand in the file. */
int nssm_sink_burst(struct nssm_sink *s, const struct nssm_tx *pkt, uint32_t n, struct nssm_err *err);
/* Called at least every few ms while the run goes: flushes what is due, looks for readers. now_ns: a clock that never goes
 * back. */
int nssm_sink_tick(struct nssm_sink *s, uint64_t now_ns, struct nssm_err *err);
bool nssm_sink_ready(const struct nssm_sink *s);
/* Whether it is for people or programs that look on live (streams): the run then keeps wall-clock time. */
bool nssm_sink_is_live(const struct nssm_sink *s);
/* Everything that was taken is written; a file is put in place. */
int nssm_sink_finish(struct nssm_sink *s, struct nssm_err *err);
/* Without finish: a file under a temporary name is removed. Takes NULL. */
void nssm_sink_close(struct nssm_sink **s);
const struct nssm_sink_stats *nssm_sink_stats(const struct nssm_sink *s);
/* "pcap out.pcap", for messages; valid until close. */
const char *nssm_sink_name(const struct nssm_sink *s);

#endif

/* reader — capture files as a source: reads them one after the other or merged by time, filters, cuts into sessions, and hands
 * out each packet with its session. Knows no ring: the caller takes packet after packet.
 * Sequence: file k+1 starts where file k ended plus the mean gap of file k (0 for a single packet). MERGE: all files by their own
 *          stamps, from the earliest stamp of all on; ties in the order of the files. All are open at once.
 * Time   : stream time is ns since the first packet given in this pass. A stamp before its predecessor's in the same file keeps
 *          its place and gets the predecessor's time (time_back). More than 1 s back is a clock that was set: the packets after
 *          it keep their gaps, until their stamps reach those before it again. Beyond 2^62 ns time stands still.
 * Sessions: replay/session.h per file: `file` (one session a file; merged: one a file too), `client`, `gap=`. What the splitter
 *          gives to no session is left out (no_session). Session numbers ascend in the order of first packets over all files.
 *          Filter and MTU come first: sessions are those of the packets that are left.
 * Labels : of labels.csv by file, which must name it unless there is a label; else label; else the file's name without folder
 *          and suffix, what a label may not hold replaced by _ ("stdin" for "-").
 * Shards : with n_shards > 1 and split `file`, a session is cut into up to n_shards sessions by a symmetric hash of addresses and
 *          ports (fragments and what is neither TCP nor UDP: of addresses), unless strict_order; packets without addresses go with
 *          shard 0. With other splits a packet's shard is its session number modulo n_shards; with strict_order it is 0.
 * MTU    : packets longer than mtu (wire length without Ethernet header and VLAN tags; any protocol): TRUNCATE cuts the frame
 *          (the length fields stay, as tcpreplay does: the capture's wire length becomes the new length), DROP leaves them out.
 *          Counted. Frames shorter than Ethernet's 60 bytes stay as they are.
 * Fill   : a frame that the capture cut (caplen < wirelen) is made whole with zeros where pad is set: up to its wire length, at
 *          most NSSM_CAPTURE_CAPLEN_MAX bytes.
 * Filter : BPF through libpcap (pcap_compile on Ethernet, after normalisation).
 * Broken : a capture that ends in an error gives what came before, then the run ends with that error unless keep_going (then it
 *          is counted, and the others go on). Files, not pipes, are looked at when the reader is opened, so that a file that is
 *          not there or is no capture is an error before the first packet. A pass that gives no packet at all is an error, which
 *          says where the packets went.
 * Memory : taken when a capture is opened; with `client` tables grow with the clients, as session.h says. Nothing a packet.
 * Checked: tests/test_reader.c, tests/reader.py (capinfos, tcpdump, mergecap, tshark), tests/fuzz/fuzz_reader.c              */
#ifndef NSSM_READER_H
#define NSSM_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "replay/capture.h"
#include "replay/session.h"
#include "replay/stats.h"

enum nssm_mtu_mode { NSSM_MTU_NONE, NSSM_MTU_TRUNCATE, NSSM_MTU_DROP };

/* Strings and arrays are borrowed until close. */
struct nssm_reader_cfg {
	const char *const *path; /* files; "-" is stdin, once at most */
	uint32_t n_paths;
	bool merge;
	struct nssm_split_cfg split;
	const char *filter;      /* NULL: none */
	enum nssm_mtu_mode mtu_mode;
	uint32_t mtu;            /* > 0 unless NONE */
	bool pad, strict_order, keep_going;
	uint32_t n_shards;       /* 0 or 1: none */
	const char *label;       /* NULL: none */
	const char *labels_csv;  /* NULL: none */
	uint64_t max_packets;    /* of the run, all passes together; 0: all */
	struct nssm_capture_idle idle; /* while a pipe gives nothing; zeros: reading waits for as long as it takes */
};

/* One packet; seq 0 is a session's first. t_ns is since the pass's first packet; start_ns: the session's first packet's. */
struct nssm_read_pkt {
	uint64_t session, start_ns, t_ns;
	uint32_t label_idx, shard;
	uint64_t seq;
	const uint8_t *data;
	uint32_t len, wirelen;
};

struct nssm_reader;
int nssm_reader_open(struct nssm_reader **r, const struct nssm_reader_cfg *cfg, struct nssm_err *err);
/* 1: *p is the next packet (data until the next call), in stream order; 0: the end of the pass; < 0: error. Both stay. */
int nssm_reader_next(struct nssm_reader *r, struct nssm_read_pkt *p, struct nssm_err *err);
/* From the beginning again, at time 0: nssm_loop_start says when a pass starts. Counters and session numbers go on. 1: there is
 * nothing more to come, max_packets were given; NSSM_EUNSUP for stdin and pipes. */
int nssm_reader_rewind(struct nssm_reader *r, struct nssm_err *err);
/* After packet p: sessions with lower numbers that get no more packets are those below this. */
uint64_t nssm_reader_done_below(const struct nssm_reader *r);
/* Stream time from the first to the last packet, and packets, of the last whole pass; 0 before its end. */
uint64_t nssm_reader_duration(const struct nssm_reader *r);
uint64_t nssm_reader_packets(const struct nssm_reader *r);
/* The capture's own stamp of the pass's first packet: what stream time 0 is; of captures in sequence the first one's. 0 before it. */
uint64_t nssm_reader_first_ns(const struct nssm_reader *r);
const struct nssm_source_counters *nssm_reader_counters(const struct nssm_reader *r);
uint64_t nssm_reader_time_back(const struct nssm_reader *r);
/* Packets that the splitter gave to no session. */
uint64_t nssm_reader_no_session(const struct nssm_reader *r);
/* Times that a capture broke, with keep_going; *first (may be NULL) is how the first one did. */
uint64_t nssm_reader_bad(const struct nssm_reader *r, struct nssm_err *first);
/* Labels in the order of their indexes; names valid until close. */
const char *const *nssm_reader_labels(const struct nssm_reader *r, uint32_t *n);
/* Bytes of all files, and read so far in this pass, for progress; total 0: unknown. */
void nssm_reader_progress(const struct nssm_reader *r, uint64_t *done, uint64_t *total);
void nssm_reader_close(struct nssm_reader **r);

#endif

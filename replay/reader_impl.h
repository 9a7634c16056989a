/* reader_impl — one capture while it is read: what the filter and the MTU leave of it, at times that never go back, cut into
 * sessions. For replay/reader.c and replay/reader_feed.c only.                                                             */
#ifndef NSSM_READER_IMPL_H
#define NSSM_READER_IMPL_H

#include <pcap/pcap.h>

#include "replay/capture.h"
#include "replay/reader.h"

/* Stream time stands still there (146 years) instead of wrapping, as the generator's does. */
#define NSSM_READER_TIME_MAX (1ull << 62)

/* A session that may get more packets. */
struct nssm_reader_session {
	uint64_t number, start_ns, n_packets; /* n_packets 0: not begun */
};

struct nssm_feed {
	uint32_t file;
	uint32_t label_idx;
	struct nssm_capture *capture; /* NULL: not open */
	struct nssm_splitter *splitter;
	struct nssm_pkt pkt; /* the next one, at t_ns */
	uint64_t t_ns;       /* the file's own time, made never to go back */

	uint64_t last_ns, shift_ns; /* time of the packet before; what is added to stamps */
	bool any;
	uint64_t n_given, first_given_ns, last_given_ns;

	/* FILE: one a shard; GAP: the one that goes on; CLIENT: by the splitter's number. Kept from file to file. */
	struct nssm_reader_session *session;
	uint32_t n_sessions, sessions_cap;
	uint32_t local;  /* GAP: the splitter's number of session[0] */
	uint64_t lowest; /* number of the first session that may get more packets; UINT64_MAX: none */
	uint64_t n_open;
};

/* A file of the command line. */
struct nssm_reader_file {
	uint32_t label_idx;
	bool regular; /* may be read again */
	uint64_t bytes;
};

struct nssm_reader {
	struct nssm_reader_cfg cfg;
	struct nssm_vocab *labels;
	const char **label; /* their names */
	struct nssm_reader_file *file;
	struct bpf_program filter;
	bool filtering;
	uint8_t *pad; /* [NSSM_CAPTURE_CAPLEN_MAX] where frames are made whole */

	/* Open captures: a heap by (time, file). In sequence at most one. */
	struct nssm_feed *feed, **heap;
	uint32_t n_feeds, n_heap;
	uint32_t next_file; /* the next one to open */
	bool given;         /* the heap's first packet was given: its place is free */

	/* Stream time is base_at_ns + a packet's time − base_ns. */
	bool rebase; /* the next packet's time is base_ns */
	uint64_t first_ns; /* of the pass's first packet */
	uint64_t base_ns, base_at_ns, next_at_ns;

	int state;    /* 1: packets may come; 0: the pass is over; < 0: failed with last */
	bool limited; /* max_packets were given */
	struct nssm_err last;
	uint64_t next_session, done_below;
	uint64_t pass_packets, pass_last_ns, pass_read; /* of this pass */
	uint64_t pass_filtered, pass_too_long, pass_no_session;
	uint64_t duration_ns, packets; /* of the last whole one */
	uint64_t done_bytes;
	uint64_t time_back, no_session, n_bad;
	struct nssm_err first_bad;
	struct nssm_source_counters counters;
};

/* Opens file number `file` and finds its first packet. As nssm_feed_fetch. After an error or the end: nssm_feed_close. */
int nssm_feed_open(struct nssm_reader *r, struct nssm_feed *f, uint32_t file, struct nssm_err *err);
/* 1: f->pkt is the next packet, at f->t_ns; 0: the end; < 0: error. */
int nssm_feed_fetch(struct nssm_reader *r, struct nssm_feed *f, struct nssm_err *err);
/* 1: *p is f's packet in its session; 0: it belongs to none, counted; < 0: error. */
int nssm_feed_give(struct nssm_reader *r, struct nssm_feed *f, struct nssm_read_pkt *p, struct nssm_err *err);
/* Its sessions are over; the session table is kept. */
void nssm_feed_close(struct nssm_reader *r, struct nssm_feed *f);
/* No session before this one gets more packets, as far as f goes. */
void nssm_reader_see_done(struct nssm_reader *r);

uint64_t nssm_reader_time_add(uint64_t a, uint64_t b);

#endif

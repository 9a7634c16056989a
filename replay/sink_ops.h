/* sink_ops — what a kind of sink implements; inside of replay/sink*.c only. sink.h says what each call means. A kind puts
 * struct nssm_sink first into its own struct. sink.c keeps the first error: after it, packets are dropped under NSSM_DROP_ERROR
 * and no call but close reaches the kind.                                                                               */
#ifndef NSSM_SINK_OPS_H
#define NSSM_SINK_OPS_H

#include "replay/sink.h"

struct nssm_sink_ops {
	/* Counts every packet that it took or dropped in s->stats; after an error, the rest is counted by the caller. */
	int (*burst)(struct nssm_sink *s, const struct nssm_tx *pkt, uint32_t n, struct nssm_err *err);
	int (*tick)(struct nssm_sink *s, uint64_t now_ns, struct nssm_err *err);
	bool (*ready)(const struct nssm_sink *s);
	int (*finish)(struct nssm_sink *s, struct nssm_err *err);
	void (*close)(struct nssm_sink *s); /* what it owns, and s itself */
	bool live;
};

struct nssm_sink {
	const struct nssm_sink_ops *ops;
	struct nssm_sink_cfg cfg;
	struct nssm_sink_stats stats;
	uint64_t handed; /* packets that came */
	int code;        /* first error */
	struct nssm_err first;
	bool finished;
	char name[256];
};

/* "kind what", what cut at its front if it is long. */
void nssm_sink_set_name(struct nssm_sink *s, const char *kind, const char *what);

#endif

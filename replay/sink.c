#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "replay/sink_ops.h"

void nssm_sink_set_name(struct nssm_sink *s, const char *kind, const char *what)
{
	size_t n = strlen(what);
	snprintf(
	        s->name, sizeof s->name, "%s %s%s", kind, n < 200 ? "" : "…", what + (n < 200 ? 0 : n - 199));
}

static uint64_t accounted(const struct nssm_sink_stats *st)
{
	uint64_t n = st->sent + st->queued;
	for (int i = 0; i < NSSM_DROP_N; i++)
		n += st->dropped[i];
	return n;
}

/* The first error is what every later call returns; what it left uncounted did not leave. */
static int settle(struct nssm_sink *s, int rc, struct nssm_err *err)
{
	if (rc != 0 && s->code == 0) {
		s->code = rc;
		s->first = *err;
	}
	if (s->code != 0) {
		s->stats.queued = 0;
		uint64_t n = accounted(&s->stats);
		assert(n <= s->handed);
		s->stats.dropped[NSSM_DROP_ERROR] += s->handed - n;
		*err = s->first;
	}
	return s->code;
}

int nssm_sink_burst(struct nssm_sink *s, const struct nssm_tx *pkt, uint32_t n, struct nssm_err *err)
{
	assert(!s->finished);
	s->handed += n;
	return settle(s, s->code != 0 ? s->code : s->ops->burst(s, pkt, n, err), err);
}

int nssm_sink_tick(struct nssm_sink *s, uint64_t now_ns, struct nssm_err *err)
{
	assert(!s->finished);
	return settle(s, s->code != 0 ? s->code : s->ops->tick(s, now_ns, err), err);
}

bool nssm_sink_ready(const struct nssm_sink *s)
{
	return s->ops->ready == NULL || s->ops->ready(s);
}

bool nssm_sink_is_live(const struct nssm_sink *s)
{
	return s->ops->live;
}

int nssm_sink_finish(struct nssm_sink *s, struct nssm_err *err)
{
	assert(!s->finished);
	int rc = settle(s, s->code != 0 ? s->code : s->ops->finish(s, err), err);
	s->finished = true;
	return rc;
}

void nssm_sink_close(struct nssm_sink **s)
{
	if (*s == NULL)
		return;
	(*s)->ops->close(*s);
	*s = NULL;
}

const struct nssm_sink_stats *nssm_sink_stats(const struct nssm_sink *s)
{
	return &s->stats;
}

const char *nssm_sink_name(const struct nssm_sink *s)
{
	return s->name;
}

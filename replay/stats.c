#include "replay/stats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"

#define FCS_BYTES      4u
#define PREAMBLE_BYTES 20u /* preamble, start delimiter, gap */

/* --- the numbers --- */

#define ALL(group, key, kind, metric, name, help)                                                            \
	{                                                                                                    \
		group, key, metric, help, NSSM_STAT_##kind, offsetof(struct nssm_stats, all.name)            \
	}
#define FEED(key, kind, metric, help)                                                                        \
	{                                                                                                    \
		"feed", #key, "feed_" metric, help, NSSM_STAT_##kind, offsetof(struct nssm_stats, src.key)   \
	}
#define BACK(key, help)                                                                                      \
	{                                                                                                    \
		"measure", #key, "returned_" #key, help, NSSM_STAT_COUNTER,                                  \
		        offsetof(struct nssm_stats, back.key)                                                \
	}

/* clang-format off */
static const struct nssm_stat_field FIELDS[] = {
	ALL("packets", "made", COUNTER, "packets_made", made, "Packets that became due"),
	ALL("packets", "sent", COUNTER, "packets_sent", sent, "Packets that left"),
	ALL("packets", "left", COUNTER, "packets_left", left, "Packets that were known and never became due"),
	ALL("bytes", "sent", COUNTER, "sent_bytes", sent_bytes, "Bytes that left, without FCS"),
	ALL("sessions", "begun", COUNTER, "sessions_begun", sessions_begun, "Sessions of the source that began"),
	ALL("sessions", "done", COUNTER, "sessions_done", sessions_done, "Sessions of the source that ended"),
	ALL("sessions", "packets", COUNTER, "session_packets", session_packets, "Packets of sessions, without those of clones"),
	ALL("sessions", "flows", COUNTER, "session_flows", session_flows, "Flows of sessions, without those of clones"),
	ALL("clones", "begun", COUNTER, "clones_begun", clones_begun, "Sessions that were begun again as new ones"),
	ALL("clones", "done", COUNTER, "clones_done", clones_done, "Clones that ended"),
	ALL("clones", "alive", GAUGE, "clones_alive", clones_alive, "Clones that are playing"),
	ALL("clones", "waiting", GAUGE, "clones_waiting", clones_waiting, "Clones that wait for a free slot"),
	ALL("clones", "flows", COUNTER, "flows_begun", flows_begun, "Flows of all plays that began"),
	ALL("engine", "starved", COUNTER, "starved", starved, "Times a session's next packet was not there in time"),
	ALL("engine", "starved_ns", COUNTER_NS, "starved_seconds", starved_ns, "Time spent waiting for such packets"),
	ALL("engine", "time_back", COUNTER, "packets_time_back", time_back, "Packets of captures whose stamp went back"),
	ALL("engine", "untracked", COUNTER, "packets_untracked", untracked, "Packets sent unrewritten for want of table space"),
	ALL("engine", "opaque_flows", COUNTER, "flows_opaque", opaque_flows, "Flows whose contents could not be rewritten"),
	ALL("engine", "folded", COUNTER, "plays_folded", folded, "Plays that needed more endpoints or sockets than a slot has"),
	ALL("engine", "truth_lost", COUNTER, "packets_truth_lost", truth_lost, "Packets that no row of the truth file counts, for want of memory"),
	ALL("engine", "lost_ns", COUNTER_NS, "lost_seconds", lost_ns, "Time in which something else had the engines' CPUs"),
	ALL("engine", "cpu_ns", COUNTER_NS, "cpu_seconds", cpu_ns, "CPU time of engines that have ended"),
	ALL("engine", "ring_used", GAUGE, "ring_used", ring_used, "Blocks in the rings"),
	ALL("engine", "ring_size", GAUGE, "ring_size", ring_size, "Blocks that the rings can hold"),
	ALL("arena", "used", GAUGE, "arena_used_bytes", arena_used, "Arena in use"),
	ALL("arena", "bytes", GAUGE, "arena_size_bytes", arena_bytes, "Arena in all"),
	ALL("arena", "spilled_bytes", GAUGE, "arena_spilled_bytes", spilled_bytes, "Arena in the spill file"),
	ALL("arena", "bank_sessions", GAUGE, "bank_sessions", bank_sessions, "Finished sessions that are kept"),
	ALL("arena", "bank_bytes", GAUGE, "bank_bytes", bank_bytes, "Bytes of finished sessions that are kept"),
	ALL("arena", "bank_evicted", COUNTER, "bank_evicted", bank_evicted, "Kept sessions that gave way to others"),
	FEED(tokens, COUNTER, "tokens", "Tokens that the model made"),
	FEED(packets, COUNTER, "packets", "Packets that the source made"),
	FEED(bytes, COUNTER, "bytes", "Bytes of the packets that the source made"),
	FEED(rejected, COUNTER, "packets_rejected", "Packets that the model spelled and that are none"),
	FEED(repaired, COUNTER, "packets_repaired", "Packets of the model that were repaired"),
	FEED(filtered, COUNTER, "packets_filtered", "Packets that the filter held back"),
	FEED(too_long, COUNTER, "packets_too_long", "Packets held back for being longer than the MTU"),
	FEED(truncated, COUNTER, "packets_truncated", "Packets cut to the MTU"),
	FEED(waits, COUNTER, "waits", "Times the source found the ring full"),
	FEED(waits_ns, COUNTER_NS, "waits_seconds", "Time that the source waited for the ring"),
	FEED(parked, COUNTER, "parked", "Times a session was parked for want of credit"),
	FEED(sessions_begun, COUNTER, "sessions_begun", "Sessions that the source began"),
	FEED(sessions_done, COUNTER, "sessions_done", "Sessions that the source ended"),
	BACK(matched, "Packets that came back"),
	BACK(lost, "Packets that did not come back in time"),
	BACK(duplicate, "Packets that came back once more"),
	BACK(reordered, "Packets that came back after later ones (RFC 4737)"),
	BACK(unmatched, "Packets received that match none sent"),
};
/* clang-format on */
#define N_FIELDS (sizeof FIELDS / sizeof FIELDS[0])

const struct nssm_stat_field *nssm_stats_fields(size_t *n)
{
	*n = N_FIELDS;
	return FIELDS;
}

uint64_t nssm_stats_value(const struct nssm_stats *s, const struct nssm_stat_field *f)
{
	uint64_t v;
	memcpy(&v, (const char *)s + f->offset, sizeof v);
	return v;
}

/* Everything before the histogram is a uint64_t; a counter that is added later is summed up like the others. */
#define N_COUNTERS (offsetof(struct nssm_counters, late) / sizeof(uint64_t))
static_assert(offsetof(struct nssm_counters, late) % sizeof(uint64_t) == 0, "only counters before late");
static_assert(sizeof(struct nssm_counters) == offsetof(struct nssm_counters, late) + sizeof(struct nssm_hist),
        "nothing behind late");

void nssm_counters_add(struct nssm_counters *into, const struct nssm_counters *from)
{
	uint64_t *to = (uint64_t *)into;
	const uint64_t *add = (const uint64_t *)from;
	for (size_t i = 0; i < N_COUNTERS; i++)
		to[i] += __atomic_load_n(&add[i], __ATOMIC_RELAXED);
	nssm_hist_merge(&into->late, &from->late);
}

uint64_t nssm_dropped(const struct nssm_counters *c)
{
	uint64_t n = 0;
	for (int i = 0; i < NSSM_DROP_N; i++)
		n += c->dropped[i];
	return n;
}

uint64_t nssm_in_hand(const struct nssm_counters *c)
{
	uint64_t gone = c->sent + nssm_dropped(c);
	return c->made > gone ? c->made - gone : 0;
}

double nssm_per_s(uint64_t n, double s)
{
	return s > 0 && isfinite(s) ? fmin((double)n / s, 1e300) : 0;
}

double nssm_l2_bps(uint64_t bytes, uint64_t packets, double s)
{
	return 8 * (nssm_per_s(bytes, s) + FCS_BYTES * nssm_per_s(packets, s));
}

double nssm_l1_bps(uint64_t bytes, uint64_t packets, double s)
{
	return 8 * (nssm_per_s(bytes, s) + (FCS_BYTES + PREAMBLE_BYTES) * nssm_per_s(packets, s));
}

static double share(uint64_t part, uint64_t of)
{
	return of > 0 ? (double)part / (double)of : 0;
}

double nssm_clone_factor(const struct nssm_counters *c)
{
	return share(c->sent, c->session_packets);
}

double nssm_loss_share(const struct nssm_measure_counters *c)
{
	return c->lost > 0 ? (double)c->lost / ((double)c->lost + (double)c->matched) : 0;
}

/* --- JSON --- */

/* An object being filled; the first failure stays. */
struct filling {
	json_t *o;
	bool failed;
};

static struct filling begin(void)
{
	struct filling f = {.o = json_object()};
	f.failed = f.o == NULL;
	return f;
}

/* Takes v over, NULL too. */
static void put(struct filling *f, const char *key, json_t *v)
{
	if (json_object_set_new(f->o, key, v) != 0)
		f->failed = true;
}

static void put_u64(struct filling *f, const char *key, uint64_t v)
{
	put(f, key, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

static void put_real(struct filling *f, const char *key, double v)
{
	put(f, key, json_real(isfinite(v) ? v : 0));
}

static void put_text(struct filling *f, const char *key, const char *text, size_t cap)
{
	char copy[128], shown[512];
	size_t n = strnlen(text, cap);
	assert(n < sizeof copy);
	memcpy(copy, text, n);
	copy[n] = '\0';
	nssm_utf8_show(shown, sizeof shown, copy, sizeof copy);
	put(f, key, json_string(shown));
}

static json_t *end(struct filling *f)
{
	if (f->failed) {
		json_decref(f->o);
		f->o = NULL;
	}
	return f->o;
}

static void put_group(struct filling *f, const struct nssm_stats *s, const char *group)
{
	for (size_t i = 0; i < N_FIELDS; i++)
		if (strcmp(FIELDS[i].group, group) == 0)
			put_u64(f, FIELDS[i].key, nssm_stats_value(s, &FIELDS[i]));
}

static json_t *plain_group(const struct nssm_stats *s, const char *group)
{
	struct filling f = begin();
	put_group(&f, s, group);
	return end(&f);
}

static json_t *hist_json(const struct nssm_hist *h)
{
	struct filling f = begin();
	put_u64(&f, "count", h->count);
	put_u64(&f, "min", h->count > 0 ? h->min_ns : 0);
	put_real(&f, "mean", nssm_hist_mean(h));
	put_u64(&f, "p50", nssm_hist_quantile(h, 0.5));
	put_u64(&f, "p99", nssm_hist_quantile(h, 0.99));
	put_u64(&f, "p999", nssm_hist_quantile(h, 0.999));
	put_u64(&f, "max", h->count > 0 ? h->max_ns : 0);
	return end(&f);
}

static json_t *packets_json(const struct nssm_stats *s)
{
	struct filling f = begin();
	put_u64(&f, "made", s->all.made);
	put_u64(&f, "sent", s->all.sent);
	put_u64(&f, "dropped", nssm_dropped(&s->all));
	put_u64(&f, "left", s->all.left);
	put_u64(&f, "in_hand", nssm_in_hand(&s->all));
	return end(&f);
}

static json_t *dropped_json(const struct nssm_stats *s)
{
	struct filling f = begin();
	for (int i = 0; i < NSSM_DROP_N; i++)
		put_u64(&f, nssm_drop_name(i), s->all.dropped[i]);
	return end(&f);
}

static json_t *rates_json(const struct nssm_stats *s)
{
	struct filling f = begin();
	put_real(&f, "pps", nssm_per_s(s->all.sent, s->elapsed_s));
	put_real(&f, "bps_l2", nssm_l2_bps(s->all.sent_bytes, s->all.sent, s->elapsed_s));
	put_real(&f, "bps_l1", nssm_l1_bps(s->all.sent_bytes, s->all.sent, s->elapsed_s));
	return end(&f);
}

static json_t *clones_json(const struct nssm_stats *s)
{
	struct filling f = begin();
	put_group(&f, s, "clones");
	put_real(&f, "factor", nssm_clone_factor(&s->all));
	return end(&f);
}

static json_t *feed_json(const struct nssm_stats *s)
{
	struct filling f = begin();
	put_group(&f, s, "feed");
	put(&f, "done", json_boolean(s->src.done));
	put_real(&f, "tokens_per_s", nssm_per_s(s->src.tokens, s->elapsed_s));
	put_real(&f, "packets_per_s", nssm_per_s(s->src.packets, s->elapsed_s));
	return end(&f);
}

static json_t *port_json(const struct nssm_stats *s, uint32_t i)
{
	struct filling f = begin();
	put_text(&f, "name", s->port[i].name, sizeof s->port[i].name);
	put(&f, "up", json_boolean(s->port[i].up));
	put_u64(&f, "line_bps", s->port[i].line_bps);
	put_u64(&f, "sent", s->all.port_sent[i]);
	put_u64(&f, "bytes", s->all.port_bytes[i]);
	put_u64(&f, "received", s->all.port_received[i]);
	put_real(&f, "pps", nssm_per_s(s->all.port_sent[i], s->elapsed_s));
	put_real(&f, "bps_l2", nssm_l2_bps(s->all.port_bytes[i], s->all.port_sent[i], s->elapsed_s));
	put_u64(&f, "arp_replies", s->port[i].arp_replies);
	put_u64(&f, "nd_replies", s->port[i].nd_replies);
	return end(&f);
}

static json_t *ports_json(const struct nssm_stats *s)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < s->n_ports && i < NSSM_PORTS_MAX; i++)
		if (json_array_append_new(list, port_json(s, i)) != 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *measure_json(const struct nssm_stats *s)
{
	if (!s->measuring)
		return json_null();
	struct filling f = begin();
	put_group(&f, s, "measure");
	put_real(&f, "loss_share", nssm_loss_share(&s->back));
	put(&f, "latency_ns", hist_json(&s->back.latency));
	return end(&f);
}

json_t *nssm_stats_json(const struct nssm_stats *s)
{
	struct filling f = begin();
	put_text(&f, "source", s->source, sizeof s->source);
	put_text(&f, "rate", s->rate, sizeof s->rate);
	put(&f, "live", json_boolean(s->live));
	put(&f, "paused", json_boolean(s->paused));
	put(&f, "stopping", json_boolean(s->stopping));
	put_real(&f, "elapsed_s", s->elapsed_s > 0 ? s->elapsed_s : 0);
	put_u64(&f, "engines", s->n_engines);
	put(&f, "packets", packets_json(s));
	put(&f, "bytes", plain_group(s, "bytes"));
	put(&f, "dropped", dropped_json(s));
	put(&f, "rates", rates_json(s));
	put(&f, "late_ns", hist_json(&s->all.late));
	put(&f, "sessions", plain_group(s, "sessions"));
	put(&f, "clones", clones_json(s));
	put(&f, "engine", plain_group(s, "engine"));
	put(&f, "arena", plain_group(s, "arena"));
	put(&f, "feed", feed_json(s));
	put(&f, "ports", ports_json(s));
	put(&f, "measure", measure_json(s));
	return end(&f);
}

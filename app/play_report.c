#include "app/play_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/json_text.h"
#include "app/progress.h"
#include "base/file.h"
#include "version.h"

#define LABELS_SHOWN 20

static uint64_t sum(const uint64_t *count, int n)
{
	uint64_t s = 0;
	for (int i = 0; i < n; i++)
		s += count[i];
	return s;
}

static void add_label(struct nssm_label_stats *into, const struct nssm_label_stats *from)
{
	into->sessions += from->sessions;
	into->flows += from->flows;
	into->tokens += from->tokens;
	into->made += from->made;
	into->packets += from->packets;
	into->bytes += from->bytes;
	into->sent += from->sent;
	into->sent_bytes += from->sent_bytes;
	into->cut += from->cut;
	for (int i = 0; i < NSSM_PKT_N_REASONS; i++)
		into->rejected[i] += from->rejected[i];
	for (int i = 0; i < NSSM_REPAIR_N_BITS; i++)
		into->repaired[i] += from->repaired[i];
	for (int i = 0; i < NSSM_END_N; i++)
		into->end[i] += from->end[i];
}

static struct nssm_label_stats all_labels(const struct nssm_pipeline *p)
{
	struct nssm_label_stats all = {0}, one;
	for (uint32_t l = 0; l < nssm_pipeline_n_labels(p); l++) {
		nssm_pipeline_label_stats(p, l, &one);
		add_label(&all, &one);
	}
	return all;
}

static const char *end_name(int end)
{
	return nssm_end_name((enum nssm_end_reason)end);
}

/* --- for people ----------------------------------------------------------------------------------------------- */

static void print_row(FILE *f, const char *name, const struct nssm_label_stats *s)
{
	fprintf(f, "%-24s %9" PRIu64 " %10" PRIu64 " %10" PRIu64 " %9" PRIu64 " %10.1f\n", name, s->sessions,
	        s->packets, sum(s->rejected, NSSM_PKT_N_REASONS), s->flows,
	        s->sessions > 0 ? (double)s->packets / (double)s->sessions : 0);
}

/* The counts that are not 0, as "short 3, not_ip 1" between two texts; nothing if all are. */
static void print_counts(FILE *f, const char *before, const char *after, const uint64_t *count, int n,
        const char *(*name)(int))
{
	bool any = false;
	for (int i = 0; i < n; i++) {
		if (count[i] == 0)
			continue;
		fprintf(f, "%s%s %" PRIu64, any ? ", " : before, name(i), count[i]);
		any = true;
	}
	if (any)
		fputs(after, f);
}

/* "850 ns", "12.3 us", "4.56 ms", "1.20 s". */
static const char *span(char buf[16], uint64_t ns)
{
	static const char *const unit[] = {"ns", "us", "ms", "s"};
	double v = (double)ns;
	int u = 0;
	for (; v >= 999.5 && u < 3; u++)
		v /= 1000;
	snprintf(buf, 16, "%.*f %s", u == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2, v, unit[u]);
	return buf;
}

/* Many captures that each are a label of their own would push the rest off the screen. */
static void print_labels(FILE *f, const struct nssm_pipeline *p, const struct nssm_label_stats *all)
{
	uint32_t shown = 0, n = 0;
	fprintf(f, "%-24s %9s %10s %10s %9s %10s\n", "label", "sessions", "packets", "rejected", "flows",
	        "pkts/sess");
	for (uint32_t l = 0; l < nssm_pipeline_n_labels(p); l++) {
		struct nssm_label_stats s;
		nssm_pipeline_label_stats(p, l, &s);
		if (s.sessions == 0 || n++ >= LABELS_SHOWN)
			continue;
		print_row(f, nssm_pipeline_label(p, l), &s);
		shown++;
	}
	if (n > shown)
		fprintf(f, "… and %" PRIu32 " more; --manifest has them all\n", n - shown);
	if (n != 1)
		print_row(f, "all", all);
}

static void print_source(FILE *f, const struct nssm_play *p, const struct nssm_source_counters *src,
        const struct nssm_label_stats *all)
{
	if (p->cfg.reader != NULL) {
		fprintf(f, "captures: %" PRIu64 " packets taken", src->packets);
		if (p->cfg.reader->filter != NULL)
			fprintf(f, ", %" PRIu64 " not of the filter", src->filtered);
		if (src->too_long > 0)
			fprintf(f, ", %" PRIu64 " left out as too long", src->too_long);
		if (src->truncated > 0)
			fprintf(f, ", %" PRIu64 " truncated", src->truncated);
		fputc('\n', f);
		return;
	}
	/* Transport checksums follow the filled payload, so correcting them is no sign of anything. */
	struct nssm_label_stats defects = *all;
	for (int b = 0; b < NSSM_REPAIR_N_BITS; b++)
		if (1 << b == NSSM_REPAIR_L4_CSUM)
			defects.repaired[b] = 0;
	print_counts(f, "rejected: ", "\n", all->rejected, NSSM_PKT_N_REASONS, nssm_pkt_reason_name);
	print_counts(f, "repaired: ", "\n", defects.repaired, NSSM_REPAIR_N_BITS, nssm_pkt_repair_name);
	print_counts(f, "sessions ended by: ", "\n", all->end, NSSM_END_N, end_name);
	fprintf(f, "the model's packets: %" PRIu64 " = good %" PRIu64 " + rejected %" PRIu64 "\n", all->made,
	        all->packets, sum(all->rejected, NSSM_PKT_N_REASONS));
}

/* Where every packet went. */
static void print_balance(FILE *f, const struct nssm_counters *c)
{
	fprintf(f, "made %" PRIu64 " = sent %" PRIu64 " + dropped %" PRIu64, c->made, c->sent,
	        nssm_dropped(c));
	print_counts(f, " (", ")", c->dropped, NSSM_DROP_N, nssm_drop_name);
	fprintf(f, "; left %" PRIu64 "\n", c->left);
}

static void print_speed(FILE *f, const struct nssm_play *p, const struct nssm_stats *s)
{
	const struct nssm_counters *c = &s->all;
	double t = s->elapsed_s;
	char a[16], b[16], d[16], e[16], g[16];
	fputs(p->cfg.reader != NULL ? "captures: " : "model: ", f);
	if (p->cfg.reader == NULL)
		fprintf(f, "%s tokens/s, ", nssm_human(b, nssm_per_s(s->src.tokens, t)));
	double factor = nssm_clone_factor(c);
	fprintf(f, "%" PRIu64 " flows, %s packets/s; clone factor ", c->session_flows,
	        nssm_human(d, nssm_per_s(c->session_packets, t)));
	fprintf(f, factor < 1000 ? "%.3g\n" : "%.0f\n", factor);
	nssm_human(g, nssm_l2_bps(c->sent_bytes, c->sent, t));
	fprintf(f, "out: %" PRIu64 " flows, %s packets/s, %s%sbit/s, in %s\n", c->flows_begun,
	        nssm_human(e, nssm_per_s(c->sent, t)), g, strchr(g, ' ') != NULL ? "" : " ",
	        nssm_hms(a, s->elapsed_s));
}

static void print_late(FILE *f, const struct nssm_hist *h)
{
	char a[16], b[16], c[16], d[16];
	if (h->count > 0)
		fprintf(f, "late: p50 %s, p99 %s, p99.9 %s, max %s\n", span(a, nssm_hist_quantile(h, 0.5)),
		        span(b, nssm_hist_quantile(h, 0.99)), span(c, nssm_hist_quantile(h, 0.999)),
		        span(d, h->max_ns));
}

static void print_back(FILE *f, const char *name, const struct nssm_measure_counters *m)
{
	char a[16], b[16], c[16];
	fprintf(f,
	        "back, %s: %" PRIu64 " matched, %" PRIu64 " lost (%.3g %%), %" PRIu64 " duplicate, %" PRIu64
	        " reordered, %" PRIu64 " unmatched\n",
	        name, m->matched, m->lost, 100 * nssm_loss_share(m), m->duplicate, m->reordered,
	        m->unmatched);
	if (m->latency.count > 0)
		fprintf(f, "  latency p50 %s, p99 %s, max %s\n",
		        span(a, nssm_hist_quantile(&m->latency, 0.5)),
		        span(b, nssm_hist_quantile(&m->latency, 0.99)), span(c, m->latency.max_ns));
}

static void print_backs(FILE *f, const struct nssm_pipeline *p, const struct nssm_stats *s)
{
	uint32_t n = 0;
	for (uint32_t l = 0; l < nssm_pipeline_n_labels(p); l++) {
		const struct nssm_measure_counters *m = nssm_pipeline_label_measured(p, l);
		if (m != NULL && m->matched + m->lost > 0 && n++ < LABELS_SHOWN)
			print_back(f, nssm_pipeline_label(p, l), m);
	}
	if (n > LABELS_SHOWN)
		fprintf(f, "… and %" PRIu32 " more; --manifest has them all\n", n - LABELS_SHOWN);
	if (n != 1)
		print_back(f, "all", &s->back);
}

/* What a user should know before trusting the figures above; each only if it happened. */
static void print_notes(FILE *f, const struct nssm_counters *c)
{
	char a[16];
	const struct {
		uint64_t n;
		const char *what;
	} note[] = {
	        {c->time_back, "packets whose stamp goes back, sent in the capture's order"},
	        {c->untracked, "packets sent as they are, for want of table space"},
	        {c->opaque_flows, "flows whose contents repeat addresses or are encrypted: left as they are"},
	        {c->folded, "plays wanted more addresses or ports (--endpoints-max, --sockets-max)"},
	        {c->bank_evicted, "finished sessions forgotten to make room: see --bank"},
	};
	for (size_t i = 0; i < sizeof note / sizeof *note; i++)
		if (note[i].n > 0)
			fprintf(f, "note: %" PRIu64 " %s\n", note[i].n, note[i].what);
	if (c->starved > 0)
		fprintf(f,
		        "note: %" PRIu64 " times a session's next packet was not made in time; %s in all\n",
		        c->starved, span(a, c->starved_ns));
}

static void print_outputs(FILE *f, const struct nssm_pipeline_cfg *c, const struct nssm_stats *s,
        const struct nssm_label_stats *all)
{
	const char *const file[] = {c->pcap_out, c->pcapng_out};
	for (int i = 0; i < 2; i++)
		if (file[i] != NULL)
			fprintf(f, "wrote %" PRIu64 " packets of %" PRIu64 " sessions to %s\n", s->all.sent,
			        all->sessions, strcmp(file[i], "-") == 0 ? "stdout" : file[i]);
	/* A folder has each session once, as it came, however often it is played. */
	if (c->out_dir != NULL)
		fprintf(f,
		        "wrote %" PRIu64 " packets of %" PRIu64 " sessions to %s/*.pcap, with labels.csv\n",
		        all->packets, all->sessions, c->out_dir);
	for (uint32_t i = 0; i < s->n_ports && i < NSSM_PORTS_MAX; i++)
		fprintf(f, "port %u, %s: %" PRIu64 " packets out, %" PRIu64 " in\n", i, s->port[i].name,
		        s->all.port_sent[i], s->all.port_received[i]);
}

void nssm_play_report(FILE *f, const struct nssm_play *p, const struct nssm_play_result *r)
{
	const struct nssm_stats *s = r->stats;
	struct nssm_label_stats all = all_labels(r->pipeline);
	print_labels(f, r->pipeline, &all);
	print_source(f, p, &s->src, &all);
	print_balance(f, &s->all);
	print_speed(f, p, s);
	if (s->live)
		print_late(f, &s->all.late);
	if (s->measuring)
		print_backs(f, r->pipeline, s);
	print_notes(f, &s->all);
	if (r->end != NSSM_PLAY_FAILED)
		print_outputs(f, &p->cfg, s, &all);
}

/* --- for programs --------------------------------------------------------------------------------------------- */

static json_t *counts(const uint64_t *count, int n, const char *(*name)(int))
{
	json_t *o = json_object();
	for (int i = 0; i < n; i++)
		if (count[i] > 0)
			json_object_set_new(o, name(i), nssm_json_count(count[i]));
	return o;
}

static json_t *back(const struct nssm_measure_counters *m)
{
	return json_pack("{so so so so so so so so}", "matched", nssm_json_count(m->matched), "lost",
	        nssm_json_count(m->lost), "duplicate", nssm_json_count(m->duplicate), "reordered",
	        nssm_json_count(m->reordered), "unmatched", nssm_json_count(m->unmatched), "latency_p50_ns",
	        nssm_json_count(nssm_hist_quantile(&m->latency, 0.5)), "latency_p99_ns",
	        nssm_json_count(nssm_hist_quantile(&m->latency, 0.99)), "latency_max_ns",
	        nssm_json_count(m->latency.max_ns));
}

/* m NULL: not measured. */
static json_t *figures(const struct nssm_label_stats *s, const struct nssm_measure_counters *m)
{
	json_t *o =
	        json_pack("{so so so so so so so so so so so so}", "sessions", nssm_json_count(s->sessions),
	                "made", nssm_json_count(s->made), "packets", nssm_json_count(s->packets), "bytes",
	                nssm_json_count(s->bytes), "sent", nssm_json_count(s->sent), "sent_bytes",
	                nssm_json_count(s->sent_bytes), "cut_by_snaplen", nssm_json_count(s->cut), "flows",
	                nssm_json_count(s->flows), "tokens", nssm_json_count(s->tokens), "rejected",
	                counts(s->rejected, NSSM_PKT_N_REASONS, nssm_pkt_reason_name), "repaired",
	                counts(s->repaired, NSSM_REPAIR_N_BITS, nssm_pkt_repair_name), "ended_by",
	                counts(s->end, NSSM_END_N, end_name));
	if (m != NULL)
		json_object_set_new(o, "measured", back(m));
	return o;
}

static json_t *balance(const struct nssm_counters *c)
{
	return json_pack("{so so so so so so so so}", "made", nssm_json_count(c->made), "sent",
	        nssm_json_count(c->sent), "dropped", counts(c->dropped, NSSM_DROP_N, nssm_drop_name), "left",
	        nssm_json_count(c->left), "flows", nssm_json_count(c->flows_begun), "clones",
	        nssm_json_count(c->clones_begun), "source_packets", nssm_json_count(c->session_packets),
	        "source_flows", nssm_json_count(c->session_flows));
}

static const char *ended(enum nssm_play_end end)
{
	static const char *const name[] = {"complete", "stopped", "failed"};
	return name[end];
}

static json_t *manifest(const struct nssm_play *p, const struct nssm_play_result *r)
{
	const struct nssm_stats *s = r->stats;
	struct nssm_label_stats all = all_labels(r->pipeline);
	json_t *options = json_object(), *labels = json_object();
	for (int id = 0; id < NSSM_N_KEYS; id++) {
		const struct nssm_key *k = nssm_conf_key((enum nssm_key_id)id);
		if (k->cmds & p->cmd->bit)
			json_object_set_new(options, k->name, nssm_json_key(p->conf, (enum nssm_key_id)id));
	}
	for (uint32_t l = 0; l < nssm_pipeline_n_labels(r->pipeline); l++) {
		struct nssm_label_stats one;
		nssm_pipeline_label_stats(r->pipeline, l, &one);
		if (one.sessions > 0)
			json_object_set_new(labels, nssm_pipeline_label(r->pipeline, l),
			        figures(&one, nssm_pipeline_label_measured(r->pipeline, l)));
	}
	return json_pack("{ss ss ss so so sb ss so sf so so so so}", "netssm", NSSM_VERSION, "dpdk",
	        NSSM_DPDK_VERSION, "command", p->cmd->name, "source", json_incref(p->source), "seed",
	        nssm_json_count(p->cfg.seed), "complete", (int)(r->end == NSSM_PLAY_COMPLETE), "ended",
	        ended(r->end), "why", nssm_json_text(r->why), "seconds", s->elapsed_s, "options", options,
	        "counts", balance(&s->all), "all", figures(&all, s->measuring ? &s->back : NULL), "labels",
	        labels);
}

/* Takes root. */
static int write_json(json_t *root, const char *path, struct nssm_err *err)
{
	char *text = root != NULL
	                     ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9))
	                     : NULL;
	json_decref(root);
	if (text == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%.200s: no memory for what goes in there", path);
	int rc = 0;
	if (strcmp(path, "-") == 0)
		puts(text); /* main says it if that fails */
	else
		rc = nssm_file_write(path, text, strlen(text), err);
	free(text);
	return rc;
}

int nssm_play_manifest(const struct nssm_play *p, const struct nssm_play_result *r, struct nssm_err *err)
{
	const char *path = nssm_conf_str(p->conf, NSSM_K_MANIFEST);
	return path != NULL ? write_json(manifest(p, r), path, err) : 0;
}

int nssm_play_stats_json(const struct nssm_play *p, const struct nssm_play_result *r, struct nssm_err *err)
{
	const char *path = nssm_conf_str(p->conf, NSSM_K_STATS_JSON);
	return path != NULL ? write_json(nssm_stats_json(r->stats), path, err) : 0;
}

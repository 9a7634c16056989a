/* Captures to a corpus: which files, which labels, which sessions, what is counted, what is kept of broken
 * ones. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/philox.h"
#include "capture_build.h"
#include "frames.h"
#include "model/codec_flow.h"
#include "model/corpus.h"
#include "replay/flowset.h"
#include "replay/ingest.h"
#include "replay/labels.h"
#include "replay/spool.h"
#include "scratch.h"

static char warnings[4096];

static void keep_warning(void *ctx, const char *msg)
{
	size_t n = strlen(warnings);
	snprintf(warnings + n, sizeof warnings - n, "%s\n", msg);
}

/* frame_syn from client 192.0.2.<host>:<port>. */
static void frame_of(uint8_t out[74], uint8_t host, uint16_t port)
{
	memcpy(out, frame_syn, 74);
	out[29] = host;
	out[34] = (uint8_t)(port >> 8);
	out[35] = (uint8_t)port;
}

static void save(const char *name, const struct build *b)
{
	scratch_write(scratch(name), b->data, b->len);
}

/* A capture of n SYNs of one client, a second apart, each its own flow; an ARP frame first. */
static void save_syns(const char *name, uint8_t host, int n)
{
	struct build b;
	uint8_t f[74];
	build_pcap(&b, false, false, 65535, 1);
	frame_of(f, host, 1);
	f[13] = 6;
	build_record(&b, 1, 0, f, 74, 74);
	for (int i = 0; i < n; i++) {
		frame_of(f, host, (uint16_t)(1000 + i));
		build_record(&b, (uint32_t)(10 + i), 0, f, 74, 74);
	}
	save(name, &b);
	build_free(&b);
}

static void save_text(const char *name, const char *text)
{
	scratch_write(scratch(name), text, strlen(text));
}

static struct nssm_ingest_report rep;
static struct nssm_err err;

static struct nssm_ingest_cfg config(const char *const *captures, size_t n)
{
	warnings[0] = '\0';
	struct nssm_ingest_cfg cfg = {.captures = captures,
	        .n_captures = n,
	        .out = scratch("out.nssm"),
	        .warn = keep_warning,
	        .codec = {.kind = NSSM_CODEC_RAW, .version = 1, .pkt_len = 80}};
	assert_int_equal(nssm_split_parse(&cfg.session_split, "file", &err), 0);
	return cfg;
}

static struct nssm_corpus *run(const struct nssm_ingest_cfg *cfg)
{
	struct nssm_corpus *c;
	int rc = nssm_ingest(cfg, &rep, &err);
	if (rc != 0)
		print_error("%s\n", err.msg);
	assert_int_equal(rc, 0);
	assert_int_equal(nssm_corpus_open(&c, cfg->out, true, &err), 0);
	return c;
}

static const char *label_of(const struct nssm_corpus *c, uint32_t session)
{
	return nssm_corpus_vocab(c)->label[nssm_corpus_session(c, session)->label_idx].name;
}

/* A small tree, the same for several tests. */
static int tree(void **state)
{
	if (scratch_open(state) != 0)
		return -1;
	mkdir(scratch("in"), 0755);
	mkdir(scratch("in/b"), 0755);
	save_syns("in/z.pcap", 1, 3);
	save_syns("in/b/z.pcap", 2, 1);
	save_syns("in/b/y.CAP", 3, 2);
	save_syns("in/none.pcap", 4, 2);
	save_text("in/notes.txt", "no capture");
	/* One gz. */
	struct build b, gz;
	uint8_t f[74];
	build_pcap(&b, true, true, 65535, 1);
	frame_of(f, 9, 1);
	build_record(&b, 5, 7, f, 74, 74);
	gz = build_gz(&b);
	save("in/a.pcap.gz", &gz);
	build_free(&b);
	build_free(&gz);
	save_text("labels.csv", "\xef\xbb\xbfNote,Label,Split,File\r\n"
	                        "\"a, \"\"quoted\"\"\nnote\",web,train,z.pcap\r\n"
	                        ",dns,train,b/z.pcap\r\n"
	                        "\r\n"
	                        "x,web,val,\"y.CAP\"\r\n"
	                        "x,dns,train,elsewhere/a.pcap.gz\r\n"
	                        "x,dns,train,lost.pcap");
	return 0;
}

static void files_find_their_labels(void **state)
{
	const char *in[] = {scratch("in")};
	struct nssm_ingest_cfg cfg = config(in, 1);
	cfg.labels = scratch("labels.csv");
	struct nssm_corpus *c = run(&cfg);
	/* By path: a.pcap.gz (its row has another folder: base name), b/y.CAP, b/z.pcap, z.pcap. */
	assert_int_equal(nssm_corpus_n_sessions(c), 4);
	assert_string_equal(label_of(c, 0), "dns");
	assert_int_equal(nssm_corpus_session(c, 0)->first_ns, 5000000007);
	assert_string_equal(label_of(c, 1), "web");
	assert_int_equal(nssm_corpus_session(c, 1)->n_packets, 2);
	assert_string_equal(label_of(c, 2), "dns");
	assert_int_equal(nssm_corpus_session(c, 2)->n_packets, 1);
	assert_string_equal(label_of(c, 3), "web");
	assert_int_equal(nssm_corpus_session(c, 3)->n_flows, 3);
	assert_int_equal(nssm_corpus_session(c, 3)->first_ns, 10000000000);
	assert_int_equal(nssm_corpus_session(c, 3)->last_ns, 12000000000);
	int web = nssm_vocab_find_label(nssm_corpus_vocab(c), "web");
	const struct nssm_label_stats *st = nssm_corpus_stats(c, (uint32_t)web);
	assert_int_equal(st->n_sessions, 2);
	assert_int_equal(st->n_packets, 5);
	assert_int_equal(st->n_flows, 5);
	assert_int_equal(st->n_tokens, 2 + 5 * 81);
	assert_int_equal(st->skipped[NSSM_PKT_NOT_IP], 2);
	assert_int_equal(st->iat.n, 3);
	assert_int_equal(st->iat.count[nssm_iat_step(1000000000)], 3);
	assert_int_equal(rep.n_files, 4);
	assert_int_equal(rep.n_no_row, 1);
	assert_int_equal(rep.n_rows_unused, 1);
	assert_non_null(strstr(warnings, "none.pcap"));
	assert_non_null(strstr(warnings, "labels.csv:8: lost.pcap"));
	nssm_corpus_close(&c);
}

static void tokens_are_the_encoder_s(void **state)
{
	const char *in[] = {scratch("in/z.pcap")};
	struct nssm_ingest_cfg cfg = config(in, 1);
	cfg.label = "any";
	struct nssm_corpus *c = run(&cfg);
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	const uint16_t *t = nssm_corpus_tokens(c, 0);
	assert_int_equal(nssm_corpus_session(c, 0)->n_tokens, 1 + 3 * 80 + 2 + 1);
	assert_int_equal(*t++, v->label[0].id);
	for (int i = 0; i < 3; i++) {
		uint8_t f[80] = {0};
		frame_of(f, 1, (uint16_t)(1000 + i));
		for (int k = 0; k < 80; k++)
			assert_int_equal(*t++, v->byte_id[f[k]]);
		assert_int_equal(*t++, i < 2 ? v->pkt : v->eot);
	}
	nssm_corpus_close(&c);
}

static void split_and_only_choose(void **state)
{
	const char *in[] = {scratch("in")}, *only[] = {"web"};
	struct nssm_ingest_cfg cfg = config(in, 1);
	cfg.labels = scratch("labels.csv");
	cfg.split = "train";
	struct nssm_corpus *c = run(&cfg);
	assert_int_equal(nssm_corpus_n_sessions(c), 3);
	assert_int_equal(rep.n_other_split, 1);
	nssm_corpus_close(&c);
	cfg.only = only;
	cfg.n_only = 1;
	c = run(&cfg);
	assert_int_equal(nssm_corpus_n_sessions(c), 1);
	assert_int_equal(nssm_corpus_session(c, 0)->n_packets, 3);
	/* A lost row of another label is not missed. */
	assert_int_equal(rep.n_rows_unused, 0);
	nssm_corpus_close(&c);
	cfg.split = "test";
	assert_int_equal(nssm_ingest(&cfg, &rep, &err), NSSM_EARG);
}

static void bad_labels_are_told(void **state)
{
	static const struct {
		const char *csv, *word;
		int code;
	} bad[] = {
	        {"File,Name\na,b\n", "File and Label", NSSM_EFORMAT},
	        {"", "empty", NSSM_EFORMAT},
	        {"File,Label\nz.pcap,\"web\n", ":2: column 2: a quote", NSSM_EFORMAT},
	        {"File,Label\nz.pcap\n", ":2: 1 columns", NSSM_EFORMAT},
	        {"File,Label\nb/z.pcap,web\nz.pcap,web\nc/z.pcap,dns\nx/none.pcap,a\ny/none.pcap,b\n",
	                "none.pcap", NSSM_EFORMAT},
	        {"File,Label\nz.pcap,we b\n", "z.pcap", NSSM_EARG},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		save_text("bad.csv", bad[i].csv);
		const char *in[] = {scratch("in")};
		struct nssm_ingest_cfg cfg = config(in, 1);
		cfg.labels = scratch("bad.csv");
		cfg.out = scratch("never.nssm");
		assert_int_not_equal(nssm_ingest(&cfg, &rep, &err), 0);
		assert_non_null(strstr(err.msg, bad[i].word));
		assert_int_not_equal(access(scratch("never.nssm"), F_OK), 0);
	}
	const char *in[] = {scratch("in")};
	struct nssm_ingest_cfg cfg = config(in, 1);
	save_text("bad.csv", "File,Label\nz.pcap,web\n");
	cfg.labels = scratch("bad.csv");
	cfg.split = "train";
	assert_int_equal(nssm_ingest(&cfg, &rep, &err), NSSM_EARG);
	assert_non_null(strstr(err.msg, "Split"));
	const char *missing[] = {scratch("nowhere")};
	cfg = config(missing, 1);
	cfg.label = "a";
	assert_int_equal(nssm_ingest(&cfg, &rep, &err), NSSM_EIO);
	assert_non_null(strstr(err.msg, "nowhere"));
}

/* Eight clients by turns. */
static void save_interleaved(const char *name, int n)
{
	struct build b;
	uint8_t f[74];
	build_pcap(&b, false, true, 65535, 1);
	struct nssm_rng rng;
	nssm_rng_init(&rng, 23, 0, 0);
	for (int i = 0; i < n; i++) {
		frame_of(f, (uint8_t)(10 + nssm_rng_below(&rng, 8)),
		        (uint16_t)(1000 + nssm_rng_below(&rng, 5)));
		memcpy(f + 38, &i, 4);
		build_bytes(&b, "", 0);
		b.n_bounds = b.n_packets = 0;
		build_record(&b, (uint32_t)(100 + i), 0, f, 74, 74);
	}
	save(name, &b);
	build_free(&b);
}

static int files_in(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void clients_are_spooled(void **state)
{
	save_interleaved("many.pcap", 3000);
	size_t n[3];
	char *bytes[3];
	static const size_t budget[3] = {0, 60000, 1};
	mkdir(scratch("spool"), 0755);
	for (int k = 0; k < 3; k++) {
		const char *in[] = {scratch("many.pcap")};
		struct nssm_ingest_cfg cfg = config(in, 1);
		cfg.label = "any";
		cfg.out = scratch("spool/clients.nssm");
		cfg.spool_bytes = budget[k];
		assert_int_equal(nssm_split_parse(&cfg.session_split, "client", &err), 0);
		struct nssm_corpus *c = run(&cfg);
		assert_int_equal(nssm_corpus_n_sessions(c), 8);
		assert_true(k == 0 ? rep.spilled_bytes == 0 : rep.spilled_bytes > 400000 / (size_t)(3 - k));
		uint64_t packets = 0;
		for (uint32_t s = 0; s < 8; s++) {
			const struct nssm_session_info *info = nssm_corpus_session(c, s);
			packets += info->n_packets;
			assert_int_equal(info->n_flows, 5);
			/* Every packet carries its client's address: none went astray. */
			const struct nssm_vocab *v = nssm_corpus_vocab(c);
			const uint16_t *t = nssm_corpus_tokens(c, s);
			int before = -1;
			for (uint32_t p = 0; p < info->n_packets; p++) {
				const uint16_t *f = t + 1 + p * 81;
				assert_int_equal(f[29], t[1 + 29]);
				int i = v->value[f[38]] | v->value[f[39]] << 8;
				assert_true(i > before);
				before = i;
			}
		}
		assert_int_equal(packets, 3000);
		nssm_corpus_close(&c);
		assert_int_equal(files_in(scratch("spool")), 3); /* nothing left behind */
		bytes[k] = scratch_read(scratch("spool/clients.nssm"), &n[k]);
	}
	for (int k = 1; k < 3; k++) {
		assert_int_equal(n[0], n[k]);
		assert_memory_equal(bytes[0], bytes[k], n[0]);
	}
	for (int k = 0; k < 3; k++)
		free(bytes[k]);
}

static void gaps_cut(void **state)
{
	struct build b;
	uint8_t f[74];
	build_pcap(&b, false, false, 65535, 1);
	frame_of(f, 1, 1);
	static const uint32_t at[] = {10, 11, 9, 30, 31, 90};
	for (int i = 0; i < 6; i++)
		build_record(&b, at[i], 0, f, 74, 74);
	save("gaps.pcap", &b);
	build_free(&b);
	const char *in[] = {scratch("gaps.pcap")};
	struct nssm_ingest_cfg cfg = config(in, 1);
	cfg.label = "any";
	assert_int_equal(nssm_split_parse(&cfg.session_split, "gap=10s", &err), 0);
	struct nssm_corpus *c = run(&cfg);
	static const uint32_t want[] = {3, 2, 1};
	assert_int_equal(nssm_corpus_n_sessions(c), 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(nssm_corpus_session(c, i)->n_packets, want[i]);
		assert_int_equal(nssm_corpus_session(c, i)->n_flows, 1); /* the same flow, counted in each */
	}
	assert_int_equal(nssm_corpus_stats(c, 0)->n_time_back, 1);
	assert_int_equal(nssm_corpus_stats(c, 0)->iat.n, 2);
	nssm_corpus_close(&c);
}

/* However sessions are cut: each is measured by itself, its steps stand behind the label, and the packets are spelled as without. */
static void sessions_are_measured(void **state)
{
	static const char *const split[] = {"file", "gap=10s", "client", "client"};
	static const uint32_t n_sessions[] = {2, 4, 9, 9};
	mkdir(scratch("cond"), 0755);
	for (int k = 0; k < 4; k++) {
		const char *in[] = {scratch("gaps.pcap"), scratch("many.pcap")};
		struct nssm_ingest_cfg cfg = config(in, 2);
		cfg.label = "any";
		cfg.codec = (struct nssm_codec_cfg){.kind = NSSM_CODEC_FLOW, .version = NSSM_FLOW_VERSION};
		cfg.spool_bytes = k == 3 ? 1 : 0;
		assert_int_equal(nssm_split_parse(&cfg.session_split, split[k], &err), 0);
		cfg.out = scratch("cond/without.nssm");
		struct nssm_corpus *without = run(&cfg), *with;
		cfg.out = scratch("cond/with.nssm");
		cfg.codec.conditions = NSSM_N_CONDITIONS;
		with = run(&cfg);
		assert_int_equal(rep.spilled_bytes > 0, k == 3);
		assert_int_equal(files_in(scratch("cond")), 4);
		assert_int_equal(nssm_corpus_codec(with)->conditions, NSSM_N_CONDITIONS);
		assert_int_equal(nssm_corpus_n_sessions(with), n_sessions[k]);
		const struct nssm_vocab *v = nssm_corpus_vocab(with);
		for (uint32_t i = 0; i < n_sessions[k]; i++) {
			const struct nssm_session_info *info = nssm_corpus_session(with, i);
			const uint16_t *t = nssm_corpus_tokens(with, i), *u = nssm_corpus_tokens(without, i);
			assert_int_equal(info->n_tokens, nssm_corpus_session(without, i)->n_tokens + NSSM_N_CONDITIONS);
			assert_int_equal(info->n_flows, nssm_corpus_session(without, i)->n_flows);
			assert_int_equal(t[0], u[0]);
			assert_memory_equal(t + 1 + NSSM_N_CONDITIONS, u + 1, (info->n_tokens - 1 - NSSM_N_CONDITIONS) * sizeof *t);
			assert_int_equal(v->value[t[1 + NSSM_COND_PACKETS]], nssm_condition_step(NSSM_COND_PACKETS, info->n_packets));
		}
		/* SYNs at 10, 11 and 9 s: 1,776 bit/s in a second. One at 90 s: no time, so no throughput. */
		static const uint8_t first[NSSM_N_CONDITIONS] = {0, 0, 23, 41, 4}, third[NSSM_N_CONDITIONS] = {0, 0, 0, 1, 1};
		for (int c = 0; k == 1 && c < NSSM_N_CONDITIONS; c++) {
			assert_int_equal(v->value[nssm_corpus_tokens(with, 0)[1 + c]], first[c]);
			assert_int_equal(v->value[nssm_corpus_tokens(with, 2)[1 + c]], third[c]);
		}
		nssm_corpus_close(&with);
		nssm_corpus_close(&without);
	}
}

static void broken_captures_give_what_they_have(void **state)
{
	struct build b;
	uint8_t f[74];
	build_pcap(&b, false, false, 65535, 1);
	for (int i = 0; i < 4; i++) {
		frame_of(f, 1, (uint16_t)i);
		build_record(&b, 10, 0, f, 74, 74);
	}
	mkdir(scratch("broken"), 0755);
	b.len -= 10;
	save("broken/a.pcap", &b);
	build_free(&b);
	save_text("broken/b.pcap", "this is no capture at all");
	save_syns("broken/c.pcap", 5, 2);
	save_syns("broken/d.pcap", 5, 0);
	const char *in[] = {scratch("broken")};
	struct nssm_ingest_cfg cfg = config(in, 1);
	cfg.label = "any";
	struct nssm_corpus *c = run(&cfg);
	assert_int_equal(nssm_corpus_n_sessions(c), 2);
	assert_int_equal(nssm_corpus_session(c, 0)->n_packets, 3);
	assert_int_equal(nssm_corpus_session(c, 1)->n_packets, 2);
	assert_int_equal(rep.n_bad_files, 2);
	assert_int_equal(rep.n_empty_sessions, 1);
	assert_non_null(strstr(warnings, "a.pcap"));
	assert_non_null(strstr(warnings, "the 3 packets before it are kept"));
	assert_non_null(strstr(warnings, "b.pcap"));
	nssm_corpus_close(&c);
	cfg.strict = true;
	cfg.out = scratch("strict.nssm");
	assert_int_not_equal(nssm_ingest(&cfg, &rep, &err), 0);
	assert_non_null(strstr(err.msg, "a.pcap"));
	assert_int_not_equal(access(scratch("strict.nssm"), F_OK), 0);
	/* Nothing but empty sessions. */
	const char *empty[] = {scratch("broken/d.pcap")};
	cfg = config(empty, 1);
	cfg.label = "any";
	cfg.out = scratch("empty.nssm");
	assert_int_equal(nssm_ingest(&cfg, &rep, &err), NSSM_EARG);
	assert_int_not_equal(access(scratch("empty.nssm"), F_OK), 0);
}

static int stop_at_once(void *ctx, uint64_t bytes, uint64_t total, uint64_t packets)
{
	assert_true(bytes <= total);
	return 1;
}

static void a_stop_writes_nothing(void **state)
{
	save_interleaved("long.pcap", 9000);
	const char *in[] = {scratch("long.pcap")};
	struct nssm_ingest_cfg cfg = config(in, 1);
	cfg.label = "any";
	cfg.out = scratch("stopped.nssm");
	cfg.progress = stop_at_once;
	assert_int_equal(nssm_ingest(&cfg, &rep, &err), NSSM_EINTR);
	assert_int_not_equal(access(scratch("stopped.nssm"), F_OK), 0);
}

static void paper_is_counted(void **state)
{
	struct build b;
	uint8_t f[64];
	build_pcap(&b, false, false, 65535, 1);
	memcpy(f, frame_vlan_udp, 64);
	build_record(&b, 1, 0, f, 64, 64);
	f[43] = 8; /* UDP with nothing in it */
	build_record(&b, 2, 0, f, 64, 64);
	save("paper.pcap", &b);
	build_free(&b);
	save_syns("single.pcap", 1, 1);
	const char *in[] = {scratch("paper.pcap"), scratch("single.pcap"), scratch("in/z.pcap")};
	struct nssm_ingest_cfg cfg = config(in, 3);
	cfg.label = "any";
	cfg.codec.compat_paper = true;
	struct nssm_corpus *c = run(&cfg);
	assert_int_equal(rep.n_beyond_paper, 2);
	assert_int_equal(nssm_corpus_n_sessions(c), 3);
	assert_int_equal(nssm_corpus_session(c, 0)->n_tokens, 1 + 80 + 1 + 80); /* no end token */
	nssm_corpus_close(&c);
	cfg.codec.compat_paper = false;
	c = run(&cfg);
	assert_int_equal(rep.n_beyond_paper, 0);
	nssm_corpus_close(&c);
}

static void flow_sets_count(void **state)
{
	struct nssm_flow_set s = {0};
	struct nssm_flow_key k = {.proto = 6, .ip_version = 4};
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 20000; i++) {
			k.port[0] = (uint16_t)i;
			k.addr[1][15] = (uint8_t)(i >> 16);
			assert_int_equal(nssm_flow_set_add(&s, i % 3, &k, &err), 1);
			assert_int_equal(nssm_flow_set_add(&s, i % 3, &k, &err), 0);
			assert_int_equal(nssm_flow_set_add(&s, 7, &k, &err), 1);
		}
		assert_int_equal(s.n, 40000);
		nssm_flow_set_clear(&s);
		assert_int_equal(s.n, 0);
		nssm_flow_set_clear(&s); /* far too large now: freed */
		assert_null(s.slot);
	}
	nssm_flow_set_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(files_find_their_labels),
	        cmocka_unit_test(tokens_are_the_encoder_s),
	        cmocka_unit_test(split_and_only_choose),
	        cmocka_unit_test(bad_labels_are_told),
	        cmocka_unit_test(clients_are_spooled),
	        cmocka_unit_test(gaps_cut),
	        cmocka_unit_test(sessions_are_measured),
	        cmocka_unit_test(broken_captures_give_what_they_have),
	        cmocka_unit_test(a_stop_writes_nothing),
	        cmocka_unit_test(paper_is_counted),
	        cmocka_unit_test(flow_sets_count),
	};
	return cmocka_run_group_tests(tests, tree, scratch_close);
}

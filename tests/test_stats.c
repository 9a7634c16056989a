/* stats: sums over engines, derived figures, and JSON that is complete, finite and says the same as the struct. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "replay/stats.h"

static void add(void **state)
{
	struct nssm_rng rng;
	nssm_rng_init(&rng, 1, 2, 3);
	static struct nssm_counters one[3], sum;
	size_t n = offsetof(struct nssm_counters, late) / sizeof(uint64_t);
	for (int e = 0; e < 3; e++) {
		uint64_t *v = (uint64_t *)&one[e];
		for (size_t i = 0; i < n; i++)
			v[i] = nssm_rng_u32(&rng);
		for (int i = 0; i < 100; i++)
			nssm_hist_add(&one[e].late, nssm_rng_below(&rng, 1000000));
	}
	memset(&sum, 0, sizeof sum);
	for (int e = 0; e < 3; e++)
		nssm_counters_add(&sum, &one[e]);
	const uint64_t *got = (const uint64_t *)&sum;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(got[i],
		        ((uint64_t *)&one[0])[i] + ((uint64_t *)&one[1])[i] + ((uint64_t *)&one[2])[i]);
	assert_int_equal(sum.late.count, 300);
	assert_int_equal(sum.late.sum_ns, one[0].late.sum_ns + one[1].late.sum_ns + one[2].late.sum_ns);
	uint64_t dropped = 0;
	for (int i = 0; i < NSSM_DROP_N; i++)
		dropped += sum.dropped[i];
	assert_int_equal(nssm_dropped(&sum), dropped);
}

static void derived(void **state)
{
	struct nssm_counters c = {.made = 100, .sent = 60, .dropped = {1, 2, 3, 4, 5}, .session_packets = 20};
	assert_int_equal(nssm_in_hand(&c), 25);
	c.made = 70; /* a snapshot between two stores */
	assert_int_equal(nssm_in_hand(&c), 0);
	assert_true(nssm_clone_factor(&c) == 3);
	c.session_packets = 0;
	assert_true(nssm_clone_factor(&c) == 0);
	assert_true(nssm_per_s(10, 4) == 2.5);
	static const double no_time[] = {0, -1, NAN, INFINITY, -INFINITY};
	for (size_t i = 0; i < sizeof no_time / sizeof no_time[0]; i++) {
		assert_true(nssm_per_s(10, no_time[i]) == 0);
		assert_true(nssm_l2_bps(10, 1, no_time[i]) == 0);
	}
	assert_true(isfinite(nssm_l1_bps(UINT64_MAX, UINT64_MAX, 1e-320)));
	/* 10 GbE with the smallest frames: 60 bytes + FCS. */
	assert_true(fabs(nssm_l1_bps(60 * 14880952ull, 14880952, 1) - 1e10) < 1000);
	assert_true(nssm_l2_bps(60 * 14880952ull, 14880952, 1) == 64 * 8 * 14880952.0);
	struct nssm_measure_counters m = {.matched = 99, .lost = 1};
	assert_true(fabs(nssm_loss_share(&m) - 0.01) < 1e-15);
	m.lost = 0;
	m.matched = 0;
	assert_true(nssm_loss_share(&m) == 0);
	m.lost = m.matched = UINT64_MAX;
	assert_true(nssm_loss_share(&m) == 0.5);
}

static void fill(struct nssm_stats *s)
{
	memset(s, 0, sizeof *s);
	s->elapsed_s = 10;
	s->live = true;
	s->measuring = true;
	s->n_engines = 2;
	s->n_ports = 2;
	strcpy(s->rate, "100 kpps");
	strcpy(s->source, "a.pcap and 3 more");
	strcpy(s->port[0].name, "veth0");
	strcpy(s->port[1].name, "veth1");
	s->port[0].up = true;
	s->port[1].line_bps = 10000000000;
	s->port[1].arp_replies = 7;
	/* Every number its own value: a key that shows another's is seen. */
	size_t n;
	const struct nssm_stat_field *f = nssm_stats_fields(&n);
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 1000 + i;
		memcpy((char *)s + f[i].offset, &v, sizeof v);
	}
	for (int i = 0; i < NSSM_DROP_N; i++)
		s->all.dropped[i] = (uint64_t)i + 1;
	s->all.made = 5000;
	s->all.port_sent[1] = 500;
	s->all.port_bytes[1] = 50000;
	s->all.port_received[1] = 499;
	for (int i = 1; i <= 1000; i++) {
		nssm_hist_add(&s->all.late, (uint64_t)i * 100);
		nssm_hist_add(&s->back.latency, (uint64_t)i * 1000);
	}
}

static json_t *at(json_t *o, const char *group, const char *key)
{
	json_t *v = json_object_get(group != NULL ? json_object_get(o, group) : o, key);
	if (v == NULL)
		fail_msg("no %s.%s", group != NULL ? group : "", key);
	return v;
}

static void json(void **state)
{
	static struct nssm_stats s;
	fill(&s);
	json_t *o = nssm_stats_json(&s);
	assert_non_null(o);
	size_t n;
	const struct nssm_stat_field *f = nssm_stats_fields(&n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
		        json_integer_value(at(o, f[i].group, f[i].key)), nssm_stats_value(&s, &f[i]));
	for (int i = 0; i < NSSM_DROP_N; i++)
		assert_int_equal(json_integer_value(at(o, "dropped", nssm_drop_name(i))), i + 1);
	assert_int_equal(json_integer_value(at(o, "packets", "dropped")), 15);
	assert_int_equal(json_integer_value(at(o, "packets", "in_hand")), 5000 - 15 - (json_int_t)s.all.sent);
	assert_true(json_real_value(at(o, "rates", "pps")) == (double)s.all.sent / 10);
	assert_true(json_real_value(at(o, "clones", "factor")) == nssm_clone_factor(&s.all));
	assert_true(json_real_value(at(o, "feed", "tokens_per_s")) == (double)s.src.tokens / 10);
	assert_true(json_real_value(at(o, "measure", "loss_share")) == nssm_loss_share(&s.back));
	json_t *late = at(o, NULL, "late_ns");
	assert_int_equal(json_integer_value(at(late, NULL, "count")), 1000);
	assert_int_equal(json_integer_value(at(late, NULL, "min")), 100);
	assert_int_equal(json_integer_value(at(late, NULL, "max")), 100000);
	assert_true(json_real_value(at(late, NULL, "mean")) == 50050);
	assert_in_range(json_integer_value(at(late, NULL, "p50")), 48500, 51500);
	assert_in_range(json_integer_value(at(late, NULL, "p99")), 96000, 100000);
	assert_in_range(
	        json_integer_value(at(at(o, "measure", "latency_ns"), NULL, "p999")), 969000, 1000000);
	assert_string_equal(json_string_value(at(o, NULL, "rate")), "100 kpps");
	assert_string_equal(json_string_value(at(o, NULL, "source")), "a.pcap and 3 more");
	assert_true(json_is_true(at(o, NULL, "live")) && json_is_false(at(o, NULL, "paused")));
	json_t *ports = at(o, NULL, "ports"), *port = json_array_get(ports, 1);
	assert_int_equal(json_array_size(ports), 2);
	assert_string_equal(json_string_value(at(port, NULL, "name")), "veth1");
	assert_int_equal(json_integer_value(at(port, NULL, "received")), 499);
	assert_int_equal(json_integer_value(at(port, NULL, "arp_replies")), 7);
	assert_true(json_real_value(at(port, NULL, "bps_l2")) == 8 * (5000 + 4 * 50.0));
	json_decref(o);
}

/* Keys of one object, those of inner ones too, in their order. */
static void list_keys(json_t *o, char *out, size_t cap)
{
	const char *key;
	json_t *v;
	json_object_foreach(o, key, v)
	{
		strncat(out, key, cap - strlen(out) - 1);
		strncat(out, " ", cap - strlen(out) - 1);
		if (json_is_object(v))
			list_keys(v, out, cap);
	}
}

/* What scripts read must not go away unnoticed, nor hang on the run's state. */
static void stable(void **state)
{
	static struct nssm_stats s;
	memset(&s, 0, sizeof s);
	static const char want[] =
	        "source rate live paused stopping elapsed_s engines packets made sent dropped left in_hand "
	        "bytes sent "
	        "dropped queue_full link_down too_long no_reader error rates pps bps_l2 bps_l1 "
	        "late_ns count min mean p50 p99 p999 max sessions begun done packets flows "
	        "clones begun done alive waiting flows factor "
	        "engine starved starved_ns time_back untracked opaque_flows folded truth_lost lost_ns cpu_ns ring_used ring_size "
	        "arena used bytes spilled_bytes bank_sessions bank_bytes bank_evicted "
	        "feed tokens packets bytes rejected repaired filtered too_long truncated waits waits_ns "
	        "parked "
	        "sessions_begun sessions_done done tokens_per_s packets_per_s ports measure ";
	static const char want_measure[] =
	        "matched lost duplicate reordered unmatched loss_share latency_ns count min "
	        "mean p50 p99 p999 max ";
	for (int measuring = 0; measuring < 2; measuring++) {
		s.measuring = measuring;
		json_t *o = nssm_stats_json(&s);
		char keys[4096] = "", expect[4096];
		list_keys(o, keys, sizeof keys);
		snprintf(expect, sizeof expect, "%s%s", want, measuring ? want_measure : "");
		assert_string_equal(keys, expect);
		json_decref(o);
	}
}

static void all_finite(json_t *v)
{
	if (json_is_real(v))
		assert_true(isfinite(json_real_value(v)) && json_real_value(v) >= 0);
	if (json_is_integer(v))
		assert_true(json_integer_value(v) >= 0);
	const char *key;
	json_t *inner;
	json_object_foreach(v, key, inner) all_finite(inner);
	size_t i;
	json_array_foreach(v, i, inner) all_finite(inner);
}

static void extreme(void **state)
{
	static struct nssm_stats s;
	static const double elapsed[] = {0, NAN, INFINITY, -5, 1e-320, 1e300};
	for (size_t e = 0; e < sizeof elapsed / sizeof elapsed[0]; e++)
		for (int byte = 0; byte < 256; byte += 255) {
			memset(&s, byte, sizeof s);
			s.live = s.paused = s.stopping = s.measuring = s.src.done = true;
			s.port[0].up = s.port[1].up = false;
			s.elapsed_s = elapsed[e];
			json_t *o = nssm_stats_json(&s);
			assert_non_null(o);
			all_finite(o);
			assert_int_equal(
			        json_array_size(at(o, NULL, "ports")), byte == 0 ? 0 : NSSM_PORTS_MAX);
			char *text = json_dumps(o, JSON_COMPACT);
			assert_non_null(text);
			json_t *again = json_loads(text, 0, NULL);
			assert_non_null(again);
			assert_int_equal(
			        json_integer_value(at(again, "packets", "made")), byte == 0 ? 0 : INT64_MAX);
			json_decref(again);
			free(text);
			json_decref(o);
		}
	/* Names are hostile: not ended, broken, controlling. */
	memset(&s, 0, sizeof s);
	memset(s.source, 'x', sizeof s.source);
	memcpy(s.source, "\xff\033[2J\xc3", 6);
	memcpy(s.source + sizeof s.source - 1, "\xe2", 1);
	json_t *o = nssm_stats_json(&s);
	const char *shown = json_string_value(at(o, NULL, "source"));
	assert_int_equal(strlen(shown), sizeof s.source);
	assert_memory_equal(shown, "? [2J?xx", 8);
	assert_int_equal(shown[sizeof s.source - 1], '?');
	json_decref(o);
}

static long allocs_left;
static void *failing_malloc(size_t n)
{
	return allocs_left-- > 0 ? malloc(n) : NULL;
}

static void no_memory(void **state)
{
	static struct nssm_stats s;
	fill(&s);
	json_set_alloc_funcs(failing_malloc, free);
	int n_failed = 0;
	json_t *o = NULL;
	for (long n = 0; o == NULL && n < 10000; n++) {
		allocs_left = n;
		o = nssm_stats_json(&s);
		n_failed += o == NULL;
	}
	assert_non_null(o);
	assert_true(n_failed > 100);
	json_decref(o);
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(add), cmocka_unit_test(derived),
	        cmocka_unit_test(json), cmocka_unit_test(stable), cmocka_unit_test(extreme),
	        cmocka_unit_test(no_memory)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

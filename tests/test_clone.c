/* Sessions sent again: known answers, every checksum of real and made packets, both directions coherent, no two clones alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "clone_util.h"

/* --- known answers --- */

static void test_known(void **state)
{
	(void)state;
	struct rig r;
	assert_int_equal(rig_open(&r, 1 << 20, 100), 0);
	struct frame syn, answer, ack;
	uint8_t opt[12] = {1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 0},
	        opt2[12] = {1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 0, 5};
	frame_tcp_opt(&syn, 4, A4(1), 40000, A4(2), 80, U_SYN, 0xfffffff0, 0, opt, 12, "", 0);
	frame_tcp_opt(&answer, 4, A4(2), 80, A4(1), 40000, U_SYN | U_ACK, 1000, 0xfffffff1, opt2, 12, "", 0);
	frame_tcp(&ack, 4, A4(1), 40000, A4(2), 80, U_ACK, 0xfffffff1, 1001, "hello", 5);
	assert_int_equal(rig_add(&r, &syn), 1);
	assert_int_equal(rig_add(&r, &answer), 1);
	assert_int_equal(rig_add(&r, &ack), 1);
	nssm_tape_finish(r.builder, r.tape);

	struct nssm_clone_cfg cfg = plain_cfg();
	cfg.n_tags = 1;
	cfg.tag[0] = (struct nssm_vlan_tag){0x8100, 0x0123};
	struct nssm_cloner *c;
	assert_int_equal(nssm_cloner_open(&c, &cfg, &r.err), 0);
	assert_int_equal(nssm_cloner_slots(c), 65534ull * 100 / 64);
	/* Slot 1024 begins at number 65536: 2 of the second round of 65534 addresses, so the second port block. */
	struct nssm_play_id id = {.key = nssm_clone_key(1, 2, 3), .slot = 1024};
	uint32_t isn[2], ts[2];
	const struct nssm_rec *rec = r.tape->first;
	struct clone k = clone_one(c, r.tape, rec, &id);
	assert_int_equal(k.len, 14 + 4 + 20 + 32);
	assert_int_equal(k.wirelen, k.len);
	static const uint8_t head[18] = {2, 0, 1, 0, 0, 6, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x01, 0x23, 8, 0};
	/* Server number 1024*256 mod 65534 = 8. */
	static const uint8_t addrs[8] = {198, 18, 0, 3, 198, 19, 0, 9};
	uint8_t want[18];
	memcpy(want, head, 18);
	want[5] = 8;
	assert_memory_equal(k.buf, want, 18);
	assert_memory_equal(k.buf + 18 + 12, addrs, 8);
	assert_int_equal(u_get16(k.buf + 38), 10000 + 500);
	assert_int_equal(u_get16(k.buf + 40), 80);
	isn[0] = u_get32(k.buf + 42) - 0xfffffff0;
	ts[0] = u_get32(k.buf + 62) - 5;
	assert_int_equal(u_get32(k.buf + 46), 0); /* no ACK: no acknowledgement, no echo */
	assert_int_equal(u_get32(k.buf + 66), 0);
	free(k.buf);

	rec = nssm_rec_next(rec);
	k = clone_one(c, r.tape, rec, &id);
	isn[1] = u_get32(k.buf + 42) - 1000;
	ts[1] = u_get32(k.buf + 62) - 256;
	assert_int_equal(u_get32(k.buf + 46), (uint32_t)(0xfffffff1 + isn[0]));
	assert_int_equal(u_get32(k.buf + 66), 5 + ts[0]);
	assert_int_equal(u_get16(k.buf + 40), 10000 + 500);
	free(k.buf);
	assert_true(isn[0] != 0 && isn[1] != 0 && isn[0] != isn[1] && ts[0] != ts[1] && ts[0] != isn[0]);

	rec = nssm_rec_next(rec);
	k = clone_one(c, r.tape, rec, &id);
	assert_int_equal(u_get32(k.buf + 42), (uint32_t)(0xfffffff1 + isn[0]));
	assert_int_equal(u_get32(k.buf + 46), 1001 + isn[1]);
	assert_memory_equal(k.buf + 58, "hello", 5);
	free(k.buf);
	assert_null(nssm_rec_next(rec));

	struct nssm_tuple tuple;
	nssm_clone_tuple(&tuple, c, r.tape, r.tape->flows, &id);
	assert_memory_equal(tuple.addr[0], addrs, 4);
	assert_memory_equal(tuple.addr[1], addrs + 4, 4);
	assert_int_equal(tuple.port[0], 10500);
	assert_int_equal(tuple.port[1], 80);
	nssm_cloner_close(&c);
	rig_close(&r);
}

/* --- real and made packets through the oracle --- */

/* What has been seen of a flow of the tape: how its numbers move. */
struct seen {
	const struct nssm_flow *flow;
	bool has[2], has_ts[2], has_dns, has_echo;
	uint32_t off[2], ts[2];
	uint32_t dns, echo[2];
	uint8_t addr[2][16];
	uint16_t port[2];
	bool has_ends;
};

#define SEEN_MAX (1u << 16)
struct check {
	struct rig rig;
	struct nssm_cloner *cloner[3];
	struct nssm_cloner *same;
	struct seen *seen;
	char path[512];
	uint64_t n_frames, n_clones, n_flows, n_tcp;
	uint8_t **kept;
	uint32_t *kept_len, n_kept, cap;
};

static struct seen *seen_of(struct check *k, const struct nssm_flow *f)
{
	uint32_t i = (uint32_t)((uintptr_t)f >> 6) * 2654435761u % SEEN_MAX;
	while (k->seen[i].flow != NULL && k->seen[i].flow != f)
		i = (i + 1) % SEEN_MAX;
	k->seen[i].flow = f;
	return &k->seen[i];
}

static void same_offset(bool *has, uint32_t *off, uint32_t now)
{
	if (*has)
		assert_int_equal(*off, now);
	*has = true;
	*off = now;
}

/* Both frames are whole TCP. at: of the TCP header in a; b has it at the same place. */
static void check_tcp(struct seen *s, int dir, const uint8_t *a, const uint8_t *b, uint32_t end)
{
	same_offset(&s->has[dir], &s->off[dir], u_get32(b + 4) - u_get32(a + 4));
	bool acks = (a[13] & U_ACK) != 0;
	if (acks)
		same_offset(&s->has[!dir], &s->off[!dir], u_get32(b + 8) - u_get32(a + 8));
	else
		assert_memory_equal(a + 8, b + 8, 4);
	uint32_t hl = (a[12] >> 4) * 4u;
	bool ts = false, sack = false;
	for (uint32_t i = 20; i + 1 < hl && hl <= end && a[i] != 0;) {
		if (a[i] == 1) {
			i++;
			continue;
		}
		if (a[i + 1] < 2 || i + a[i + 1] > hl)
			break;
		if (a[i] == 8 && a[i + 1] == 10 && !ts) {
			ts = true;
			same_offset(&s->has_ts[dir], &s->ts[dir], u_get32(b + i + 2) - u_get32(a + i + 2));
			if (acks)
				same_offset(&s->has_ts[!dir], &s->ts[!dir],
				        u_get32(b + i + 6) - u_get32(a + i + 6));
		}
		for (uint32_t e = 2; a[i] == 5 && a[i + 1] % 8 == 2 && !sack && e < a[i + 1]; e += 4)
			same_offset(&s->has[!dir], &s->off[!dir], u_get32(b + i + e) - u_get32(a + i + e));
		sack |= a[i] == 5 && a[i + 1] >= 10 && a[i + 1] % 8 == 2;
		i += a[i + 1];
	}
}

static void check_ends(struct seen *s, int dir, const struct view *w, const uint8_t *b)
{
	for (int i = 0; i < 2; i++) {
		const uint8_t *addr = b + w->addr + (uint32_t)(i ^ dir) * w->alen;
		if (s->has_ends)
			assert_memory_equal(s->addr[i], addr, w->alen);
		memcpy(s->addr[i], addr, w->alen);
	}
	s->has_ends = true;
}

/* One packet against its clone, both in the capture's layout from the IP header on. */
static void check_flow(struct check *k, const struct nssm_cloner *c, const struct nssm_rec *rec,
        const struct nssm_play_id *id, const uint8_t *a, const uint8_t *b, uint32_t len)
{
	struct view w;
	view_frame(&w, a, len);
	if (rec->flow == NULL) {
		if (w.v != 0)
			assert_true(k->rig.tape->n_untracked > 0);
		return;
	}
	assert_int_equal(w.v, rec->flow->ip_version);
	struct seen *s = seen_of(k, rec->flow);
	check_ends(s, rec->dir, &w, b);
	struct nssm_tuple tuple;
	nssm_clone_tuple(&tuple, c, k->rig.tape, rec->flow, id);
	for (int i = 0; i < 2; i++)
		assert_memory_equal(tuple.addr[i], b + w.addr + (uint32_t)(i ^ rec->dir) * w.alen, w.alen);
	bool l4 = !w.later && (w.proto == U_TCP || w.proto == U_UDP) && w.l4 + 4 <= w.end;
	if (l4 && (rec->kind == NSSM_REC_TCP || rec->kind == NSSM_REC_UDP)) {
		assert_int_equal(tuple.port[rec->dir], u_get16(b + w.l4));
		assert_int_equal(tuple.port[!rec->dir], u_get16(b + w.l4 + 2));
	}
	if (l4 && w.proto == U_TCP && w.l4 + 20 <= w.end && (a[w.l4 + 12] >> 4) >= 5 &&
	        w.l4 + (a[w.l4 + 12] >> 4) * 4u <= w.end) {
		check_tcp(s, rec->dir, a + w.l4, b + w.l4, w.end - w.l4);
		k->n_tcp++;
	}
	if (rec->app == NSSM_APP_DNS) {
		uint32_t was = u_get16(a + rec->app_off), is = u_get16(b + rec->app_off);
		if (was == 0)
			assert_int_equal(is, 0);
		else
			same_offset(&s->has_dns, &s->dns, (is + 65535 - was) % 65535);
	}
}

static void begin(void *ctx, const char *path)
{
	struct check *k = ctx;
	snprintf(k->path, sizeof k->path, "%s", path);
	assert_int_equal(rig_open(&k->rig, 64 << 20, 20000), 0);
	k->n_kept = 0;
}

static void each(void *ctx, const struct nssm_pkt *pkt)
{
	struct check *k = ctx;
	if (k->n_kept == k->cap) {
		k->cap = k->cap != 0 ? 2 * k->cap : 1024;
		k->kept = realloc(k->kept, k->cap * sizeof *k->kept);
		k->kept_len = realloc(k->kept_len, k->cap * sizeof *k->kept_len);
		assert_true(k->kept != NULL && k->kept_len != NULL);
	}
	/* Exactly its bytes, so that a step beyond is seen. */
	uint8_t *d = malloc(pkt->caplen + (pkt->caplen == 0));
	assert_non_null(d);
	memcpy(d, pkt->data, pkt->caplen);
	int rc = nssm_tape_append(
	        k->rig.builder, k->rig.tape, pkt->ts_ns, d, pkt->caplen, pkt->wirelen, &k->rig.err);
	if (rc == 0) {
		free(d);
		return;
	}
	assert_int_equal(rc, 1);
	k->kept[k->n_kept] = d;
	k->kept_len[k->n_kept++] = pkt->caplen;
	k->n_frames++;
}

static void check_clones(
        struct check *k, const struct nssm_cloner *c, int tag_bytes, bool strip, uint64_t slot)
{
	struct nssm_play_id id = {.key = nssm_clone_key(7, 8, (uint32_t)slot), .slot = slot};
	memset(k->seen, 0, SEEN_MAX * sizeof *k->seen);
	uint32_t i = 0;
	for (const struct nssm_rec *rec = k->rig.tape->first; rec != NULL; rec = nssm_rec_next(rec), i++) {
		struct clone got = clone_one(c, k->rig.tape, rec, &id);
		uint32_t len = k->kept_len[i];
		bool tls = rec->patches != NULL && rec->app == NSSM_APP_NONE;
		if (!oracle_frame(k->kept[i], len, got.buf, got.len, tag_bytes, strip, tls))
			fail_msg("%s, packet %u, slot %llu", k->path, i + 1, (unsigned long long)slot);
		struct view w;
		view_frame(&w, k->kept[i], len);
		int shift = (int)(got.len - len);
		if (len >= 14)
			check_flow(k, c, rec, &id, k->kept[i], got.buf + shift, len);
		assert_int_equal(got.wirelen, (int64_t)rec->wirelen + shift);
		k->n_clones++;
		free(got.buf);
	}
	assert_int_equal(i, k->n_kept);
}

/* Without rewriting a frame is what it was. */
static void check_same(struct check *k)
{
	struct nssm_play_id id = {.key = 5, .slot = 1};
	uint32_t i = 0;
	for (const struct nssm_rec *rec = k->rig.tape->first; rec != NULL; rec = nssm_rec_next(rec), i++) {
		struct clone got = clone_one(k->same, k->rig.tape, rec, &id);
		assert_int_equal(got.len, k->kept_len[i]);
		assert_memory_equal(got.buf, k->kept[i], got.len);
		free(got.buf);
	}
}

static void end(void *ctx)
{
	struct check *k = ctx;
	k->n_flows += k->rig.tape->n_flows;
	nssm_tape_finish(k->rig.builder, k->rig.tape);
	check_clones(k, k->cloner[0], 0, false, 0);
	check_clones(k, k->cloner[0], 0, false, nssm_cloner_slots(k->cloner[0]) - 1);
	check_clones(k, k->cloner[1], 8, false, 3);
	check_clones(k, k->cloner[2], 4, true, 5);
	check_same(k);
	for (uint32_t i = 0; i < k->n_kept; i++)
		free(k->kept[i]);
	rig_close(&k->rig);
}

static void check_open(struct check *k)
{
	*k = (struct check){0};
	k->seen = calloc(SEEN_MAX, sizeof *k->seen);
	assert_non_null(k->seen);
	struct nssm_err err;
	struct nssm_clone_cfg cfg = plain_cfg();
	cfg.endpoints_max = 4096;
	cfg.servers_max = 4096;
	cfg.sockets_max = 50000;
	assert_int_equal(nssm_cloner_open(&k->cloner[0], &cfg, &err), 0);
	cfg.n_tags = 2;
	cfg.tag[0] = (struct nssm_vlan_tag){0x88a8, 7};
	cfg.tag[1] = (struct nssm_vlan_tag){0x8100, 8};
	assert_int_equal(nssm_cloner_open(&k->cloner[1], &cfg, &err), 0);
	cfg.n_tags = 1;
	cfg.strip_tags = true;
	assert_int_equal(nssm_cloner_open(&k->cloner[2], &cfg, &err), 0);
	struct nssm_clone_cfg none = {0};
	assert_int_equal(nssm_cloner_open(&k->same, &none, &err), 0);
}

static void check_close(struct check *k)
{
	for (int i = 0; i < 3; i++)
		nssm_cloner_close(&k->cloner[i]);
	nssm_cloner_close(&k->same);
	free(k->seen);
	free(k->kept);
	free(k->kept_len);
}

static void captures(const char *variable)
{
	const char *folder = getenv(variable);
	if (folder == NULL) {
		print_message("%s is not set: no real capture was cloned\n", variable);
		skip();
	}
	struct check k;
	check_open(&k);
	int files = u_each_capture(folder, begin, each, end, &k);
	print_message("%d captures, %llu frames, %llu flows: %llu clones checked, %llu of them TCP\n", files,
	        (unsigned long long)k.n_frames, (unsigned long long)k.n_flows, (unsigned long long)k.n_clones,
	        (unsigned long long)k.n_tcp);
	assert_true(files > 0 && k.n_frames > 0);
	check_close(&k);
}

static void test_corpus(void **state)
{
	(void)state;
	captures("NETSSM_CORPUS");
}

static void test_hostile(void **state)
{
	(void)state;
	captures("NETSSM_HOSTILE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_known),
	        cmocka_unit_test(test_corpus),
	        cmocka_unit_test(test_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

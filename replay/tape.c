#include "replay/tape_impl.h"

#include <assert.h>
#include <stdlib.h>

#define FRAME_MAX    262144u
#define BODY         (NSSM_CHUNK_END - NSSM_CHUNK_HEAD) /* of an empty chunk */
#define REC_MIN      (sizeof(struct nssm_rec) + NSSM_REC_HEAD)
#define PATCHES_ROOM (sizeof(struct nssm_patches) + NSSM_PATCHES_MAX * sizeof(struct nssm_patch) + 8)

_Static_assert(sizeof(struct nssm_rec) + NSSM_WHOLE_BYTES + PATCHES_ROOM + NSSM_META_BYTES <= BODY,
        "a chunk is too small");

static uint32_t align(uint32_t n, uint32_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* --- builder --- */

int nssm_tape_builder_open(struct nssm_tape_builder **out, struct nssm_arena *arena,
        const struct nssm_tape_cfg *cfg, struct nssm_err *err)
{
	struct nssm_tape_builder *b = calloc(1, sizeof *b);
	if (b == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "tapes: no memory");
	b->arena = arena;
	b->tapes_max = cfg->tapes_max;
	b->client_nets = cfg->client_nets;
	b->server_nets = cfg->server_nets;
	int rc = nssm_table_open(&b->table, cfg->flows_max, err);
	if (rc == 0) {
		b->tapes = calloc((size_t)cfg->tapes_max + 1, sizeof *b->tapes);
		b->free_tape = calloc((size_t)cfg->tapes_max + 1, sizeof *b->free_tape);
		if (b->tapes == NULL || b->free_tape == NULL)
			rc = nssm_err_set(err, NSSM_ENOMEM, "tapes: no memory for %u", cfg->tapes_max);
	}
	if (rc != 0) {
		nssm_tape_builder_close(&b);
		return rc;
	}
	for (uint32_t i = cfg->tapes_max; i > 0; i--)
		b->free_tape[b->n_free++] = &b->tapes[i - 1];
	*out = b;
	return 0;
}

void nssm_tape_builder_close(struct nssm_tape_builder **pb)
{
	struct nssm_tape_builder *b = *pb;
	if (b == NULL)
		return;
	for (uint32_t i = 0; i < b->n_touched; i++) {
		struct nssm_tape *t = &b->tapes[i];
		if (t->begun)
			nssm_tape_free(b, &t);
	}
	nssm_table_close(&b->table);
	free(b->tapes);
	free(b->free_tape);
	free(b);
	*pb = NULL;
}

struct nssm_tape *nssm_tape_begin(
        struct nssm_tape_builder *b, uint64_t session, uint32_t label_idx, uint64_t start_ns)
{
	if (b->n_free == 0)
		return NULL;
	struct nssm_tape *t = b->free_tape[--b->n_free];
	uint32_t idx = (uint32_t)(t - b->tapes);
	b->n_touched = idx < b->n_touched ? b->n_touched : idx + 1;
	*t = (struct nssm_tape){
	        .session = session, .label_idx = label_idx, .start_ns = start_ns, .begun = true};
	return t;
}

void nssm_tape_finish(struct nssm_tape_builder *b, struct nssm_tape *t)
{
	nssm_table_drop(&b->table, t);
	t->finished = true;
}

/* --- chunks --- */

static void put_chunk(struct nssm_tape_builder *b, struct nssm_chunk *c)
{
	nssm_arena_put(b->arena, c);
}

static void drop_spare(struct nssm_tape_builder *b)
{
	for (struct nssm_chunk *c = b->spare, *next; c != NULL; c = next) {
		next = c->next;
		put_chunk(b, c);
	}
	b->spare = NULL;
}

/* 1: n chunks are spare; 0: the arena is full; < 0: it failed. */
static int take_spare(struct nssm_tape_builder *b, uint32_t n, struct nssm_err *err)
{
	struct nssm_err failed = {0};
	for (; n > 0; n--) {
		struct nssm_chunk *c = nssm_arena_get(b->arena, &failed);
		if (c == NULL) {
			drop_spare(b);
			if (failed.code != 0 && err != NULL)
				*err = failed;
			return failed.code;
		}
		c->next = b->spare;
		b->spare = c;
	}
	return 1;
}

static struct nssm_chunk *next_spare(struct nssm_tape_builder *b)
{
	struct nssm_chunk *c = b->spare;
	assert(c != NULL);
	b->spare = c->next;
	*c = (struct nssm_chunk){.used = NSSM_CHUNK_HEAD, .limit = NSSM_CHUNK_END, .meta = NSSM_CHUNK_END};
	return c;
}

static void add_recs(struct nssm_tape_builder *b, struct nssm_tape *t)
{
	struct nssm_chunk *c = next_spare(b);
	*(t->rec_now != NULL ? &t->rec_now->next : &t->recs) = c;
	t->rec_now = c;
}

static void add_meta(struct nssm_tape *t, struct nssm_chunk *c)
{
	c->is_meta = true;
	c->next_meta = t->metas;
	t->metas = c;
}

static uint32_t room(const struct nssm_chunk *c)
{
	return c != NULL ? c->meta - c->used : 0;
}

void *nssm_tape_meta(struct nssm_tape_builder *b, struct nssm_tape *t, size_t bytes)
{
	uint32_t n = align((uint32_t)bytes, 64);
	if (t->metas == NULL || room(t->metas) < n)
		add_meta(t, next_spare(b));
	struct nssm_chunk *c = t->metas;
	c->meta -= n;
	return memset((uint8_t *)c + c->meta, 0, n);
}

/* --- room for a record --- */

/* How many chunks a record of so many stored bytes and patches needs beyond what is left of the one now. */
static uint32_t chunks_for(uint32_t left, uint32_t stored, uint32_t patches)
{
	uint32_t n = 0, head = (uint32_t)sizeof(struct nssm_rec);
	if (head + stored + patches > left && (stored <= NSSM_WHOLE_BYTES || left < REC_MIN)) {
		n = 1;
		left = BODY;
	}
	if (head + stored + patches <= left)
		return n;
	uint32_t rest = stored > left - head ? stored - (left - head) : 0;
	for (; rest > BODY; rest -= BODY)
		n++;
	n += rest > 0;
	return n + (rest == 0 || rest + patches > BODY);
}

/* Makes sure of all that append may need, so that nothing can fail once it has begun to change things. */
static int reserve(struct nssm_tape_builder *b, const struct nssm_tape *t, uint32_t stored, uint32_t patches,
        uint32_t meta, struct nssm_err *err)
{
	uint32_t n = 0, left = room(t->rec_now);
	bool shared = t->metas != NULL && t->metas == t->rec_now;
	if (t->metas == NULL) {
		/* The first chunk is for both. */
		n = 1;
		left = BODY - NSSM_META_BYTES;
	} else if (meta > 0 && room(t->metas) < meta) {
		/* A part of it may still go into a chunk that records are in. */
		n = 1;
		left = shared ? 0 : left;
	} else if (shared) {
		left = left > meta ? left - meta : 0;
	}
	return take_spare(b, n + chunks_for(left, stored, patches), err);
}

/* --- writing --- */

/* Room for a record in rec_now or a new chunk. */
static struct nssm_rec *place(
        struct nssm_tape_builder *b, struct nssm_tape *t, uint32_t stored, uint32_t patches)
{
	uint32_t left = room(t->rec_now);
	if (t->rec_now == NULL || (sizeof(struct nssm_rec) + stored + patches > left &&
	                                  (stored <= NSSM_WHOLE_BYTES || left < REC_MIN)))
		add_recs(b, t);
	return (struct nssm_rec *)((uint8_t *)t->rec_now + t->rec_now->used);
}

static void write_bytes(struct nssm_tape_builder *b, struct nssm_tape *t, const uint8_t *frame, uint32_t n)
{
	struct nssm_chunk *c = t->rec_now;
	c->used += (uint32_t)sizeof(struct nssm_rec);
	while (n > room(c)) {
		uint32_t k = room(c);
		memcpy((uint8_t *)c + c->used, frame, k);
		frame += k;
		n -= k;
		c->used += k;
		c->limit = c->used;
		add_recs(b, t);
		c = t->rec_now;
	}
	memcpy((uint8_t *)c + c->used, frame, n);
	c->used += n;
}

static const struct nssm_patches *write_patches(
        struct nssm_tape_builder *b, struct nssm_tape *t, const struct nssm_patch *p, uint32_t n)
{
	uint32_t bytes = (uint32_t)(sizeof(struct nssm_patches) + n * sizeof *p);
	struct nssm_chunk *c = t->rec_now;
	if (align(c->used, 8) + bytes > c->meta) {
		add_recs(b, t);
		c = t->rec_now;
	}
	c->used = align(c->used, 8);
	struct nssm_patches *all = (struct nssm_patches *)((uint8_t *)c + c->used);
	all->n = n;
	memcpy(all->patch, p, n * sizeof *p);
	c->used += bytes;
	return all;
}

static bool is_whole(const struct nssm_layout *l)
{
	return l->kind == NSSM_REC_TCP || l->kind == NSSM_REC_UDP;
}

static uint32_t without_zeros(const uint8_t *frame, uint32_t n)
{
	for (uint64_t w; n >= 8; n -= 8) {
		memcpy(&w, frame + n - 8, 8);
		if (w != 0)
			break;
	}
	while (n > 0 && frame[n - 1] == 0)
		n--;
	return n;
}

/* Without trailing zeros, but with all of a TCP or UDP header: most end in an urgent pointer of 0. */
static uint32_t stored_bytes(const struct nssm_layout *l, const uint8_t *frame, uint32_t len)
{
	uint32_t n = without_zeros(frame, len), headers = is_whole(l) ? l->h.payload_off : 0;
	return n > headers ? n : headers;
}

static void fill_rec(
        struct nssm_rec *rec, const struct nssm_layout *l, uint32_t len, uint32_t stored, uint32_t wirelen)
{
	*rec = (struct nssm_rec){.len = len,
	        .stored = stored,
	        .wirelen = wirelen < len ? len : wirelen,
	        .kind = l->kind,
	        .flags = l->flags,
	        .n_vlan = l->h.n_vlan,
	        .l3_off = l->h.l3_off,
	        .l4_off = l->l4_off,
	        .payload_off = is_whole(l) ? l->h.payload_off : 0,
	        .ts_off = l->ts_off,
	        .sack_off = l->sack_off,
	        .n_sack = l->n_sack,
	        .csum_off = l->csum_off};
}

static bool is_plain(const struct nssm_rec *rec, const struct nssm_layout *l, const uint8_t *frame)
{
	const struct nssm_flow *f = rec->flow;
	if (!is_whole(l) || f == NULL || f->end_role[0] == NSSM_ROLE_FIXED ||
	        (rec->dir == 1 && f->end_role[1] == NSSM_ROLE_FIXED))
		return false;
	bool to_group = f->end_role[1] == NSSM_ROLE_FIXED;
	return rec->patches == NULL && rec->payload_off <= NSSM_REC_HEAD &&
	       ((l->ts_off | l->sack_off) & 1) == 0 && (l->flags & NSSM_REC_ROUTED) == 0 &&
	       (frame[0] & 1) == to_group &&
	       (l->kind == NSSM_REC_TCP || nssm_get16(frame + l->csum_off) != 0);
}

static uint16_t complement(uint32_t sum)
{
	return nssm_csum_fold(sum);
}

static void make_plain(struct nssm_rec *rec, const struct nssm_layout *l, const uint8_t *frame)
{
	const uint8_t *ip = frame + l->h.l3_off;
	uint32_t addrs = nssm_csum_add(0, l->addr[0], 2u * l->addr_len);
	rec->flags |= NSSM_REC_PLAIN;
	rec->plain.base_ip =
	        l->addr_len == 4 ? complement(addrs + nssm_get16(ip + 4) + nssm_get16(ip + 10)) : 0;
	rec->plain.base_l4 = complement(addrs + l->port[0] + l->port[1] + nssm_get16(frame + l->csum_off));
}

static void count(struct nssm_tape *t, struct nssm_rec *rec, const uint8_t *frame)
{
	t->n_packets++;
	t->n_bytes += rec->wirelen;
	t->duration_ns = rec->t_ns;
	struct nssm_flow *f = rec->flow;
	if (f == NULL)
		return;
	if (f->n_packets[0] + f->n_packets[1] == 0) {
		f->first_ns = rec->t_ns;
		rec->flags |= NSSM_REC_OPENS;
	}
	f->last_ns = rec->t_ns;
	if (f->n_packets[rec->dir] == 0) {
		static const uint8_t zeros[6] = {0};
		struct nssm_endpoint *e = f->end[rec->dir];
		if (memcmp(e->mac, zeros, 6) == 0)
			memcpy(e->mac, frame + 6, 6);
	}
	f->n_packets[rec->dir]++;
	f->n_bytes[rec->dir] += rec->wirelen;
}

int nssm_tape_append(struct nssm_tape_builder *b, struct nssm_tape *t, uint64_t t_ns, const uint8_t *frame,
        uint32_t len, uint32_t wirelen, struct nssm_err *err)
{
	assert(!t->finished);
	if (len > FRAME_MAX)
		return nssm_err_set(err, NSSM_ERANGE,
		        "session %llu: a frame of %u bytes; up to %u can be played",
		        (unsigned long long)t->session, len, FRAME_MAX);
	struct nssm_layout l;
	nssm_layout_parse(&l, frame, len);
	uint32_t stored = stored_bytes(&l, frame, len);
	int dir = 0;
	const struct nssm_row *row =
	        l.addr_len != 0 && !l.later_frag ? nssm_table_flow(&b->table, t, &dir, &l) : NULL;
	bool patched = nssm_patch_wanted(&l, row != NULL ? row->obj : NULL, dir, frame);
	uint32_t patches_room = patched ? PATCHES_ROOM : 0;
	bool makes = (l.addr_len != 0 && row == NULL) || (patched && l.kind != NSSM_REC_TCP) ||
	             l.first_frag || (l.tcp_flags & 2);
	int rc = reserve(b, t, stored, patches_room, makes ? NSSM_META_BYTES : 0, err);
	if (rc <= 0)
		return rc;
	if (t->metas == NULL) {
		add_recs(b, t);
		add_meta(t, t->rec_now);
	}

	/* From here on nothing fails. */
	struct nssm_rec rec;
	fill_rec(&rec, &l, len, stored, wirelen);
	rec.t_ns = t_ns < t->duration_ns ? t->duration_ns : t_ns;
	if (l.addr_len != 0) {
		rec.flow = nssm_flow_of(b, t, &dir, &l, frame);
		rec.dir = rec.flow != NULL ? (uint8_t)dir : 0;
		t->n_untracked += rec.flow == NULL;
	}
	struct nssm_patch patch[NSSM_PATCHES_MAX];
	uint32_t n_patches = nssm_patch_make(patch, &rec, b, t, &l, frame);
	assert(n_patches == 0 || patched);

	struct nssm_rec *at = place(b, t, stored, patches_room);
	write_bytes(b, t, frame, stored);
	rec.patches = n_patches > 0 ? write_patches(b, t, patch, n_patches) : NULL;
	rec.flags |= (uint8_t)((l.addr_len == 16 ? NSSM_REC_IP6 : 0) | (l.tcp_flags & 16 ? NSSM_REC_ACK : 0));
	if (is_plain(&rec, &l, frame))
		make_plain(&rec, &l, frame);
	t->rec_now->used = align(t->rec_now->used, NSSM_REC_ALIGN);
	*at = rec;
	*(t->last != NULL ? &t->last->next : &t->first) = at;
	t->last = at;
	count(t, at, frame);
	drop_spare(b);
	return 1;
}

/* --- giving back --- */

void nssm_tape_trim(struct nssm_tape_builder *b, struct nssm_tape *t, const struct nssm_rec *rec)
{
	const struct nssm_chunk *stop = rec != NULL ? nssm_chunk_of(rec) : NULL;
	while (t->recs != NULL && t->recs != stop) {
		struct nssm_chunk *c = t->recs;
		t->recs = c->next;
		if (!c->is_meta)
			put_chunk(b, c);
	}
	t->first = (struct nssm_rec *)(uintptr_t)rec;
	if (rec == NULL) {
		t->rec_now = NULL;
		t->last = NULL;
	}
}

void nssm_tape_free(struct nssm_tape_builder *b, struct nssm_tape **pt)
{
	struct nssm_tape *t = *pt;
	if (t == NULL)
		return;
	assert(t->begun && t >= b->tapes && t < b->tapes + b->tapes_max);
	nssm_table_drop(&b->table, t);
	nssm_tape_trim(b, t, NULL);
	for (struct nssm_chunk *c = t->metas, *next; c != NULL; c = next) {
		next = c->next_meta;
		put_chunk(b, c);
	}
	*t = (struct nssm_tape){0};
	b->free_tape[b->n_free++] = t;
	*pt = NULL;
}

/* --- reading --- */

void nssm_rec_copy(uint8_t *dst, const struct nssm_rec *rec)
{
	const struct nssm_chunk *c = nssm_chunk_of(rec);
	const uint8_t *from = nssm_rec_head(rec);
	uint32_t left = rec->stored, n = (uint32_t)((const uint8_t *)c + c->limit - from);
	while (left > n) {
		memcpy(dst, from, n);
		dst += n;
		left -= n;
		c = c->next;
		from = (const uint8_t *)c + NSSM_CHUNK_HEAD;
		n = c->limit - NSSM_CHUNK_HEAD;
	}
	memcpy(dst, from, left);
	memset(dst + left, 0, rec->len - rec->stored);
}

#include "replay/wheel.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"

#define TICK_BITS  9
#define LEVEL_BITS 10 /* slots of a level that make one of the next */
#define N_LEVELS   6
#define STRETCH    (1u << LEVEL_BITS)
#define N_SLOTS    (2 * STRETCH)
#define N_WORDS    (N_SLOTS / 64)
/* Of the last level: 64 bits of time end there. */
#define N_TOP_SLOTS (1u << (64 - TICK_BITS - (N_LEVELS - 1) * LEVEL_BITS))

#define PER_BLOCK 10
#define NO_BLOCK  UINT32_MAX

/* Gathering starts when fewer are left, and goes on until there are as many: a caller prefetches 8 to 16 ahead. */
#define AHEAD_LOW 16
#define AHEAD     32
/* Below this insertion sort is faster. */
#define SORT_SMALL 24

struct entry {
	uint64_t due_ns, tie;
	uint32_t id;
};

struct block {
	struct entry e[PER_BLOCK];
	uint32_t next, unused[3];
};

/* The head block has room or is full; those behind it are full. Without one fill is PER_BLOCK too. */
struct slot {
	uint32_t head, fill;
};

struct level {
	uint64_t word[N_WORDS]; /* a bit a slot that holds something */
	uint32_t words;         /* a bit a word that is not 0 */
	struct slot slot[N_SLOTS];
};

_Static_assert(sizeof(struct block) == 256, "a block is four cache lines");
_Static_assert(N_WORDS == 32, "the summary is 32 bits");
_Static_assert(TICK_BITS + N_LEVELS * LEVEL_BITS >= 64, "the last level has no next one");

/* Kept out of the paths that are taken for every packet: inlined they would make those save more registers. */
#define SELDOM __attribute__((noinline))

struct nssm_wheel {
	uint32_t n, n_max;

	/* Gathered and sorted: ready[head .. tail). */
	struct entry *ready;
	uint32_t head, tail;
	/* What was added in or before the gathered ticks: a heap of four children a node. */
	struct entry *late;
	uint32_t n_late;
	/* The first of the levels' entries where it lies beyond level 0; it stays there until it is taken. */
	struct entry far;
	bool has_far;

	uint64_t now;               /* tick: the levels' slots are counted from here */
	uint64_t end[N_LEVELS - 1]; /* first tick beyond a level: behind the stretch after the present one */
	uint64_t next;              /* first tick that was not gathered: now or now + 1 */

	struct block *pool;
	uint32_t free;
	struct level level[N_LEVELS];

	void *map;
	size_t map_bytes;
};

/* (due, tie, id) */
static inline bool before(const struct entry *a, const struct entry *b)
{
	if (a->due_ns != b->due_ns)
		return a->due_ns < b->due_ns;
	if (a->tie != b->tie)
		return a->tie < b->tie;
	return a->id < b->id;
}

/* The slot of a tick at level k, counted from tick 0; beyond the last level there is one. */
static inline uint64_t seg(uint64_t tick, int k)
{
	return k < N_LEVELS ? tick >> (LEVEL_BITS * k) : 0;
}

static void set_ends(struct nssm_wheel *w)
{
	for (int k = 1; k < N_LEVELS; k++)
		w->end[k - 1] = (seg(w->now, k) + 2) << (LEVEL_BITS * k);
}

/* --- memory --- */

static uint64_t n_blocks(uint32_t n_max)
{
	uint64_t slots = (N_LEVELS - 1) * N_SLOTS + N_TOP_SLOTS;
	uint64_t lone = n_max < slots ? n_max : slots;
	return lone + (n_max - lone) / PER_BLOCK + 2;
}

int nssm_wheel_open(struct nssm_wheel **wp, uint32_t n_max, struct nssm_err *err)
{
	assert(n_max >= 1);
	*wp = NULL;
	uint64_t blocks = n_blocks(n_max);
	size_t entries = ((size_t)n_max * sizeof(struct entry) + 63) / 64 * 64;
	size_t bytes = blocks * sizeof(struct block) + 2 * entries;
	struct nssm_wheel *w = calloc(1, sizeof *w);
	char *p = w != NULL ? nssm_pages_open(&bytes) : NULL;
	if (p == NULL) {
		free(w);
		return nssm_err_set(
		        err, NSSM_ENOMEM, "timing wheel: no memory for %u cursors (%zu bytes)", n_max, bytes);
	}
	w->map = p;
	w->map_bytes = bytes;
	w->n_max = n_max;
	w->pool = (struct block *)p;
	w->ready = (struct entry *)(p + blocks * sizeof(struct block));
	w->late = (struct entry *)(p + blocks * sizeof(struct block) + entries);
	for (uint32_t i = 0; i < blocks; i++)
		w->pool[i].next = i + 1 < blocks ? i + 1 : NO_BLOCK;
	for (int k = 0; k < N_LEVELS; k++)
		for (uint32_t i = 0; i < N_SLOTS; i++)
			w->level[k].slot[i] = (struct slot){NO_BLOCK, PER_BLOCK};
	set_ends(w);
	*wp = w;
	return 0;
}

void nssm_wheel_close(struct nssm_wheel **w)
{
	if (*w == NULL)
		return;
	nssm_pages_close((*w)->map, (*w)->map_bytes);
	free(*w);
	*w = NULL;
}

/* --- sorting --- */

static void insertion_sort(struct entry *e, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		struct entry x = e[i];
		uint32_t j = i;
		for (; j > 0 && before(&x, &e[j - 1]); j--)
			e[j] = e[j - 1];
		e[j] = x;
	}
}

/* Puts x into the hole at i of a heap whose root is the last in order. */
static void sift_last(struct entry *e, uint32_t n, uint32_t i, struct entry x)
{
	for (uint32_t c; (c = 2 * i + 1) < n; i = c) {
		if (c + 1 < n && before(&e[c], &e[c + 1]))
			c++;
		if (!before(&x, &e[c]))
			break;
		e[i] = e[c];
	}
	e[i] = x;
}

static void heap_sort(struct entry *e, uint32_t n)
{
	for (uint32_t i = n / 2; i-- > 0;)
		sift_last(e, n, i, e[i]);
	while (n-- > 1) {
		struct entry x = e[n];
		e[n] = e[0];
		sift_last(e, n, 0, x);
	}
}

static inline void swap(struct entry *a, struct entry *b)
{
	struct entry x = *a;
	*a = *b;
	*b = x;
}

/* Hoare's partition around the median of three; what splits badly is left to the heap sort (Musser 1997). */
static void sort(struct entry *e, uint32_t n)
{
	for (int left = 40; n > SORT_SMALL; left--) {
		if (left == 0) {
			heap_sort(e, n);
			return;
		}
		struct entry *mid = &e[n / 2], *last = &e[n - 1];
		if (before(mid, &e[0]))
			swap(mid, &e[0]);
		if (before(last, mid)) {
			swap(last, mid);
			if (before(mid, &e[0]))
				swap(mid, &e[0]);
		}
		struct entry pivot = *mid;
		uint32_t i = 0, j = n - 1;
		for (;;) {
			while (before(&e[++i], &pivot))
				;
			while (before(&pivot, &e[--j]))
				;
			if (i >= j)
				break;
			swap(&e[i], &e[j]);
		}
		/* The shorter part by recursion: its depth is at most 32. */
		if (i < n - i) {
			sort(e, i);
			e += i;
			n -= i;
		} else {
			sort(e + i, n - i);
			n = i;
		}
	}
	insertion_sort(e, n);
}

/* --- the heap --- */

SELDOM static void late_push(struct nssm_wheel *w, struct entry x)
{
	struct entry *e = w->late;
	uint32_t i = w->n_late++;
	while (i > 0 && before(&x, &e[(i - 1) / 4])) {
		e[i] = e[(i - 1) / 4];
		i = (i - 1) / 4;
	}
	e[i] = x;
}

static void late_pop(struct nssm_wheel *w)
{
	struct entry *e = w->late, x = e[--w->n_late];
	uint32_t n = w->n_late, i = 0;
	for (uint64_t c; (c = 4 * (uint64_t)i + 1) < n;) {
		uint32_t best = (uint32_t)c, end = c + 4 < n ? (uint32_t)c + 4 : n;
		for (uint32_t j = best + 1; j < end; j++)
			if (before(&e[j], &e[best]))
				best = j;
		if (!before(&e[best], &x))
			break;
		e[i] = e[best];
		i = best;
	}
	e[i] = x;
}

/* --- the levels --- */

/* Puts an entry into the lowest level that has its slot. Counted without a branch: at random gaps none could be foreseen. */
static inline void place(struct nssm_wheel *w, const struct entry *x)
{
	uint64_t tick = x->due_ns >> TICK_BITS;
	int k = 0;
	for (int j = 0; j < N_LEVELS - 1; j++)
		k += tick >= w->end[j];
	uint32_t i = (uint32_t)seg(tick, k) % N_SLOTS;
	struct level *lv = &w->level[k];
	struct slot *s = &lv->slot[i];
	if (s->fill == PER_BLOCK) {
		uint32_t b = w->free;
		assert(b != NO_BLOCK);
		w->free = w->pool[b].next;
		w->pool[b].next = s->head;
		lv->word[i / 64] |= 1ull << (i % 64);
		lv->words |= 1u << (i / 64);
		s->head = b;
		s->fill = 0;
	}
	w->pool[s->head].e[s->fill++] = *x;
}

/* Unlinks the head block of a slot that has one. Its entries stay readable until the block is given back. */
static struct block *take_block(struct nssm_wheel *w, struct level *lv, uint32_t i, uint32_t *fill)
{
	struct slot *s = &lv->slot[i];
	struct block *b = &w->pool[s->head];
	*fill = s->fill;
	s->head = b->next;
	s->fill = PER_BLOCK;
	if (s->head == NO_BLOCK) {
		lv->word[i / 64] &= ~(1ull << (i % 64));
		if (lv->word[i / 64] == 0)
			lv->words &= ~(1u << (i / 64));
	}
	return b;
}

static void give_block(struct nssm_wheel *w, struct block *b)
{
	b->next = w->free;
	w->free = (uint32_t)(b - w->pool);
}

static inline void prefetch_slot(const struct nssm_wheel *w, const struct slot *s)
{
	if (s->head == NO_BLOCK)
		return;
	const char *b = (const char *)&w->pool[s->head];
	for (size_t i = 0; i < sizeof(struct block); i += 64)
		__builtin_prefetch(b + i);
}

/* Moves up to n blocks of a slot, the present one or the next of its level, to the levels below. */
static void move_down(struct nssm_wheel *w, int k, uint64_t segment, uint32_t n)
{
	struct level *lv = &w->level[k];
	uint32_t i = (uint32_t)segment % N_SLOTS, fill;
	for (; n > 0 && lv->slot[i].head != NO_BLOCK; n--) {
		struct block *b = take_block(w, lv, i, &fill);
		prefetch_slot(w, &lv->slot[i]);
		for (uint32_t j = 0; j < fill; j++)
			place(w, &b->e[j]);
		give_block(w, b);
	}
}

/* First slot of [from, end) that holds something, or end. All within one stretch. */
static uint64_t find(const struct level *lv, uint64_t from, uint64_t end)
{
	if (from >= end)
		return end;
	uint32_t i = (uint32_t)(from % N_SLOTS), at = i / 64, last = (uint32_t)((end - 1) % N_SLOTS) / 64;
	uint64_t word = lv->word[at] & ~0ull << (i % 64);
	if (word == 0) {
		/* Of the words behind this one, up to the last of the stretch. */
		uint64_t words = (uint64_t)lv->words & ((2ull << last) - 1) & ~((2ull << at) - 1);
		if (words == 0)
			return end;
		at = (uint32_t)__builtin_ctzll(words);
		word = lv->word[at];
	}
	uint64_t found = from - i + 64 * at + (uint32_t)__builtin_ctzll(word);
	return found < end ? found : end;
}

/* End of the stretch at level k that holds a slot. The last level is one stretch. */
static uint64_t stretch_end(uint64_t segment, int k)
{
	return k == N_LEVELS - 1 ? N_TOP_SLOTS : (segment / STRETCH + 1) * STRETCH;
}

/* Whatever belongs to the next stretch of level k comes down from above. */
static void finish_next(struct nssm_wheel *w, int k)
{
	uint64_t first = (seg(w->now, k + 1) + 1) << (LEVEL_BITS * (k + 1));
	for (int j = N_LEVELS - 1; j > k; j--)
		if (seg(first, j) != seg(w->now, j))
			move_down(w, j, seg(first, j), UINT32_MAX);
}

/* The slot that holds the first entry of the levels; false: they are empty. A level's entries come before those of the next level
 * once the next stretch's have come down. */
static bool find_first(struct nssm_wheel *w, int *level, uint64_t *segment)
{
	for (int k = 0; k < N_LEVELS; k++) {
		uint64_t from = k == 0 ? w->next : seg(w->now, k) + 1;
		uint64_t end = stretch_end(seg(w->now, k), k);
		uint64_t at = find(&w->level[k], from, end);
		if (at == end && k < N_LEVELS - 1) {
			finish_next(w, k);
			from = end;
			end += STRETCH;
			at = find(&w->level[k], from, end);
		}
		if (at < end) {
			*level = k;
			*segment = at;
			return true;
		}
	}
	return false;
}

/* Time goes on to a tick before which nothing is left. */
static inline void set_now(struct nssm_wheel *w, uint64_t tick)
{
	uint64_t was = w->now;
	w->now = tick;
	if (seg(tick, 1) == seg(was, 1))
		return;
	set_ends(w);
	for (int k = N_LEVELS - 1; k > 0; k--)
		if (seg(tick, k) != seg(was, k))
			move_down(w, k, seg(tick, k), UINT32_MAX);
}

/* --- gathering --- */

/* Up to PER_BLOCK entries, sorted into out: each one's place is the number of those before it. No branch but for equal dues. */
static void rank_sort(struct entry *out, const struct entry *e, uint32_t n)
{
	uint32_t at[PER_BLOCK] = {0};
	uint32_t equal = 0;
	for (uint32_t i = 1; i < n; i++)
		for (uint32_t j = 0; j < i; j++) {
			uint32_t after = e[i].due_ns > e[j].due_ns;
			equal |= e[i].due_ns == e[j].due_ns;
			at[i] += after;
			at[j] += 1 - after;
		}
	for (uint32_t i = 0; i < n; i++)
		out[at[i]] = e[i];
	if (equal)
		insertion_sort(out, n);
}

static void gather(struct nssm_wheel *w, uint64_t tick)
{
	struct level *lv = &w->level[0];
	uint32_t i = (uint32_t)tick % N_SLOTS, from = w->tail, fill;
	set_now(w, tick);
	w->next = tick + 1;
	/* It was the first of the levels, so it is of this tick. */
	w->has_far = false;
	struct block *b = take_block(w, lv, i, &fill);
	bool chain = lv->slot[i].head != NO_BLOCK;
	if (!chain)
		rank_sort(&w->ready[from], b->e, fill);
	for (;;) {
		if (chain)
			memcpy(&w->ready[w->tail], b->e, fill * sizeof b->e[0]);
		w->tail += fill;
		give_block(w, b);
		if (lv->slot[i].head == NO_BLOCK)
			break;
		b = take_block(w, lv, i, &fill);
		prefetch_slot(w, &lv->slot[i]);
	}
	if (chain)
		sort(&w->ready[from], w->tail - from);
}

/* The next stretches' entries come down twice as fast as entries are given out. */
static void move_some(struct nssm_wheel *w, uint32_t gathered)
{
	for (int k = 1; k < N_LEVELS; k++) {
		uint64_t next = seg(w->now, k) + 1;
		const struct slot *s = &w->level[k].slot[next % N_SLOTS];
		if (s->head == NO_BLOCK)
			continue;
		move_down(w, k, next, 1 + 2 * gathered / PER_BLOCK);
		prefetch_slot(w, s);
	}
}

/* The first entry of a slot beyond level 0. */
static void look_far(struct nssm_wheel *w, int k, uint64_t segment)
{
	const struct slot *s = &w->level[k].slot[segment % N_SLOTS];
	const struct entry *first = &w->pool[s->head].e[0];
	uint32_t fill = s->fill;
	for (uint32_t b = s->head; b != NO_BLOCK; b = w->pool[b].next, fill = PER_BLOCK)
		for (uint32_t j = 0; j < fill; j++)
			if (before(&w->pool[b].e[j], first))
				first = &w->pool[b].e[j];
	w->far = *first;
	w->has_far = true;
}

/* Gathers ticks of the present stretch until AHEAD entries are ready; beyond it only if there is nothing else. Beyond level 0 the
 * first is found and left where it is: were time moved there, all that comes before it would have to go through the heap. */
SELDOM static void refill(struct nssm_wheel *w)
{
	uint32_t had = w->tail - w->head;
	memmove(w->ready, &w->ready[w->head], had * sizeof w->ready[0]);
	w->head = 0;
	w->tail = had;
	uint64_t tick;
	int k;
	if (had == 0 && w->n_late == 0) {
		if (w->has_far || !find_first(w, &k, &tick))
			return;
		if (k > 0) {
			look_far(w, k, tick);
			return;
		}
		gather(w, tick);
	}
	uint64_t end = stretch_end(w->now, 0);
	while (w->tail < AHEAD && (tick = find(&w->level[0], w->next, end)) < end)
		gather(w, tick);
	tick = find(&w->level[0], w->next, end);
	if (tick < end)
		prefetch_slot(w, &w->level[0].slot[tick % N_SLOTS]);
	move_some(w, w->tail - had);
}

/* --- what the caller sees --- */

void nssm_wheel_add(struct nssm_wheel *w, uint32_t id, uint64_t due_ns, uint64_t tie)
{
	assert(id < w->n_max && w->n < w->n_max);
	struct entry x = {.due_ns = due_ns, .tie = tie, .id = id};
	w->n++;
	if (due_ns >> TICK_BITS < w->next) {
		late_push(w, x);
		return;
	}
	if (w->has_far && before(&x, &w->far))
		w->far = x;
	place(w, &x);
}

/* The first of what is gathered, late or far; NULL: empty. */
static inline const struct entry *first_of(const struct nssm_wheel *w)
{
	const struct entry *r = w->ready + w->head;
	if (w->head < w->tail)
		return w->n_late > 0 && before(&w->late[0], r) ? &w->late[0] : r;
	return w->n_late > 0 ? &w->late[0] : w->has_far ? &w->far : NULL;
}

bool nssm_wheel_peek(struct nssm_wheel *w, uint32_t *id, uint64_t *due_ns)
{
	if (w->n == 0)
		return false;
	if (w->tail - w->head < AHEAD_LOW)
		refill(w);
	const struct entry *e = first_of(w);
	*id = e->id;
	*due_ns = e->due_ns;
	return true;
}

SELDOM static void pop_other(struct nssm_wheel *w)
{
	const struct entry *e = first_of(w);
	if (e == NULL) {
		refill(w);
		e = first_of(w);
	}
	if (e == &w->far) {
		w->head = w->tail = 0;
		gather(w, w->far.due_ns >> TICK_BITS);
		w->head++;
	} else if (w->n_late > 0 && e == &w->late[0]) {
		late_pop(w);
	} else {
		w->head++;
	}
}

void nssm_wheel_pop(struct nssm_wheel *w)
{
	assert(w->n > 0);
	w->n--;
	if (w->n_late == 0 && w->head < w->tail)
		w->head++;
	else
		pop_other(w);
}

uint32_t nssm_wheel_ahead(const struct nssm_wheel *w, uint32_t *ids, uint32_t n)
{
	const struct entry *first = first_of(w);
	uint32_t k = 0;
	for (uint32_t i = w->head; i < w->tail && k < n; i++)
		if (&w->ready[i] != first)
			ids[k++] = w->ready[i].id;
	for (uint32_t i = 0; i < w->n_late && k < n; i++)
		if (&w->late[i] != first)
			ids[k++] = w->late[i].id;
	return k;
}

uint32_t nssm_wheel_count(const struct nssm_wheel *w)
{
	return w->n;
}

/* bench_clone — what rewriting costs beside the bare minimum: (a) a loop that copies frames and patches addresses, ports, sequence
 * numbers and checksums at fixed places; (b) nssm_clone_write over tapes of the same frames, many clones, one packet of each in turn.
 * usage: bench_clone [-s FRAME_BYTES] [-p PLAYS] [-f FRAMES] [-t TAPES] [CAPTURE...]
 * Without captures: TCP frames of 66,66,66,1514,1514,1514,1514,1090,140,1514 bytes, or all of FRAME_BYTES. Five rounds of both in
 * short turns, by this thread's CPU time; medians of Mpps, and their ratio. Not a test. */
#include <getopt.h>
#include <time.h>

#include "replay/clone.h"
#include "tape_util.h"

enum { BUFFERS = 256, BUFFER_BYTES = 9216, ROUNDS = 5, SLICES = 20, BURST = 32 };
#define SLICE_NS 20000000u

struct template
{
	uint32_t len;
	uint8_t *d;
};
static struct template *T;
static uint32_t n_templates;
static uint8_t *buffer[BUFFERS];

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* what others on the machine take is not ours */
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "bench_clone: %s\n", what);
	exit(1);
}

static void add_template(const uint8_t *d, uint32_t len)
{
	static uint32_t cap;
	if (n_templates == cap) {
		cap = cap != 0 ? 2 * cap : 1024;
		T = realloc(T, cap * sizeof *T);
		if (T == NULL)
			die("no memory");
	}
	T[n_templates].len = len;
	T[n_templates].d = aligned_alloc(64, (len + 127) / 64 * 64);
	if (T[n_templates].d == NULL)
		die("no memory");
	memcpy(T[n_templates++].d, d, len);
}

/* --- (a) --- */

static uint64_t rng = 88172645463325252u;
static inline uint32_t xorshift(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)rng;
}

static inline uint16_t update(uint16_t c, uint32_t was, uint32_t is)
{
	uint32_t s = (uint16_t)~c;
	s += (uint16_t) ~(was & 0xffff) + (uint32_t)(uint16_t) ~(was >> 16) + (is & 0xffff) + (is >> 16);
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static inline uint32_t load32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return v;
}
static inline void store32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

static void bare(uint8_t *p, const struct template *t)
{
	memcpy(p, t->d, t->len);
	uint32_t src = 0x0a000000 | xorshift(), dst = 0x0b000000 | (xorshift() & 0xffff);
	uint32_t was_src = load32(p + 26), was_dst = load32(p + 30), was_ports = load32(p + 34),
	         was_seq = load32(p + 38), was_ack = load32(p + 42);
	memcpy(p, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	store32(p + 26, src);
	store32(p + 30, dst);
	store32(p + 34, was_ports ^ 0x10000);
	store32(p + 38, was_seq + 0x01000000);
	store32(p + 42, was_ack + 0x01000000);
	uint16_t c;
	memcpy(&c, p + 24, 2);
	c = update(update(c, was_src, src), was_dst, dst);
	memcpy(p + 24, &c, 2);
	memcpy(&c, p + 50, 2);
	c = update(update(c, was_src, src), was_dst, dst);
	c = update(c, was_ports, was_ports ^ 0x10000);
	c = update(c, was_seq, was_seq + 0x01000000);
	c = update(c, was_ack, was_ack + 0x01000000);
	memcpy(p + 50, &c, 2);
}

static double run_bare(void)
{
	uint64_t start = now_ns(), now, n = 0;
	uint32_t i = 0, b = 0;
	do {
		for (int k = 0; k < 64 * BURST; k++) {
			bare(buffer[b++ % BUFFERS], &T[i]);
			if (++i == n_templates)
				i = 0;
		}
		n += 64 * BURST;
		now = now_ns();
	} while (now - start < SLICE_NS);
	return (double)n * 1e3 / (double)(now - start);
}

/* --- (b) --- */

struct play {
	struct nssm_play_id id;
	const struct nssm_rec *rec;
	const struct nssm_tape *tape;
};
static struct play *P;
static uint32_t n_plays = 10000;

static double run_clones(const struct nssm_cloner *c)
{
	uint64_t start = now_ns(), now, n = 0;
	uint32_t i = 0, b = 0;
	static uint64_t bytes;
	do {
		for (int k = 0; k < 64 * BURST; k++) {
			struct play *p = &P[i];
			if (++i == n_plays)
				i = 0;
			nssm_clone_prefetch(P[i + 6 < n_plays ? i + 6 : 0].rec);
			nssm_clone_prefetch_rest(P[i + 2 < n_plays ? i + 2 : 0].rec);
			uint32_t wirelen;
			bytes +=
			        nssm_clone_write(c, buffer[b++ % BUFFERS], &wirelen, p->tape, p->rec, &p->id);
			p->rec = nssm_rec_next(p->rec);
			if (p->rec == NULL)
				p->rec = p->tape->first;
		}
		n += 64 * BURST;
		now = now_ns();
	} while (now - start < SLICE_NS);
	return (double)n * 1e3 / (double)(now - start);
}

/* --- frames --- */

static void made_frames(
        struct rig *r, struct nssm_tape **tape, uint32_t n_tapes, uint32_t n_frames, uint32_t size)
{
	static const uint32_t mix[10] = {66, 66, 66, 1514, 1514, 1514, 1514, 1090, 140, 1514};
	uint8_t src[16], dst[16], data[1460], opt[12] = {1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
	for (uint32_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(xorshift() | 1);
	for (uint32_t i = 0; i < n_frames; i++) {
		uint32_t len = size != 0 ? size : mix[i % 10], flow = i / 10 % 3;
		struct frame f;
		u_addr(src, 4, 1);
		u_addr(dst, 4, 10 + flow);
		bool back = i % 10 >= 3 && i % 10 < 8;
		frame_tcp_opt(&f, 4, back ? dst : src, back ? 443 : (uint16_t)(40000 + flow),
		        back ? src : dst, back ? (uint16_t)(40000 + flow) : 443, U_ACK, i * 1000, i * 900,
		        opt, len < 66 ? 0 : 12, data, len - (len < 66 ? 54 : 66));
		struct nssm_tape *t = tape[i * n_tapes / n_frames];
		add_template(f.d, f.len);
		if (nssm_tape_append(r->builder, t, i, f.d, f.len, f.len, &r->err) != 1)
			die("the arena is full");
	}
}

static uint32_t capture_frames(struct rig *r, struct nssm_tape **tape, uint32_t n_tapes, char **path, int n)
{
	uint32_t used = 0;
	for (int i = 0; i < n && used < n_tapes; i++) {
		struct nssm_capture *c;
		struct nssm_pkt pkt;
		if (nssm_capture_open(&c, path[i], &r->err) != 0)
			die(r->err.msg);
		while (nssm_capture_next(c, &pkt, NULL) == 1) {
			if (pkt.caplen < 54 || pkt.caplen > BUFFER_BYTES - 128)
				continue;
			add_template(pkt.data, pkt.caplen);
			if (nssm_tape_append(r->builder, tape[used], pkt.ts_ns, pkt.data, pkt.caplen,
			            pkt.wirelen, &r->err) != 1)
				die("the arena is full");
		}
		nssm_capture_close(&c);
		used += tape[used]->first != NULL;
	}
	return used;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof *v, by_value);
	return v[n / 2];
}

int main(int argc, char **argv)
{
	uint32_t size = 0, n_frames = 1000, n_tapes = 50;
	for (int o; (o = getopt(argc, argv, "s:p:f:t:")) != -1;) {
		if (o == '?')
			die("usage: bench_clone [-s FRAME_BYTES] [-p PLAYS] [-f FRAMES] [-t TAPES] "
			    "[CAPTURE...]");
		*(o == 's'         ? &size
		        : o == 'p' ? &n_plays
		        : o == 'f' ? &n_frames
		                   : &n_tapes) = (uint32_t)strtoul(optarg, NULL, 10);
	}
	if ((size != 0 && (size < 54 || size > 1514)) || n_plays == 0 || n_tapes == 0 || n_tapes > 60 ||
	        n_frames < n_tapes)
		die("frames of 54 to 1514 bytes, 1 to 60 tapes");
	struct rig r;
	struct nssm_tape *tape[64];
	if (rig_open(&r, 512u << 20, 1u << 18) != 0)
		die(r.err.msg);
	tape[0] = r.tape;
	for (uint32_t i = 1; i < n_tapes; i++)
		tape[i] = nssm_tape_begin(r.builder, i, 0, 0);
	if (optind == argc)
		made_frames(&r, tape, n_tapes, n_frames, size);
	else
		n_tapes = capture_frames(&r, tape, n_tapes, argv + optind, argc - optind);
	for (int i = 0; i < BUFFERS; i++) {
		buffer[i] = aligned_alloc(64, BUFFER_BYTES);
		if (buffer[i] == NULL)
			die("no memory");
		memset(buffer[i], 0, BUFFER_BYTES);
	}
	struct nssm_clone_cfg cfg = {.rewrite = true,
	        .port_lo = 1024,
	        .port_hi = 65535,
	        .endpoints_max = 4,
	        .sockets_max = 64,
	        .servers_max = 16};
	struct nssm_cloner *c;
	if (nssm_pool_add(&cfg.clients[0], "16.0.0.0/8", &r.err) != 0 ||
	        nssm_pool_add(&cfg.servers[0], "48.0.0.0/8", &r.err) != 0 ||
	        nssm_pool_add(&cfg.clients[1], "2001:db8:1::/64", &r.err) != 0 ||
	        nssm_pool_add(&cfg.servers[1], "2001:db8:2::/64", &r.err) != 0 ||
	        nssm_cloner_open(&c, &cfg, &r.err) != 0)
		die(r.err.msg);
	P = calloc(n_plays, sizeof *P);
	if (P == NULL)
		die("no memory");
	for (uint32_t i = 0; i < n_plays; i++) {
		P[i] = (struct play){.id = {nssm_clone_key(1, i % n_tapes, i), i},
		        .tape = tape[i % n_tapes],
		        .rec = tape[i % n_tapes]->first};
		for (uint32_t skip = i * 7919u % 37; skip > 0 && nssm_rec_next(P[i].rec) != NULL; skip--)
			P[i].rec = nssm_rec_next(P[i].rec);
	}
	double a[ROUNDS], b[ROUNDS];
	for (int i = 0; i < ROUNDS; i++) {
		double slice[2][SLICES];
		for (int k = 0; k < SLICES; k++) {
			slice[0][k] = run_bare();
			slice[1][k] = run_clones(c);
		}
		a[i] = median(slice[0], SLICES);
		b[i] = median(slice[1], SLICES);
	}
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < n_templates; i++)
		bytes += T[i].len;
	printf("%u frames of %.0f bytes in the mean, %u tapes, %u plays: bare %.2f Mpps, clones %.2f Mpps, "
	       "ratio %.3f\n",
	        n_templates, (double)bytes / n_templates, n_tapes, n_plays, median(a, ROUNDS),
	        median(b, ROUNDS), median(b, ROUNDS) / median(a, ROUNDS));
	return 0;
}

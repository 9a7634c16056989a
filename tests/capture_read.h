/* capture_read — for tests of captures: three frames, reading a capture whole, a folder to write in. After cmocka.h. */
#ifndef NSSM_TEST_CAPTURE_READ_H
#define NSSM_TEST_CAPTURE_READ_H

#include <limits.h>

#include "base/file.h"
#include "replay/capture.h"
#include "tests/capture_build.h"

#define ETH 1
#define S0  1700000000u

/* Three frames: smallest, odd length, cut by the capture. */
static uint8_t frame_bytes[3][200];
static const uint32_t FRAME_CAP[3] = {60, 77, 96}, FRAME_WIRE[3] = {60, 77, 1514};

static inline int make_frames(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 200; k++)
			frame_bytes[i][k] = (uint8_t)(k * 7 + i * 31 + 1);
	return 0;
}

struct got {
	int rc; /* what the last call returned; open's if that failed */
	bool opened;
	size_t n;
	struct nssm_pkt pkt[BUILD_PACKETS_MAX];
	uint8_t data[BUILD_PACKETS_MAX][256]; /* the packets' first bytes */
	struct nssm_capture_info info;
	struct nssm_err err;
};

static inline void read_path(struct got *g, const char *path)
{
	struct nssm_capture *c;
	*g = (struct got){0};
	g->rc = nssm_capture_open(&c, path, &g->err);
	if (g->rc != 0) {
		assert_null(c);
		return;
	}
	g->opened = true;
	struct nssm_pkt p;
	while ((g->rc = nssm_capture_next(c, &p, &g->err)) == 1) {
		assert_true(p.caplen <= p.wirelen && p.caplen <= NSSM_CAPTURE_CAPLEN_MAX + 14);
		/* Every byte is readable (a sanitizer would say). */
		volatile uint8_t sum = 0;
		for (uint32_t i = 0; i < p.caplen; i++)
			sum = (uint8_t)(sum + p.data[i]);
		if (g->n < BUILD_PACKETS_MAX) {
			memcpy(g->data[g->n], p.data, p.caplen < 256 ? p.caplen : 256);
			g->pkt[g->n] = p;
		}
		g->n++;
		assert_true(g->n < 100000);
	}
	/* End and error stay. */
	struct nssm_err again = {0};
	assert_int_equal(nssm_capture_next(c, &p, &again), g->rc);
	if (g->rc < 0)
		assert_string_equal(again.msg, g->err.msg);
	g->info = *nssm_capture_info(c);
	g->info.link_name = NULL;
	assert_int_equal(g->info.n_packets, g->n);
	nssm_capture_close(&c);
	assert_null(c);
}

static inline void read_bytes(struct got *g, const void *data, size_t len)
{
	char path[64];
	int fd = build_memfd(data, len, path);
	read_path(g, path);
	if (g->rc < 0)
		assert_non_null(strstr(g->err.msg, path));
	close(fd);
}

static inline void read_build(struct got *g, const struct build *b)
{
	read_bytes(g, b->data, b->len);
}

static inline void expect_packet(
        const struct got *g, size_t i, uint64_t ts_ns, const uint8_t *data, uint32_t cap, uint32_t wire)
{
	assert_true(i < g->n);
	assert_int_equal(g->pkt[i].ts_ns, ts_ns);
	assert_int_equal(g->pkt[i].caplen, cap);
	assert_int_equal(g->pkt[i].wirelen, wire);
	assert_memory_equal(g->data[i], data, cap);
}

static char tmp_dir[PATH_MAX];

static inline int make_dir(void **state)
{
	(void)state;
	const char *t = getenv("TMPDIR");
	snprintf(tmp_dir, sizeof tmp_dir, "%s/nssm-capture-XXXXXX", t != NULL ? t : "/tmp");
	return mkdtemp(tmp_dir) == NULL;
}

static inline int remove_dir(void **state)
{
	(void)state;
	return nssm_dir_remove(tmp_dir, NULL);
}

static inline void in_dir(char path[PATH_MAX], const char *name)
{
	assert_true(snprintf(path, PATH_MAX, "%.3000s/%s", tmp_dir, name) < PATH_MAX);
}

#endif

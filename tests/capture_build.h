/* capture_build — captures made by hand, byte by byte, for tests: classic pcap and pcapng in either byte order, gz.
 * Remembers where each packet ends, so that a test knows what a cut file must give.                              */
#ifndef NSSM_TEST_CAPTURE_BUILD_H
#define NSSM_TEST_CAPTURE_BUILD_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define BUILD_PACKETS_MAX 64

struct build {
	uint8_t *data;
	size_t len, cap;
	bool big; /* big-endian */
	bool gz;
	size_t bounds[BUILD_PACKETS_MAX]; /* offsets at which the file may end cleanly */
	size_t n_bounds;
	size_t ends[BUILD_PACKETS_MAX]; /* offsets at which packets end */
	size_t n_packets;
};

static inline void build_bytes(struct build *b, const void *p, size_t n)
{
	if (b->len + n > b->cap) {
		b->cap = 2 * (b->len + n);
		b->data = realloc(b->data, b->cap);
		assert(b->data != NULL);
	}
	if (n > 0)
		memcpy(b->data + b->len, p, n);
	b->len += n;
}

static inline void build_u16(struct build *b, uint16_t v)
{
	uint8_t le[2] = {(uint8_t)v, (uint8_t)(v >> 8)}, be[2] = {le[1], le[0]};
	build_bytes(b, b->big ? be : le, 2);
}

static inline void build_u32(struct build *b, uint32_t v)
{
	uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
	uint8_t be[4] = {le[3], le[2], le[1], le[0]};
	build_bytes(b, b->big ? be : le, 4);
}

static inline void build_bound(struct build *b, bool packet)
{
	assert(b->n_bounds < BUILD_PACKETS_MAX);
	b->bounds[b->n_bounds++] = b->len;
	if (packet)
		b->ends[b->n_packets++] = b->len;
}

static inline void build_pcap(struct build *b, bool big, bool ns, uint32_t snaplen, uint32_t linktype)
{
	*b = (struct build){.big = big};
	build_u32(b, ns ? 0xa1b23c4d : 0xa1b2c3d4);
	build_u16(b, 2);
	build_u16(b, 4);
	build_u32(b, 0);
	build_u32(b, 0);
	build_u32(b, snaplen);
	build_u32(b, linktype);
	build_bound(b, false);
}

static inline void build_record(
	struct build *b, uint32_t s, uint32_t frac, const void *p, uint32_t caplen, uint32_t wirelen)
{
	build_u32(b, s);
	build_u32(b, frac);
	build_u32(b, caplen);
	build_u32(b, wirelen);
	build_bytes(b, p, caplen);
	build_bound(b, true);
}

static inline void build_section(struct build *b, bool big)
{
	*b = (struct build){.big = big};
	build_u32(b, 0x0a0d0d0a);
	build_u32(b, 28);
	build_u32(b, 0x1a2b3c4d);
	build_u16(b, 1);
	build_u16(b, 0);
	build_u32(b, 0xffffffff);
	build_u32(b, 0xffffffff);
	build_u32(b, 28);
}

/* tsresol < 0: no option, which means µs. has_offset: if_tsoffset in seconds. */
static inline void build_iface(
	struct build *b, uint16_t linktype, uint32_t snaplen, int tsresol, bool has_offset, int64_t tsoffset)
{
	bool options = tsresol >= 0 || has_offset;
	uint32_t len = 20 + (tsresol >= 0 ? 8u : 0) + (has_offset ? 12u : 0) + (options ? 4u : 0);
	build_u32(b, 1);
	build_u32(b, len);
	build_u16(b, linktype);
	build_u16(b, 0);
	build_u32(b, snaplen);
	if (tsresol >= 0) {
		uint8_t v[4] = {(uint8_t)tsresol};
		build_u16(b, 9);
		build_u16(b, 1);
		build_bytes(b, v, 4);
	}
	if (has_offset) {
		uint32_t lo = (uint32_t)tsoffset, hi = (uint32_t)((uint64_t)tsoffset >> 32);
		build_u16(b, 14);
		build_u16(b, 8);
		build_u32(b, b->big ? hi : lo);
		build_u32(b, b->big ? lo : hi);
	}
	if (options)
		build_u32(b, 0);
	build_u32(b, len);
	build_bound(b, false);
}

/* An enhanced packet block. */
static inline void build_epb(
	struct build *b, uint32_t iface, uint64_t stamp, const void *p, uint32_t caplen, uint32_t wirelen)
{
	uint32_t pad = (4 - caplen % 4) % 4, len = 32 + caplen + pad;
	build_u32(b, 6);
	build_u32(b, len);
	build_u32(b, iface);
	build_u32(b, (uint32_t)(stamp >> 32));
	build_u32(b, (uint32_t)stamp);
	build_u32(b, caplen);
	build_u32(b, wirelen);
	build_bytes(b, p, caplen);
	build_bytes(b, "\0\0\0", pad);
	build_u32(b, len);
	build_bound(b, true);
}

/* The same bytes as one gz member; packet ends are no longer known. */
static inline struct build build_gz(const struct build *b)
{
	struct build z = {.gz = true, .n_packets = b->n_packets};
	z_stream s = {0};
	int rc = deflateInit2(&s, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	assert(rc == Z_OK);
	z.cap = deflateBound(&s, b->len);
	z.data = malloc(z.cap);
	assert(z.data != NULL);
	s.next_in = b->data;
	s.avail_in = (uInt)b->len;
	s.next_out = z.data;
	s.avail_out = (uInt)z.cap;
	rc = deflate(&s, Z_FINISH);
	assert(rc == Z_STREAM_END);
	z.len = s.total_out;
	deflateEnd(&s);
	return z;
}

static inline void build_free(struct build *b)
{
	free(b->data);
	*b = (struct build){0};
}

/* The bytes as a file without a name; path is what to open. Returns the descriptor, to be closed. */
static inline int build_memfd(const void *data, size_t len, char path[64])
{
	int fd = memfd_create("capture", MFD_CLOEXEC);
	assert(fd >= 0);
	for (size_t at = 0; at < len;) {
		ssize_t k = write(fd, (const uint8_t *)data + at, len - at);
		assert(k > 0);
		at += (size_t)k;
	}
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

#endif

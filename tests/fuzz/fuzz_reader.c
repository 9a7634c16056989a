/* Any bytes as two captures, cut in half; the last byte says how they are read: whatever they hold, stream time, session
 * numbers and sequence numbers keep their promises, and a second pass gives the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "replay/reader.h"

#define PACKETS_MAX  20000
#define SESSIONS_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static int open_bytes(char path[64], const uint8_t *data, size_t size)
{
	int fd = memfd_create("capture", MFD_CLOEXEC);
	require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

/* Packets given; *whole: to the end. */
static uint64_t pass(struct nssm_reader *r, bool *whole, int *rc)
{
	static uint64_t seq[SESSIONS_MAX];
	memset(seq, 0, sizeof seq);
	uint64_t first = nssm_reader_counters(r)->sessions_begun, begun = first, t_ns = 0, n = 0, done = 0;
	struct nssm_read_pkt p;
	struct nssm_err err = {0};
	*rc = 1;
	for (; n < PACKETS_MAX && (*rc = nssm_reader_next(r, &p, &err)) == 1; n++) {
		require(n > 0 || p.t_ns == 0);
		require(p.t_ns >= t_ns && p.start_ns <= p.t_ns);
		t_ns = p.t_ns;
		require(p.session >= first && p.session <= begun);
		require((p.seq == 0) == (p.session == begun));
		begun += p.seq == 0;
		if (p.session - first < SESSIONS_MAX)
			require(p.seq == seq[p.session - first]++);
		require(nssm_reader_done_below(r) >= done && nssm_reader_done_below(r) <= p.session);
		done = nssm_reader_done_below(r);
		require(p.len >= 14 && p.len <= p.wirelen && p.shard < 3);
		uint8_t ends[2] = {p.data[0], p.data[p.len - 1]};
		__asm__ volatile("" : : "r"(ends) : "memory");
	}
	require(*rc >= 0 || err.code == *rc);
	*whole = *rc == 0;
	require(!*whole || nssm_reader_done_below(r) == begun);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t how = size > 0 ? data[--size] : 0;
	char name[2][64];
	int fd[2] = {
	        open_bytes(name[0], data, size / 2), open_bytes(name[1], data + size / 2, size - size / 2)};
	const char *path[] = {name[0], name[1]};
	struct nssm_reader_cfg cfg = {.path = path,
	        .n_paths = 2,
	        .merge = (how & 1) != 0,
	        .keep_going = true,
	        .pad = (how & 2) != 0,
	        .filter = (how & 4) != 0 ? "ip or ip6 or vlan" : NULL,
	        .mtu_mode = how >> 3 & 3 ? (how >> 3 & 3) - 1 : 0,
	        .mtu = 60,
	        .n_shards = 3,
	        .split = {.kind = (how >> 5) % 3, .gap_ns = 1000000, .flows_max = 50, .clients_max = 20}};
	struct nssm_err err;
	struct nssm_reader *r;
	if (nssm_reader_open(&r, &cfg, &err) == 0) {
		bool whole, whole2;
		int rc, rc2;
		uint64_t n = pass(r, &whole, &rc);
		if (whole && nssm_reader_rewind(r, &err) == 0)
			require(pass(r, &whole2, &rc2) == n && whole2 && rc2 == rc);
	}
	nssm_reader_close(&r);
	close(fd[0]);
	close(fd[1]);
	return 0;
}

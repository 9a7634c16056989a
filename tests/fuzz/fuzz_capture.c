/* Any bytes as a capture file: packets within their bounds, an end or an error that names the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "replay/capture.h"

/* A gz of a few bytes holds packets by the million: enough is enough. */
#define PACKETS_MAX 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void read_all(struct nssm_capture *c, const char *path)
{
	struct nssm_err err = {0};
	struct nssm_pkt pkt;
	uint8_t copy[256];
	int rc = 1;
	for (int n = 0; n < PACKETS_MAX && (rc = nssm_capture_next(c, &pkt, &err)) == 1; n++) {
		require(pkt.caplen >= 14 && pkt.caplen <= pkt.wirelen);
		require(pkt.caplen <= NSSM_CAPTURE_CAPLEN_MAX + 14);
		require(pkt.ts_ns <= INT64_MAX);
		/* First and last bytes: the sanitizer says whether they are there. */
		uint32_t k = pkt.caplen < sizeof copy ? pkt.caplen : (uint32_t)sizeof copy;
		memcpy(copy, pkt.data, k);
		memcpy(copy, pkt.data + pkt.caplen - k, k);
		/* Keeps the copies from being dropped as dead. */
		__asm__ volatile("" : : "r"(copy) : "memory");
	}
	require(rc >= 0 || strstr(err.msg, path) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	int fd = memfd_create("capture", MFD_CLOEXEC);
	require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	struct nssm_err err = {0};
	struct nssm_capture *c;
	if (nssm_capture_open(&c, path, &err) == 0)
		read_all(c, path);
	else
		require(c == NULL && strstr(err.msg, path) != NULL);
	nssm_capture_close(&c);
	close(fd);
	return 0;
}

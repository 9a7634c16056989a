/* Any bytes as a corpus. Checksums are made right first where the input is of even length, or nothing but
 * checksums would be tested. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <zlib.h>

#include "model/corpus.h"

#define HEADER     152 /* bytes that the header's CRC covers */
#define N_BLOCKS   5
#define BLOCKS_AT  24
#define BLOCK_ROW  24
#define STRIPE     (1u << 20)
#define TOKENS     0
#define STRIPES    1
#define ITEM_BYTES ((const uint64_t[N_BLOCKS]){2, 4, 48, 8, 1})

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

/* The block's bytes if it lies in the file. */
static uint8_t *block(uint8_t *file, size_t size, int idx, uint64_t *n_bytes)
{
	uint64_t off, n;
	memcpy(&off, file + BLOCKS_AT + idx * BLOCK_ROW, 8);
	memcpy(&n, file + BLOCKS_AT + idx * BLOCK_ROW + 8, 8);
	if (off > size || n > (size - off) / ITEM_BYTES[idx])
		return NULL;
	*n_bytes = n * ITEM_BYTES[idx];
	return file + off;
}

static void seal(uint8_t *file, size_t size)
{
	if (size < HEADER)
		return;
	uint64_t len = size, n_tokens, n_stripes;
	memcpy(file + 16, &len, 8);
	const uint8_t *tokens = block(file, size, TOKENS, &n_tokens);
	uint8_t *stripes = block(file, size, STRIPES, &n_stripes);
	if (tokens != NULL && stripes != NULL && tokens + n_tokens <= stripes)
		for (uint64_t i = 0; i < n_stripes / 4 && i * STRIPE < n_tokens; i++) {
			uint64_t left = n_tokens - i * STRIPE;
			uint32_t crc =
			        (uint32_t)crc32_z(0, tokens + i * STRIPE, left < STRIPE ? left : STRIPE);
			memcpy(stripes + i * 4, &crc, 4);
		}
	for (int i = STRIPES; i < N_BLOCKS; i++) {
		uint64_t n;
		const uint8_t *b = block(file, size, i, &n);
		uint32_t crc = b != NULL ? (uint32_t)crc32_z(0, b, n) : 0;
		memcpy(file + BLOCKS_AT + i * BLOCK_ROW + 16, &crc, 4);
	}
	memset(file + 12, 0, 4);
	uint32_t crc = (uint32_t)crc32_z(0, file, HEADER);
	memcpy(file + 12, &crc, 4);
}

static void read_all(struct nssm_corpus *c)
{
	struct nssm_err err;
	const struct nssm_vocab *v = nssm_corpus_vocab(c);
	uint64_t n = 0;
	for (uint32_t i = 0; i < nssm_corpus_n_sessions(c); i++) {
		const struct nssm_session_info *s = nssm_corpus_session(c, i);
		require(s->label_idx < v->n_labels);
		n += s->n_tokens;
		if (nssm_corpus_check_session(c, i, &err) != 0)
			continue;
		for (uint64_t k = 0; k < s->n_tokens; k++)
			require(nssm_corpus_tokens(c, i)[k] < v->n_tokens);
	}
	require(n == nssm_corpus_n_tokens(c));
	for (uint32_t i = 0; i < v->n_labels; i++)
		require(nssm_corpus_stats(c, i) != NULL);
	(void)nssm_corpus_unigram_bits(c);
	(void)nssm_corpus_made_by(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *file = malloc(size ? size : 1);
	require(file != NULL);
	if (size > 0)
		memcpy(file, data, size);
	if (size % 2 == 0)
		seal(file, size);
	char path[64];
	int fd = memfd_create("corpus", MFD_CLOEXEC);
	require(fd >= 0 && write(fd, file, size) == (ssize_t)size);
	free(file);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	for (int verify = 0; verify < 2; verify++) {
		struct nssm_err err = {0};
		struct nssm_corpus *c;
		if (nssm_corpus_open(&c, path, verify, &err) == 0)
			read_all(c);
		else
			require(c == NULL && strstr(err.msg, path) != NULL);
		nssm_corpus_close(&c);
	}
	close(fd);
	return 0;
}

/* corpus — tokenised, labelled sessions in one file, written as a stream, read through mmap.
 * File   : *.nssm, little-endian. "NSSMCORP", version, offsets and CRC-32s, a JSON block (codec, tokenizer, per-label
 *          statistics, inter-arrival histograms, which ports are encrypted, how it was made), the session table, tokens as uint16.
 *          Layout: corpus.c.
 *          Every block is checksummed; tokens in stripes of 1 MiB, checked when first read or by nssm_corpus_verify.
 * Memory : writing holds one row a session and the stripe being filled, never the tokens.
 * Checked: tests/test_corpus.c                                                                                       */
#ifndef NSSM_CORPUS_H
#define NSSM_CORPUS_H

#include <stdint.h>

#include "base/err.h"
#include "model/codec.h"
#include "model/iat.h"
#include "model/packet.h"
#include "model/secure_ports.h"
#include "model/vocab.h"

#define NSSM_CORPUS_VERSION 1
#define NSSM_CORPUS_MAGIC   "NSSMCORP" /* a corpus begins so */

struct nssm_session_info {
	uint64_t first_token, n_tokens;
	uint64_t first_ns, last_ns; /* of the packets taken */
	uint32_t label_idx;
	uint32_t n_packets, n_flows;
};

/* Sums per label, kept by the writer and stored. */
struct nssm_label_stats {
	uint64_t n_sessions, n_packets, n_flows, n_tokens;
	uint64_t n_cut;                           /* packets whose headers did not fit into pkt_len */
	uint64_t skipped[NSSM_PKT_N_REASONS];     /* packets not taken, by reason */
	uint64_t n_time_back;                     /* packets stamped before their predecessor */
	struct nssm_iat_hist iat;                 /* gaps between packets taken */
};

/* --- writing --------------------------------------------------------------------------------------------------- */

struct nssm_corpus_writer;
int nssm_corpus_create(struct nssm_corpus_writer **w, const char *path, const struct nssm_codec_cfg *codec,
	struct nssm_err *err);
/* Tokens of the session being written, in any number of calls. */
int nssm_corpus_append(struct nssm_corpus_writer *w, const uint16_t *tokens, size_t n, struct nssm_err *err);
/* Ends the session: info's first_token and n_tokens are filled in. */
int nssm_corpus_end_session(struct nssm_corpus_writer *w, struct nssm_session_info *info, struct nssm_err *err);
/* Which ports are encrypted, if that was learned. */
void nssm_corpus_set_secure(struct nssm_corpus_writer *w, const struct nssm_secure_ports *ports);
/* Writes tables and header, syncs, renames. stats[vocab->n_labels]; made_by: a JSON object kept as it is (options, versions),
 * may be NULL. Closes in any case. */
int nssm_corpus_commit(struct nssm_corpus_writer **w, const struct nssm_vocab *vocab, const struct nssm_label_stats *stats,
	const json_t *made_by, struct nssm_err *err);
void nssm_corpus_abort(struct nssm_corpus_writer **w);

/* --- reading --------------------------------------------------------------------------------------------------- */

struct nssm_corpus;
/* Checks header, tables and their checksums; tokens only if verify. */
int nssm_corpus_open(struct nssm_corpus **c, const char *path, bool verify, struct nssm_err *err);
void nssm_corpus_close(struct nssm_corpus **c);
uint32_t nssm_corpus_n_sessions(const struct nssm_corpus *c);
uint64_t nssm_corpus_n_tokens(const struct nssm_corpus *c);
const struct nssm_session_info *nssm_corpus_session(const struct nssm_corpus *c, uint32_t idx);
/* n_tokens of them; every one < vocab n_tokens (checked at open with verify, else by nssm_corpus_check_session). */
const uint16_t *nssm_corpus_tokens(const struct nssm_corpus *c, uint32_t idx);
/* Checks the stripes that hold a session, once each; call before its tokens are used. */
int nssm_corpus_check_session(struct nssm_corpus *c, uint32_t idx, struct nssm_err *err);
const struct nssm_vocab *nssm_corpus_vocab(const struct nssm_corpus *c);
const struct nssm_codec_cfg *nssm_corpus_codec(const struct nssm_corpus *c);
const struct nssm_label_stats *nssm_corpus_stats(const struct nssm_corpus *c, uint32_t label_idx);
const struct nssm_secure_ports *nssm_corpus_secure(const struct nssm_corpus *c);
const json_t *nssm_corpus_made_by(const struct nssm_corpus *c);
/* CRC-32 over header and tables: names this corpus in a training's plan. */
uint32_t nssm_corpus_hash(const struct nssm_corpus *c);
/* Entropy of single tokens over the whole corpus, in bits: what a model that knows only frequencies reaches. */
double nssm_corpus_unigram_bits(const struct nssm_corpus *c);

#endif

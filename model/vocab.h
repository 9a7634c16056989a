/* vocab — which token id means which byte, special token or label. Ids are data, never constants in the code.
 * File   : tokenizer.json as Hugging Face `tokenizers` writes and reads it: model.vocab maps "0".."255" and the
 *          special tokens to ids; added_tokens lists the special ones. Model types WordLevel and BPE (NetSSM's own
 *          published tables) are read; WordLevel is written.
 * Order  : new tables: bytes 0–255, <|unk|> 256, <|endoftext|> 257, <|padding|> 258, <|pkt|> 259, labels from 260 on.
 * Checked: tests/test_vocab.c                                                                                    */
#ifndef NSSM_VOCAB_H
#define NSSM_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

#define NSSM_VOCAB_MAX   4096
#define NSSM_LABEL_BYTES 64 /* longest label name + 1 */

enum nssm_token_kind { NSSM_TOK_BYTE, NSSM_TOK_UNK, NSSM_TOK_EOT, NSSM_TOK_PAD, NSSM_TOK_PKT, NSSM_TOK_LABEL, NSSM_TOK_NONE };

struct nssm_vocab {
	uint32_t n_tokens;          /* highest id that means something (is not NSSM_TOK_NONE) + 1 */
	uint16_t byte_id[256];
	uint16_t unk, eot, pad, pkt; /* special ids; unk is 0xffff in tables that have none */
	uint32_t n_labels;
	struct {
		uint16_t id;
		char name[NSSM_LABEL_BYTES]; /* without <| and |> */
	} label[NSSM_VOCAB_MAX - 260];
	uint8_t kind[NSSM_VOCAB_MAX];  /* enum nssm_token_kind of each id */
	uint16_t value[NSSM_VOCAB_MAX]; /* byte value or label index of each id */
};

void nssm_vocab_init(struct nssm_vocab *v);
/* Index of a label, adding it if it is new. Names are 1..63 characters of [A-Za-z0-9_.:+-] other than unk, endoftext,
 * padding, pkt. Negative: error. */
int nssm_vocab_add_label(struct nssm_vocab *v, const char *name, struct nssm_err *err);
/* Index or −1. */
int nssm_vocab_find_label(const struct nssm_vocab *v, const char *name);

/* where: the file's path, for messages. Labels get their indexes in the order of their ids. Entries that are neither a
 * byte, a special token nor a label (a stray "256") are NSSM_TOK_NONE and are not written again. On error v is unspecified. */
int nssm_vocab_from_json(struct nssm_vocab *v, const json_t *root, const char *where, struct nssm_err *err);
/* New reference, or NULL out of memory. */
json_t *nssm_vocab_to_json(const struct nssm_vocab *v);
int nssm_vocab_load(struct nssm_vocab *v, const char *path, struct nssm_err *err);
int nssm_vocab_save(const struct nssm_vocab *v, const char *path, struct nssm_err *err);

#endif

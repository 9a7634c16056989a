/* A small vocabulary whose ids are not the usual ones: specials first, labels next, bytes backwards from the
 * end. What takes ids for constants fails on it. */
#ifndef NSSM_TESTS_VOCAB_FIXTURE_H
#define NSSM_TESTS_VOCAB_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "model/vocab.h"

static inline void vocab_fixture(struct nssm_vocab *v)
{
	memset(v, 0, sizeof *v);
	memset(v->kind, NSSM_TOK_NONE, sizeof v->kind);
	v->pkt = 0;
	v->eot = 1;
	v->pad = 2;
	v->unk = 3;
	v->kind[0] = NSSM_TOK_PKT;
	v->kind[1] = NSSM_TOK_EOT;
	v->kind[2] = NSSM_TOK_PAD;
	v->kind[3] = NSSM_TOK_UNK;
	v->n_labels = 2;
	for (uint32_t i = 0; i < v->n_labels; i++) {
		v->label[i].id = (uint16_t)(4 + i);
		snprintf(v->label[i].name, sizeof v->label[i].name, i == 0 ? "web" : "dns");
		v->kind[4 + i] = NSSM_TOK_LABEL;
		v->value[4 + i] = (uint16_t)i;
	}
	for (uint32_t b = 0; b < 256; b++) {
		uint16_t id = (uint16_t)(6 + 255 - b);
		v->byte_id[b] = id;
		v->kind[id] = NSSM_TOK_BYTE;
		v->value[id] = (uint16_t)b;
	}
	v->n_tokens = 262;
}

#endif

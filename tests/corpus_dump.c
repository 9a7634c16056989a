/* Prints a corpus for tests: a line a session, its label and tokens; bytes as numbers, specials by name. */
#include <inttypes.h>
#include <stdio.h>

#include "model/corpus.h"

static void print_token(const struct nssm_vocab *v, uint16_t t)
{
	switch (v->kind[t]) {
	case NSSM_TOK_BYTE:
		printf(" %u", v->value[t]);
		break;
	case NSSM_TOK_LABEL:
		printf("<|%s|>", v->label[v->value[t]].name);
		break;
	case NSSM_TOK_PKT:
		printf(" <|pkt|>");
		break;
	case NSSM_TOK_EOT:
		printf(" <|endoftext|>");
		break;
	default:
		printf(" <%u>", t);
	}
}

int main(int argc, char **argv)
{
	struct nssm_corpus *c;
	struct nssm_err err;
	if (argc != 2) {
		fprintf(stderr, "usage: corpus_dump FILE\n");
		return 2;
	}
	if (nssm_corpus_open(&c, argv[1], true, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	for (uint32_t i = 0; i < nssm_corpus_n_sessions(c); i++) {
		const uint16_t *t = nssm_corpus_tokens(c, i);
		for (uint64_t k = 0; k < nssm_corpus_session(c, i)->n_tokens; k++)
			print_token(nssm_corpus_vocab(c), t[k]);
		putchar('\n');
	}
	nssm_corpus_close(&c);
	return 0;
}

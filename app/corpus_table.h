/* corpus_table — what a corpus holds, as people read it; `prepare` ends with it and `info` shows it. */
#ifndef NSSM_CORPUS_TABLE_H
#define NSSM_CORPUS_TABLE_H

#include <stdio.h>

#include "model/corpus.h"

/* A row a label: sessions, packets, flows, tokens, cut headers, skipped packets by reason; a total; the unigram entropy. */
void nssm_corpus_table(FILE *out, const struct nssm_corpus *c);

#endif

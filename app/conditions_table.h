/* conditions_table — what the sessions of a corpus were like, as they were measured: JSON, and a table for people. */
#ifndef NSSM_CONDITIONS_TABLE_H
#define NSSM_CONDITIONS_TABLE_H

#include <stdio.h>

#include <jansson.h>

#include "model/conditions.h"
#include "model/corpus.h"

/* An array as long as the corpus has labels: {"rtt": {"known": sessions, "min": …, "median": …, "max": …}, …} in seconds, shares, bits a
 * second, seconds, packets: the middles of the steps. NULL: no memory, or the corpus has no conditions. */
json_t *nssm_conditions_json(const struct nssm_corpus *c);
/* Prints what nssm_conditions_json gave. */
void nssm_conditions_table(FILE *out, const struct nssm_corpus *c, const json_t *conditions);
/* "80 ms", "2 %", "5 Mbit/s", "500". Returns buf. */
char *nssm_condition_text(char buf[32], enum nssm_condition c, double v);

#endif

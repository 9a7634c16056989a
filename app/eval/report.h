/* report — what the evaluation came to, as JSON with every figure and as a table for people.
 * A figure that does not exist is null and "-"; never a NaN.
 * Keys   : statistical.jsd_bits_mean.{synthetic,real,shuffled}: per label, then averaged, over all bits; statistical.labels[],
 *          .mean and .pooled: {sessions, packets, bits_mean, bits_mean_without_identifiers, bits_mean_seen, measures_mean,
 *          measures_mean_without_identifiers, measures.NAME, bits}, each figure as FIGURE.{jsd,jsd_sqrt,tv,hellinger,emd,ks}.COLUMN; bits.COLUMN.jsd and
 *          so on are arrays in the order of bit_names.
 * Checked: tests/eval_cli.py                                                                                              */
#ifndef NSSM_EVAL_REPORT_H
#define NSSM_EVAL_REPORT_H

#include <stdio.h>

#include <jansson.h>

#include "app/eval/statistical.h"

/* A set's path, captures, and what was wrong with them. */
json_t *nssm_eval_set_json(const struct nssm_eval_set *s);
json_t *nssm_statistical_json(const struct nssm_statistical *s);
void nssm_statistical_table(FILE *out, const struct nssm_statistical *s);

#endif

/* nearest — "did you mean …?": the candidate with the smallest edit distance to a mistyped word.
 * Distance: optimal string alignment (insert, delete, replace, swap two neighbours: 1 each), case counts for
 * nothing, '-' equals '_'; a candidate that the word is the beginning of (3 letters or more) is at
 * distance 1. The first of equals wins. Nothing is suggested beyond a third of the word's length (at least
 * 1), nor for words of 64 bytes or more. */
#ifndef NSSM_CONF_NEAREST_H
#define NSSM_CONF_NEAREST_H

#define NSSM_NEAREST_BYTES 64

struct nssm_nearest {
	const char *word; /* borrowed */
	int dist;         /* of best */
	char best[NSSM_NEAREST_BYTES];
};

void nssm_nearest_init(struct nssm_nearest *n, const char *word);
void nssm_nearest_offer(struct nssm_nearest *n, const char *candidate);
/* The best candidate, or NULL if none is near. Lives as long as n. */
const char *nssm_nearest_get(const struct nssm_nearest *n);

#endif

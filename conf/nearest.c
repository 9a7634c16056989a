#include "conf/nearest.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static char fold(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	return c == '_' ? '-' : c;
}

static int min3(int a, int b, int c)
{
	int m = a < b ? a : b;
	return m < c ? m : c;
}

/* Both shorter than NSSM_NEAREST_BYTES. Three rolling rows: i-2, i-1, i. */
static int distance(const char *a, const char *b)
{
	int n = (int)strlen(a), m = (int)strlen(b);
	int rows[3][NSSM_NEAREST_BYTES + 1];
	for (int j = 0; j <= m; j++)
		rows[0][j] = j;
	for (int i = 1; i <= n; i++) {
		int *d = rows[i % 3];
		const int *d1 = rows[(i + 2) % 3], *d2 = rows[(i + 1) % 3];
		d[0] = i;
		for (int j = 1; j <= m; j++) {
			char ca = fold(a[i - 1]), cb = fold(b[j - 1]);
			d[j] = min3(d1[j] + 1, d[j - 1] + 1, d1[j - 1] + (ca != cb));
			if (i > 1 && j > 1 && ca == fold(b[j - 2]) && fold(a[i - 2]) == cb &&
			        d2[j - 2] + 1 < d[j])
				d[j] = d2[j - 2] + 1;
		}
	}
	return rows[n % 3][m];
}

void nssm_nearest_init(struct nssm_nearest *n, const char *word)
{
	n->word = word;
	n->dist = INT_MAX;
	n->best[0] = '\0';
}

void nssm_nearest_offer(struct nssm_nearest *n, const char *candidate)
{
	size_t k = strlen(n->word);
	if (k == 0 || k >= NSSM_NEAREST_BYTES || strlen(candidate) >= NSSM_NEAREST_BYTES)
		return;
	int d = distance(n->word, candidate);
	if (d > 1 && k >= 3 && strncmp(n->word, candidate, k) == 0)
		d = 1;
	int most = k < 6 ? 1 : (int)k / 3;
	if (d > most || d >= n->dist)
		return;
	n->dist = d;
	snprintf(n->best, sizeof n->best, "%s", candidate);
}

const char *nssm_nearest_get(const struct nssm_nearest *n)
{
	return n->best[0] != '\0' ? n->best : NULL;
}

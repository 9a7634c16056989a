/* Any bytes as a CSV of labels: refused with a message, or rows that are found by the paths they write. */
#include <stdlib.h>
#include <string.h>

#include "replay/labels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void check(struct nssm_labels *l)
{
	struct nssm_err err = {0};
	for (uint32_t i = 0; i < l->n; i++) {
		const struct nssm_label_row *r = &l->row[i];
		require(r->file[0] != '\0' && r->label != NULL && r->split != NULL && r->line >= 2);
		require(i == 0 || l->row[i - 1].line < r->line);
		/* The lengths must not be read beyond the text. */
		require(strlen(r->file) + strlen(r->label) + strlen(r->split) < SIZE_MAX / 4);
		struct nssm_label_row *found;
		int rc = nssm_labels_find(l, r->file, &found, &err);
		if (rc == 0) {
			require(found != NULL && strcmp(found->file, r->file) == 0);
			require(strcmp(found->label, r->label) == 0 && strcmp(found->split, r->split) == 0);
		} else {
			require(rc == NSSM_EFORMAT && strncmp(err.msg, "fuzz:", 5) == 0);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nssm_err err = {0};
	struct nssm_labels *l;
	int rc = nssm_labels_load_mem(&l, (const char *)data, size, "fuzz", &err);
	if (rc == 0)
		check(l);
	else
		require(l == NULL && rc == err.code && strncmp(err.msg, "fuzz:", 5) == 0);
	nssm_labels_close(&l);
	return 0;
}

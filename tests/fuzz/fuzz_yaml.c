/* Any bytes as a profile: taken, or refused with NSSM_EFORMAT and a message that names the file. What was
 * taken lies in the ranges of the table. */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void check_values(const struct nssm_conf *c)
{
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const struct nssm_key *k = nssm_conf_key(i);
		const char *const *item;
		if (k->type == NSSM_T_INT)
			require((double)nssm_conf_int(c, i) >= k->min &&
			        (double)nssm_conf_int(c, i) <= k->max);
		else if (k->type == NSSM_T_FLOAT || k->type == NSSM_T_TIME)
			require(nssm_conf_float(c, i) >= k->min && nssm_conf_float(c, i) <= k->max);
		else if (k->type == NSSM_T_ENUM)
			require(strstr(k->choices, nssm_conf_str(c, i)) != NULL);
		else if (k->type == NSSM_T_LIST)
			for (size_t j = nssm_conf_list(c, i, &item); j > 0; j--)
				require(item[j - 1][0] != '\0');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nssm_conf *c;
	struct nssm_err err = {0};
	require(nssm_conf_open(&c, &err) == 0);
	int rc = nssm_conf_load_mem(c, (const char *)data, size, "fuzz.yaml", &err);
	require(rc == 0 || (rc == NSSM_EFORMAT && err.code == rc && strncmp(err.msg, "fuzz.yaml", 9) == 0));
	check_values(c);
	/* The same bytes as one value of every key. */
	char text[256];
	size_t n = size < sizeof text ? size : sizeof text - 1;
	if (n > 0)
		memcpy(text, data, n);
	text[n] = '\0';
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		rc = nssm_conf_set(c, i, text, NULL, &err);
		require(rc == 0 || rc == NSSM_EARG || rc == NSSM_ERANGE);
	}
	check_values(c);
	nssm_conf_close(&c);
	return 0;
}

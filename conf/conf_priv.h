/* conf_priv — what the files of conf/ share: the values behind the table, and how a text becomes one. */
#ifndef NSSM_CONF_PRIV_H
#define NSSM_CONF_PRIV_H

#include "conf/conf.h"

#define CONF_LIST_MAX   65536       /* items of one list */
#define CONF_SCALAR_MAX (64u << 10) /* bytes of one value */
#define CONF_FILE_MAX   (16u << 20)
#define CONF_QUOTE_MAX  64 /* bytes of conf_quote's result */

/* Who gave a value; a later one replaces those before it. */
enum conf_src { CONF_UNSET, CONF_DEFAULT, CONF_FILE, CONF_FLAG };

struct conf_value {
	enum conf_src src;
	bool b;
	int64_t i;
	double f;
	char *s;      /* STR, ENUM: owned */
	char **items; /* LIST: owned */
	size_t n, cap;
};

struct nssm_conf {
	struct conf_value v[NSSM_N_KEYS];
};

/* Checks text against the key's type and range and stores it. A LIST gets one more item; the first one from a
 * higher source drops what was there. Errors: "WHERE: expected …, found '…'", NSSM_EARG (not understood) or
 * NSSM_ERANGE. */
int conf_put(struct nssm_conf *c, enum nssm_key_id id, const char *text, enum conf_src src, const char *where,
        struct nssm_err *err);
/* An empty list, for YAML's `[]` and before a sequence's items. */
void conf_list_clear(struct nssm_conf *c, enum nssm_key_id id, enum conf_src src);
/* text for a message: what is not printable shown as '?', cut to fit. Returns buf. */
char *conf_quote(char buf[CONF_QUOTE_MAX], const char *text, size_t len);

#endif

/* json_text — values that JSON has no room for, as near as it gets. */
#ifndef NSSM_JSON_TEXT_H
#define NSSM_JSON_TEXT_H

#include <stdint.h>

#include <jansson.h>

#include "conf/conf.h"

/* A path or a name may hold any byte, JSON only UTF-8: what is none becomes '?'. NULL: null. */
json_t *nssm_json_text(const char *text);
/* Counts beyond 2^63-1 stay there. */
json_t *nssm_json_count(uint64_t v);
/* A key's value; null where there is none. */
json_t *nssm_json_key(const struct nssm_conf *c, enum nssm_key_id id);

#endif

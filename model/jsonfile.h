/* jsonfile — JSON files read strictly and written whole, and words for messages about them.
 * Strict : at most NSSM_JSON_MAX bytes, the top is an object, no key twice (RFC 8259 leaves that open; two
 * readers would see two different models). Checked: tests/test_vocab.c */
#ifndef NSSM_JSONFILE_H
#define NSSM_JSONFILE_H

#include <stddef.h>

#include <jansson.h>

#include "base/err.h"

#define NSSM_JSON_MAX (64u << 20)

/* New reference. */
int nssm_json_load(json_t **root, const char *path, struct nssm_err *err);
int nssm_json_save(const json_t *root, const char *path, struct nssm_err *err);

/* What a value is, for "found …": "missing" (NULL), "null", "an integer", … */
const char *nssm_json_what(const json_t *j);

/* A string from a file made fit for a message: at most 80 bytes, bytes that a terminal might obey as '?'. */
struct nssm_quoted {
	char s[88];
};
struct nssm_quoted nssm_quote(const char *s);

#endif

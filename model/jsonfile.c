#include "model/jsonfile.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

int nssm_json_load(json_t **root, const char *path, struct nssm_err *err)
{
	*root = NULL;
	struct nssm_map map;
	int rc = nssm_map_open(&map, path, err);
	if (rc != 0)
		return rc;
	json_error_t je;
	json_t *j = NULL;
	if (map.len == 0)
		rc = nssm_err_set(err, NSSM_EFORMAT, "%s: expected JSON, found an empty file", path);
	else if (map.len > NSSM_JSON_MAX)
		rc = nssm_err_set(err, NSSM_EFORMAT, "%s: expected at most %u bytes of JSON, found %zu", path,
		        NSSM_JSON_MAX, map.len);
	else if ((j = json_loadb((const char *)map.data, map.len, JSON_REJECT_DUPLICATES, &je)) == NULL)
		rc = nssm_err_set(err, NSSM_EFORMAT, "%s: line %d, column %d: %s", path, je.line, je.column,
		        nssm_quote(je.text).s);
	else if (!json_is_object(j))
		rc = nssm_err_set(
		        err, NSSM_EFORMAT, "%s: expected a JSON object, found %s", path, nssm_json_what(j));
	nssm_map_close(&map);
	if (rc != 0) {
		json_decref(j);
		return rc;
	}
	*root = j;
	return 0;
}

int nssm_json_save(const json_t *root, const char *path, struct nssm_err *err)
{
	char *text = json_dumps(root, JSON_INDENT(1));
	if (text == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory to write JSON", path);
	int rc = nssm_file_write(path, text, strlen(text), err);
	free(text);
	return rc;
}

const char *nssm_json_what(const json_t *j)
{
	if (j == NULL)
		return "missing";
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number that is not an integer";
	case JSON_TRUE:
		return "true";
	case JSON_FALSE:
		return "false";
	case JSON_NULL:
		break;
	}
	return "null";
}

struct nssm_quoted nssm_quote(const char *s)
{
	struct nssm_quoted q;
	size_t n = 0;
	for (; s[n] != '\0' && n < 80; n++) {
		unsigned char c = (unsigned char)s[n];
		q.s[n] = c < 0x20 || c >= 0x7f ? '?' : s[n];
	}
	strcpy(q.s + n, s[n] != '\0' ? "..." : "");
	return q;
}

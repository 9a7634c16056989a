#include "conf/conf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "conf/conf_priv.h"
#include "conf/nearest.h"

#define WHERE_BYTES 320

struct load {
	struct nssm_conf *c;
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; owned */
	const char *text;
	size_t len;
	const char *where;
	size_t seen[NSSM_N_KEYS]; /* line a key stood on, from 1 */
	struct nssm_err *err;
};

/* "small.yaml:12: model.lr"; key may be NULL. */
static const char *place(char buf[WHERE_BYTES], const struct load *l, size_t line, const char *key)
{
	snprintf(buf, WHERE_BYTES, "%.150s:%zu%s%s", l->where, line, key != NULL ? ": " : "",
	        key != NULL ? key : "");
	return buf;
}

static size_t line_of(const struct load *l)
{
	return l->event.start_mark.line + 1;
}

/* "FILE:LINE: [KEY: ]WHAT" at the current event. */
static int bad(struct load *l, const char *key, const char *what)
{
	char where[WHERE_BYTES];
	return nssm_err_set(l->err, NSSM_EFORMAT, "%s: %s", place(where, l, line_of(l), key), what);
}

static int parser_error(struct load *l)
{
	const yaml_parser_t *p = &l->parser;
	char where[WHERE_BYTES];
	if (p->error == YAML_MEMORY_ERROR)
		return nssm_err_set(l->err, NSSM_ENOMEM, "%s: no memory", l->where);
	size_t line = p->problem_mark.line + 1;
	if (p->error == YAML_READER_ERROR) {
		/* libyaml gives an offset only; a NUL or a bad UTF-8 byte has no mark. */
		size_t n = p->problem_offset < l->len ? p->problem_offset : l->len;
		line = 1;
		for (size_t i = 0; i < n; i++)
			line += l->text[i] == '\n';
		return nssm_err_set(l->err, NSSM_EFORMAT, "%s: not a text in UTF-8: %s (byte offset %zu)",
		        place(where, l, line, NULL), p->problem, n);
	}
	return nssm_err_set(l->err, NSSM_EFORMAT, "%s: not YAML: %s%s%s", place(where, l, line, NULL),
	        p->problem != NULL ? p->problem : "syntax error", p->context != NULL ? ", " : "",
	        p->context != NULL ? p->context : "");
}

/* Moves on to the next event; refuses what a profile never needs, before it costs anything. */
static int next(struct load *l)
{
	yaml_event_delete(&l->event);
	if (!yaml_parser_parse(&l->parser, &l->event))
		return parser_error(l);
	const yaml_char_t *anchor = NULL, *tag = NULL;
	switch (l->event.type) {
	case YAML_ALIAS_EVENT:
		return bad(l, NULL, "YAML aliases (*name) are not allowed here");
	case YAML_SCALAR_EVENT:
		anchor = l->event.data.scalar.anchor;
		tag = l->event.data.scalar.tag;
		if (l->event.data.scalar.length > CONF_SCALAR_MAX)
			return bad(l, NULL, "a value of more than 65536 bytes");
		if (memchr(l->event.data.scalar.value, '\0', l->event.data.scalar.length) != NULL)
			return bad(l, NULL, "a value with a NUL character in it");
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = l->event.data.sequence_start.anchor;
		tag = l->event.data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = l->event.data.mapping_start.anchor;
		tag = l->event.data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor != NULL)
		return bad(l, NULL, "YAML anchors (&name) are not allowed here");
	if (tag != NULL)
		return bad(l, NULL, "YAML tags (!name) are not allowed here");
	return 0;
}

static const char *scalar(const struct load *l)
{
	return (const char *)l->event.data.scalar.value;
}

/* An empty or null value, as in "model:" with all its keys commented out. */
static bool is_null(const struct load *l)
{
	return l->event.type == YAML_SCALAR_EVENT && l->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (l->event.data.scalar.length == 0 || strcmp(scalar(l), "~") == 0 ||
	               strcmp(scalar(l), "null") == 0);
}

static int did_you_mean(struct load *l, const char *key, const char *what, const struct nssm_nearest *near)
{
	char text[NSSM_NEAREST_BYTES + 80], best[NSSM_NEAREST_BYTES + 20] = "";
	if (nssm_nearest_get(near) != NULL)
		snprintf(best, sizeof best, "; did you mean %s?", nssm_nearest_get(near));
	snprintf(text, sizeof text, "%s%s", what, best);
	return bad(l, key, text);
}

static int unknown_key(struct load *l, const char *section, const char *name)
{
	char quoted[CONF_QUOTE_MAX], full[CONF_QUOTE_MAX + 40];
	conf_quote(quoted, name, strlen(name));
	snprintf(full, sizeof full, "%s.%s", section, quoted);
	struct nssm_nearest near;
	nssm_nearest_init(&near, full);
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const char *key = nssm_conf_key(i)->name, *dot = strrchr(key, '.');
		if (strcmp(dot + 1, name) == 0) { /* right key, wrong section */
			snprintf(near.best, sizeof near.best, "%s", key);
			break;
		}
		nssm_nearest_offer(&near, key);
	}
	return did_you_mean(l, full, "unknown key", &near);
}

/* "model" of "model.d_model". */
static void section_of(char section[NSSM_NEAREST_BYTES], const char *key)
{
	size_t n = strcspn(key, ".");
	assert(n < NSSM_NEAREST_BYTES);
	memcpy(section, key, n);
	section[n] = '\0';
}

static int unknown_section(struct load *l, const char *name)
{
	char quoted[CONF_QUOTE_MAX];
	struct nssm_nearest near;
	nssm_nearest_init(&near, name);
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		const char *key = nssm_conf_key(i)->name;
		char section[NSSM_NEAREST_BYTES];
		section_of(section, key);
		nssm_nearest_offer(&near, section);
		/* A key without its section, or "model.d_model" written flat. */
		if (strcmp(strrchr(key, '.') + 1, name) == 0 || strcmp(key, name) == 0) {
			snprintf(quoted, sizeof quoted, "%s", name);
			snprintf(near.best, sizeof near.best, "%.20s: {%.30s: …}", section,
			        strrchr(key, '.') + 1);
			break;
		}
	}
	return did_you_mean(l, conf_quote(quoted, name, strlen(name)), "unknown section", &near);
}

static int put(struct load *l, enum nssm_key_id id)
{
	char where[WHERE_BYTES];
	const char *name = nssm_conf_key(id)->name;
	if (is_null(l))
		return bad(l, name, "has no value");
	int rc = conf_put(l->c, id, scalar(l), CONF_FILE, place(where, l, line_of(l), name), l->err);
	if (rc != 0 && rc != NSSM_ENOMEM && l->err != NULL)
		l->err->code = NSSM_EFORMAT;
	return rc == 0 || rc == NSSM_ENOMEM ? rc : NSSM_EFORMAT;
}

/* The value of a key; on return the current event is its last. */
static int load_value(struct load *l, enum nssm_key_id id)
{
	const struct nssm_key *k = nssm_conf_key(id);
	if (l->event.type == YAML_MAPPING_START_EVENT)
		return bad(l, k->name, "expected a value, found more keys below it");
	if (k->type == NSSM_T_LIST)
		conf_list_clear(l->c, id, CONF_FILE);
	if (l->event.type == YAML_SCALAR_EVENT)
		return put(l, id);
	if (k->type != NSSM_T_LIST)
		return bad(l, k->name, "expected one value, found a list");
	for (;;) {
		int rc = next(l);
		if (rc != 0)
			return rc;
		if (l->event.type == YAML_SEQUENCE_END_EVENT)
			return 0;
		if (l->event.type != YAML_SCALAR_EVENT)
			return bad(l, k->name, "expected a list of values, found one nested deeper");
		rc = put(l, id);
		if (rc != 0)
			return rc;
	}
}

static int load_key(struct load *l, const char *section)
{
	if (l->event.type != YAML_SCALAR_EVENT)
		return bad(l, section, "expected a key, found a list or a mapping");
	enum nssm_key_id id = NSSM_N_KEYS;
	size_t n = strlen(section);
	for (int i = 0; i < NSSM_N_KEYS && id == NSSM_N_KEYS; i++) {
		const char *name = nssm_conf_key(i)->name;
		if (strncmp(name, section, n) == 0 && name[n] == '.' && strcmp(name + n + 1, scalar(l)) == 0)
			id = i;
	}
	if (id == NSSM_N_KEYS)
		return unknown_key(l, section, scalar(l));
	if (l->seen[id] != 0) {
		char text[64];
		snprintf(text, sizeof text, "given twice; first on line %zu", l->seen[id]);
		return bad(l, nssm_conf_key(id)->name, text);
	}
	l->seen[id] = line_of(l);
	int rc = next(l);
	return rc != 0 ? rc : load_value(l, id);
}

/* The current event is a section's name. A section may stand twice; its keys may not. */
static int load_section(struct load *l)
{
	if (l->event.type != YAML_SCALAR_EVENT)
		return bad(l, NULL, "expected the name of a section, found a list or a mapping");
	char section[NSSM_NEAREST_BYTES];
	bool known = false;
	for (int i = 0; i < NSSM_N_KEYS && !known; i++) {
		section_of(section, nssm_conf_key(i)->name);
		known = strcmp(section, scalar(l)) == 0;
	}
	if (!known)
		return unknown_section(l, scalar(l));
	int rc = next(l);
	if (rc != 0 || is_null(l))
		return rc;
	if (l->event.type != YAML_MAPPING_START_EVENT)
		return bad(l, section, "expected keys below this section");
	while ((rc = next(l)) == 0 && l->event.type != YAML_MAPPING_END_EVENT)
		if ((rc = load_key(l, section)) != 0)
			return rc;
	return rc;
}

static int load_stream(struct load *l)
{
	int rc = next(l);
	if (rc == 0) /* past the stream's start */
		rc = next(l);
	if (rc != 0 || l->event.type == YAML_STREAM_END_EVENT)
		return rc; /* empty, or comments only */
	rc = next(l);
	if (rc != 0)
		return rc;
	if (l->event.type == YAML_MAPPING_START_EVENT) {
		while ((rc = next(l)) == 0 && l->event.type != YAML_MAPPING_END_EVENT)
			if ((rc = load_section(l)) != 0)
				return rc;
	} else if (!is_null(l)) {
		rc = bad(l, NULL, "expected sections (model: …), found something else");
	}
	if (rc == 0) /* the document's end */
		rc = next(l);
	if (rc == 0)
		rc = next(l);
	if (rc == 0 && l->event.type != YAML_STREAM_END_EVENT)
		rc = bad(l, NULL, "a second YAML document; a profile is one");
	return rc;
}

int nssm_conf_load_mem(
        struct nssm_conf *c, const char *text, size_t len, const char *where, struct nssm_err *err)
{
	if (len > CONF_FILE_MAX)
		return nssm_err_set(err, NSSM_EFORMAT, "%.150s: larger than %u MiB; not a profile", where,
		        CONF_FILE_MAX >> 20);
	struct load l = {.c = c, .text = text, .len = len, .where = where, .err = err};
	/* The end of a long path tells more than its beginning. */
	if (strlen(where) > 150)
		l.where = where + strlen(where) - 150;
	if (!yaml_parser_initialize(&l.parser))
		return nssm_err_set(err, NSSM_ENOMEM, "%.150s: no memory for the YAML parser", where);
	yaml_parser_set_input_string(&l.parser, (const unsigned char *)text, len);
	int rc = load_stream(&l);
	yaml_event_delete(&l.event);
	yaml_parser_delete(&l.parser);
	return rc;
}

/* Not mapped: a profile may come from a pipe. */
static int read_all(char **text, size_t *len, FILE *f, const char *path, struct nssm_err *err)
{
	size_t cap = 0;
	*text = NULL;
	*len = 0;
	for (;;) {
		if (*len == cap) {
			cap = cap == 0 ? 16384 : 2 * cap;
			char *t = realloc(*text, cap);
			if (t == NULL)
				return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory to read it", path);
			*text = t;
		}
		size_t n = fread(*text + *len, 1, cap - *len, f);
		*len += n;
		if (n == 0 && ferror(f))
			return nssm_err_set(err, NSSM_EIO, "%s: cannot read: %s", path, strerror(errno));
		if (n == 0 || *len > CONF_FILE_MAX)
			return 0;
	}
}

int nssm_conf_load(struct nssm_conf *c, const char *path, struct nssm_err *err)
{
	FILE *f = fopen(path, "rbe");
	if (f == NULL)
		return nssm_err_set(err, NSSM_EIO, "%s: cannot open: %s", path, strerror(errno));
	char *text;
	size_t len;
	int rc = read_all(&text, &len, f, path, err);
	fclose(f);
	if (rc == 0)
		rc = nssm_conf_load_mem(c, text, len, path, err);
	free(text);
	return rc;
}

#include "conf/conf.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf_priv.h"
#include "conf/nearest.h"

static const struct nssm_key keys[NSSM_N_KEYS] = {
#define KEY(id, name, type, min, max, unit, def, choices, cmds, help)                                        \
	[NSSM_K_##id] = {name, NSSM_T_##type, min, max, unit, def, choices, cmds, help},
#include "conf/keys.def"
#undef KEY
};

const struct nssm_key *nssm_conf_key(enum nssm_key_id id)
{
	assert((unsigned)id < NSSM_N_KEYS);
	return &keys[id];
}

char *nssm_conf_flag(char buf[NSSM_FLAG_BYTES], enum nssm_key_id id)
{
	const char *dot = strrchr(nssm_conf_key(id)->name, '.');
	assert(dot != NULL && strlen(dot) + 1 < NSSM_FLAG_BYTES);
	snprintf(buf, NSSM_FLAG_BYTES, "--%s", dot + 1);
	for (char *p = buf; *p != '\0'; p++)
		if (*p == '_')
			*p = '-';
	return buf;
}

/* --- reading values ------------------------------------------------------------------------------------------- */

char *conf_quote(char buf[CONF_QUOTE_MAX], const char *text, size_t len)
{
	static const char more[] = "…";
	size_t room = CONF_QUOTE_MAX - sizeof more, n = len;
	if (n > room) {
		n = room;
		while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++)
		buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
	snprintf(buf + n, CONF_QUOTE_MAX - n, "%s", n < len ? more : "");
	return buf;
}

/* A decimal number's parts; sets *end behind it. No locale, no hex, no inf, no nan. */
struct decimal {
	bool neg;
	uint64_t mant; /* the digits, trailing zeros of the fraction left out */
	bool big;      /* they did not fit */
	int exp10;
};

static bool scan_decimal(struct decimal *d, const char *s, const char **end)
{
	*d = (struct decimal){0};
	if (*s == '+' || *s == '-')
		d->neg = *s++ == '-';
	int n_digits = 0, pending = 0; /* zeros that count only if another digit follows */
	bool point = false;
	for (;; s++) {
		if (*s == '.' && !point) {
			point = true;
			continue;
		}
		if (*s < '0' || *s > '9')
			break;
		n_digits++;
		if (pending < 4096)
			pending++;
		if (*s == '0' && point)
			continue;
		if (point)
			d->exp10 -= pending;
		for (; pending > 0; pending--) {
			if (d->mant > (UINT64_MAX - 9) / 10)
				d->big = true;
			else
				d->mant *= 10;
		}
		d->mant += (unsigned)(*s - '0');
	}
	if (n_digits == 0)
		return false;
	if (*s == 'e' || *s == 'E') {
		const char *p = s + 1;
		bool neg = *p == '-';
		if (*p == '+' || *p == '-')
			p++;
		if (*p < '0' || *p > '9')
			return false;
		int e = 0;
		for (; *p >= '0' && *p <= '9'; p++)
			e = e < 100000 ? e * 10 + (*p - '0') : e;
		d->exp10 += neg ? -e : e;
		s = p;
	}
	*end = s;
	return true;
}

enum scan { SCAN_OK, SCAN_BAD, SCAN_FRACTION, SCAN_BIG };

static enum scan scan_int(int64_t *v, const char *s)
{
	struct decimal d;
	const char *end;
	if (!scan_decimal(&d, s, &end))
		return SCAN_BAD;
	if (*end != '\0') {
		static const char suffix[] = "kMG";
		const char *k = strchr(suffix, *end == 'K' ? 'k' : *end);
		if (k == NULL || end[1] != '\0')
			return SCAN_BAD;
		d.exp10 += 3 * (int)(k - suffix + 1);
	}
	if (d.mant == 0 && !d.big) {
		*v = 0;
		return SCAN_OK;
	}
	for (; !d.big && d.exp10 < 0; d.exp10++) {
		if (d.mant % 10 != 0)
			return SCAN_FRACTION;
		d.mant /= 10;
	}
	for (; !d.big && d.exp10 > 0; d.exp10--) {
		if (d.mant > INT64_MAX / 10)
			d.big = true;
		else
			d.mant *= 10;
	}
	if (d.big || d.mant > INT64_MAX)
		return SCAN_BIG;
	*v = d.neg ? -(int64_t)d.mant : (int64_t)d.mant;
	return SCAN_OK;
}

/* strtod only after our own grammar: it would take hex, inf and nan as well. */
static enum scan scan_float(double *v, const char *s, const char **end)
{
	struct decimal d;
	if (!scan_decimal(&d, s, end))
		return SCAN_BAD;
	*v = strtod(s, NULL);
	return isfinite(*v) ? SCAN_OK : SCAN_BIG;
}

static enum scan scan_time(double *v, const char *s)
{
	static const struct {
		const char *name;
		double s;
	} unit[] = {{"", 1}, {"s", 1}, {"ns", 1e-9}, {"us", 1e-6}, {"µs", 1e-6}, {"ms", 1e-3}, {"m", 60},
	        {"min", 60}, {"h", 3600}, {"d", 86400}};
	const char *end;
	enum scan rc = scan_float(v, s, &end);
	if (rc != SCAN_OK)
		return rc;
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
		if (strcmp(end, unit[i].name) != 0)
			continue;
		/* 1e-9 has no exact double: dividing keeps 500ns and 5e-7 the same number. */
		*v = unit[i].s < 1 ? *v / round(1 / unit[i].s) : *v * unit[i].s;
		return isfinite(*v) ? SCAN_OK : SCAN_BIG;
	}
	return SCAN_BAD;
}

static int scan_bool(const char *s)
{
	static const char *const word[2][4] = {{"false", "no", "off", "0"}, {"true", "yes", "on", "1"}};
	for (int v = 0; v < 2; v++)
		for (int i = 0; i < 4; i++)
			if (strcasecmp(s, word[v][i]) == 0)
				return v;
	return -1;
}

/* --- ranges --------------------------------------------------------------------------------------------------- */

static int64_t to_int64(double v)
{
	return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (int64_t)v;
}

/* "0..10" or "0 or more"; the unit follows. */
static void range_text(char *buf, size_t n, const struct nssm_key *k)
{
	const char *unit = k->unit[0] != '\0' ? " " : "";
	if (k->max >= 1e18)
		snprintf(buf, n, "%.16g%s%s or more", k->min, unit, k->unit);
	else
		snprintf(buf, n, "%.16g..%.16g%s%s", k->min, k->max, unit, k->unit);
}

char *nssm_conf_allowed(char buf[128], enum nssm_key_id id)
{
	const struct nssm_key *k = nssm_conf_key(id);
	char range[80] = "";
	if (k->type == NSSM_T_INT || k->type == NSSM_T_FLOAT || k->type == NSSM_T_TIME)
		range_text(range, sizeof range, k);
	bool def = k->def != NULL && k->type != NSSM_T_BOOL;
	snprintf(buf, 128, "%s%s%s%s", range, range[0] && def ? ", " : "", def ? "default " : "",
	        def ? k->def : "");
	return buf;
}

const char *nssm_conf_metavar(enum nssm_key_id id)
{
	const struct nssm_key *k = nssm_conf_key(id);
	switch (k->type) {
	case NSSM_T_BOOL:
		return "";
	case NSSM_T_INT:
		return "N";
	case NSSM_T_FLOAT:
		return "X";
	case NSSM_T_TIME:
		return "TIME";
	case NSSM_T_ENUM:
		return k->choices;
	case NSSM_T_STR:
	case NSSM_T_LIST:
		break;
	}
	return k->unit[0] != '\0' ? k->unit : "TEXT";
}

const char *nssm_conf_cmd_name(unsigned bit)
{
	switch (bit) {
	case NSSM_CMD_PREPARE:
		return "prepare";
	case NSSM_CMD_TRAIN:
		return "train";
	case NSSM_CMD_GENERATE:
		return "generate";
	case NSSM_CMD_INFO:
		return "info";
	case NSSM_CMD_BENCH:
		return "bench";
	case NSSM_CMD_REPLAY:
		return "replay";
	case NSSM_CMD_RUN:
		return "run";
	case NSSM_CMD_DECODE:
		return "decode";
	case NSSM_CMD_NPRINT:
		return "nprint";
	case NSSM_CMD_EVAL:
		return "eval";
	default:
		return "?";
	}
}

/* --- storing values ------------------------------------------------------------------------------------------- */

static int refuse(int code, enum nssm_key_id id, const char *text, enum scan why, const char *where,
        struct nssm_err *err)
{
	static const char *const what[] = {[NSSM_T_BOOL] = "true or false",
	        [NSSM_T_INT] = "an integer ",
	        [NSSM_T_FLOAT] = "a number ",
	        [NSSM_T_STR] = "text",
	        [NSSM_T_ENUM] = "one of ",
	        [NSSM_T_LIST] = "text",
	        [NSSM_T_TIME] = "a time (30s, 5m, 2h, 500ms) "};
	const struct nssm_key *k = nssm_conf_key(id);
	char range[160] = "", quoted[CONF_QUOTE_MAX], hint[NSSM_NEAREST_BYTES + 20] = "";
	if (k->type == NSSM_T_ENUM) {
		struct nssm_nearest near;
		nssm_nearest_init(&near, text);
		snprintf(range, sizeof range, "%s", k->choices);
		char each[160], *save;
		snprintf(each, sizeof each, "%s", k->choices);
		for (char *w = strtok_r(each, "|", &save); w != NULL; w = strtok_r(NULL, "|", &save))
			nssm_nearest_offer(&near, w);
		if (nssm_nearest_get(&near) != NULL)
			snprintf(hint, sizeof hint, "; did you mean %s?", nssm_nearest_get(&near));
	} else if (k->type == NSSM_T_INT || k->type == NSSM_T_FLOAT || k->type == NSSM_T_TIME) {
		range_text(range, sizeof range, k);
	}
	if (why == SCAN_FRACTION)
		snprintf(hint, sizeof hint, ", which has a fraction");
	return nssm_err_set(err, code, "%s: expected %s%s, found '%s'%s", where, what[k->type], range,
	        conf_quote(quoted, text, strlen(text)), hint);
}

static int no_memory(const char *where, struct nssm_err *err)
{
	return nssm_err_set(err, NSSM_ENOMEM, "%s: no memory for the value", where);
}

static int put_number(
        struct conf_value *v, enum nssm_key_id id, const char *text, const char *where, struct nssm_err *err)
{
	const struct nssm_key *k = nssm_conf_key(id);
	const char *end = "";
	int64_t i = 0;
	double f = 0;
	enum scan rc = k->type == NSSM_T_INT    ? scan_int(&i, text)
	               : k->type == NSSM_T_TIME ? scan_time(&f, text)
	                                        : scan_float(&f, text, &end);
	if (rc == SCAN_OK && *end != '\0')
		rc = SCAN_BAD;
	if (rc == SCAN_BAD || rc == SCAN_FRACTION)
		return refuse(NSSM_EARG, id, text, rc, where, err);
	bool inside = k->type == NSSM_T_INT ? i >= to_int64(k->min) && i <= to_int64(k->max)
	                                    : f >= k->min && f <= k->max;
	if (rc == SCAN_BIG || !inside)
		return refuse(NSSM_ERANGE, id, text, rc, where, err);
	v->i = i;
	v->f = f;
	return 0;
}

static bool is_choice(const char *choices, const char *text)
{
	size_t n = strlen(text);
	for (const char *p = choices; *p != '\0';) {
		size_t k = strcspn(p, "|");
		if (k == n && memcmp(p, text, n) == 0)
			return true;
		p += k + (p[k] == '|');
	}
	return false;
}

void conf_list_clear(struct nssm_conf *c, enum nssm_key_id id, enum conf_src src)
{
	struct conf_value *v = &c->v[id];
	for (size_t i = 0; i < v->n; i++)
		free(v->items[i]);
	v->n = 0;
	v->src = src;
}

static int put_item(struct nssm_conf *c, enum nssm_key_id id, const char *text, enum conf_src src,
        const char *where, struct nssm_err *err)
{
	struct conf_value *v = &c->v[id];
	if (v->src != src)
		conf_list_clear(c, id, src);
	if (v->n == CONF_LIST_MAX)
		return nssm_err_set(err, NSSM_ERANGE, "%s: more than %d items", where, CONF_LIST_MAX);
	if (v->n == v->cap) {
		size_t cap = v->cap == 0 ? 8 : 2 * v->cap;
		char **items = realloc(v->items, cap * sizeof *items);
		if (items == NULL)
			return no_memory(where, err);
		v->items = items;
		v->cap = cap;
	}
	char *s = strdup(text);
	if (s == NULL)
		return no_memory(where, err);
	v->items[v->n++] = s;
	return 0;
}

int conf_put(struct nssm_conf *c, enum nssm_key_id id, const char *text, enum conf_src src, const char *where,
        struct nssm_err *err)
{
	const struct nssm_key *k = nssm_conf_key(id);
	struct conf_value *v = &c->v[id];
	size_t len = strnlen(text, CONF_SCALAR_MAX + 1);
	if (len > CONF_SCALAR_MAX)
		return nssm_err_set(
		        err, NSSM_ERANGE, "%s: a value of more than %u bytes", where, CONF_SCALAR_MAX);
	if (len == 0)
		return refuse(NSSM_EARG, id, text, SCAN_BAD, where, err);
	int rc = 0, b;
	switch (k->type) {
	case NSSM_T_BOOL:
		b = scan_bool(text);
		if (b < 0)
			return refuse(NSSM_EARG, id, text, SCAN_BAD, where, err);
		v->b = b;
		break;
	case NSSM_T_INT:
	case NSSM_T_FLOAT:
	case NSSM_T_TIME:
		rc = put_number(v, id, text, where, err);
		break;
	case NSSM_T_LIST:
		return put_item(c, id, text, src, where, err);
	case NSSM_T_ENUM:
		if (!is_choice(k->choices, text))
			return refuse(NSSM_EARG, id, text, SCAN_BAD, where, err);
		/* fall through */
	case NSSM_T_STR: {
		char *s = strdup(text);
		if (s == NULL)
			return no_memory(where, err);
		free(v->s);
		v->s = s;
		break;
	}
	}
	if (rc == 0)
		v->src = src;
	return rc;
}

int nssm_conf_set(
        struct nssm_conf *c, enum nssm_key_id id, const char *text, const char *where, struct nssm_err *err)
{
	char full[400];
	if (where == NULL)
		nssm_conf_flag(full, id);
	else
		snprintf(full, sizeof full, "%.300s: %s", where, nssm_conf_key(id)->name);
	return conf_put(c, id, text, CONF_FLAG, full, err);
}

/* --- the object ----------------------------------------------------------------------------------------------- */

/* Two keys that one command would spell as the same flag are a slip in keys.def. */
static void check_table(void)
{
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		char a[NSSM_FLAG_BYTES], b[NSSM_FLAG_BYTES];
		nssm_conf_flag(a, i);
		assert(strcmp(a, "--config") != 0 && strcmp(a, "--help") != 0);
		for (int j = 0; j < i; j++) {
			bool same = strcmp(a, nssm_conf_flag(b, j)) == 0;
			assert(!same || (keys[i].cmds & keys[j].cmds) == 0);
			assert(strcmp(keys[i].name, keys[j].name) != 0);
			(void)same;
		}
	}
}

int nssm_conf_open(struct nssm_conf **cp, struct nssm_err *err)
{
	check_table();
	*cp = NULL;
	struct nssm_conf *c = calloc(1, sizeof *c);
	if (c == NULL)
		return nssm_err_set(err, NSSM_ENOMEM, "no memory for the configuration");
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		if (keys[i].def == NULL)
			continue;
		struct nssm_err why;
		int rc = conf_put(c, i, keys[i].def, CONF_DEFAULT, keys[i].name, &why);
		if (rc != 0) {
			assert(rc == NSSM_ENOMEM); /* a default that its own row refuses */
			nssm_conf_close(&c);
			return nssm_err_set(err, rc, "%s", why.msg);
		}
	}
	*cp = c;
	return 0;
}

void nssm_conf_close(struct nssm_conf **cp)
{
	struct nssm_conf *c = *cp;
	if (c == NULL)
		return;
	for (int i = 0; i < NSSM_N_KEYS; i++) {
		conf_list_clear(c, i, CONF_UNSET);
		free(c->v[i].items);
		free(c->v[i].s);
	}
	free(c);
	*cp = NULL;
}

static const struct conf_value *get(const struct nssm_conf *c, enum nssm_key_id id, unsigned types)
{
	assert((unsigned)id < NSSM_N_KEYS && (types >> keys[id].type & 1));
	(void)types;
	return &c->v[id];
}

bool nssm_conf_is_set(const struct nssm_conf *c, enum nssm_key_id id)
{
	return get(c, id, ~0u)->src >= CONF_FILE;
}

char *nssm_conf_said(char buf[NSSM_FLAG_BYTES], const struct nssm_conf *c, enum nssm_key_id id)
{
	if (get(c, id, ~0u)->src != CONF_FILE)
		return nssm_conf_flag(buf, id);
	snprintf(buf, NSSM_FLAG_BYTES, "%s", nssm_conf_key(id)->name);
	return buf;
}

bool nssm_conf_bool(const struct nssm_conf *c, enum nssm_key_id id)
{
	return get(c, id, 1u << NSSM_T_BOOL)->b;
}

int64_t nssm_conf_int(const struct nssm_conf *c, enum nssm_key_id id)
{
	return get(c, id, 1u << NSSM_T_INT)->i;
}

double nssm_conf_float(const struct nssm_conf *c, enum nssm_key_id id)
{
	return get(c, id, 1u << NSSM_T_FLOAT | 1u << NSSM_T_TIME)->f;
}

const char *nssm_conf_str(const struct nssm_conf *c, enum nssm_key_id id)
{
	return get(c, id, 1u << NSSM_T_STR | 1u << NSSM_T_ENUM)->s;
}

size_t nssm_conf_list(const struct nssm_conf *c, enum nssm_key_id id, const char *const **items)
{
	const struct conf_value *v = get(c, id, 1u << NSSM_T_LIST);
	*items = (const char *const *)v->items;
	return v->n;
}

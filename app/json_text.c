#include "app/json_text.h"

#include <stdlib.h>
#include <string.h>

json_t *nssm_json_text(const char *text)
{
	if (text == NULL)
		return json_null();
	json_t *j = json_string(text);
	if (j != NULL)
		return j;
	char *ascii = strdup(text);
	for (char *p = ascii; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	j = ascii != NULL ? json_string(ascii) : NULL;
	free(ascii);
	return j;
}

json_t *nssm_json_count(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

json_t *nssm_json_key(const struct nssm_conf *c, enum nssm_key_id id)
{
	const struct nssm_key *k = nssm_conf_key(id);
	const char *const *item;
	size_t n;
	json_t *list;
	if (k->def == NULL && k->type != NSSM_T_LIST && !nssm_conf_is_set(c, id))
		return json_null();
	switch (k->type) {
	case NSSM_T_BOOL:
		return json_boolean(nssm_conf_bool(c, id));
	case NSSM_T_INT:
		return json_integer(nssm_conf_int(c, id));
	case NSSM_T_FLOAT:
	case NSSM_T_TIME:
		return json_real(nssm_conf_float(c, id));
	case NSSM_T_LIST:
		list = json_array();
		n = nssm_conf_list(c, id, &item);
		for (size_t i = 0; i < n; i++)
			json_array_append_new(list, nssm_json_text(item[i]));
		return list;
	case NSSM_T_STR:
	case NSSM_T_ENUM:
		break;
	}
	return nssm_json_text(nssm_conf_str(c, id));
}

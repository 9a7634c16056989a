/* The two functions of codec.h that checkpoints need, to the header's words, until the codec itself is
 * linked. */
#include <string.h>

#include "model/codec.h"

json_t *nssm_codec_cfg_to_json(const struct nssm_codec_cfg *cfg)
{
	return json_pack("{s:s,s:i,s:i,s:s}", "kind", "raw", "version", (int)cfg->version, "pkt_len",
	        (int)cfg->pkt_len, "compat", cfg->compat_paper ? "paper" : "none");
}

int nssm_codec_cfg_from_json(
        struct nssm_codec_cfg *cfg, const json_t *j, const char *where, struct nssm_err *err)
{
	const char *kind = json_string_value(json_object_get(j, "kind")),
	           *compat = json_string_value(json_object_get(j, "compat"));
	if (kind == NULL || strcmp(kind, "raw") != 0 || compat == NULL)
		return nssm_err_set(err, NSSM_EFORMAT, "%s: codec.kind", where);
	cfg->kind = NSSM_CODEC_RAW;
	cfg->version = (uint32_t)json_integer_value(json_object_get(j, "version"));
	cfg->pkt_len = (uint32_t)json_integer_value(json_object_get(j, "pkt_len"));
	cfg->compat_paper = strcmp(compat, "paper") == 0;
	return 0;
}

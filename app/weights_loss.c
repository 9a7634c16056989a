#include "app/weights_loss.h"

#include <inttypes.h>
#include <stdio.h>

#include "app/json_text.h"
#include "model/corpus.h"
#include "model/score.h"

#define LN2 0.69314718055994530942

static int score_one(struct nssm_score *out, struct nssm_model_card *card, const char *dir, struct nssm_corpus *c,
	const char *corpus, const struct nssm_kernels *kern, enum nssm_weights weights, struct nssm_err *err)
{
	struct nssm_mamba2 *m;
	int rc = nssm_mamba2_open(&m, &card->cfg, kern, weights, false, err);
	if (rc == 0)
		rc = nssm_checkpoint_load_weights(nssm_mamba2_params(m), card, dir, err);
	if (rc == 0) {
		nssm_mamba2_pack(m, NULL);
		rc = nssm_score(out, m, card, c, corpus, err);
	}
	nssm_mamba2_close(&m);
	return rc;
}

int nssm_weights_loss(json_t **out, struct nssm_model_card *card, const char *dir, const char *corpus,
	const struct nssm_kernels *kern, struct nssm_err *err)
{
	struct nssm_corpus *c;
	struct nssm_score s;
	*out = NULL;
	int rc = nssm_corpus_open(&c, corpus, false, err);
	if (rc != 0)
		return rc;
	json_t *rows = json_array();
	double f32 = 0;
	for (int i = 0; rc == 0 && i < NSSM_N_WEIGHTS; i++) {
		enum nssm_weights weights = (enum nssm_weights)i;
		rc = score_one(&s, card, dir, c, corpus, kern, weights, err);
		if (rc != 0)
			break;
		f32 = i == 0 ? s.nats : f32;
		json_array_append_new(rows, json_pack("{ss sf sf}", "type", nssm_weights_name(weights), "bits", s.nats / LN2,
			"more", s.nats / f32 - 1));
	}
	nssm_corpus_close(&c);
	if (rc == 0)
		*out = json_pack("{so ss so so so}", "corpus", nssm_json_text(corpus), "level", kern->name, "sessions",
			nssm_json_count(s.n_sessions), "tokens", nssm_json_count(s.n_scored), "weights", json_incref(rows));
	json_decref(rows);
	if (rc == 0 && *out == NULL)
		rc = nssm_err_set(err, NSSM_ENOMEM, "info: no memory for the losses");
	return rc;
}

void nssm_weights_loss_print(const json_t *loss)
{
	size_t i;
	json_t *row;
	printf("\nloss     over %s: %" JSON_INTEGER_FORMAT " sessions, %" JSON_INTEGER_FORMAT " tokens scored; level %s\n",
		json_string_value(json_object_get(loss, "corpus")), json_integer_value(json_object_get(loss, "sessions")),
		json_integer_value(json_object_get(loss, "tokens")), json_string_value(json_object_get(loss, "level")));
	puts("  weights    bits a token   more than f32");
	json_array_foreach(json_object_get(loss, "weights"), i, row)
		printf("  %-8s %14.4f %14.2f %%\n", json_string_value(json_object_get(row, "type")),
			json_real_value(json_object_get(row, "bits")), 100 * json_real_value(json_object_get(row, "more")));
}

/* netssm run: a profile says what to do. */
#include "app/cmd.h"

static int run(struct nssm_conf *conf, const char *const *pos, int n_pos, struct nssm_err *err)
{
	const char *const *captures;
	bool model = nssm_conf_str(conf, NSSM_K_GEN_MODEL) != NULL;
	bool replays = nssm_conf_list(conf, NSSM_K_REPLAY_PCAP, &captures) > 0;
	const char *where = n_pos > 0 ? pos[n_pos - 1] : "run";
	if (model && replays)
		return nssm_err_set(err, NSSM_EARG,
		        "%.200s: expected one source, found both generate.model and replay.pcap", where);
	if (!model && !replays)
		return nssm_err_set(err, NSSM_EARG,
		        "%.200s: expected a profile with generate.model (generates) or replay.pcap "
		        "(replays), found neither",
		        where);
	return (model ? nssm_cmd_generate : nssm_cmd_replay).run(conf, NULL, 0, err);
}

const struct nssm_cmd nssm_cmd_run = {
        .name = "run",
        .usage = "run PROFILE [flags]",
        .summary = "do what a profile says: generate or replay",
        .details = "A profile with generate.model generates, one with replay.pcap replays. Its keys\n"
                   "are the flags of these commands; conf/appliance.yaml and conf/replay.yaml name\n"
                   "them all. Flags given here win over the profile. For what is generate's or\n"
                   "replay's alone: netssm generate --config PROFILE, and its flags.\n"
                   "\n"
                   "  netssm run conf/appliance.yaml\n"
                   "  netssm run conf/replay.yaml --rate 2x --duration 10m\n",
        .bit = NSSM_CMD_RUN,
        .max_pos = 16,
        .pos_profiles = true,
        .run = run,
};

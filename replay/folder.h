/* folder — a capture a session: 000017-web.pcap for session 17 with label web, and labels.csv with the columns
 * File,Label,Seed,Session,Packets,End in the order of the sessions, so that `prepare` reads it back.
 * Sessions are written when they are whole, as the source made them (no clones, no other addresses). Memory: 24 bytes a session.
 * Checked: tests/replay_cli.py                                                                                           */
#ifndef NSSM_FOLDER_H
#define NSSM_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/generator.h"
#include "replay/tape.h"

struct nssm_folder;
struct nssm_folder_cfg {
	const char *path;              /* made if it is not there, must be empty */
	const char *const *label;      /* [n_labels], borrowed */
	uint32_t n_labels;
	uint64_t seed, epoch_ns;
	bool us;
	uint32_t snaplen;
};
int nssm_folder_open(struct nssm_folder **f, const struct nssm_folder_cfg *cfg, struct nssm_err *err);
/* t is finished and untrimmed. */
int nssm_folder_session(struct nssm_folder *f, const struct nssm_tape *t, enum nssm_end_reason end, struct nssm_err *err);
uint64_t nssm_folder_packets(const struct nssm_folder *f);
/* Writes labels.csv. */
int nssm_folder_finish(struct nssm_folder *f, struct nssm_err *err);
/* Without finish, the sessions that were whole are kept; a folder that was made and got none is removed. */
void nssm_folder_close(struct nssm_folder **f);

#endif

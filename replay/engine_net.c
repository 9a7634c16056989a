#include <string.h>

#include "replay/engine_priv.h"

#define ANSWER_BYTES 256u

/* An answer or a question goes out at once, past the schedule; it is no packet of any session and not counted as one. */
static void send_own(struct nssm_engine *e, uint32_t port, const uint8_t *frame, uint32_t len)
{
	void *m;
	uint8_t *data;
	if (!nssm_frames_get(e->cfg.frames, &m, &data, &len, 1))
		return;
	memcpy(data, frame, len);
	nssm_frame_set_len(m, len);
	if (nssm_port_tx(e->cfg.port[port], e->cfg.queue, &m, 1) == 0)
		nssm_frames_put(e->cfg.frames, &m, 1);
}

static void receive(struct nssm_engine *e, uint32_t port, uint32_t queue, uint64_t now_ns)
{
	void *m[NSSM_BURST];
	const uint8_t *data[NSSM_BURST];
	uint32_t len[NSSM_BURST], n, n_traffic = 0;
	uint8_t answer[ANSWER_BYTES];
	struct nssm_neigh *neigh = e->cfg.neigh[port];
	n = nssm_port_rx(e->cfg.port[port], queue, m, data, len, NSSM_BURST);
	if (n == 0)
		return;
	for (uint32_t i = 0; i < n; i++) {
		bool mine = false;
		uint32_t k = neigh != NULL ? nssm_neigh_frame(neigh, data[i], len[i], now_ns, answer, &mine) : 0;
		if (k > 0)
			send_own(e, port, answer, k);
		if (mine)
			continue;
		data[n_traffic] = data[i];
		len[n_traffic++] = len[i];
	}
	if (e->cfg.measure != NULL && n_traffic > 0)
		nssm_measure_received_burst(e->cfg.measure, data, len, n_traffic, now_ns);
	count(&e->n.port_received[port], n);
	nssm_frames_put(e->cfg.frames, m, n);
}

void engine_net_poll(struct nssm_engine *e)
{
	if (e->cfg.neigh == NULL)
		return;
	uint64_t now = e->cfg.clock(e->cfg.clock_ctx);
	bool resolved = true;
	for (uint32_t p = 0; p < e->cfg.n_ports; p++) {
		for (uint32_t q = 0; q < e->cfg.n_engines; q++)
			receive(e, p, q, now);
		struct nssm_neigh *neigh = e->cfg.neigh[p];
		if (neigh == NULL)
			continue;
		uint8_t ask[ANSWER_BYTES];
		for (uint32_t k; (k = nssm_neigh_poll(neigh, now, ask)) > 0;)
			send_own(e, p, ask, k);
		resolved &= nssm_neigh_resolved(neigh);
	}
	if (resolved && !atomic_load_explicit(&e->cfg.run->net_known, memory_order_relaxed))
		atomic_store(&e->cfg.run->net_known, true);
	if (e->cfg.measure != NULL)
		nssm_measure_expire(e->cfg.measure, now);
}

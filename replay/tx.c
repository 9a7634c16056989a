#include "replay/tx.h"

const char *nssm_drop_name(int reason)
{
	static const char *const name[NSSM_DROP_N] = {"queue_full", "link_down", "too_long", "no_reader", "error"};
	return reason >= 0 && reason < NSSM_DROP_N ? name[reason] : "unknown";
}

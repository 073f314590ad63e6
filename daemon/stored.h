/* What is stored, and why it is not, as the protocol says it: for replies, feeds and the broadcast.
 */
#ifndef DAEMON_STORED_H
#define DAEMON_STORED_H

#include "store/keys.h"
#include "wire/error.h"

/* Fills the error for a code of the store: storage_full, unavailable or internal. Returns its code.
 */
enum wire_code stored_fail(struct wire_error *error, int store_code);

/* Packs one change from history. STORE_CORRUPT where its stored bytes are not an entry. */
int stored_pack_change(struct buffer *out, const struct store_history_change *change);

#endif

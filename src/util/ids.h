/*
 * ids.h
 *		UUIDs of version 7 (ordered by time) and 5 (derived from a name).
 */
#ifndef DUGONG_IDS_H
#define DUGONG_IDS_H

#include "postgres.h"

#include "utils/uuid.h"

extern pg_uuid_t *uuid_make_v7(void);
extern pg_uuid_t *uuid_make_v5(const pg_uuid_t *ns, const char *name);
extern char *uuid_to_cstring(const pg_uuid_t *uuid);

#endif							/* DUGONG_IDS_H */

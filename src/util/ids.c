/*
 * ids.c
 *		UUIDs of version 7 (ordered by time) and 5 (derived from a name).
 *
 * Layouts: RFC 9562, sections 5.7 and 5.5.
 */
#include "postgres.h"

#include <time.h>

#include "common/cryptohash.h"
#include "common/sha1.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "util/ids.h"

static void
set_version(pg_uuid_t *uuid, int version)
{
	uuid->data[6] = (uuid->data[6] & 0x0f) | (version << 4);
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
}

/* Random bytes, many of which are asked for at once: that costs no more than a few. */
static const uint8 *
random_bytes(int count)
{
	static uint8 bytes[512];
	static int	used = sizeof(bytes);

	if (used + count > (int) sizeof(bytes))
	{
		if (!pg_strong_random(bytes, sizeof(bytes)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		used = 0;
	}
	used += count;
	return bytes + used - count;
}

/*
 * A new id.  48 bits of milliseconds, 12 bits of their fraction (RFC 9562,
 * section 6.2, method 3), the rest random: ids of one session ascend, so the
 * index over them grows at its right edge.
 */
pg_uuid_t *
uuid_make_v7(void)
{
	static uint64 last_tick;	/* keeps ids ascending if the clock does not */
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));
	struct timespec now;
	uint64		tick;
	uint64		ms_be;
	uint16		fraction_be;

	clock_gettime(CLOCK_REALTIME, &now);
	/* ms in the upper 52 bits, 4096ths of a ms in the lower 12 */
	tick = ((uint64) now.tv_sec * 1000 + now.tv_nsec / 1000000) << 12 |
		((uint64) (now.tv_nsec % 1000000) << 12) / 1000000;
	if (tick <= last_tick)
		tick = last_tick + 1;
	last_tick = tick;

	memcpy(uuid->data + 8, random_bytes(8), 8);
	ms_be = pg_hton64((tick >> 12) << 16);
	memcpy(uuid->data, &ms_be, 6);
	fraction_be = pg_hton16(tick & 0x0fff);
	memcpy(uuid->data + 6, &fraction_be, 2);
	set_version(uuid, 7);
	return uuid;
}

/* The id that a name has within a namespace; the same every time, in every encoding. */
pg_uuid_t *
uuid_make_v5(const pg_uuid_t *ns, const char *name)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));
	uint8		digest[SHA1_DIGEST_LENGTH];
	const char *utf8 = pg_server_to_any(name, strlen(name), PG_UTF8);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA1);

	if (ctx == NULL ||
		pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, ns->data, UUID_LEN) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) utf8, strlen(utf8)) < 0 ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute SHA-1 hash: %s",
						ctx ? pg_cryptohash_error(ctx) : "out of memory")));
	pg_cryptohash_free(ctx);
	memcpy(uuid->data, digest, UUID_LEN);
	set_version(uuid, 5);
	return uuid;
}

char *
uuid_to_cstring(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}

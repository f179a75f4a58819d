/*
 * home.c
 *		Whether this database is one in which the log has grown.
 *
 * A dump is loaded table by table, and a worker that consumed the log before
 * its checkpoint is there would handle everything again.  So the worker leaves
 * a database alone until a position was drawn in it: dugong.home says where
 * that happened, by system identifier and database oid, and is not dumped.
 * Physical copies keep both; CREATE DATABASE ... TEMPLATE and restores do not.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/home.h"
#include "store/log.h"
#include "store/ownership.h"


int64
home_system_identifier(void)
{
	return (int64) GetSystemIdentifier();
}

/* Is this database claimed, as the latest snapshot sees it? */
bool
home_is_here(void)
{
	static SavedPlan select_home = {
		.sql = "SELECT 1 FROM dugong.home WHERE system_identifier OPERATOR(pg_catalog.=) $1 "
		"AND database_oid OPERATOR(pg_catalog.=) $2 LIMIT 1",
		.nargs = 2,
		.argtypes = {INT8OID, OIDOID}
	};
	Datum		values[] = {Int64GetDatum(home_system_identifier()), ObjectIdGetDatum(MyDatabaseId)};

	return execute_as_owner(&select_home, values, NULL) > 0;
}

/*
 * Claims this database.  Called for each event; only the first ones in a
 * session look, and only the first in the database's life writes.  Two at once
 * write two rows, which does no harm: a unique key would make the second wait.
 * A claim that this very transaction wrote may be rolled back, so it is not
 * remembered.
 */
void
home_claim(void)
{
	static SavedPlan insert_home = {
		.sql = "INSERT INTO dugong.home (system_identifier, database_oid) VALUES ($1, $2)",
		.nargs = 2,
		.argtypes = {INT8OID, OIDOID}
	};
	static Oid	claimed;		/* the log that was seen claimed */
	static TransactionId writer;	/* the last transaction that wrote a claim */
	Oid			log = dugong_relid("event_log");
	Datum		values[] = {Int64GetDatum(home_system_identifier()), ObjectIdGetDatum(MyDatabaseId)};

	if (claimed == log)
		return;
	if (home_is_here())
	{
		if (writer != GetTopTransactionId())
			claimed = log;
		return;
	}
	writer = GetTopTransactionId();
	(void) execute_as_owner(&insert_home, values, NULL);
}

/*
 * commands.c
 *		The bank account's commands, as SQL functions.
 *
 * Each checks its arguments, locks the account, builds it from its events,
 * checks the rules, appends and returns the account as it is then.
 *
 * A command may bring an event id.  The first thing after the lock is to see
 * whether the event is in the log: then the command is a retry, appends
 * nothing and returns the account.  Anything else under that id is UG006.
 */
#include "postgres.h"

#include "access/table.h"
#include "aggregate/aggregate.h"
#include "aggregate/snapshot.h"
#include "bank_account/events.h"
#include "bank_account/rules.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/aggregate_lock.h"
#include "store/append.h"
#include "store/context.h"
#include "store/stored_event.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/ids.h"

PG_FUNCTION_INFO_V1(bank_open_account);
PG_FUNCTION_INFO_V1(bank_deposit);
PG_FUNCTION_INFO_V1(bank_withdraw);
PG_FUNCTION_INFO_V1(bank_transfer);
PG_FUNCTION_INFO_V1(bank_close_account);
PG_FUNCTION_INFO_V1(bank_get_account);

static void
account_key(AggregateKey *key, const pg_uuid_t *id)
{
	key->type_id = aggregate_type_by_name(BANK_ORIGIN, BANK_AGGREGATE_TYPE)->id;
	key->id = *id;
	key->tenant_id = context_tenant_id();
}

/* An account without events; 42804 if the type's fold makes something else. */
static void
account_init(FunctionCallInfo fcinfo, Aggregate *account, const AggregateKey *key)
{
	aggregate_init(account, key);
	if (account->fold->result.oid != get_func_rettype(fcinfo->flinfo->fn_oid))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("fold of aggregate type \"%s\" does not make a bank account", BANK_AGGREGATE_TYPE),
				 errdetail("Its state is of type %s.", format_type_be(account->fold->result.oid))));
}

/* Builds the account; its lock is held unless it is new. */
static void
account_load(FunctionCallInfo fcinfo, Aggregate *account, const AggregateKey *key)
{
	account_init(fcinfo, account, key);
	aggregate_build_current(account);
}

/* The account, or as it was when it was closed; the last that a command does. */
static Datum
account_result(FunctionCallInfo fcinfo, Aggregate *account)
{
	aggregate_release_fold(account);
	if (!account->isnull)
		return account->state;
	if (!account->last_isnull)
		return account->last;
	fcinfo->isnull = true;
	return (Datum) 0;
}

/*
 * Appends the event behind the account's last, and applies it.  If a racing
 * session has appended the very event, the account is what it is now, and the
 * answer is false.
 */
static bool
account_append(Aggregate *account, LogRow *event, const pg_uuid_t *event_id)
{
	AggregateHead head;
	bool		appended;

	if (event_id)
		log_row_set(event, LOG_ID, UUIDPGetDatum(event_id));
	log_row_set(event, LOG_SEQUENCE_NUMBER, Int64GetDatum(account->sequence_number + 1));
	appended = event_append_behind(event, aggregate_known_head(account, &head));
	if (appended)
	{
		aggregate_apply(account, event);
		snapshot_after_append(account);
	}
	else
		aggregate_build_current(account);
	return appended;
}

/* The id of the deposit in the transfer whose withdrawal has the given id. */
static pg_uuid_t *
transfer_deposit_id(const pg_uuid_t *withdrawal_id)
{
	return uuid_make_v5(withdrawal_id, "bank_transfer");
}

/* Did a transfer append the event, as its withdrawal or its deposit? */
static bool
is_part_of_transfer(Relation log, const LogRow *event)
{
	pg_uuid_t  *id = DatumGetUUIDP(log_row_value(event, LOG_ID));
	LogRow		other;

	if (event_find(log, transfer_deposit_id(id), &other))
		return true;
	if (log_row_isnull(event, LOG_TRIGGERED_BY_EVENT_ID))
		return false;
	return memcmp(transfer_deposit_id(DatumGetUUIDP(log_row_value(event, LOG_TRIGGERED_BY_EVENT_ID))),
				  id, UUID_LEN) == 0;
}

/*
 * Is the command a retry: is its event in the log under the given id?
 *
 * deposit: the second event of a transfer, or NULL for other commands.
 */
static bool
is_retry(const LogRow *event, const pg_uuid_t *event_id, const LogRow *deposit)
{
	Relation	log;
	LogRow		stored;
	bool		same;

	if (event_id == NULL)
		return false;
	log = log_open(AccessShareLock);
	if (!event_find(log, event_id, &stored))
	{
		table_close(log, NoLock);
		return false;
	}
	same = event_has_same_content(&stored, event);
	if (same && deposit)
		same = event_find(log, transfer_deposit_id(event_id), &stored) &&
			event_has_same_content(&stored, deposit);
	else if (same)
		same = !is_part_of_transfer(log, &stored);
	table_close(log, NoLock);
	if (!same)
		report_event_id_reused(event_id);
	return true;
}

/*
 * The id of an account that is opened without one.  A retry has to find the
 * same account, also while the first try is still running; so the id follows
 * from the event id if there is one.
 */
static pg_uuid_t *
new_account_id(const pg_uuid_t *event_id)
{
	return event_id ? uuid_make_v5(event_id, "bank_open_account") : uuid_make_v7();
}

/* bank_open_account(owner, initial_balance, account_id, event_id) */
Datum
bank_open_account(PG_FUNCTION_ARGS)
{
	char	   *owner = check_owner(DatumGetTextPP(arg_needed(fcinfo, 0, "owner")));
	Numeric		balance = check_initial_balance(DatumGetNumeric(arg_needed(fcinfo, 1, "initial balance")));
	pg_uuid_t  *account_id = arg_uuid(fcinfo, 2);
	pg_uuid_t  *event_id = arg_uuid(fcinfo, 3);
	AggregateKey key;
	Aggregate	account;
	LogRow		event;
	Identity	before;

	account_key(&key, account_id ? account_id : new_account_id(event_id));
	identity_enter(&before);
	account_opened(&event, &key, owner, balance);
	account_init(fcinfo, &account, &key);
	if (is_retry(&event, event_id, NULL))
		aggregate_build_current(&account);
	else
		/* The append finds out whether the account exists. */
		account_append(&account, &event, event_id);
	identity_leave(&before);
	PG_RETURN_DATUM(account_result(fcinfo, &account));
}

/* bank_deposit and bank_withdraw(account_id, amount, event_id) */
static Datum
move_money(FunctionCallInfo fcinfo, const char *type)
{
	pg_uuid_t  *account_id = arg_needed_uuid(fcinfo, 0, "account id");
	Numeric		amount = check_amount(DatumGetNumeric(arg_needed(fcinfo, 1, "amount")));
	pg_uuid_t  *event_id = arg_uuid(fcinfo, 2);
	AggregateKey key;
	Aggregate	account;
	LogRow		event;
	Identity	before;

	account_key(&key, account_id);
	identity_enter(&before);
	money_moved(&event, &key, type, amount);
	aggregate_lock(&key);
	account_load(fcinfo, &account, &key);
	if (!is_retry(&event, event_id, NULL))
	{
		require_open(&account);
		if (strcmp(type, MONEY_WITHDRAWN) == 0)
			require_funds(&account, amount);
		account_append(&account, &event, event_id);
	}
	identity_leave(&before);
	return account_result(fcinfo, &account);
}

Datum
bank_deposit(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(move_money(fcinfo, MONEY_DEPOSITED));
}

Datum
bank_withdraw(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(move_money(fcinfo, MONEY_WITHDRAWN));
}

/* Appends both events of a transfer, linked by correlation id and cause. */
static void
append_transfer(Aggregate *from, Aggregate *to, LogRow *withdrawal, LogRow *deposit,
				const pg_uuid_t *event_id)
{
	context_fill(withdrawal);
	if (log_row_isnull(withdrawal, LOG_CORRELATION_ID))
		log_row_set(withdrawal, LOG_CORRELATION_ID, UUIDPGetDatum(uuid_make_v7()));
	log_row_set(deposit, LOG_CORRELATION_ID, log_row_value(withdrawal, LOG_CORRELATION_ID));
	log_row_set(deposit, LOG_TRIGGERED_BY_EVENT_ID, UUIDPGetDatum(event_id));

	/* Both are new, or the transfer is not: an event of one half is not enough. */
	if (!account_append(from, withdrawal, event_id))
		report_event_id_reused(event_id);
	if (!account_append(to, deposit, transfer_deposit_id(event_id)))
		report_event_id_reused(transfer_deposit_id(event_id));
}

/* bank_transfer(from_account_id, to_account_id, amount, event_id) */
Datum
bank_transfer(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *from_id = arg_needed_uuid(fcinfo, 0, "account id to transfer from");
	pg_uuid_t  *to_id = arg_needed_uuid(fcinfo, 1, "account id to transfer to");
	Numeric		amount = check_amount(DatumGetNumeric(arg_needed(fcinfo, 2, "amount")));
	pg_uuid_t  *event_id = arg_uuid(fcinfo, 3);
	AggregateKey from_key;
	AggregateKey to_key;
	Aggregate	from;
	Aggregate	to;
	LogRow		withdrawal;
	LogRow		deposit;
	Identity	before;

	account_key(&from_key, from_id);
	account_key(&to_key, to_id);
	identity_enter(&before);
	require_distinct(&from_key, &to_key);
	money_moved(&withdrawal, &from_key, MONEY_WITHDRAWN, amount);
	money_moved(&deposit, &to_key, MONEY_DEPOSITED, amount);

	aggregate_lock_pair(&from_key, &to_key);
	account_load(fcinfo, &from, &from_key);
	if (!is_retry(&withdrawal, event_id, &deposit))
	{
		account_load(fcinfo, &to, &to_key);
		require_open(&from);
		require_open(&to);
		require_funds(&from, amount);
		append_transfer(&from, &to, &withdrawal, &deposit,
						event_id ? event_id : uuid_make_v7());
	}
	identity_leave(&before);
	PG_RETURN_DATUM(account_result(fcinfo, &from));
}

/* bank_close_account(account_id, event_id) */
Datum
bank_close_account(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *account_id = arg_needed_uuid(fcinfo, 0, "account id");
	pg_uuid_t  *event_id = arg_uuid(fcinfo, 1);
	AggregateKey key;
	Aggregate	account;
	LogRow		event;
	Identity	before;

	account_key(&key, account_id);
	identity_enter(&before);
	account_closed(&event, &key);
	aggregate_lock(&key);
	account_load(fcinfo, &account, &key);
	if (!is_retry(&event, event_id, NULL))
	{
		require_open(&account);
		account_append(&account, &event, event_id);
	}
	identity_leave(&before);
	PG_RETURN_DATUM(account_result(fcinfo, &account));
}

/* bank_get_account(account_id): one row, or none if unknown or closed. */
Datum
bank_get_account(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;

	if (SRF_IS_FIRSTCALL())
	{
		AggregateKey key;
		Aggregate  *account;
		Relation	log;
		Identity	before;
		MemoryContext old;

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		account = palloc(sizeof(Aggregate));
		account_key(&key, arg_needed_uuid(fcinfo, 0, "account id"));
		identity_enter(&before);
		account_init(fcinfo, account, &key);
		log = log_open(AccessShareLock);
		aggregate_build(account, log, NULL, GetActiveSnapshot());
		table_close(log, AccessShareLock);
		identity_leave(&before);
		context->user_fctx = account;
		MemoryContextSwitchTo(old);
	}

	context = SRF_PERCALL_SETUP();
	if (context->call_cntr == 0 && !((Aggregate *) context->user_fctx)->isnull)
		SRF_RETURN_NEXT(context, ((Aggregate *) context->user_fctx)->state);
	SRF_RETURN_DONE(context);
}

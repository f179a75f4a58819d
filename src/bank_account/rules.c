/*
 * rules.c
 *		What the bank account's commands insist on.
 *
 * A wrong argument is 22023 whatever the account; a refusal that depends on
 * the account's state has a code of its own (UG002, UG003, UG004).
 */
#include "postgres.h"

#include "bank_account/account.h"
#include "bank_account/rules.h"
#include "errors.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "util/ids.h"

#define MAX_DIGITS_AFTER_POINT 4
#define AMOUNT_LIMIT INT64CONST(1000000000000000)	/* 15 digits before it */
#define MAX_OWNER_CHARS 100
#define MAX_SHOWN_CHARS 40

static int
compare(Numeric one, Numeric other)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(one),
											 NumericGetDatum(other)));
}

/* The number as text, cut where it is too long for a message. */
static char *
show_number(Numeric number)
{
	char	   *shown = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));

	if (strlen(shown) > MAX_SHOWN_CHARS)
		strcpy(shown + MAX_SHOWN_CHARS - 3, "...");
	return shown;
}

static void
refuse_number(const char *what, Numeric number, const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s \"%s\"", what, show_number(number)),
			 errdetail("The %s %s.", what, rule)));
}

/*
 * Refuses what is not a finite number of at most 15 digits before and 4 after
 * the point; returns it with no more than 4 digits after the point shown.
 */
static Numeric
check_number(const char *what, Numeric number)
{
	Datum		value = NumericGetDatum(number);

	if (numeric_is_nan(number) || numeric_is_inf(number))
		refuse_number(what, number, "must be a finite number");
	if (compare(number, int64_to_numeric(AMOUNT_LIMIT)) >= 0 ||
		DatumGetInt32(DirectFunctionCall1(numeric_min_scale, value)) > MAX_DIGITS_AFTER_POINT)
		refuse_number(what, number, "must have at most 15 digits before and 4 after the decimal point");
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, value)) > MAX_DIGITS_AFTER_POINT)
		value = DirectFunctionCall2(numeric_round, value, Int32GetDatum(MAX_DIGITS_AFTER_POINT));
	return DatumGetNumeric(value);
}

/* An amount of money that moves: greater than zero. */
Numeric
check_amount(Numeric amount)
{
	amount = check_number("amount", amount);
	if (compare(amount, int64_to_numeric(0)) <= 0)
		refuse_number("amount", amount, "must be greater than zero");
	return amount;
}

/* A balance to begin with: zero or greater. */
Numeric
check_initial_balance(Numeric balance)
{
	balance = check_number("initial balance", balance);
	if (compare(balance, int64_to_numeric(0)) < 0)
		refuse_number("initial balance", balance, "must not be less than zero");
	return balance;
}

/* An owner's name: not blank, at most 100 characters. */
char *
check_owner(text *owner)
{
	const char *data = VARDATA_ANY(owner);
	int			length = VARSIZE_ANY_EXHDR(owner);
	int			nchars = pg_mbstrlen_with_len(data, length);
	bool		blank = true;

	for (int i = 0; i < length && blank; i++)
		blank = isspace((unsigned char) data[i]);
	if (blank)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("owner must not be empty")));
	if (nchars > MAX_OWNER_CHARS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("owner is too long"),
				 errdetail("The owner has %d characters, at most %d are allowed.",
						   nchars, MAX_OWNER_CHARS)));
	return text_to_cstring(owner);
}

/* UG002 for an account that never was, UG003 for one that is closed. */
void
require_open(const Aggregate *account)
{
	if (account->sequence_number == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_NOT_FOUND),
				 errmsg("bank account \"%s\" does not exist", uuid_to_cstring(&account->key.id))));
	if (account->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_DELETED),
				 errmsg("bank account \"%s\" is closed", uuid_to_cstring(&account->key.id))));
}

/* UG004 if the open account's balance is less than the amount. */
void
require_funds(const Aggregate *account, Numeric amount)
{
	bool		isnull;
	Numeric		balance = DatumGetNumeric(GetAttributeByNum(DatumGetHeapTupleHeader(account->state),
															ACCOUNT_BALANCE, &isnull));

	if (compare(balance, amount) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_RULE_VIOLATION),
				 errmsg("insufficient funds in bank account \"%s\"",
						uuid_to_cstring(&account->key.id)),
				 errdetail("The balance is %s, the amount is %s.",
						   show_number(balance), show_number(amount))));
}

/* UG004 if money would go where it comes from. */
void
require_distinct(const AggregateKey *from, const AggregateKey *to)
{
	if (memcmp(&from->id, &to->id, UUID_LEN) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_RULE_VIOLATION),
				 errmsg("cannot transfer from bank account \"%s\" to itself",
						uuid_to_cstring(&from->id))));
}

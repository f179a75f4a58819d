/*
 * events.h
 *		The bank account's domain events.
 */
#ifndef DUGONG_BANK_EVENTS_H
#define DUGONG_BANK_EVENTS_H

#include "postgres.h"

#include "store/log.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#define BANK_ORIGIN "BankingContext-AccountService"
#define BANK_AGGREGATE_TYPE "BankAccount"

/* event types */
#define ACCOUNT_OPENED "AccountOpened"
#define MONEY_DEPOSITED "MoneyDeposited"
#define MONEY_WITHDRAWN "MoneyWithdrawn"
#define ACCOUNT_CLOSED "AccountClosed"

/* payload keys, as DugongJS names them */
#define KEY_OWNER "owner"
#define KEY_INITIAL_BALANCE "initialBalance"
#define KEY_AMOUNT "amount"

extern void account_opened(LogRow *row, const AggregateKey *key,
						   const char *owner, Numeric initial_balance);
extern void money_moved(LogRow *row, const AggregateKey *key,
						const char *type, Numeric amount);
extern void account_closed(LogRow *row, const AggregateKey *key);

#endif							/* DUGONG_BANK_EVENTS_H */

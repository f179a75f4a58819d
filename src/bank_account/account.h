/*
 * account.h
 *		The state of a bank account: SQL type bank_account_state.
 */
#ifndef DUGONG_BANK_ACCOUNT_H
#define DUGONG_BANK_ACCOUNT_H

#include "postgres.h"

/* attributes of bank_account_state */
#define ACCOUNT_ID 1
#define ACCOUNT_OWNER 2
#define ACCOUNT_BALANCE 3
#define ACCOUNT_NATTRIBUTES 3

#endif							/* DUGONG_BANK_ACCOUNT_H */

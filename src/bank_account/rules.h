/*
 * rules.h
 *		What the bank account's commands insist on.
 */
#ifndef DUGONG_BANK_RULES_H
#define DUGONG_BANK_RULES_H

#include "postgres.h"

#include "aggregate/aggregate.h"
#include "utils/numeric.h"

extern Numeric check_amount(Numeric amount);
extern Numeric check_initial_balance(Numeric balance);
extern char *check_owner(text *owner);
extern void require_open(const Aggregate *account);
extern void require_funds(const Aggregate *account, Numeric amount);
extern void require_distinct(const AggregateKey *from, const AggregateKey *to);

#endif							/* DUGONG_BANK_RULES_H */
